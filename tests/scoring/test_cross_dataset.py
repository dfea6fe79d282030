"""One detector on several datasets: their test splits, its crops, one table."""

import csv
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import trees
from PIL import Image
from sklearn.metrics import roc_auc_score

from deepfidelity_configs import cross as cross_config
from deepfidelity_jax import cli
from deepfidelity_jax.detector.load import identify, load
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import stored
from deepfidelity_jax.fidelity.scale import scale
from deepfidelity_jax.leaks import training_pictures
from deepfidelity_jax.records.schema import FAKE, REAL, Records
from deepfidelity_jax.records.schema import builder_class as builder_class_of
from deepfidelity_jax.scoring import cross_dataset
from deepfidelity_jax.scoring.table import Predictions

pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture(scope="module")
def evaluated(finished, tmp_path_factory):
    """A workdir evaluated on two datasets; which config did it."""
    place = tmp_path_factory.mktemp("cross")
    workdir = shutil.copytree(finished, place / "run")
    config = cross_config.get_config()
    config.dfd.manual_dir = str(trees.dfd(place / "dfd"))
    config.wild.manual_dir = str(trees.wild_deepfake(place / "wild"))
    for group in (config.dfd, config.wild):
        group.incomplete, group.detector = True, "none"
    cross_dataset.run(config, workdir)
    return workdir, config


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return {row["dataset"]: row for row in csv.DictReader(file)}


def test_the_table_is_what_the_predictions_give(evaluated):
    workdir, _ = evaluated
    table = read(workdir / "eval" / "cross.csv")
    assert list(table) == ["synthetic_faces", "dfd", "wild"]
    for name, videos, frames in (("dfd", 5, 10), ("wild", 8, 16)):
        predictions = Predictions.read_csv(workdir / "eval" / name / "predictions.csv")
        assert set(predictions.split) == {"test"}
        assert set(predictions.dataset) == {name}
        assert len(predictions) == int(table[name]["frames"]) == frames
        assert int(table[name]["videos"]) == videos
        auc = roc_auc_score(predictions.label, predictions.fidelity)
        assert float(table[name]["frame_auc"]) == pytest.approx(auc)
    own = json.loads((workdir / "eval/synthetic_faces/metrics.json").read_text())
    assert float(table["synthetic_faces"]["video_auc"]) == own["video_auc"]
    # The threshold is the detector's; nothing is chosen on these test sets.
    assert len({row["threshold"] for row in table.values()}) == 1
    page = (workdir / "report" / "index.html").read_text()
    assert "dfd" in page
    assert "Each dataset by forgery method" in page


def test_figures_of_a_checkpoint_picked_on_them_are_marked(evaluated, tmp_path):
    workdir, _ = evaluated
    found = {
        name: json.loads((workdir / "eval" / name / "metrics.json").read_text())
        for name in ("synthetic_faces", "dfd")
    }
    assert "optimistic" not in cross_dataset.describe(found)
    found["dfd"]["checkpoint_picked_here"] = True
    found["synthetic_faces"]["look_alikes"] = 3
    cross_dataset.write_table(found, tmp_path / "cross.csv")
    because = {
        name: row["optimistic_because"] for name, row in read(tmp_path / "cross.csv").items()
    }
    assert because["dfd"] == "the checkpoint was chosen on this same split"
    assert because["synthetic_faces"].startswith("3 of the test videos")
    assert "figures of dfd are optimistic: the checkpoint" in cross_dataset.describe(found)


def test_only_test_splits_are_prepared(evaluated):
    workdir, _ = evaluated
    for dataset in ("ffpp", "wild_deepfake"):
        (info,) = (workdir / "records" / dataset).glob("*/*/dataset_info.json")
        assert [split["name"] for split in json.loads(info.read_text())["splits"]] == ["test"]


def test_targets_are_on_the_detectors_own_scale(evaluated):
    workdir, _ = evaluated
    fitted = stored.load(workdir / "fidelity.npz").scale
    predictions = Predictions.read_csv(workdir / "eval" / "wild" / "predictions.csv")
    expected = scale(fitted, predictions.quality.astype(np.float64), predictions.label)
    np.testing.assert_allclose(predictions.fidelity_target, expected, atol=1e-6)


def test_nothing_is_done_twice(evaluated, capsys):
    workdir, config = evaluated
    before = read(workdir / "eval" / "cross.csv")
    capsys.readouterr()
    cross_dataset.run(config, workdir)
    assert read(workdir / "eval" / "cross.csv") == before
    said = capsys.readouterr().err
    assert "prepared" not in said
    assert "features of" not in said
    assert "video_auc" in said


