"""The stages of a run, each skipped when its result is there and its inputs are unchanged.

prepare -> records, train -> checkpoints, features, fit -> fidelity.npz, evaluate -> metrics, report
"""

import contextlib
import functools
import io
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_jax import (
    checkpoint,
    convert,
    evaluate,
    fidelity,
    leaks,
    options,
    processes,
    records,
    sharding,
    train,
)
from deepfidelity_jax.detector import Detector, load
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.features import Features, export_once
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.preparation import staging_folder
from deepfidelity_jax.report import write_report
from deepfidelity_jax.workdir import Stages, claim, fingerprint, say

STAGES = ("prepare", "train", "fit", "evaluate")


def run(config: ConfigDict, workdir: Path, mode: str = "run") -> None:
    """Run all stages in order, or the one that `mode` names.

    Raises InputError for what the user can mend, and where one stage alone is asked for and what it
    starts from is missing.
    """
    todo = STAGES if mode == "run" else (mode,)
    if "train" in todo and set(config.data.prepare) != set(records.SPLITS):
        raise InputError(
            f"config.data.prepare is {tuple(config.data.prepare)}: training needs all of "
            f"{', '.join(records.SPLITS)}; a test split alone is scored with configs/cross.py"
        )
    builder_class = records.builder_class(config.data.dataset)
    options.require_used(config, builder_class.OPTIONS)
    builder = builder_class.configured(config, records_dir(config, workdir))
    if "train" in todo:
        sharding.data_mesh(config.train.batch_size)  # tells, before hours of work, what won't do
    untrained = not processes.told(checkpoint.latest_step(workdir / "checkpoints") or 0)
    starting = "train" in todo and config.init_from and untrained
    initial = convert.initial_arrays(config) if starting else None
    if processes.is_first():
        if mode != "prepare":
            require_trained_on(builder, workdir)
        claim(workdir, config)
        if "prepare" in todo:
            prepare(config, builder, workdir)
    processes.wait()
    folder = Path(builder.data_path)
    if not (folder / "dataset_info.json").exists():
        raise InputError(f"no records in {folder}: run --mode=prepare first")
    if processes.is_first() and "train" in records.splits_of(folder):
        leaks.require_none(folder, config.leaks.allow, workdir, undecided=builder.undecided)
        if "train" in todo:
            leaks.remember(folder, workdir, config.init_from)
    processes.wait()
    if "train" in todo:
        train.train(config, folder, workdir, initial, builder.contents)
        processes.wait()  # the first one finishes the checkpoints
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


def records_dir(config: ConfigDict, workdir: Path) -> Path:
    """Where TFDS records are: `config.data.records_dir`, or inside the workdir."""
    given = config.data.records_dir
    return Path(given).expanduser().absolute() if given else workdir.absolute() / "records"


def prepare(config: ConfigDict, builder: tfds.core.DatasetBuilder, workdir: Path) -> None:
    """Write the records, unless they are there."""
    if config.faces.detector == "yunet" and not (workdir / "yunet.onnx").exists():
        # The workdir must score faces wherever it is taken.
        with open(config.faces.yunet, "rb") as file, written_whole(workdir / "yunet.onnx") as copy:
            shutil.copyfileobj(file, copy)
    there = (Path(builder.data_path) / "dataset_info.json").exists()
    if not there:
        tfds.disable_progress_bar()
        # TFDS speaks of downloads, and to stdout, which is for results.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
        say(f"records in {builder.data_path}")
    shutil.rmtree(staging_folder(builder), ignore_errors=True)
    # What TFDS had begun when an earlier run was killed.
    for left in Path(builder.data_path).parent.glob(f"incomplete.*_{builder.version}"):
        shutil.rmtree(left, ignore_errors=True)


def fit(trained: Trained) -> None:
    """Export the features of the training and validation splits, and fit the regressor."""
    config, folder, workdir, step = trained.config, trained.folder, trained.workdir, trained.step
    inputs = fingerprint(folder.name, folder.parent.name, step, config.fidelity.to_dict())
    path, stages = workdir / "fidelity.npz", Stages(workdir)
    if processes.told(stages.done("fit", inputs, path)):
        return
    training, validation = trained.features("train"), trained.features("validation")
    stages.begin("fit")
    if processes.is_first():
        metadata = records.metadata_of(folder)
        scale = fidelity.FidelityScale.from_dict(metadata["fidelity_scale"])
        model = evaluate.fit(config, training, validation, scale)
        # Prediction measures quality as it was measured here.
        fidelity.save(replace(model, provenance={"quality": metadata["quality"]}), path)
        stages.finish("fit", inputs)
    processes.wait()


def evaluate_and_report(trained: Trained) -> None:
    """Score the test split, and write metrics, predictions and the report."""
    config, folder, workdir, step = trained.config, trained.folder, trained.workdir, trained.step
    dataset = config.data.dataset
    model = fidelity.load(workdir / "fidelity.npz")
    place = workdir / "eval" / dataset
    results = [place / "metrics.json", place / "predictions.csv", workdir / "report/index.html"]
    alike = leaks.count_alike(workdir)
    inputs = fingerprint(
        folder.parent.name, step, config.eval.to_dict(), model.regressor.settings, alike
    )
    stages = Stages(workdir)
    if not processes.told(stages.done("evaluate", inputs, *results)):
        stages.begin("evaluate")
        picked_here = config.train.select_on == "test"
        about = {"folder": config.data.dir or config.data.manual_dir, "look_alikes": alike}
        if processes.is_first():
            about["faces_digest"] = leaks.require_test_unseen(folder, workdir, config.leaks.allow)
        processes.wait()
        features = trained.features("test")
        if processes.is_first():
            evaluate.evaluate(
                config, model, features, "test", place, picked_here=picked_here, about=about
            )
            test = records.Records(folder, "test")
            write_report(workdir, {dataset: lambda rows: [test[row]["image"] for row in rows]})
            stages.finish("evaluate", inputs)
    processes.wait()
    found = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
    say(evaluate.describe(found, dataset, "test"))
    say(f"report: {workdir / 'report' / 'index.html'}")
