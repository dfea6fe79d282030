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
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_jax import provenance
from deepfidelity_jax.detector import bundled, seen_methods
from deepfidelity_jax.detector.card import write_card
from deepfidelity_jax.detector.load import Detector, identify, load
from deepfidelity_jax.detector.trained import (
    keep_finder,
    require_bound,
    require_trained_on,
    tell_changed,
)
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import stored
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.files import digest, fingerprint
from deepfidelity_jax.leaks import shared_sources, training_pictures
from deepfidelity_jax.leaks import stages as leak_stages
from deepfidelity_jax.network.outputs import HEADS
from deepfidelity_jax.official import convert
from deepfidelity_jax.options import checks
from deepfidelity_jax.processes import hosts
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality.measure import find_weights
from deepfidelity_jax.records import schema
from deepfidelity_jax.records.write import is_prepared, prepare, records_dir
from deepfidelity_jax.scoring import controls, cross_dataset, evaluate
from deepfidelity_jax.scoring.exported_features import Features, export_once, how_mirrored
from deepfidelity_jax.scoring.report import write_report
from deepfidelity_jax.scoring.table import sources_of
from deepfidelity_jax.training import checkpoint, loop, sharding
from deepfidelity_jax.training.batches import require_divisible
from deepfidelity_jax.training.order import checks as trainable
from deepfidelity_jax.weight_files import packed
from deepfidelity_jax.workdir import Stages, claim, held

STAGES = ("prepare", "train", "fit", "evaluate")
CARD = "MODEL_CARD.md"  # in the workdir


def run(config: ConfigDict, workdir: Path, mode: str = "run") -> None:
    """Run all stages in order, or the one that `mode` names.

    All of several processes run this; only the first one prepares, checks, fits and evaluates.

    Raises:
      InputError: something the user can fix, such as a missing result of an earlier stage.
    """
    stages = STAGES if mode == "run" else (mode,)
    builder = plan_records(config, workdir, stages)
    starting, latest = False, checkpoint.latest_step(workdir / "checkpoints")
    if "train" in stages:
        sharding.data_mesh(config.train.batch_size)  # fail now if devices cannot share a batch
        untrained = not hosts.broadcast(latest or 0)
        starting = bool(config.init_from) and untrained
    # Read before hours of preparation, so that an error shows at once.
    initial = convert.initial_arrays(config) if starting and "prepare" in stages else None
    folder = Path(builder.data_path)
    no_records = f"no records in {folder}: run --mode=prepare first"
    if hosts.is_first():
        if mode != "prepare":
            require_trained_on(builder, workdir)
        require_bound(config, workdir)
        prepared = is_prepared(folder)
        # A command that is refused leaves nothing behind.
        if not prepared and (why := builder.absent if "prepare" in stages else no_records):
            raise InputError(why)
        claim(workdir, config)
        if "prepare" in stages:
            keep_finder(config, workdir)
            timing = provenance.timed(workdir, "prepare", str(folder), on_devices=False)
            with contextlib.nullcontext() if prepared else timing:
                prepare(builder)
    hosts.wait()
    if not is_prepared(folder):
        raise InputError(no_records)
    trainable.require_methods(config, folder)
    if starting and initial is None:
        initial = convert.initial_arrays(config)
    if hosts.is_first() and "train" in schema.splits_of(folder):
        leak_stages.check(config, folder, workdir, builder.undecided)
        if {"train", "fit"} & {*stages}:
            start = str(bundled.folder()) if config.init_from == bundled.NAME else config.init_from
            leak_stages.remember(config, folder, workdir, start, begun=latest is not None)
    if hosts.is_first() and mode != "prepare":
        tell_changed(folder, workdir)
    hosts.wait()
    finished = hosts.broadcast(latest == config.train.steps)
    if "train" in stages and not finished:
        with provenance.timed(workdir, "train", schema.identity(folder)) as saved:
            loop.train(config, folder, workdir, initial, builder.contents, saved)
        hosts.wait()  # the first process finishes writing the checkpoints
    elif mode != "prepare" and not finished:
        raise InputError(f"the training in {workdir} is not finished: run --mode=train first")
    step = hosts.broadcast(checkpoint.best_step(workdir / "checkpoints") or 0)
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
    if weights := find_weights(config.quality.weights, workdir):
        config = copy.deepcopy(config)  # the workdir is bound to the path as it was given
        config.quality.weights = str(weights)
    builder = builder_class.configured(config, records_dir(config, workdir))
    if "train" in stages:  # fail now if batches cannot be divided
        forged = builder.forges and config.data.fresh_forgeries
        require_divisible(config.train.batch_size, hosts.count(), forged=forged)
        trainable.require_planned_methods(config, builder)
    return builder