def test_figures_of_another_detector_are_not_in_the_table(evaluated, tmp_path, capsys):
    """Those of the run itself, which is fitted again, but not evaluated again."""
    workdir, config = evaluated
    workdir = shutil.copytree(workdir, tmp_path / "run")
    place = workdir / "eval" / "synthetic_faces" / "metrics.json"
    found = json.loads(place.read_text())
    assert found["detector"] == identify(workdir)
    place.write_text(json.dumps(found | {"detector": "another"}))
    cross_dataset.run(config, workdir)
    assert list(read(workdir / "eval" / "cross.csv")) == ["dfd", "wild"]
    assert "metrics.json is of another detector, and left out" in capsys.readouterr().err
    page = (workdir / "report" / "index.html").read_text()
    assert "now in this workdir: eval/synthetic_faces." in page


def test_what_is_wrong_is_said_first(tmp_path, finished, evaluated):
    _, good = evaluated
    with pytest.raises(
        InputError, match=r"no dataset is given: .* NAME is one of celeb_df_v2, dfd"
    ):
        cross_dataset.run(cross_config.get_config(), finished)
    config = cross_config.get_config()
    config.wild.manual_dir = good.wild.manual_dir
    with pytest.raises(InputError, match=r"is not a workdir"):
        cross_dataset.run(config, tmp_path)
    with pytest.raises(InputError, match=r"lacks 1104 archives .* --config\.wild\.incomplete=true"):
        cross_dataset.run(config, finished)
    config.ffpp_c23.manual_dir, config.ffpp_c23.bench_json = str(tmp_path), "list.json"
    with pytest.raises(
        InputError, match=r"config\.ffpp_c23\.bench_json .* --config\.ffpp_c23\.detector=none"
    ):
        cross_dataset.run(config, finished)
    config.celeb_df_v2.manual_dir, config.ffpp_c23.manual_dir = str(tmp_path / "nowhere"), ""
    with pytest.raises(
        InputError, match=r"config\.celeb_df_v2\.manual_dir is .*nowhere, which is not a folder"
    ):
        cross_dataset.run(config, finished)


def test_the_command_line_knows_what_it_is(finished, capsys):
    options = ["run.py", f"--config={cross_config.__file__}", f"--workdir={finished}"]
    assert cli.main(options) == 2
    assert capsys.readouterr().err.startswith("deepfidelity: no dataset is given")
    assert cli.main([*options, "--mode=train"]) == 2
    assert "--mode=train does not take a config of several" in capsys.readouterr().err


READY = {"detector": "none"}


def write_folder(place, seed, real=3, fake=4):
    """Ready crops of noise, which no training saw."""
    rng = np.random.default_rng(seed)
    for name, count in (("real", real), ("fake/swap", fake)):
        (place / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(pixels).save(place / name / f"{seed}-{number}.png")
    return place


@pytest.fixture(scope="module")
def two_folders(finished, tmp_path_factory):
    """A workdir, two folders of one name, and their metrics by it."""
    place = tmp_path_factory.mktemp("folders")
    workdir = shutil.copytree(finished, place / "run")
    a = write_folder(place / "a" / "photos", seed=1)
    b = write_folder(place / "b" / "photos", seed=2, real=5, fake=3)
    (a / "real" / "broken.jpg").write_text("no picture")
    (a / "beside.png").write_bytes((a / "real" / "1-0.png").read_bytes())
    found = [cross_dataset.evaluate_folder(workdir, folder, READY) for folder in (a, b)]
    return workdir, (a, b), found


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.glob("*/**/*.png")}


def test_what_is_named_is_what_is_scored(two_folders):
    workdir, folders, found = two_folders
    for folder, metrics, count in zip(folders, found, (7, 8), strict=True):
        place = workdir / "eval" / metrics["dataset"]
        assert metrics == json.loads((place / "metrics.json").read_text())
        assert metrics["folder"] == str(folder)
        assert metrics["split"] == "test"
        assert metrics["n_files"] == metrics["n_frames"] == count
        assert metrics["faces"]["detector"] == "none"
        assert metrics["training_checked"] is True
        predictions = Predictions.read_csv(place / "predictions.csv")
        assert set(predictions.path) == files_of(folder)
        assert set(predictions.split) == {"test"}
        assert set(predictions.method) == {"original", "swap"}
        real = [path.startswith("real/") for path in predictions.path]
        assert predictions.label.tolist() == [int(one) for one in real]
        auc = roc_auc_score(predictions.label, predictions.fidelity)
        assert metrics["frame_auc"] == pytest.approx(auc)
    assert found[0]["dataset"] != found[1]["dataset"], "two folders of one name"
    assert found[0]["faces_digest"] != found[1]["faces_digest"]
    assert found[0]["notes"]["beside.png"] == "outside of fake and real"
    assert "real/broken.jpg" in found[0]["notes"]
    assert found[1]["notes"] == {}
    report = (workdir / "report" / "index.html").read_text()
    assert "pictures were not available" not in report, "those of earlier evaluations, too"


