"""`fidelity.npz`: scale, regressor and calibration in one file of plain arrays, without pickle.

The regressor is stored as arrays, whose names tell its form, everything else as JSON in the array
`meta`.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.arrays import FORMS, consistent
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.fidelity.regressor import Regressor
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.files import written_whole

FORMAT = "deepfidelity regressor 1"


@dataclass(frozen=True)
class FidelityModel:
    """Everything between a feature and a verdict.

    Attributes:
      scale: how training targets were made; None for a regressor that was fitted elsewhere.
      regressor: feature to fidelity.
      calibration: fidelity to verdict.
      provenance: any dict that JSON can hold, such as how quality was measured.
    """

    scale: FidelityScale | None
    regressor: Regressor
    calibration: Calibration
    provenance: dict[str, Any] = field(default_factory=dict)


def save(model: FidelityModel, path: str | os.PathLike[str]) -> None:
    """Write the model. A failed write leaves the file that was there."""
    text = json.dumps(
        {
            "format": FORMAT,
            "scale": None if model.scale is None else model.scale.to_dict(),
            "settings": model.regressor.settings,
            "calibration": asdict(model.calibration),
            "provenance": model.provenance,
        },
        sort_keys=True,
    )
    arrays = {name: np.asarray(a) for name, a in model.regressor.arrays._asdict().items()}
    with written_whole(path) as file:
        np.savez(file, meta=np.array(text), **arrays)


def load(path: str | os.PathLike[str]) -> FidelityModel:
    """Read what `save` wrote, bit for bit.

    Raises:
      InputError: the file is missing, damaged, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no fidelity regressor at {path}: fit one first")
    try:
        with np.load(path, allow_pickle=False) as stored:
            meta = json.loads(str(stored["meta"]))
            form = next(form for form in FORMS if {"meta", *form._fields} == set(stored.files))
            arrays = form(*(stored[name] for name in form._fields))
        if meta["format"] != FORMAT or not consistent(arrays):
            raise ValueError("format")
        return FidelityModel(
            None if meta["scale"] is None else FidelityScale.from_dict(meta["scale"]),
            Regressor(arrays, meta["settings"]),
            Calibration(**meta["calibration"]),
            meta["provenance"],
        )
    except Exception as error:  # damage can raise anything
        raise InputError(
            f"{path} is not a fidelity regressor, or is damaged: delete it and fit again"
        ) from error
