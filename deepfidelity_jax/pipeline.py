"""The stages of a run, each skipped when its result is there and its inputs are unchanged.

prepare -> records, train -> checkpoints, features, fit -> fidelity.npz, evaluate -> metrics, report
"""

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_jax import hosts
from deepfidelity_jax.detector.load import Detector, load
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import stored
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.leaks import shared_sources, training_pictures
from deepfidelity_jax.official import convert
from deepfidelity_jax.options import checks
from deepfidelity_jax.progress import say
from deepfidelity_jax.records import schema
from deepfidelity_jax.records.write import prepare, records_dir
from deepfidelity_jax.scoring import evaluate
from deepfidelity_jax.scoring.exported_features import Features, export_once
from deepfidelity_jax.scoring.report import write_report
from deepfidelity_jax.training import checkpoint, loop, sharding
from deepfidelity_jax.workdir import Stages, claim, fingerprint

STAGES = ("prepare", "train", "fit", "evaluate")


def check_place(config: ConfigDict, workdir: Path, mode: str) -> None:
    """InputError unless the disk holds what these options ask for, before anything is written."""
    if mode in ("run", "prepare", "train"):
        checkpoint.require_usable(workdir)
    own, preparing = config.faces, mode in ("run", "prepare")
    needed = preparing and own.detector == "yunet" and not (workdir / "yunet.onnx").exists()
    if needed and not Path(own.yunet).is_file():
        raise InputError(
            f"config.faces.yunet is {own.yunet!r}, which is no file: name YuNet's ONNX file"
        )
    place = config.data.records_dir
    if place and Path(place).is_file():
        raise InputError(f"config.data.records_dir is {place}: a file, no folder")
    converted = checkpoint.latest_step(workdir / "checkpoints") == 0
    if config.train.steps == 0 and mode != "prepare" and not converted:
        raise InputError(
            f"config.train.steps is 0, which trains nothing, and {workdir} holds no converted "
            "weights: give the steps of a training, or put weights there with --mode=convert; a "
            "trained workdir is scored with --mode=evaluate and the steps it was trained for"
        )


def run(config: ConfigDict, workdir: Path, mode: str = "run") -> None:
    """Run all stages in order, or the one that `mode` names.

    Raises InputError for what the user can mend, and where one stage alone is asked for and what it
    starts from is missing.
    """
    todo = STAGES if mode == "run" else (mode,)
    if "train" in todo and set(config.data.prepare) != set(schema.SPLITS):
        raise InputError(
            f"config.data.prepare is {tuple(config.data.prepare)}: training needs all of "
            f"{', '.join(schema.SPLITS)}; a test split alone is scored with configs/cross.py"
        )
    builder_class = schema.builder_class(config.data.dataset)
    checks.require_used(config, builder_class.OPTIONS)
    builder = builder_class.configured(config, records_dir(config, workdir))
    if "train" in todo:
        sharding.data_mesh(config.train.batch_size)  # tells, before hours of work, what won't do
    untrained = not hosts.told(checkpoint.latest_step(workdir / "checkpoints") or 0)
    starting = "train" in todo and config.init_from and untrained
    initial = convert.initial_arrays(config) if starting else None
    if hosts.is_first():
        if mode != "prepare":
            require_trained_on(builder, workdir)
        claim(workdir, config)
        if "prepare" in todo:
            prepare(config, builder, workdir)
    hosts.wait()
    folder = Path(builder.data_path)
    if not (folder / "dataset_info.json").exists():
        raise InputError(f"no records in {folder}: run --mode=prepare first")
    if hosts.is_first() and "train" in schema.splits_of(folder):
        shared_sources.require_none(
            folder, config.leaks.allow, workdir, undecided=builder.undecided
        )
        if "train" in todo:
            training_pictures.remember(folder, workdir, config.init_from)
    hosts.wait()
    if "train" in todo:
        loop.train(config, folder, workdir, initial, builder.contents)
        hosts.wait()  # the first one finishes the checkpoints
    step = checkpoint.best_step(workdir / "checkpoints")
    if checkpoint.latest_step(workdir / "checkpoints") != config.train.steps and mode != "prepare":
        raise InputError(f"{workdir} is not trained to its end: run --mode=train first")
    trained = Trained(config, folder, workdir, step)
    if "fit" in todo:
        fit(trained)
    if "evaluate" in todo:
        evaluate_and_report(trained)