def test_the_scores_are_the_detectors(two_folders):
    workdir, (folder, _), (metrics, _) = two_folders
    predictions = Predictions.read_csv(workdir / "eval" / metrics["dataset"] / "predictions.csv")
    detector = load(workdir)
    detector.faces = replace(detector.faces, **READY)
    for path, fidelity_ in zip(predictions.path, predictions.fidelity, strict=True):
        assert detector.predict(folder / path).fidelity == pytest.approx(fidelity_, abs=1e-4)


def test_a_folder_that_moves_is_the_same(two_folders, tmp_path, capsys):
    workdir, (a, _), (before, _) = two_folders
    moved = shutil.copytree(a, tmp_path / "elsewhere")
    capsys.readouterr()
    found = cross_dataset.evaluate_folder(shutil.copytree(workdir, tmp_path / "run"), moved, READY)
    assert "prepared" not in capsys.readouterr().err
    same = before.keys() - {"dataset", "folder"}
    assert {key: found[key] for key in same} == {key: before[key] for key in same}


def test_folders_in_the_table_are_not_mixed_up(two_folders, finished, tmp_path):
    _, (a, b), (first, second) = two_folders
    workdir = shutil.copytree(finished, tmp_path / "run")
    config = cross_config.get_config()
    config.folder.dir, config.folder.detector = str(a), "none"
    config.table.manifest = str(write_table(a, tmp_path / "set.csv"))
    config.table.dir, config.table.detector = str(a), "none"
    with config.unlocked():
        config.other = {"dataset": "face_folder", "detector": "none", "dir": str(b)}
    cross_dataset.run(config, workdir)
    assert set(read(workdir / "eval" / "cross.csv")) >= {"folder", "other", "table"}
    told = (("folder", a, first, a), ("other", b, second, b), ("table", a, first, "set.csv"))
    for name, folder, metrics, place in told:
        predictions = Predictions.read_csv(workdir / "eval" / name / "predictions.csv")
        assert set(predictions.path) == files_of(folder)
        found = json.loads((workdir / "eval" / name / "metrics.json").read_text())
        assert found["folder"] == str(tmp_path / place)
        for key in ("frame_auc", "faces_digest", "n_files"):
            assert found[key] == metrics[key]


def test_a_table_is_one_of_the_datasets(tiny, tmp_path):
    """Its options reach the table's builder; its columns decide what is scored."""
    folder = write_folder(tmp_path / "photos", seed=11)
    split = write_table(folder, tmp_path / "set.csv", split=lambda n: ("train", "test")[n % 2])
    split.write_text(split.read_text().replace(",real,", ",1,").replace(",fake,", ",0,"))
    group = cross_config.get_config().table
    group.manifest, group.dir, group.detector = str(split), str(folder), "none"
    builder_class = builder_class_of(group.dataset)
    cross_dataset.require_used("table", group, builder_class)

    def scored():
        data = {key: value for key, value in group.items() if value != ""}
        faces = {"detector": data.pop("detector")}
        changed = cross_dataset.adapt_config(tiny, tmp_path, data, faces)
        with cross_dataset.rename_options("table"):
            return builder_class.configured(changed, tmp_path).builder_config

    with pytest.raises(InputError, match=r"--config\.table\.real_label=0"):
        scored()
    group.real_label = "1"
    found = scored()
    assert {source.split for source in found.sources} == {"test"}
    assert len(found.sources) + len(found.notes) == 7
    assert {source.name.split("/")[0]: source.label for source in found.sources} == {
        "real": REAL, "fake": FAKE,
    }  # fmt: skip


