"""The stages of a run. A stage is skipped if its result exists and its inputs are unchanged.

stage     reads                     writes
prepare   raw data                  records
train     records                   checkpoints
fit       records, best checkpoint  features of training and validation, fidelity.npz
evaluate  records, fidelity.npz     features of the test split, metrics, predictions, report
"""

import contextlib
import copy
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_jax import hosts, provenance
from deepfidelity_jax.detector import bundled
from deepfidelity_jax.detector.load import Detector, load
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import stored
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.files import fingerprint
from deepfidelity_jax.leaks import shared_sources, training_pictures
from deepfidelity_jax.network.outputs import HEADS
from deepfidelity_jax.official import convert
from deepfidelity_jax.options import checks
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality.measure import find_weights
from deepfidelity_jax.records import schema
from deepfidelity_jax.records.write import prepare, records_dir
from deepfidelity_jax.scoring import controls, cross_dataset, evaluate, metrics
from deepfidelity_jax.scoring.exported_features import Features, export_once
from deepfidelity_jax.scoring.report import write_card, write_report
from deepfidelity_jax.training import checkpoint, loop, sharding
from deepfidelity_jax.workdir import Stages, claim, read_config

STAGES = ("prepare", "train", "fit", "evaluate")
LEAKS = "leaks.json"  # in the workdir


def run(config: ConfigDict, workdir: Path, mode: str = "run") -> None:
    """Run all stages in order, or the one that `mode` names.

    All of several processes run this; only the first one prepares, checks, fits and evaluates.

    Raises:
      InputError: something the user can fix, such as a missing result of an earlier stage.
    """
    stages = STAGES if mode == "run" else (mode,)
    builder = plan_records(config, workdir, stages)
    starting = False
    if "train" in stages:
        sharding.data_mesh(config.train.batch_size)  # fail now if devices cannot share a batch
        untrained = not hosts.told(checkpoint.latest_step(workdir / "checkpoints") or 0)
        starting = bool(config.init_from) and untrained
    # Read before hours of preparation, so that an error shows at once.
    initial = convert.initial_arrays(config) if starting and "prepare" in stages else None
    folder = Path(builder.data_path)
    no_records = f"no records in {folder}: run --mode=prepare first"
    if hosts.is_first():
        if mode != "prepare":
            require_trained_on(builder, workdir)
        prepared = (folder / "dataset_info.json").exists()
        # A command that is refused leaves nothing behind.
        if not prepared and (why := builder.absent if "prepare" in stages else no_records):
            raise InputError(why)
        claim(workdir, config)
        if "prepare" in stages:
            with contextlib.nullcontext() if prepared else provenance.timed(workdir, "prepare"):
                prepare(config, builder, workdir)
    hosts.wait()
    if not (folder / "dataset_info.json").exists():
        raise InputError(no_records)
    require_methods(config, folder)
    if starting and initial is None:
        initial = convert.initial_arrays(config)
    if hosts.is_first() and "train" in schema.splits_of(folder):
        check_leaks(config, folder, workdir, builder.undecided)
        if "train" in stages:
            remember_training_pictures(config, folder, workdir)
    hosts.wait()
    if "train" in stages:
        finished = checkpoint.latest_step(workdir / "checkpoints") == config.train.steps
        with contextlib.nullcontext() if finished else provenance.timed(workdir, "train"):
            loop.train(config, folder, workdir, initial, builder.contents)
        hosts.wait()  # the first process finishes writing the checkpoints
    step = checkpoint.best_step(workdir / "checkpoints")
    if checkpoint.latest_step(workdir / "checkpoints") != config.train.steps and mode != "prepare":
        raise InputError(f"the training in {workdir} is not finished: run --mode=train first")
    trained = Trained(config, folder, workdir, step)
    if "fit" in stages:
        fit(trained)
    if "evaluate" in stages:
        evaluate_and_report(trained)


def plan_records(
    config: ConfigDict, workdir: Path, stages: Sequence[str]
) -> tfds.core.DatasetBuilder:
    """The builder of the records; InputError if the options do not fit the dataset or a stage."""
    if "train" in stages and set(config.data.prepare) != set(schema.SPLITS):
        raise InputError(
            f"config.data.prepare is {tuple(config.data.prepare)}: training needs all of "
            f"{', '.join(schema.SPLITS)}; to score a test split alone, use configs/cross.py"
        )
    builder_class = schema.builder_class(config.data.dataset)
    checks.require_used(config, builder_class.OPTIONS)
    if here := find_weights(config.quality.weights, workdir):
        config = copy.deepcopy(config)  # the workdir is bound to the path as it was given
        config.quality.weights = str(here)
    return builder_class.configured(config, records_dir(config, workdir))