def require_trained_on(builder: tfds.core.DatasetBuilder, workdir: Path) -> None:
    """InputError where the detector in `workdir` learnt from other pictures than there are now."""
    step = checkpoint.latest_step(workdir / "checkpoints")
    if not step:
        return
    notes = checkpoint.read_notes(workdir / "checkpoints", step)
    if "converted_from" in notes or notes.get("trained_on", builder.untold) == builder.contents:
        return
    raise InputError(
        f"{workdir} was trained on other pictures than the data holds now, for training and "
        "validation: bring the data back to what it was; or train further on it in a new "
        f"--workdir with --config.init_from={workdir}; or start anew in a new --workdir; or score "
        f"what is new with --mode=evaluate --workdir={workdir} --input=FOLDER"
    )


@dataclass
class Trained:
    """What the stages after training start from: its config, records, workdir and best step."""

    config: ConfigDict
    folder: Path
    workdir: Path
    step: int | None

    @functools.cached_property
    def detector(self) -> Detector:
        """The trained network; read and compiled once for all splits, and only if needed."""
        return load(self.workdir)

    def features(self, split: str) -> Features:
        """The features of a split, exported unless they are there."""
        return export_once(
            lambda: self.detector, self.step, self.folder, self.config.data.dataset, split,
            self.workdir,
        )  # fmt: skip


def fit(trained: Trained) -> None:
    """Export the features of the training and validation splits, and fit the regressor."""
    config, folder, workdir, step = trained.config, trained.folder, trained.workdir, trained.step
    inputs = fingerprint(folder.name, folder.parent.name, step, config.fidelity.to_dict())
    path, stages = workdir / "fidelity.npz", Stages(workdir)
    if hosts.told(stages.done("fit", inputs, path)):
        return
    training, validation = trained.features("train"), trained.features("validation")
    stages.begin("fit")
    if hosts.is_first():
        metadata = schema.metadata_of(folder)
        scale = FidelityScale.from_dict(metadata["fidelity_scale"])
        model = evaluate.fit(config, training, validation, scale)
        # Prediction measures quality as it was measured here.
        stored.save(replace(model, provenance={"quality": metadata["quality"]}), path)
        stages.finish("fit", inputs)
    hosts.wait()


def evaluate_and_report(trained: Trained) -> None:
    """Score the test split, and write metrics, predictions and the report."""
    config, folder, workdir, step = trained.config, trained.folder, trained.workdir, trained.step
    dataset = config.data.dataset
    model = stored.load(workdir / "fidelity.npz")
    place = workdir / "eval" / dataset
    results = [place / "metrics.json", place / "predictions.csv", workdir / "report/index.html"]
    alike = shared_sources.count_alike(workdir)
    inputs = fingerprint(
        folder.parent.name, step, config.eval.to_dict(), model.regressor.settings, alike
    )
    stages = Stages(workdir)
    if not hosts.told(stages.done("evaluate", inputs, *results)):
        stages.begin("evaluate")
        picked_here = config.train.select_on == "test"
        about = {"folder": config.data.dir or config.data.manual_dir, "look_alikes": alike}
        if hosts.is_first():
            about["faces_digest"] = training_pictures.require_test_unseen(
                folder, workdir, config.leaks.allow
            )
        hosts.wait()
        features = trained.features("test")
        if hosts.is_first():
            evaluate.evaluate(
                config, model, features, "test", place, picked_here=picked_here, about=about
            )
            test = schema.Records(folder, "test")
            write_report(workdir, {dataset: lambda rows: [test[row]["image"] for row in rows]})
            stages.finish("evaluate", inputs)
    hosts.wait()
    found = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
    say(evaluate.describe(found, dataset, "test"))
    say(f"report: {workdir / 'report' / 'index.html'}")
