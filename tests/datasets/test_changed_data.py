"""A folder that changes, moves or goes away between two commands of one workdir."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest
from conftest import TINY
from test_own_data import fill, many

from deepfidelity_configs import folder as folder_config
from deepfidelity_datasets.face_folder.face_folder_dataset_builder import Builder
from deepfidelity_datasets.face_folder.sources import list_sources
from deepfidelity_jax import cli, workdir
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import LOCK, fingerprint, lock
from deepfidelity_jax.leaks import training_pictures
from deepfidelity_jax.options import checks
from deepfidelity_jax.records.schema import SPLITS, Records, metadata_of, splits_of
from deepfidelity_jax.records.staging import stage, take_over
from deepfidelity_jax.records.write import Recipe, prepare, staging_folder
from deepfidelity_jax.scoring import cross_dataset
from deepfidelity_jax.scoring.table import Predictions
from deepfidelity_jax.training import checkpoint

pytestmark = pytest.mark.usefixtures("one_core")

SHARES = (0.6, 0.2, 0.2)
OPTIONS = {key: value for key, value in TINY.items() if key.startswith(("model", "train", "eval"))}
OPTIONS |= {
    "faces.detector": "none", "faces.size": 32, "faces.frames": 2, "train.steps": 2,
    "train.eval_every": 2, "train.checkpoint_every": 1, "data.splits": SHARES,
    "model.eval_crop": 1.0, "quality.measure": "none",
}  # fmt: skip


def configured(folder, **changes):
    config = folder_config.get_config()
    config.update_from_flattened_dict(OPTIONS | {"data.dir": str(folder)} | changes)
    return config


def prepared(config, place):
    """The builder, its records there."""
    builder = Builder.configured(config, place)
    builder.download_and_prepare()
    return builder


def rows(builder):
    """Everything recorded, by split."""
    folder = Path(builder.data_path)
    found = {}
    for split in splits_of(folder):
        opened = Records(folder, split)
        found[split] = [opened[index] for index in range(len(opened))]
    return found


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "in", *many("real", 24), *many("fake/gan", 24))


# Records


def test_the_same_bytes_are_the_same_records_wherever_they_lie(folder, tmp_path):
    place = tmp_path / "records"
    first = prepared(configured(folder), place)
    copied = shutil.copytree(folder, tmp_path / "other" / "place")
    assert Builder.configured(configured(copied), place).data_path == first.data_path
    shutil.move(folder, tmp_path / "moved")
    assert Builder.configured(configured(tmp_path / "moved"), place).data_path == first.data_path
    shutil.rmtree(tmp_path / "moved")
    shutil.rmtree(copied)
    for gone in (folder, copied, tmp_path / "moved"):
        assert Builder.configured(configured(gone), place).data_path == first.data_path
    metadata = metadata_of(Path(first.data_path))
    assert metadata["contents"] == first.contents
    assert sum(map(len, metadata["digests"].values())) == 48


def test_records_serve_without_their_folder_and_elsewhere(folder, tmp_path, capsys):
    first = prepared(configured(folder), tmp_path / "records")
    shutil.rmtree(folder)
    again = Builder.configured(configured(folder), tmp_path / "records")
    assert (again.data_path, again.contents) == (first.data_path, first.contents)
    assert "which is empty or not a folder: using its records in" in capsys.readouterr().err
    folder.mkdir()  # as where a disk is not mounted
    shutil.copytree(tmp_path / "records", tmp_path / "elsewhere")
    again = Builder.configured(configured(folder), tmp_path / "elsewhere")
    assert Path(again.data_path).is_relative_to(tmp_path / "elsewhere")
    assert again.contents == first.contents
    # Not those of another folder, or by other options.
    with pytest.raises(InputError, match=f"of another folder: --config.data.dir={folder}"):
        Builder.configured(configured(tmp_path / "nowhere"), tmp_path / "records")
    with pytest.raises(InputError, match="no records made from it with these options$"):
        Builder.configured(configured(folder, seed=1), tmp_path / "records")


def test_what_was_staged_serves_after_the_folder_has_grown(folder, tmp_path, capsys):
    """A killed preparation, one more photograph, and what a killed one by other options left."""
    place = tmp_path / "records"
    before = Builder.configured(configured(folder), place)
    plan, staging = before.builder_config, staging_folder(before)
    stage(plan.sources[:40], plan.produce, staging, unit="files")
    kept = set(staging.glob("*.npz"))
    fill(folder, "real/one_more.png", seed=99)
    after = Builder.configured(configured(folder), place)
    assert after.data_path != before.data_path
    sources, taken = after.builder_config.sources, staging_folder(after)
    with (staging.parent / LOCK).open("wb") as file:
        lock(file)
        take_over(sources, taken)
        assert set(staging.glob("*.npz")) == kept, "another process is using them"
    take_over(sources, taken)
    assert {path.name for path in taken.iterdir()} == {path.name for path in kept}
    assert not staging.exists()
    abandoned = staging_folder(Builder.configured(configured(folder, **{"faces.size": 48}), place))
    abandoned.mkdir(parents=True)
    prepare(after)
    said = f"delete those that nobody will resume: {abandoned}\n"
    assert said in capsys.readouterr().err
    assert sum(map(len, rows(after).values())) == 49
    assert not taken.exists()


def test_what_was_staged_serves_wherever_the_folder_lies_now(folder, tmp_path):
    before = staging_folder(Builder.configured(configured(folder), tmp_path / "records"))
    shutil.move(folder, tmp_path / "moved")
    after = Builder.configured(configured(tmp_path / "moved"), tmp_path / "records")
    assert staging_folder(after) == before


def test_copies_of_a_folder_are_prepared_by_one_process(folder, tmp_path, monkeypatch):
    """The second waits for the first, and then finds its records."""
    copied = shutil.copytree(folder, tmp_path / "copied")
    first, second = (
        Builder.configured(configured(path), tmp_path / "records") for path in (folder, copied)
    )
    other, write, begun = Thread(target=prepare, args=(second,)), first.download_and_prepare, []

    def write_while_the_other_waits():
        other.start()
        other.join(0.3)
        write()

    monkeypatch.setattr(first, "download_and_prepare", write_while_the_other_waits)
    monkeypatch.setattr(second, "download_and_prepare", lambda: begun.append(second))
    prepare(first)
    other.join(60)
    assert not other.is_alive()
    assert not begun
    assert first.data_path == second.data_path


def test_what_was_staged_with_donors_serves_for_the_same_files_alone(tmp_path):
    folder = fill(tmp_path / "in", *many("a", 24))
    before = staging_folder(Builder.configured(configured(folder), tmp_path))
    fill(folder, "a/one_more.png", seed=99)
    assert before != staging_folder(Builder.configured(configured(folder), tmp_path))


def test_records_of_earlier_versions_keep_their_splits(folder, tmp_path, capsys):
    """Named by the files' times and sizes, divided by their number."""
    place, config = tmp_path / "records", configured(folder)
    paths = [*sorted((folder / "real").rglob("*.png")), *sorted((folder / "fake").rglob("*.png"))]
    stamps = [
        (path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime)
        for path in paths
    ]
    recipe = Recipe.from_config(config).to_json()
    name = f"in-{fingerprint(stamps, tuple(config.data.splits), recipe)}"
    now = prepared(config, place)
    earlier = place / "face_folder" / name / "1.4.0"
    shutil.copytree(now.data_path, earlier)
    info = earlier / "dataset_info.json"
    text = (
        info.read_text().replace(now.builder_config.name, name).replace(str(now.version), "1.4.0")
    )
    info.write_text(text)
    found = Builder.configured(config, place)
    assert Path(found.data_path) == earlier
    assert (found.contents, found.untold, found.undecided) == ("", "", "")
    assert "records of an earlier version" in capsys.readouterr().err
    assert sum(map(len, rows(found).values())) == 48
    (folder / "real" / "pa.png").unlink()
    changed = Builder.configured(config, place)
    assert changed.version == Builder.VERSION
    assert changed.untold != changed.contents, "a checkpoint of then does not go on with these"