def test_an_option_without_a_meaning_is_refused(finished, tmp_path):
    config = cross_config.get_config().unlock()
    config.folder.manual_dir = str(tmp_path)
    with pytest.raises(InputError, match=r"config.folder.manual_dir .* face_folder does not use"):
        cross_dataset.run(config, finished)
    config = cross_config.get_config().unlock()
    config.wild.manual_dir, config.wild.bench_json = str(tmp_path), "list.json"
    with pytest.raises(InputError, match=r"config.wild.bench_json .* wild_deepfake does not use"):
        cross_dataset.run(config, finished)
    config = cross_config.get_config().unlock()
    config.synthetic_faces = {"dataset": "face_folder", "dir": str(tmp_path)}
    with pytest.raises(InputError, match="synthetic_faces is the run's own dataset"):
        cross_dataset.run(config, finished)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_pictures_of_training_stop_it(finished, records_folder, tmp_path, split):
    workdir = shutil.copytree(finished, tmp_path / "run")
    folder = write_folder(tmp_path / "photos", seed=3)
    record = Records(records_folder, split)[0]
    (folder / "fake" / "known.jpg").write_bytes(record["image"])
    with pytest.raises(InputError) as caught:
        cross_dataset.evaluate_folder(workdir, folder, READY)
    assert "holds 1 of the pictures" in str(caught.value)
    assert f"fake/known.jpg ({record['path']})" in str(caught.value)
    assert [path.name for path in (workdir / "eval").iterdir()] == ["synthetic_faces"]
    record = Records(records_folder, "test")[0]
    (folder / "fake" / "known.jpg").write_bytes(record["image"])
    assert cross_dataset.evaluate_folder(workdir, folder, READY)["n_files"] == 8