def prepare_records(runs: Sequence[tuple[ConfigDict, Path]]) -> list[Path]:
    """Prepare the records of several runs, config and workdir, before any trains; their folders.

    InputError if one cannot be trained: before any preparation, where options or sources tell.
    """
    folders = [Path(plan_records(*planned, STAGES).data_path) for planned in runs]
    for (config, workdir), folder in zip(runs, folders, strict=True):
        if not is_prepared(folder):
            with held(workdir, wait=True):
                run(config, workdir, "prepare")
        trainable.require_methods(config, folder)
        trainable.require_batches(config, folder)
    return folders


@dataclass
class Trained:
    """A finished training, from which the later stages start.

    folder: the folder of the records. step: the step of the best checkpoint.
    """

    config: ConfigDict
    folder: Path
    workdir: Path
    step: int

    @functools.cached_property
    def detector(self) -> Detector:
        """The trained network without a regressor, loaded once, and only if a stage needs it."""
        return load(self.workdir, fitted=False)

    @functools.cached_property
    def inputs(self) -> tuple[str, str]:
        """Which records and which weights every later stage starts from."""
        weights = checkpoint.digest_of_weights(self.workdir / "checkpoints", self.step)
        return schema.identity(self.folder), weights

    @property
    def mirrored(self) -> list[str]:
        """What the inputs of every later stage say of mirror images."""
        return how_mirrored(self.config.model.mirror_average)

    def features(self, split: str) -> Features:
        """The features of a split; computed if they have not been exported yet.

        Those of the training split are never averaged with mirror images: a regressor fitted to
        averages finds fewer forgeries in other pictures (docs/detector.md).
        """
        return export_once(
            lambda: self.detector,
            self.inputs[1],
            self.folder,
            self.config.data.dataset,
            split,
            self.workdir,
            mirror_average=self.config.model.mirror_average and split != "train",
            with_answers=self.config.fidelity.regressor in HEADS,
            timing=provenance.timed(self.workdir, f"features {split}", fingerprint(self.inputs)),
        )


def fit(trained: Trained) -> None:
    """Export the features of the training and validation splits, and fit the regressor."""
    workdir = trained.workdir
    options = trained.config.fidelity.to_dict()
    del options["quality_range"]  # the records tell, and earlier versions had none
    inputs = fingerprint(trained.inputs, options, *trained.mirrored)
    stages = Stages(workdir)
    if hosts.broadcast(stages.done("fit", inputs, workdir / "fidelity.npz")):
        return
    # The features have times of their own, as several runs may share them.
    needed = trained.detector, trained.features("train"), trained.features("validation")
    with provenance.timed(workdir, "fit", inputs):
        _fit(trained, *needed)
        stages.finish("fit", inputs)
    hosts.wait()


def _fit(trained: Trained, detector: Detector, training: Features, validation: Features) -> None:
    config, folder, workdir = trained.config, trained.folder, trained.workdir
    for stage in ("fit", "evaluate"):  # the evaluation is of the previous regressor
        Stages(workdir).begin(stage)
    if hosts.is_first():
        (workdir / CARD).unlink(missing_ok=True)  # and so is the card
        metadata = schema.metadata_of(folder)
        scale = FidelityScale.from_dict(metadata["fidelity_scale"])
        left_out = config.train.get("leave_out", ())
        model = evaluate.fit(
            config, training.without(left_out), validation.without(left_out), scale
        )
        faces = controls.real_faces(schema.Records(folder, "validation"))
        calibration = controls.with_limit(detector.fitted(model), faces)
        # Prediction measures quality in the same way, from this note.
        noted = {"quality": metadata["quality"], stored.FITTED_TO: trained.inputs[1]}
        noted |= controls.note_limit(calibration)
        model = replace(model, calibration=calibration, provenance=noted)
        stored.save(model, workdir / "fidelity.npz")