def require_methods(config: ConfigDict, folder: Path) -> None:
    """InputError if `config.train.leave_out` names a method that the records do not hold."""
    found = schema.metadata_of(folder).get("faces_found", {})
    there = {method for counts in found.values() for method in counts} - {schema.ORIGINAL}
    unknown = set(config.train.get("leave_out", ())) - there
    if unknown:
        raise InputError(
            f"config.train.leave_out names {', '.join(sorted(unknown))}, but the methods of the "
            f"fakes are {', '.join(sorted(there))}"
        )


def require_unseen_by_start(config: ConfigDict) -> None:
    """InputError if training starts from a detector that was trained on a method to leave out.

    Official weights, converted or not, pass, because no config says what they were trained on.
    """
    left_out, start = set(config.train.get("leave_out", ())), config.get("init_from", "")
    if not left_out or not start:
        return
    place = bundled.folder() if start == bundled.NAME else Path(start)
    converted = checkpoint.latest_step(place / "checkpoints") == 0
    if converted or not (place / "config.json").is_file():
        return
    source = read_config(place)
    seen = sorted(left_out - set(source.get("train", {}).get("leave_out", ())))
    if seen:
        raise InputError(
            f"config.train.leave_out names {', '.join(seen)}, but config.init_from={start} was "
            f"trained with {'them' if len(seen) > 1 else 'it'}: start from a detector that was "
            "trained without, or from none (--config.init_from=)"
        )


def check_leaks(config: ConfigDict, folder: Path, workdir: Path, undecided: str) -> None:
    """Check the records in `folder` for leaks between splits, once."""
    report, stages = workdir / LEAKS, Stages(workdir)
    allow = config.leaks.allow
    inputs = fingerprint(folder.parent.name, folder.name, sorted(allow), bool(undecided))
    if not stages.done("leaks", inputs, report):
        shared_sources.require_none(folder, allow, report, undecided=undecided)
        stages.finish("leaks", inputs)


def remember_training_pictures(config: ConfigDict, folder: Path, workdir: Path) -> None:
    """Store the digests of the training pictures in the workdir, once."""
    stages = Stages(workdir)
    inputs = fingerprint(folder.parent.name, folder.name, config.init_from)
    if not stages.done("seen", inputs, workdir / training_pictures.SEEN):
        start = config.init_from
        start = str(bundled.folder()) if start == bundled.NAME else start
        begun = checkpoint.latest_step(workdir / "checkpoints") is not None
        training_pictures.remember(folder, workdir, start, begun=begun)
        stages.finish("seen", inputs)


@dataclass
class Trained:
    """A finished training, from which the later stages start.

    folder: the folder of the records. step: the step of the best checkpoint.
    """

    config: ConfigDict
    folder: Path
    workdir: Path
    step: int | None

    @functools.cached_property
    def detector(self) -> Detector:
        """The trained network, loaded once, and only if a stage needs it."""
        return load(self.workdir)

    def features(self, split: str) -> Features:
        """The features of a split; computed if they have not been exported yet."""
        return export_once(
            lambda: self.detector, self.step, self.folder, self.config.data.dataset, split,
            self.workdir, self.config.fidelity.regressor in HEADS,
        )  # fmt: skip


def fit(trained: Trained) -> None:
    """Export the features of the training and validation splits, and fit the regressor."""
    config, folder, workdir, step = trained.config, trained.folder, trained.workdir, trained.step
    inputs = fingerprint(folder.name, folder.parent.name, step, config.fidelity.to_dict())
    stages = Stages(workdir)
    if hosts.told(stages.done("fit", inputs, workdir / "fidelity.npz")):
        return
    with provenance.timed(workdir, "fit"):
        _fit(trained)
        stages.finish("fit", inputs)
    hosts.wait()


def _fit(trained: Trained) -> None:
    config, folder, workdir = trained.config, trained.folder, trained.workdir
    training, validation = trained.features("train"), trained.features("validation")
    for stage in ("fit", "evaluate"):  # the evaluation is of the previous regressor
        Stages(workdir).begin(stage)
    if hosts.is_first():
        metadata = schema.metadata_of(folder)
        scale = FidelityScale.from_dict(metadata["fidelity_scale"])
        left_out = config.train.get("leave_out", ())
        model = evaluate.fit(
            config, training.without(left_out), validation.without(left_out), scale
        )
        faces = controls.real_faces(schema.Records(folder, "validation"))
        calibration = controls.with_limit(trained.detector.fitted(model), faces)
        # Prediction measures quality in the same way, from this note.
        measured = {"quality": metadata["quality"]}
        model = replace(model, calibration=calibration, provenance=measured)
        stored.save(model, workdir / "fidelity.npz")