def test_what_could_not_be_checked_is_said(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(workdir / "records")
    (workdir / training_pictures.SEEN).unlink()
    found = cross_dataset.evaluate_folder(workdir, write_folder(tmp_path / "photos", seed=4), READY)
    assert found["training_checked"] is False
    assert "not checked against the training pictures" in capsys.readouterr().err
    assert (
        "not checked against the training pictures" in (workdir / "report/index.html").read_text()
    )


def test_folders_that_will_not_do(finished, tmp_path):
    folder = write_folder(tmp_path / "photos", seed=5)
    with pytest.raises(InputError, match="nowhere is not a folder"):
        cross_dataset.evaluate_folder(finished, tmp_path / "nowhere", READY)
    with pytest.raises(InputError, match="is not a workdir"):
        cross_dataset.evaluate_folder(tmp_path, folder, READY)
    with pytest.raises(InputError, match="detector 'magic' is unknown"):
        cross_dataset.evaluate_folder(finished, folder, {"detector": "magic"})
    with pytest.raises(InputError, match=r"yunet needs .*yunet.onnx: no such file"):
        cross_dataset.evaluate_folder(finished, folder, {"detector": "yunet"})
    (folder / "fake").rename(folder / "fakes")
    with pytest.raises(InputError, match=r"fakes/ .* labels are never guessed"):
        cross_dataset.evaluate_folder(finished, folder, READY)
    (folder / "fakes").rename(tmp_path / "fakes")
    with pytest.raises(InputError, match="needs the folders real/ and fake/"):
        cross_dataset.evaluate_folder(finished, folder, READY)
    (folder / "fake").mkdir()
    with pytest.raises(InputError, match="fake holds 0 photographs or videos; at least 1"):
        cross_dataset.evaluate_folder(finished, folder, READY)


def test_the_command_line_scores_a_folder(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    folder = write_folder(tmp_path / "photos", seed=6)
    options = ["run.py", "--mode=evaluate", f"--workdir={workdir}"]
    assert config["faces"]["detector"] == "mtcnn"
    assert cli.main([*options, f"--input={folder}"]) == 2
    assert "no real face was found for the test split" in capsys.readouterr().err
    assert cli.main([*options, f"--input={folder}", f"--input={folder}"]) == 2
    assert "one --input=FOLDER" in capsys.readouterr().err


def write_table(folder, path, **columns):
    """The files of a folder that `write_folder` wrote, in a table."""
    lines = [",".join(("path", "label", "method", *columns))]
    for place in sorted(folder.glob("*/**/*.png")):
        name = place.relative_to(folder).as_posix()
        label, method = ("real", "") if name.startswith("real") else ("fake", "swap")
        more = [str(value(len(lines))) for value in columns.values()]
        lines.append(",".join((name, label, method, *more)))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_is_scored_as_its_folder_is(two_folders, finished, tmp_path, capsys):
    _, (folder, _), (before, _) = two_folders
    workdir = shutil.copytree(finished, tmp_path / "run")
    table = write_table(folder, tmp_path / "set.csv")
    options = ["run.py", "--mode=evaluate", f"--workdir={workdir}", f"--input={table}"]
    options += ["--config.faces.detector=none", f"--config.data.dir={folder}"]
    assert cli.main(options) == 0, capsys.readouterr().err
    (place,) = (workdir / "eval").glob("set.csv-*")
    found = json.loads((place / "metrics.json").read_text())
    assert found["folder"] == str(table)
    same = before.keys() - {"dataset", "folder", "notes", "records"}
    assert {key: found[key] for key in same} == {key: before[key] for key in same}
    assert set(Predictions.read_csv(place / "predictions.csv").path) == files_of(folder)


def test_a_table_has_the_guards_of_a_folder(finished, records_folder, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "run")
    folder = write_folder(tmp_path / "photos", seed=7)
    record = Records(records_folder, "train")[0]
    (folder / "fake" / "known.png").write_bytes(record["image"])
    table = write_table(folder, folder / "set.csv")
    with pytest.raises(InputError, match=r"holds 1 of the pictures .* fake/known.png"):
        cross_dataset.evaluate_folder(workdir, table, READY)
    split = write_table(folder, folder / "split.csv", split=lambda n: ("test", "train")[n % 2])
    text = split.read_text().replace(
        "fake/known.png,fake,swap,test", "fake/known.png,fake,swap,train"
    )
    split.write_text(text)
    found = cross_dataset.evaluate_folder(workdir, split, READY)
    assert found["n_files"] == text.count(",test")
    assert set(found["notes"].values()) == {"in the split train"}
    numbers = tmp_path / "numbers.csv"
    numbers.write_text(table.read_text().replace(",real,", ",1,").replace(",fake,", ",0,"))
    options = ["run.py", "--mode=evaluate", f"--workdir={workdir}", f"--input={numbers}"]
    for more, part in (
        ((), "--config.data.real_label=0"),
        (("--config.data.real_label=2",), "0 or 1"),
        (("--config.data.real_label=1", f"--config.data.dir={folder}"), "holds 1 of the pictures"),
        (("--config.data.splits=1",), "only --config.faces.OPTION, --config.data.dir"),
        (("--config.data.group=folder",), "config.data.group is for a folder, but"),
    ):
        capsys.readouterr()
        assert cli.main([*options, "--config.faces.detector=none", *more]) == 2
        assert part in capsys.readouterr().err
    with pytest.raises(InputError, match=r"config.data.real_label is for a table"):
        cross_dataset.evaluate_folder(workdir, folder, READY, {"real_label": "1"})


def change(workdir, **changes):
    """Change what the workdir's detector was configured with: `{group: {option: value}}`."""
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    for group, values in changes.items():
        config[group] |= values
    path.write_text(json.dumps(config))
    return workdir


def test_a_folder_may_be_grouped_in_another_way_than_for_training(finished, tmp_path, capsys):
    workdir = change(shutil.copytree(finished, tmp_path / "run"), data={"group": "folder"})
    folder = write_folder(tmp_path / "photos", seed=8)
    assert cross_dataset.evaluate_folder(workdir, folder, READY)["n_videos"] == 4  # swap/ is one
    options = ["run.py", "--mode=evaluate", f"--workdir={workdir}", f"--input={folder}"]
    options.append("--config.faces.detector=none")
    assert cli.main([*options, "--config.data.group=file"]) == 0, capsys.readouterr().err
    (place,) = (workdir / "eval").glob("photos-*")
    assert json.loads((place / "metrics.json").read_text())["n_videos"] == 7
    capsys.readouterr()
    assert cli.main([*options, "--config.data.group=album"]) == 2
    assert "config.data.group is 'album': give" in capsys.readouterr().err


def test_intervals_are_over_videos_where_other_data_names_no_person(finished, tmp_path, capsys):
    workdir = change(shutil.copytree(finished, tmp_path / "run"), eval={"cluster": "person"})
    found = cross_dataset.evaluate_folder(workdir, write_folder(tmp_path / "in", seed=9), READY)
    assert "over videos" in found["ci_from"]
    assert capsys.readouterr().err.count("intervals are over videos") == 1


def test_people_are_those_of_the_dataset_whatever_it_is_called(evaluated, tmp_path):
    workdir, config = evaluated
    workdir = change(shutil.copytree(workdir, tmp_path / "run"), eval={"cluster": "person"})
    alone = cross_config.get_config()
    alone.dfd = config.dfd
    cross_dataset.run(alone, workdir)
    found = json.loads((workdir / "eval" / "dfd" / "metrics.json").read_text())
    assert "over people" in found["ci_from"]


def test_a_place_above_the_current_folder_is_scored(finished, tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "photos", seed=10)
    table = write_table(folder, folder / "set.csv")
    workdir = shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for place, given in ((table, f"{os.pardir}/photos/set.csv"), (folder, f"{os.pardir}/photos")):
        name, _, expected = cross_dataset.plan_folder(workdir, place, READY)
        also, _, found = cross_dataset.plan_folder(workdir, given, READY)
        assert (also, found.data_path) == (name, expected.data_path)
