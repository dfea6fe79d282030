"""A network packed with its configuration, like the one that comes with the package.

config.json        the configuration it was trained with, and what hubs read
model.safetensors  the weights by their path; BatchNorm's statistics are float32
feature_spread.npz standard deviation of each feature over the training faces, for quality.trace
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import LABELS

BUNDLED = Path(__file__).parents[1] / "bundled"  # the one that comes with the package
WEIGHTS = "model.safetensors"
SPREAD = "feature_spread.npz"  # only in BUNDLED
# What hubs read in a config.json, besides the options.
HUB = {
    "model_type": "ssaaformer",
    "library_name": "deepfidelity_jax",
    "id2label": {str(number): name for number, name in enumerate(LABELS)},
}


def read(place: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Configuration, variables (float32) and training step. InputError if damaged."""
    from flax.traverse_util import unflatten_dict  # imported here because it imports JAX

    try:
        values = json.loads((place / "config.json").read_text(encoding="utf-8"))
        config = {name: value for name, value in values.items() if name not in HUB}
        with safetensors.safe_open(place / WEIGHTS, "numpy") as file:
            step = int(file.metadata()["step"])
            flat = {
                tuple(name.split("/")): file.get_tensor(name).astype(np.float32)
                for name in file.keys()  # noqa: SIM118 (it is no dict)
            }
    except Exception as error:  # damage can raise anything
        raise InputError(f"the detector in {place} is missing or damaged: {error}") from None
    return config, unflatten_dict(flat), step