def evaluate_and_report(trained: Trained) -> None:
    """Score the test split, and write metrics, predictions and the report."""
    config, folder, workdir, step = trained.config, trained.folder, trained.workdir, trained.step
    dataset = config.data.dataset
    model = stored.load(workdir / "fidelity.npz")
    stored.require_fitted_to(trained.inputs[1], model, workdir / "fidelity.npz")
    eval_dir = workdir / "eval" / dataset
    results = [
        eval_dir / "metrics.json",
        eval_dir / "predictions.csv",
        workdir / "report/index.html",
    ]
    results.append(workdir / provenance.RUN)
    alike = shared_sources.count_alike(workdir / leak_stages.REPORT)
    fitted = digest(workdir / "fidelity.npz")
    # Earlier versions wrote no people beside the scores.
    people = ["people"] if config.eval.cluster == "person" else []
    inputs = fingerprint(
        trained.inputs, config.eval.to_dict(), fitted, alike, *people, *trained.mirrored
    )
    stages = Stages(workdir)
    done = hosts.broadcast(stages.done("evaluate", inputs, *results))
    if not done:
        stages.begin("evaluate")
        about = {"look_alikes": alike, "records": trained.inputs[0], "detector": identify(workdir)}
        if hosts.is_first():
            about["faces_digest"] = training_pictures.require_test_unseen(
                folder, workdir, config.leaks.allow
            )
        hosts.wait()
        features = trained.features("test")
        with provenance.timed(workdir, "evaluate", inputs):
            _evaluate(trained, model, features, about)
    if hosts.is_first():
        metrics = json.loads((eval_dir / "metrics.json").read_text(encoding="utf-8"))
        if not done:
            provenance.write_run(config, workdir, folder, step, metrics)
            stages.finish("evaluate", inputs)
        say(evaluate.describe(metrics, dataset, "test"))
        say(f"report: {workdir / 'report' / 'index.html'}")
    hosts.wait()


def _evaluate(
    trained: Trained, model: stored.FidelityModel, features: Features, about: dict[str, Any]
) -> None:
    config, folder, workdir = trained.config, trained.folder, trained.workdir
    data = config.data
    metadata = schema.metadata_of(folder)
    features = features.with_quality_of(metadata["quality"]["measure"])
    if hosts.is_first():
        test = schema.Records(folder, "test")
        rows = [(record["origins"], record["bbox"]) for record in test]
        origins, boxes = zip(*rows, strict=True)
        about["folder"] = data.manifest or data.dir or data.manual_dir
        about["controls"] = controls.measure(
            trained.detector.fitted(model), test, seed=config.seed, replicates=config.eval.bootstrap
        )
        metrics = evaluate.evaluate(
            config, model, features, "test", workdir / "eval" / data.dataset,
            picked_here=config.train.select_on == "test",
            about=about,
            sources=sources_of(config, origins),
            groups=evaluate.groups_of(folder, features.path),
            boxes=np.array(boxes),
        )  # fmt: skip
        write_card(workdir / CARD, config, trained.step, metadata, metrics, model.calibration)
        write_report(workdir, cross_dataset.pictures_of(workdir))


def check_place(config: ConfigDict, workdir: Path, mode: str) -> None:
    """Check the files and folders that the options name, before anything is written.

    Raises:
      InputError: one is missing or of the wrong kind, the workdir was trained with another config
        or is a packed detector, there is nothing to train, or training starts from a detector that
        was trained on the methods left out.
    """
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir={workdir} is a file")
    if bundled.holds(workdir):  # `load` would go on reading it, whatever is trained here
        raise InputError(
            f"--workdir={workdir} holds a packed detector, {packed.WEIGHTS}: give a new --workdir; "
            f"to train from this detector, add --config.init_from={workdir}"
        )
    if mode in ("run", "prepare", "train"):
        checkpoint.require_usable(workdir)
    if mode in ("run", "train"):
        seen_methods.require_unseen(config)
    faces, preparing = config.faces, mode in ("run", "prepare")
    needed = preparing and faces.detector == "yunet" and not (workdir / bundled.FINDER).exists()
    if needed and not Path(faces.yunet).is_file():
        raise InputError(
            f"config.faces.yunet is {faces.yunet!r}, which is not a file: give YuNet's ONNX file"
        )
    records = config.data.records_dir
    if records and Path(records).is_file():
        raise InputError(f"config.data.records_dir is {records}, which is a file: give a folder")
    converted = checkpoint.latest_step(workdir / "checkpoints") == 0
    if config.train.steps == 0 and mode != "prepare" and not converted:
        raise InputError(
            f"config.train.steps is 0, which trains nothing, and {workdir} holds no converted "
            "weights: give a number of steps, or import weights with --mode=convert; to score a "
            "trained workdir, give --mode=evaluate and the steps it was trained for"
        )
    require_bound(config, workdir)
