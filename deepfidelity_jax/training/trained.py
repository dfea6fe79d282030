"""The weights of a trained workdir, on one device."""

import json
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.options import checks
from deepfidelity_jax.training.checkpoint import best_step, on_one_device, read_notes, restore
from deepfidelity_jax.training.step import create_state


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
