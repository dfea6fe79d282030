"""The stages of a run: none repeated, each checked before it starts."""

import json
import shutil
import time
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import trees
from conftest import DEMO, OPTIONS, TINY, TREE, assert_told, change_records, mark_trained
from PIL import Image

import deepfidelity_jax as df
from deepfidelity_configs import default
from deepfidelity_jax import pipeline, workdir
from deepfidelity_jax.detector import bundled
from deepfidelity_jax.detector.load import identify, load
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import stored
from deepfidelity_jax.files import fingerprint
from deepfidelity_jax.forgeries.families import FAMILIES
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.options import checks
from deepfidelity_jax.records import schema
from deepfidelity_jax.scoring import cross_dataset
from deepfidelity_jax.training import checkpoint
from deepfidelity_jax.training.order.checks import require_methods
from deepfidelity_jax.workdir import Stages, read_config

FOLDER = f"--config={TREE / 'configs' / 'folder.py'}"


def test_damaged_checkpoints(run, finished, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(finished, work)
    for path in work.glob("checkpoints/*/state/manifest.ocdbt"):
        path.write_bytes(b"")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    result = run("--mode=predict", f"--workdir={work}", f"--input={tmp_path / 'a.png'}")
    assert_told(result, work / "checkpoints", "damaged", "delete that folder")
    (work / "fidelity.npz").unlink()
    shutil.rmtree(work / "features")
    result = run(DEMO, f"--workdir={work}", *OPTIONS)
    assert_told(result, work / "checkpoints", "damaged")
    (work / "config.json").write_text('{"half')
    assert_told(run(DEMO, f"--workdir={work}", *OPTIONS), "config.json", "damaged")


def test_the_same_command_again_repeats_nothing(run, finished):
    """Real command, finished workdir: no file but the event log is touched."""
    watched = ["checkpoints", "features", "eval", "report", "records", "fidelity.npz",
               "metrics.jsonl", "config.json", "stages.json"]  # fmt: skip

    def stamps():
        return {
            path: path.stat().st_mtime_ns
            for name in watched
            for path in [finished / name, *(finished / name).rglob("*")]
            if path.is_file()
        }

    before, start = stamps(), time.monotonic()
    status, out, error = run(DEMO, f"--workdir={finished}", *OPTIONS)
    assert status == 0, error
    assert time.monotonic() - start < 30
    assert out == ""
    assert "frame_auc" in error
    assert "prepared" not in error
    assert stamps() == before


def test_a_fit_from_before_an_option_of_the_records_stays(tmp_path):
    """The range of quality changes the records; a regressor of other records is another matter."""
    config = default.get_config()
    options = config.fidelity.to_dict()
    del options["quality_range"]
    Stages(tmp_path).finish("fit", fingerprint(("records", "weights"), options))
    (tmp_path / "fidelity.npz").touch()
    trained = pipeline.Trained(config, tmp_path / "no records", tmp_path, 0)
    trained.inputs = "records", "weights"
    pipeline.fit(trained)
    assert not (tmp_path / "fidelity.npz").read_bytes()


def test_the_regressor_is_fitted_to_faces_without_their_mirror_images(
    finished, records_folder, tmp_path
):
    config = read_config(finished)
    config.model.mirror_average = True
    trained = pipeline.Trained(config, records_folder, tmp_path, 0)
    alone = load(finished, fitted=False)
    both = copy(alone)
    both.mirror_average = True
    trained.inputs, trained.detector = ("records", "weights"), both
    for split, scores in (("train", alone), ("test", both)):
        records = schema.Records(records_folder, split)
        images = np.stack([decode_image(records[i]["image"]) for i in range(4)])
        found = trained.features(split).feature[:4]
        np.testing.assert_allclose(found, scores.features(images), atol=1e-5)
    assert not np.allclose(alone.features(images), both.features(images), atol=1e-3)


def test_a_finished_run_holds_what_is_promised(finished):
    place = finished / "eval" / "synthetic_faces"
    metrics = json.loads((place / "metrics.json").read_text())
    assert {
        "frame_auc", "video_auc", "frame_acc", "video_acc", "threshold", "threshold_from", "eer",
        "ap", "n_frames", "n_videos", "ci", "by_method", "by_quality", "fidelity_quality_spearman",
    } <= metrics.keys()  # fmt: skip
    header = (place / "predictions.csv").read_text().splitlines()[0]
    assert header == (
        "path,dataset,split,method,video_id,frame,label,quality,fidelity_target,fidelity,p_fake"
    )
    assert json.loads((finished / "config.json").read_text())["train"]["steps"] == 20
    for split in ("train", "validation", "test"):
        assert (finished / "features" / f"synthetic_faces-{split}.npz").is_file()
    page = (finished / "report" / "index.html").read_text(encoding="utf-8")
    assert "<link" not in page.replace('<link rel="icon" href="data:', "")
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_papers_peculiarities_are_told(run, finished, tmp_path):
    """A whole run with them: what was picked and searched on the test split says so everywhere."""
    options = {
        "data.records_dir": finished / "records",
        "data.fresh_forgeries": False,
        "train.steps": 2,
        "train.eval_every": 1,
        "train.token_mixing": "unlabelled",
        "train.token_weight": 0.0,
        "train.fidelity_weight": 0.0,
        "train.ema_warmup": False,
        "train.select_on": "test",
        "eval.official_scoring": True,
    }
    given = [*OPTIONS, *(f"--config.{key}={value}" for key, value in options.items())]
    status, _, error = run(DEMO, *given, f"--workdir={tmp_path}")
    assert status == 0, error
    assert "step 2: test frame AUC" in error
    assert "chosen on this same split" in error
    assert "official scoring" in error
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "test_frame_auc" in line] == [1, 2]
    assert not any("val_frame_auc" in line for line in lines)
    metrics = json.loads((tmp_path / "eval" / "synthetic_faces" / "metrics.json").read_text())
    assert metrics["checkpoint_picked_here"] is True
    assert metrics["official_scoring"]["threshold_from"] == "the best of 21 on these scores"
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "chosen on this same split" in page
    assert "Official scoring" in page
    assert "Test AUC" in page