def test_records_measured_without_landmarks_are_used_as_they_are(folder, tmp_path):
    """As versions 2.0 wrote them; with the folder, and when it is gone."""
    place, config = tmp_path / "records", configured(folder)
    now = prepared(config, place)
    earlier = Path(now.data_path).with_name("2.0.0")
    Path(now.data_path).rename(earlier)
    info = earlier / "dataset_info.json"
    info.write_text(info.read_text().replace(str(now.version), "2.0.0"))
    for _ in range(2):
        found = Builder.configured(config, place)
        assert Path(found.data_path) == earlier
        assert (found.contents, found.untold) == (now.contents, now.untold)
        assert sum(map(len, rows(found).values())) == 48
        shutil.rmtree(folder, ignore_errors=True)


def test_frames_of_a_group_are_one_video_in_the_records(tmp_path):
    paths = [f"{c}/v{v}/{n}.png" for c in ("real", "fake") for v in range(24) for n in range(3)]
    folder = fill(tmp_path / "in", *paths)
    found = rows(prepared(configured(folder, **{"data.group": "folder"}), tmp_path / "records"))
    videos = {}
    for split, recorded in found.items():
        for row in recorded:
            videos.setdefault(row["video_id"], []).append((split, row["frame"], row["path"]))
    assert set(videos) == {f"{c}/v{v}" for c in ("real", "fake") for v in range(24)}
    for video, frames in videos.items():
        assert len({split for split, *_ in frames}) == 1
        assert sorted(frame for _, frame, _ in frames) == [0, 1, 2]
        assert {path for *_, path in frames} == {f"{video}/{n}.png" for n in range(3)}