def evaluate_and_report(trained: Trained) -> None:
    """Score the test split, and write metrics, predictions and the report."""
    config, folder, workdir, step = trained.config, trained.folder, trained.workdir, trained.step
    dataset = config.data.dataset
    model = stored.load(workdir / "fidelity.npz")
    place = workdir / "eval" / dataset
    results = [place / "metrics.json", place / "predictions.csv", workdir / "report/index.html"]
    results.append(workdir / provenance.RUN)
    alike = shared_sources.count_alike(workdir / LEAKS)
    inputs = fingerprint(
        folder.parent.name, step, config.eval.to_dict(), model.regressor.settings, alike,
        model.calibration.method,
    )  # fmt: skip
    stages = Stages(workdir)
    done = hosts.told(stages.done("evaluate", inputs, *results))
    if not done:
        with provenance.timed(workdir, "evaluate"):
            _evaluate(trained, model, alike)
    if hosts.is_first():
        found = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
        if not done:
            provenance.write_run(config, workdir, folder, step, found)
            stages.finish("evaluate", inputs)
        say(evaluate.describe(found, dataset, "test"))
        say(f"report: {workdir / 'report' / 'index.html'}")
    hosts.wait()


def _evaluate(trained: Trained, model: stored.FidelityModel, alike: int) -> None:
    config, folder, workdir = trained.config, trained.folder, trained.workdir
    dataset = config.data.dataset
    Stages(workdir).begin("evaluate")
    own = config.data
    about = {"folder": own.manifest or own.dir or own.manual_dir, "look_alikes": alike}
    if hosts.is_first():
        about["faces_digest"] = training_pictures.require_test_unseen(
            folder, workdir, config.leaks.allow
        )
    hosts.wait()
    features = trained.features("test")
    metadata = schema.metadata_of(folder)
    features = features.with_quality_of(metadata["quality"]["measure"])
    if hosts.is_first():
        test = schema.Records(folder, "test")
        origins = [record["origins"] for record in test]
        about["controls"] = controls.measure(
            trained.detector.fitted(model), test, seed=config.seed, replicates=config.eval.bootstrap
        )
        found = evaluate.evaluate(
            config,
            model,
            features,
            "test",
            workdir / "eval" / dataset,
            picked_here=config.train.select_on == "test",
            about=about,
            origins=metrics.original_videos(origins),
            people=metrics.people_of(config, origins),
            groups=evaluate.groups_of(folder, features.path),
        )
        card = workdir / "MODEL_CARD.md"
        write_card(card, config, trained.step or 0, metadata, found, model.calibration)
        write_report(workdir, cross_dataset.pictures_of(workdir))


def check_place(config: ConfigDict, workdir: Path, mode: str) -> None:
    """Check the files and folders that the options name, before anything is written.

    Raises:
      InputError: one is missing or of the wrong kind, there is nothing to train, or training starts
        from a detector that was trained on the methods left out.
    """
    if mode in ("run", "prepare", "train"):
        checkpoint.require_usable(workdir)
    if mode in ("run", "train"):
        require_unseen_by_start(config)
    own, preparing = config.faces, mode in ("run", "prepare")
    needed = preparing and own.detector == "yunet" and not (workdir / "yunet.onnx").exists()
    if needed and not Path(own.yunet).is_file():
        raise InputError(
            f"config.faces.yunet is {own.yunet!r}, which is not a file: give YuNet's ONNX file"
        )
    place = config.data.records_dir
    if place and Path(place).is_file():
        raise InputError(f"config.data.records_dir is {place}, which is a file: give a folder")
    converted = checkpoint.latest_step(workdir / "checkpoints") == 0
    if config.train.steps == 0 and mode != "prepare" and not converted:
        raise InputError(
            f"config.train.steps is 0, which trains nothing, and {workdir} holds no converted "
            "weights: give a number of steps, or import weights with --mode=convert; to score a "
            "trained workdir, give --mode=evaluate and the steps it was trained for"
        )


def require_trained_on(builder: tfds.core.DatasetBuilder, workdir: Path) -> None:
    """InputError if the detector in `workdir` was trained on other data than the present data."""
    step = checkpoint.latest_step(workdir / "checkpoints")
    if not step:
        return
    notes = checkpoint.read_notes(workdir / "checkpoints", step)
    if "converted_from" in notes or notes.get("trained_on", builder.untold) == builder.contents:
        return
    raise InputError(
        f"{workdir} was trained on other pictures or quality scores than are now in the training "
        "and validation splits: restore the data and the options that divide it "
        "(config.data.group, splits, seed); or fine-tune on the new data in a new --workdir with "
        f"--config.init_from={workdir}; or start over in a new --workdir; or only score new "
        f"pictures with --mode=evaluate --workdir={workdir} --input=FOLDER"
    )