def test_bad_files_among_good_are_left_out(run, tmp_path, one_core):
    """A folder is prepared in spite of them, and they are named."""
    folder = tmp_path / "in"
    for label, seed in (("real", 0), ("fake", 100)):
        (folder / label).mkdir(parents=True)
        for number in range(14):
            noise = np.random.default_rng(seed + number).integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(noise).save(folder / label / f"{number}.png")
    reasons = trees.bad_files(folder / "real")
    status, out, error = run(
        FOLDER, f"--workdir={tmp_path / 'work'}", "--mode=prepare", f"--config.data.dir={folder}",
        "--config.faces.detector=none", "--config.faces.size=48",
        "--config.data.splits=(0.4,0.3,0.3)",
    )  # fmt: skip
    assert status == 0, error
    assert out == ""
    for name, reason in reasons.items():
        assert any(f"real/{name}: " in line and reason in line for line in error.splitlines())


def test_no_steps_are_for_converted_weights(run, tmp_path):
    work = tmp_path / "work"
    for mode in ("run", "train", "fit", "evaluate"):
        status, _, error = run(
            DEMO, f"--workdir={work}", f"--mode={mode}", "--config.train.steps=0"
        )
        assert (status, error.count("\n")) == (2, 1), error
        assert "config.train.steps is 0" in error
        assert "--mode=convert" in error
        assert not work.exists()
    config = default.get_config()
    config.train.steps = 0
    checks.check(config)
    pipeline.check_place(config, work, "prepare")
    mark_trained(work, 0)
    pipeline.check_place(config, work, "run")


def test_files_that_options_name(run, tmp_path):
    work = tmp_path / "work"
    (tmp_path / "file").write_text("")
    for given, part in (
        (["faces.detector=yunet"], "config.faces.yunet is ''"),
        (["faces.detector=yunet", f"faces.yunet={tmp_path}"], f"{tmp_path}', which is not a file"),
        ([f"data.records_dir={tmp_path / 'file'}"], "which is a file: give a folder"),
    ):
        status, _, error = run(DEMO, f"--workdir={work}", *(f"--config.{x}" for x in given))
        assert (status, error.count("\n")) == (2, 1), error
        assert part in error
        assert not work.exists()