@pytest.mark.slow
def test_forgeries_of_frames_stay_in_their_video(tmp_path):
    folder = fill(tmp_path / "in", *(f"v{v}/{n}.png" for v in range(20) for n in range(3)))
    found = rows(prepared(configured(folder, **{"data.group": "folder"}), tmp_path / "records"))
    kinds = {}
    for split in SPLITS:
        for row in found[split]:
            video, _, kind = row["video_id"].partition(":")
            kinds.setdefault(video, set()).add((split, kind))
    assert set(kinds) == {f"v{v}" for v in range(20)}
    for made in kinds.values():
        assert len({split for split, _ in made}) == 1
        # A split of one video has no donor for a swap.
        assert len({kind for _, kind in made}) > 1


def test_a_table_of_scores_meets_files_however_it_writes_them(folder, tmp_path):
    names = [source.name for source in list_sources(folder, SHARES, 0).sources]
    table = tmp_path / "scores.csv"
    for write in (lambda n: folder / n, lambda n: f"./{n}", lambda n: n.replace("/", "\\")):
        lines = [f"{write(name)},{number}" for number, name in enumerate(names)]
        table.write_text("path,score\n" + "\n".join(lines) + "\n")
        config = configured(folder, **{"quality.measure": "csv", "quality.csv": str(table)})
        builder = Builder.configured(config, tmp_path / "records")
        scores = builder.builder_config.recipe.measure.scores
        assert scores == {name: number for number, name in enumerate(names)}
    builder.download_and_prepare()
    quality = {row["path"]: row["quality"] for own in rows(builder).values() for row in own}
    assert quality == scores
    workdir.claim(tmp_path / "run", config)
    config.quality.csv = str(shutil.copy(table, tmp_path / "moved.csv"))
    checks.require_same(tmp_path / "run", config)
    moved = Builder.configured(config, tmp_path / "records")
    assert (moved.data_path, moved.contents) == (builder.data_path, builder.contents)
    lines = [f"{name},{number + 1}" for number, name in enumerate(names)]
    Path(config.quality.csv).write_text("path,score\n" + "\n".join(lines) + "\n")
    edited = Builder.configured(config, tmp_path / "records")
    assert edited.data_path != builder.data_path
    assert edited.contents != builder.contents
    config.quality.csv = str(table)
    table.write_text("path,score\npa.png,1\n")
    with pytest.raises(InputError, match=r"'pa.png' may be 2 files .* fake/gan/pa.png and real/pa"):
        Builder.configured(config, tmp_path / "records")
    table.write_text("path,score\na,1\nb,2\nc,3\nd,4\n")
    with pytest.raises(InputError, match=r"table has a, b, c; the folder has fake/gan/pa.png, "):
        Builder.configured(config, tmp_path / "records")


