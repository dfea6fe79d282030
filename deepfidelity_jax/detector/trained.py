"""A trained workdir: its weights on one device, and the config, finder and data it is bound to."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.options import checks
from deepfidelity_jax.progress import say
from deepfidelity_jax.records import schema
from deepfidelity_jax.training.checkpoint import (
    best_step,
    latest_step,
    on_one_device,
    read_notes,
    restore,
)
from deepfidelity_jax.training.step import create_state

FINDER = "yunet.onnx"  # YuNet, in the workdir


def read_trained(workdir: Path) -> tuple[ConfigDict, dict[str, Any], int]:
    """Config, averaged variables and step of the best checkpoint.

    InputError where `workdir` holds no trained detector, or a damaged one.
    """
    folder = workdir / "checkpoints"
    step = best_step(folder)
    if step is None:
        raise InputError(f"{workdir} holds no trained detector: no checkpoint in {folder}")
    config = config_from_notes(read_notes(folder, step), folder / str(step))
    model = build_model(config)
    abstract = jax.eval_shape(lambda: create_state(model, config)).ema
    restored = restore(folder, step, {"ema": on_one_device(abstract)})
    return config, restored["ema"], step


def config_from_notes(notes: dict[str, Any], path: Path) -> ConfigDict:
    """The configuration a checkpoint was trained with. InputError if it holds none."""
    try:
        return checks.complete(ConfigDict(json.loads(notes["config"])))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"checkpoint {path} is damaged: it holds no configuration") from None


def require_bound(config: ConfigDict, workdir: Path) -> None:
    """InputError if the weights in `workdir` come from another config; without any, all pass."""
    if latest_step(workdir / "checkpoints") is not None:
        checks.require_same(workdir, config)


def keep_finder(config: ConfigDict, workdir: Path) -> None:
    """Copy the YuNet file into the workdir, so that a workdir can be moved and still predict."""
    source, kept = Path(config.faces.yunet), workdir / FINDER
    # Before training, the one there may be of a command that named another file.
    bound = kept.exists() and latest_step(workdir / "checkpoints") is not None
    if config.faces.detector == "yunet" and source.is_file() and not bound:
        with source.open("rb") as file, written_whole(kept) as copied:
            shutil.copyfileobj(file, copied)


def require_trained_on(builder: tfds.core.DatasetBuilder, workdir: Path) -> None:
    """InputError if the detector in `workdir` was trained on other data than the present data."""
    step = latest_step(workdir / "checkpoints")
    if not step:
        return
    notes = read_notes(workdir / "checkpoints", step)
    same = builder.contents, builder.earlier_contents
    if "converted_from" in notes or notes.get("trained_on", builder.untold) in same:
        return
    raise InputError(
        f"{workdir} was trained on other pictures or quality scores than are now in the training "
        "and validation splits: restore the data and the options that divide it "
        "(config.data.group, splits, seed); or fine-tune on the new data in a new --workdir with "
        f"--config.init_from={workdir}; or start over in a new --workdir; or only score new "
        f"pictures with --mode=evaluate --workdir={workdir} --input=FOLDER"
    )


def tell_changed(folder: Path, workdir: Path) -> None:
    """Say so if the records in `folder` were prepared again since the last checkpoint."""
    step, now = latest_step(workdir / "checkpoints"), schema.identity(folder)
    noted = read_notes(workdir / "checkpoints", step).get("records", now) if step else now
    if noted != now and noted.rpartition(" ")[0] == now.rpartition(" ")[0]:
        say(
            f"the records in {folder} were prepared again since step {step} was saved, and "
            "differ: later stages use the new ones; to train on them alone, use a new --workdir"
        )