def test_intervals_and_workers_of_a_finished_run_may_change(run, finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    changed = {"train.log_every": 7, "train.checkpoint_every": 3, "train.keep": 9}
    both = TINY | changed | {"data.workers": 2}
    status, _, error = run(
        DEMO, f"--workdir={workdir}", *(f"--config.{key}={value}" for key, value in both.items())
    )
    assert status == 0, error
    assert "frame_auc" in error
    assert "step " not in error


def test_only_who_forges_needs_pairs(tiny, tmp_path):
    """Told before the preparation, where an odd batch cannot be of faces beside their forgeries."""

    def plan(dataset="", **data):
        config = default.get_config() if dataset else tiny
        config.train.batch_size = 33
        config.data.update({"dataset": dataset or tiny.data.dataset} | data)
        pipeline.plan_records(config, tmp_path / "work", pipeline.STAGES)

    for dataset in ("ffpp", "celeb_df", "wild_deepfake"):
        plan(dataset)
    for label in ("real", "fake"):
        (tmp_path / "two" / label).mkdir(parents=True)
        for number in range(20):
            noise = np.random.default_rng([number, label == "real"]).integers(0, 256, (48, 48, 3))
            Image.fromarray(noise.astype(np.uint8)).save(tmp_path / f"two/{label}/{number}.png")
    plan("face_folder", dir=str(tmp_path / "two"))
    shutil.copytree(tmp_path / "two" / "real", tmp_path / "one")
    plan("face_folder", dir=str(tmp_path / "one"), fresh_forgeries=False)
    for options in ({"dataset": "face_folder", "dir": str(tmp_path / "one")}, {}):
        with pytest.raises(InputError, match="batch_size is 33: give a multiple of 2, for 1 proc"):
            plan(**options)


@pytest.mark.parametrize(
    ("dataset", "name", "value"),
    [
        ("face_folder", "manual_dir", "/a"), ("face_folder", "beam", "--runner=DirectRunner"),
        ("ffpp", "dir", "/a"), ("ffpp", "splits", (0.5, 0.2, 0.3)),
        ("celeb_df", "compression", "raw"),
        ("wild_deepfake", "methods", ("Deepfakes",)), ("synthetic_faces", "group", "folder"),
        ("synthetic_faces", "incomplete", True), ("celeb_df", "identities", 9),
    ],
)  # fmt: skip
def test_what_a_dataset_does_not_use_is_refused(tmp_path, dataset, name, value):
    """It would be believed to have done something."""
    config = default.get_config()
    config.data.dataset = dataset
    config.data[name] = value
    with pytest.raises(InputError, match=f"config.data.{name} is .* does not use it") as error:
        pipeline.run(config, tmp_path / "work", "prepare")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "work").exists()


def test_leaks_are_looked_for_once(finished, tiny, tmp_path, monkeypatch):
    """Not again for the same records and options."""
    work = shutil.copytree(finished, tmp_path / "work")
    (records,) = (work / "records" / "synthetic_faces").glob("*/*.*.*")
    looked = []
    monkeypatch.setattr(
        pipeline.shared_sources, "require_none", lambda *_, **options: looked.append(options)
    )
    pipeline.leak_stages.check(tiny, records, work, "")
    assert not looked
    pipeline.leak_stages.check(tiny, records, work, "choose a group")
    assert looked == [{"undecided": "choose a group"}]
    tiny.leaks.allow = ("person:train-test",)
    pipeline.leak_stages.check(tiny, records, work, "")
    change_records(records)
    for _ in range(2):
        pipeline.leak_stages.check(tiny, records, work, "")
    assert len(looked) == 3


