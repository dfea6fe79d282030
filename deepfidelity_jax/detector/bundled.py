"""The detector that comes with the package, and how a trained workdir is packed into one.

    config.json   the configuration it was trained with, without paths
    weights.npz   the averaged weights by their path, float16; BatchNorm's statistics float32
    fidelity.npz  regressor and calibration
    training_pictures.json  digests of the pictures it was trained on, which are no test for it
    MODEL_CARD.md data, figures and limits

python -m deepfidelity_jax.detector.bundled WORKDIR FOLDER
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.leaks.training_pictures import SEEN
from deepfidelity_jax.options import checks
from deepfidelity_jax.options.table import OPTIONS
from deepfidelity_jax.training import trained
from deepfidelity_jax.weight_files import packed
from deepfidelity_jax.workdir import write_json

NAME = "bundled"  # what --config.init_from calls it


def folder() -> Path:
    """Where the detector lies in the installed package."""
    return packed.BUNDLED


def read(place: Path | None = None) -> tuple[ConfigDict, dict[str, Any], int]:
    """Config, variables (float32) and training step of a packed detector, by default ours.

    InputError if it is missing or damaged.
    """
    config, variables, step = packed.read(folder() if place is None else place)
    return checks.complete(ConfigDict(config)), variables, step


def pack(workdir: Path, place: Path) -> None:
    """Write the detector in `workdir` to the folder `place`.

    The heads that only training uses are left out. InputError if the workdir is not fitted.
    """
    config, variables, step = trained.read_trained(workdir)
    fitted = workdir / "fidelity.npz"
    if not fitted.is_file():
        raise InputError(f"{workdir} has no fidelity.npz: run --mode=fit first")
    paths = [name for name, option in OPTIONS.items() if option.path]
    config.update_from_flattened_dict(dict.fromkeys(paths, ""))
    config.train.mask_weight = 0.0
    flat = {"/".join(path): np.asarray(x) for path, x in flatten_dict(variables).items()}
    kept = {
        name: x if name.startswith("batch_stats") else x.astype(np.float16)
        for name, x in flat.items()
        if not name.startswith("params/mask_head")
    }
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / "config.json", json.loads(config.to_json()))
    with written_whole(place / "weights.npz") as file:
        np.savez(file, step=np.int64(step), **kept)
    for path in (fitted, workdir / SEEN):
        with written_whole(place / path.name) as file:
            file.write(path.read_bytes())


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
