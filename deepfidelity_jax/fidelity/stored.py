"""`fidelity.npz`: scale, regressor and calibration in one file of plain arrays, without pickle.

The regressor, the curve of the calibration and the validation scores are stored as arrays, and
everything else as JSON in the array `meta`. The names of the arrays show the regressor's form.
Entries that a file of an earlier version lacks get their defaults.
"""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.arrays import FORMS, consistent
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.fidelity.regressor import Regressor
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.files import fingerprint, written_whole
from deepfidelity_jax.processes.faults import raise_unless_damaged

FORMAT = "deepfidelity regressor 1"
FITTED_TO = "fitted_to"  # in the provenance: the digest of the weights
CURVE, VALIDATION = "calibration_", "validation_"  # prefixes of array names


@dataclass(frozen=True, eq=False)
class Validation:
    """The validation scores: fidelity, label, video and file of each face.

    A video here is one person in a file. file: None if written by an earlier version.
    """

    fidelity: Float32[np.ndarray, "n"]
    label: Int[np.ndarray, "n"]
    video: Int[np.ndarray, "n"]
    file: Int[np.ndarray, "n"] | None = None


@dataclass(frozen=True)
class FidelityModel:
    """Everything between a feature and a verdict.

    Attributes:
      scale: how training targets were made; None for a regressor that was fitted elsewhere.
      regressor: feature to fidelity.
      calibration: fidelity to verdict.
      provenance: any dict that JSON can hold, such as how quality was measured.
      validation: what the calibration was fitted on, for choosing thresholds later; None if it was
        fitted elsewhere or by an earlier version.
    """

    scale: FidelityScale | None
    regressor: Regressor
    calibration: Calibration
    provenance: dict[str, Any] = field(default_factory=dict)
    validation: Validation | None = None


def save(model: FidelityModel, path: str | os.PathLike[str]) -> None:
    """Write the model. A failed write leaves the previous file."""
    calibration = asdict(model.calibration)
    arrays = {name: np.asarray(a) for name, a in model.regressor.arrays._asdict().items()}
    for number, row in enumerate(calibration.pop("curve")):
        arrays[f"{CURVE}{number}"] = np.array(row, np.float64)
    if model.validation is not None:
        for name, column in vars(model.validation).items():
            if column is not None:
                arrays[VALIDATION + name] = np.asarray(column)
    if calibration["method"] == "platt":
        del calibration["method"]  # as earlier versions wrote it
    text = json.dumps(
        {
            "format": FORMAT,
            "scale": None if model.scale is None else model.scale.to_dict(),
            "settings": model.regressor.settings,
            "calibration": calibration,
            "provenance": model.provenance,
        },
        sort_keys=True,
    )
    with written_whole(path) as file:
        np.savez(file, meta=np.array(text), **arrays)


def digest(model: FidelityModel) -> str:
    """A digest of what scores and verdicts depend on: scale, regressor and calibration."""
    arrays = model.regressor.arrays._asdict()
    held = {name: sha256(np.asarray(array).tobytes()).hexdigest() for name, array in arrays.items()}
    return fingerprint(model.scale and model.scale.to_dict(), held, asdict(model.calibration))


def load(path: str | os.PathLike[str]) -> FidelityModel:
    """Read what `save` wrote, bit for bit.

    Raises:
      InputError: the file is missing, damaged, cannot be read, or is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no fidelity regressor at {path}: fit one first")
    try:
        with np.load(path, allow_pickle=False) as stored:
            meta = json.loads(str(stored["meta"]))
            names = {name for name in stored.files if not name.startswith((CURVE, VALIDATION))}
            form = next(form for form in FORMS if {"meta", *form._fields} == names)
            arrays = form(*(stored[name] for name in form._fields))
            curve = _curve(stored)
            validation = _validation(stored)
        if meta["format"] != FORMAT or not consistent(arrays):
            raise ValueError("format")
        return FidelityModel(
            None if meta["scale"] is None else FidelityScale.from_dict(meta["scale"]),
            Regressor(arrays, meta["settings"]),
            Calibration(**meta["calibration"], curve=curve),
            meta["provenance"],
            validation,
        )
    except Exception as error:  # a damaged file can raise anything
        raise_unless_damaged(str(path), error)
        raise InputError(
            f"{path} is not a fidelity regressor, or is damaged: delete it and fit again"
        ) from error


def _curve(stored) -> tuple[tuple[float, ...], ...]:
    """The curve of a calibration. Raises ValueError if it is damaged."""
    rows = [stored[name] for name in sorted(stored.files) if name.startswith(CURVE)]
    if any(row.ndim != 1 or not np.isfinite(row).all() for row in rows):
        raise ValueError("curve")
    if len(rows) == 2 and not (
        len(rows[0]) == len(rows[1])
        and (np.diff(rows[0]) > 0).all()
        and (np.diff(rows[1]) <= 0).all()
    ):
        raise ValueError("curve")
    return tuple(tuple(row.tolist()) for row in rows)


def _validation(stored) -> Validation | None:
    """The validation scores, if there are any. Raises ValueError if they are damaged."""
    if VALIDATION + "fidelity" not in stored.files:
        return None
    names = (field.name for field in fields(Validation))
    columns = {name: stored[VALIDATION + name] for name in names if VALIDATION + name in stored}
    validation = Validation(**columns)
    alike = len({column.shape for column in columns.values()}) == 1
    if not (
        alike and np.isfinite(validation.fidelity).all() and np.isin(validation.label, (0, 1)).all()
    ):
        raise ValueError("validation")
    return validation


def require_fitted_to(weights: str, model: FidelityModel, path: Path) -> None:
    """InputError if the model, from the file `path`, was fitted to other weights than these."""
    # Those of earlier versions and converted ones do not say.
    if model.provenance.get(FITTED_TO, weights) != weights:
        raise InputError(
            f"{path} was fitted to other weights than those in {path.with_name('checkpoints')}: "
            "fit again with --mode=fit"
        )