# Workdirs


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder, and a workdir trained on it."""
    place = tmp_path_factory.mktemp("changed")
    folder = fill(place / "in", *many("real", 24), *many("fake/gan", 24))
    status, said = command(place / "run", folder)
    assert status == 0, said
    return place


def command(workdir, folder, *options, mode="run"):
    """A command in this process: its status, and what it said."""
    given = [f"--config.{key}={value}" for key, value in OPTIONS.items()]
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = cli.main(
            ["run.py", f"--config={folder_config.__file__}", *given,
             f"--config.data.dir={folder}", f"--workdir={workdir}", f"--mode={mode}", *options]
        )  # fmt: skip
    return status, said.getvalue()


@pytest.fixture
def place(trained, tmp_path):
    """Folder and workdir, free to be changed."""
    shutil.copytree(trained, tmp_path / "own")
    return tmp_path / "own"


@pytest.mark.slow
def test_a_checkpoint_says_what_it_was_trained_on(trained):
    notes = checkpoint.read_notes(trained / "run" / "checkpoints", 2)
    builder = Builder.configured(configured(trained / "in"), trained / "run" / "records")
    assert notes["trained_on"] == builder.contents != ""
    seen = training_pictures.seen_by(trained / "run")
    files = metadata_of(Path(builder.data_path))["digests"]
    for split in ("train", "validation"):
        assert set(files[split].values()) <= set(seen)
    assert not set(files["test"].values()) & set(seen)
    metrics = json.loads((trained / "run/eval/face_folder/metrics.json").read_text())
    assert metrics["folder"] == str(trained / "in")
    # Its quality was not measured, which nothing takes for a quality of 0.
    table = Predictions.read_csv(trained / "run/eval/face_folder/predictions.csv")
    assert np.isnan(table.quality).all()
    page = (trained / "run/report/index.html").read_text(encoding="utf-8")
    assert "There is no table by quality: it was not measured." in page
    assert metrics["look_alikes"] == 0
    assert len(metrics["faces_digest"]) == 64


@pytest.mark.slow
def test_moved_data_is_the_same_data(place, trained):
    """The workdir was copied, and so was the folder, then deleted: nothing is done anew."""
    status, said = command(place / "run", place / "in")
    assert status == 0, said
    assert "prepared" not in said
    assert "step " not in said
    assert "frame_auc" in said
    shutil.rmtree(place / "in")
    status, said = command(place / "run", place / "in")
    assert status == 0, said
    assert "which is empty or not a folder: using its records" in said
    assert "frame_auc" in said
    status, said = command(place / "run", place / "never")
    assert status == 2, "these records were made of another folder"
    assert f"--config.data.dir={trained / 'in'}" in said


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["run", "train", "fit", "evaluate"])
def test_other_training_pictures_stop_every_stage(place, mode):
    folder = place / "in"
    before = list_sources(folder, SHARES, 0).sources
    gone = next(source for source in before if source.split == "train")
    Path(folder, gone.name).rename(place / "aside.png")
    checkpoints = sorted(path.name for path in (place / "run/checkpoints").iterdir())
    status, said = command(place / "run", folder, mode=mode)
    assert status == 2
    assert said.count("\n") <= 2, said
    assert "was trained on other pictures" in said
    for way in ("--config.init_from=", "start over", "--mode=evaluate"):
        assert way in said
    assert "frame_auc" not in said
    assert checkpoints == sorted(path.name for path in (place / "run/checkpoints").iterdir())
    # Back where it was, all is as before.
    (place / "aside.png").rename(Path(folder, gone.name))
    status, said = command(place / "run", folder, mode=mode)
    assert status == 0, said
    assert "step " not in said


@pytest.mark.slow
def test_other_test_pictures_are_scored_anew(place):
    folder = place / "in"
    before = list_sources(folder, SHARES, 0).sources
    gone = next(source for source in before if source.split == "test")
    Path(folder, gone.name).unlink()
    status, said = command(place / "run", folder)
    assert status == 0, said
    assert "step " not in said
    assert "prepared" in said
    metrics = json.loads((place / "run/eval/face_folder/metrics.json").read_text())
    assert metrics["n_files"] == sum(source.split == "test" for source in before) - 1


@pytest.mark.slow
def test_the_same_pixels_in_two_splits_stop_a_run(tmp_path):
    """Other bytes, the same picture: the files differ and the faces do not."""
    classes = [
        f"{split}/{label}" for split in ("train", "val", "test") for label in ("real", "fake")
    ]
    folder = fill(tmp_path / "in", *(path for name in classes for path in many(name, 4)))
    image = cv2.imread(str(folder / "train/real/pa.png"))
    cv2.imwrite(str(folder / "test/real/again.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    status, said = command(tmp_path / "run", folder, mode="prepare")
    assert status == 2, said
    assert "the picture " in said
    assert "in two splits, train (train/real/pa.png) and test (test/real/again.png)" in said
    assert "--config.leaks.allow=\"('picture:train-test',)\"" in said
    allow = "--config.leaks.allow=('picture:train-test',)"
    status, said = command(tmp_path / "run", folder, allow, "--config.data.group=file")
    assert status == 0, said
    assert "allowed leaks: 1 picture:train-test" in said
    assert "these figures are optimistic: 1 of the test" in said


@pytest.mark.slow
def test_what_trained_before_is_told_in_whatever_was_prepared(place):
    """A test picture that the detector saw: in other records than it was trained on, say."""
    builder = Builder.configured(configured(place / "in"), place / "run" / "records")
    records = Path(builder.data_path)
    name, digest = next(iter(metadata_of(records)["digests"]["test"].items()))
    seen = training_pictures.seen_by(place / "run")
    (place / "run" / training_pictures.SEEN).write_text(json.dumps(seen | {digest: "old/a.png"}))
    with pytest.raises(InputError, match=rf"holds 1 of .* {name} \(old/a.png\)"):
        training_pictures.require_test_unseen(records, place / "run", ())
    (place / "run" / "stages.json").unlink()
    status, said = command(place / "run", place / "in", mode="evaluate")
    assert status == 2, said
    assert "frame_auc" not in said


@pytest.mark.slow
def test_another_folder_is_scored_by_its_own_names(place):
    """Those of the training folder's classes are its own affair."""
    for old, new in (("real", "photos"), ("fake", "swaps")):
        (place / "in" / old).rename(place / "in" / new)
    folders = ("--config.data.real_folder=photos", "--config.data.fake_folder=swaps")
    status, said = command(place / "own", place / "in", *folders)
    assert status == 0, said
    other = fill(place / "other", *many("real", 6), *many("fake", 6), seed=3000)
    found = cross_dataset.evaluate_folder(place / "own", other)
    assert (found["folder"], found["n_files"]) == (str(other), 12)
    assert found["training_checked"]
    trained_on = training_pictures.seen_by(place / "own").values()
    name = next(path for path in trained_on if path.startswith("photos/"))
    shutil.copy(place / "in" / name, other / "real" / "known.png")
    with pytest.raises(InputError, match=rf"real/known.png \({name}\)"):
        cross_dataset.evaluate_folder(place / "own", other)


