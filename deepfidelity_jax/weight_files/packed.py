"""A network packed with its configuration, as the one that comes with the package.

config.json   the configuration it was trained with
weights.npz   weights by their path, float16; BatchNorm's statistics float32; and the training step
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from deepfidelity_jax.errors import InputError

BUNDLED = Path(__file__).parents[1] / "bundled"  # the one that comes with the package
WEIGHTS = "weights.npz"


def read(place: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Configuration, variables (float32) and training step. InputError for damage."""
    from flax.traverse_util import unflatten_dict  # only here: it imports JAX

    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        with np.load(place / WEIGHTS, allow_pickle=False) as file:
            step = int(file["step"])
            flat = {
                tuple(name.split("/")): file[name].astype(np.float32)
                for name in file.files
                if name != "step"
            }
    except Exception as error:  # damage can raise anything
        raise InputError(f"the detector in {place} is missing or damaged: {error}") from None
    return config, unflatten_dict(flat), step