@pytest.mark.parametrize("mode", ["run", "train"])
def test_a_start_that_has_seen_what_is_left_out_is_refused(tiny, tmp_path, mode):
    source = tmp_path / "source"
    source.mkdir()

    def check(start, *left_out):
        tiny.init_from, tiny.train.leave_out = str(start), left_out
        pipeline.check_place(tiny, tmp_path / "work", mode)

    seen = json.loads(default.get_config().to_json())
    for theirs, ours, refused in (
        ((), ("swap",), "swap"),
        (("morph",), ("swap", "morph", "generated"), "generated, swap"),
        (("swap",), ("swap",), ""),
        (("swap", "morph"), ("swap",), ""),
        ((), (), ""),
    ):
        seen["train"]["leave_out"] = theirs
        (source / "config.json").write_text(json.dumps(seen))
        if not refused:
            check(source, *ours)
            continue
        with pytest.raises(
            InputError, match=f"leave_out names {refused}, but .*source may have been"
        ) as told:
            check(source, *ours)
        assert "\n" not in str(told.value)
    with pytest.raises(InputError, match="init_from=bundled was trained with it"):
        check("bundled", "swap")
    check("bundled")
    check("", "swap")
    (tmp_path / "official.pth").write_bytes(b"")
    check(tmp_path / "official.pth", "swap")
    check(tmp_path / "gone.pth", "swap")  # whoever reads it says that it is not there
    del seen["train"]["leave_out"]  # as an earlier version wrote it, which left nothing out
    (source / "config.json").write_text(json.dumps(seen))
    with pytest.raises(InputError, match="leave_out names swap"):
        check(source, "swap")
    mark_trained(source, 0)
    check(source, "swap")


def test_weights_of_the_measure_are_found_in_the_workdir(tiny, tmp_path):
    def planned(given, content):
        workdir = tmp_path / given / content
        workdir.mkdir(parents=True)
        (workdir / "arcface.pth").write_text(content)
        tiny.quality.measure = "ser_fiq"
        tiny.quality.weights = (
            str(workdir / "arcface.pth") if given == "there" else "/no/arcface.pth"
        )
        before = tiny.to_json()
        builder = pipeline.plan_records(tiny, workdir, ("fit",))
        assert tiny.to_json() == before
        return builder.builder_config.name

    assert planned("there", "one") == planned("elsewhere", "one") != planned("elsewhere", "two")
    with pytest.raises(InputError, match=r"arcface.pth', which is no file: .* in the workdir"):
        pipeline.plan_records(tiny, tmp_path, ("fit",))


def test_a_method_that_is_not_there_cannot_be_left_out(records_folder, tiny):
    metadata = schema.metadata_of(records_folder)
    methods = {method for counts in metadata["faces_found"].values() for method in counts}
    tiny.train.leave_out = tuple(sorted(methods - {"original"}))[:1]
    require_methods(tiny, records_folder)
    tiny.train.leave_out = ("cartoon",)
    with pytest.raises(InputError, match="names cartoon, but the methods of the fakes are"):
        require_methods(tiny, records_folder)
    tiny.train.leave_out = tuple(FAMILIES)  # training may draw some that no record holds
    with pytest.raises(InputError, match="leaves no fake in the train split: it holds"):
        require_methods(tiny, records_folder)


def test_another_fit_is_evaluated_anew(run, finished, tmp_path):
    """Though all options are the same: fidelity.npz may be, for example, of another version."""
    workdir = shutil.copytree(finished, tmp_path / "run")
    metrics = workdir / "eval" / "synthetic_faces" / "metrics.json"
    before = metrics.stat().st_mtime_ns
    (workdir / "fidelity.npz").unlink()
    options = [DEMO, f"--workdir={workdir}", *OPTIONS]
    assert run(*options, "--mode=fit")[0] == 0
    assert not (workdir / "MODEL_CARD.md").exists(), "its figures were those of the other"
    assert run(*options, "--mode=evaluate")[0] == 0
    assert (workdir / "MODEL_CARD.md").exists()
    assert metrics.stat().st_mtime_ns > before
    assert json.loads(metrics.read_text())["detector"] == identify(workdir)


def test_records_prepared_again_are_fitted_and_scored_anew(run, finished, tmp_path):
    """Under the same name; and who trained on those before is told."""
    workdir = shutil.copytree(finished, tmp_path / "run")
    (records,) = (workdir / "records" / "synthetic_faces").glob("*/*.*.*")
    metrics = workdir / "eval" / "synthetic_faces" / "metrics.json"
    written = (workdir / "fidelity.npz", metrics, workdir / "features/synthetic_faces-test.npz")
    before = [path.stat().st_mtime_ns for path in written]
    assert list(cross_dataset.pictures_of(workdir)) == ["synthetic_faces"]
    change_records(records)
    assert not cross_dataset.pictures_of(workdir), "nothing says that these faces were scored"
    status, _, error = run(DEMO, f"--workdir={workdir}", *OPTIONS)
    assert status == 0, error
    assert error.count(f"the records in {records} were prepared again since step 20") == 1
    assert "step 20:" not in error
    after = [path.stat().st_mtime_ns for path in written]
    assert all(new > old for old, new in zip(before, after, strict=True))
    assert json.loads(metrics.read_text())["records"] == schema.identity(records)
    assert list(cross_dataset.pictures_of(workdir)) == ["synthetic_faces"]


