"""The detector that comes with the package, and packing a trained workdir into such a folder.

    config.json        the configuration it was trained with, without paths, and what hubs read
    model.safetensors  the averaged weights by path; BatchNorm statistics are float32
    fidelity.npz       regressor and calibration
    training_pictures.json  digests of the training pictures, which must not be used to test it
    yunet.onnx         YuNet, if it finds the faces
    MODEL_CARD.md      data, figures and limits, written by hand; README.md in a folder for a hub
    feature_spread.npz of the features of the training faces; not in a folder for a hub

python -m deepfidelity_jax.detector.bundled WORKDIR FOLDER
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from deepfidelity_jax.detector import trained
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.leaks.training_pictures import SEEN
from deepfidelity_jax.options import checks
from deepfidelity_jax.options.table import OPTIONS
from deepfidelity_jax.weight_files import packed
from deepfidelity_jax.workdir import write_json

NAME = "bundled"  # what --config.init_from calls it
LICENCE = "Apache-2.0"
FITTED, FINDER = "fidelity.npz", trained.FINDER
CARDS = ("README.md", "MODEL_CARD.md")  # of a folder for a hub, and of a workdir


def folder() -> Path:
    """The folder of the detector in the installed package."""
    return packed.BUNDLED


def holds(place: Path) -> bool:
    """Whether a folder holds a packed detector."""
    return (place / packed.WEIGHTS).is_file()


def read(place: Path | None = None) -> tuple[ConfigDict, dict[str, Any], int]:
    """Config, variables (float32) and training step of a packed detector, by default ours.

    InputError if it is missing or damaged.
    """
    place = folder() if place is None else place
    values, variables, step = packed.read(place)
    return checks.complete(ConfigDict(values)), variables, step


def read_detector(place: Path) -> tuple[ConfigDict, dict[str, Any], int]:
    """Config, variables and step of the detector in a workdir or a packed folder.

    The config names the YuNet file of the folder. InputError if there is no detector, or it is
    damaged.
    """
    config, variables, step = read(place) if holds(place) else trained.read_trained(place)
    faces, finder = config.faces, place / FINDER
    # Packing clears the path.
    if finder.exists() or (faces.detector == "yunet" and not faces.yunet):
        faces.yunet = str(finder)
    return config, variables, step


def read_card(place: Path) -> str:
    """The model card in a folder, without what hubs read at its top; empty if there is none."""
    names = CARDS if holds(place) else CARDS[1:]  # the README.md of a workdir is its owner's
    card = next((path for path in map(place.joinpath, names) if path.is_file()), None)
    text = card.read_text(encoding="utf-8", errors="replace") if card else ""
    return re.sub(r"\A---\n.*?\n---\n+", "", text, flags=re.DOTALL)


def pack(source: Path, place: Path, dtype: str = "float16") -> None:
    """Write the detector in `source`, a workdir or a packed folder, to the folder `place`.

    Heads that only training uses are left out. `dtype` is the dtype of the parameters. An earlier
    detector in `place` is replaced; its card stays. InputError if the detector is not fitted.
    """
    config, variables, step = read_detector(source)
    if not (source / FITTED).is_file():
        raise InputError(f"{source} has no {FITTED}: run --mode=fit first")
    paths = [name for name, option in OPTIONS.items() if option.path]
    weights = Path(config.quality.weights).name
    config.update_from_flattened_dict(dict.fromkeys(paths, ""))
    config.quality.weights = weights  # searched for beside the detector, recognised by its digest
    flat = {"/".join(path): np.asarray(x) for path, x in flatten_dict(variables).items()}
    kept = {
        name: np.ascontiguousarray(x if name.startswith("batch_stats") else x.astype(dtype))
        for name, x in flat.items()
        if not name.startswith("params/mask_head")
    }
    place.mkdir(parents=True, exist_ok=True)
    for name in (FITTED, SEEN, FINDER):
        if (source / name).is_file():
            with written_whole(place / name) as file, (source / name).open("rb") as original:
                shutil.copyfileobj(original, file)
        else:
            (place / name).unlink(missing_ok=True)
    write_json(place / "config.json", packed.HUB | json.loads(config.to_json()))
    with written_whole(place / packed.WEIGHTS) as file:
        file.write(safetensors.numpy.save(kept, {"step": str(step)}))


def write_spread(workdir: Path, place: Path) -> None:
    """Write how much each feature varies over the training faces of a workdir, to `place`."""
    (path,) = (workdir / "features").glob("*-train.npz")
    with np.load(path, allow_pickle=False) as features:
        np.savez(place / packed.SPREAD, spread=features["feature"].std(axis=0))


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
    write_spread(Path(sys.argv[1]), Path(sys.argv[2]))