@pytest.mark.slow
def test_what_initial_weights_were_trained_on_counts(place):
    """A second training from the first one's weights remembers the pictures of both."""
    folder = fill(place / "second", *many("real", 24), *many("fake", 24), seed=5000)
    status, said = command(place / "next", folder, f"--config.init_from={place / 'run'}")
    assert status == 0, said
    both = training_pictures.seen_by(place / "next")
    assert set(training_pictures.seen_by(place / "run")) < set(both)
    # The first one's training pictures as a test of what is trained from the second: refused.
    split = fill(place / "third", *many("train/real", 24), *many("train/fake", 24), seed=9000)
    for label, old in (("real", "real"), ("fake", "fake/gan")):
        shutil.copytree(place / "in" / old, split / "test" / label)
    status, said = command(place / "again", split, f"--config.init_from={place / 'next'}")
    assert status == 2, said
    assert "of the pictures this detector was trained" in said
    assert "step " not in said, "before it is trained"


@pytest.mark.slow
def test_look_alikes_ask_for_a_choice_and_mark_the_figures(tmp_path):
    """A clip's frames under names that say nothing."""
    rng = np.random.default_rng(0)
    folder = fill(tmp_path / "in", *many("real", 20), *many("fake", 20))
    for label in ("real", "fake"):
        clip = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        for number in range(20):
            name = f"clip-{'ab'[number % 2]}-{chr(97 + number)}.png"
            (folder / label / name).write_bytes(noisy(clip, number))
    status, said = command(tmp_path / "run", folder, mode="prepare")
    assert status == 2, said
    assert "near-duplicates in different splits" in said
    for option in ("group=folder", "group='prefix:REGEX'", "group=file"):
        assert f"--config.data.{option}" in said
    # Said: the clip stays together, and nothing is alike any more.
    status, said = command(
        tmp_path / "run", folder, "--config.data.group=prefix:clip", mode="prepare"
    )
    assert status == 0, said
    assert "near-duplicates" not in said
    status, said = command(tmp_path / "marked", folder, "--config.data.group=file")
    assert status == 0, said
    assert "these figures are optimistic" in said
    metrics = json.loads((tmp_path / "marked/eval/face_folder/metrics.json").read_text())
    assert metrics["look_alikes"] > 0
    assert "look like one in training" in (tmp_path / "marked/report/index.html").read_text()


def noisy(coarse, seed):
    image = cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_CUBIC).astype(int)
    image += np.random.default_rng(seed).integers(-2, 3, image.shape)
    return cv2.imencode(".png", np.clip(image, 0, 255).astype(np.uint8))[1].tobytes()