def test_a_regressor_of_other_weights_is_not_used(run, finished, tmp_path):
    """Neither by evaluation nor by `load`; --mode=fit mends it, as they say."""
    workdir = shutil.copytree(finished, tmp_path / "run")
    path = workdir / "fidelity.npz"
    model = stored.load(path)
    step = checkpoint.best_step(workdir / "checkpoints")
    weights = checkpoint.digest_of_weights(workdir / "checkpoints", step)
    assert model.provenance["fitted_to"] == weights == df.load(workdir).weights
    stored.save(replace(model, provenance=model.provenance | {"fitted_to": "others"}), path)
    told = "was fitted to other weights than those in .*: fit again with --mode=fit"
    with pytest.raises(InputError, match=told):
        df.load(workdir)
    options = [DEMO, f"--workdir={workdir}", *OPTIONS]
    assert_told(run(*options, "--mode=evaluate"), "fitted to other weights")
    stages = json.loads((workdir / "stages.json").read_text())
    (workdir / "stages.json").write_text(json.dumps(stages | {"fit": "of the others"}))
    status, _, error = run(*options, "--mode=fit")
    assert status == 0, error
    assert df.load(workdir).fidelity_model.provenance["fitted_to"] == weights
    old = replace(model, provenance={"quality": model.provenance["quality"]})
    stored.save(old, path)
    assert df.load(workdir).threshold == model.calibration.threshold, "as earlier versions wrote it"


def test_a_workdir_is_bound_once_something_is_trained(tiny, tmp_path):
    """A mistyped option is corrected by the corrected command."""
    workdir.claim(tmp_path, tiny)
    tiny.train.learning_rate = 2e-4
    pipeline.check_place(tiny, tmp_path, "run")
    workdir.claim(tmp_path, tiny)
    (tmp_path / "config.json").write_text('{"half')
    workdir.claim(tmp_path, tiny)
    mark_trained(tmp_path)
    pipeline.check_place(tiny, tmp_path, "run")
    tiny.train.learning_rate = 3e-4
    with pytest.raises(InputError, match="learning_rate is 0.0002 there and 0.0003 here"):
        pipeline.check_place(tiny, tmp_path, "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file"):
        pipeline.check_place(tiny, tmp_path / "file", "run")


@pytest.mark.parametrize("trained", [True, False])
def test_another_file_of_the_face_finder_is_taken_before_training(
    tiny, tmp_path, monkeypatch, trained
):
    """The workdir keeps a copy; that of a mistyped option is not what faces are found with."""
    tiny.faces.detector, tiny.faces.yunet = "yunet", str(tmp_path / "right.onnx")
    work = tmp_path / "work"
    work.mkdir()
    for path in (tmp_path / "right.onnx", work / "yunet.onnx"):
        path.write_text(path.stem)
    if trained:
        mark_trained(work, 0)
    monkeypatch.setattr(pipeline, "prepare", lambda _: None)
    with pytest.raises(InputError, match="no records in"):
        pipeline.run(tiny, work, "prepare")
    assert (work / "yunet.onnx").read_text() == ("yunet" if trained else "right")


@pytest.mark.parametrize("mode", ["run", "prepare", "train", "fit", "evaluate"])
def test_a_packed_detector_is_no_workdir(run, tmp_path, mode):
    """Whatever was trained there, `load` would go on reading the packed weights."""
    packed = shutil.copytree(bundled.folder(), tmp_path / "packed")
    before = {path: path.read_bytes() for path in packed.iterdir()}
    result = run(DEMO, f"--workdir={packed}", f"--mode={mode}", *OPTIONS)
    told = f"--workdir={packed} holds a packed detector, model.safetensors: give a new --workdir"
    assert_told(result, told, f"--config.init_from={packed}")
    assert {path: path.read_bytes() for path in packed.iterdir()} == before
