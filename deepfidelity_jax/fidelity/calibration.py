"""Fidelity to a verdict: the threshold, and the probability of a fake.

The one place that knows which way is real: high.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.regressor import FAKE

# ------------------------------------------------------------------ fidelity -> verdict


@dataclass(frozen=True)
class Calibration:
    """p_fake = sigmoid(slope * (fidelity - threshold)), slope < 0; real at or above the threshold.

    Written around the threshold, so that p_fake passes 0.5 exactly where the verdict changes.
    `threshold_from` is 'validation' or 'fixed', and `note` says why it had to be fixed.
    """

    slope: float
    threshold: float
    threshold_from: str
    note: str = ""

    def __post_init__(self):
        if not (self.slope < 0 and np.isfinite([self.slope, self.threshold]).all()):
            raise InputError(f"not a calibration: slope {self.slope}, threshold {self.threshold}")

    @property
    def intercept(self) -> float:
        """The b of sigmoid(slope * fidelity + b)."""
        return -self.slope * self.threshold


def p_fake(calibration: Calibration, fidelity: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Probability of being fake, float64, when both classes are equally likely beforehand."""
    distance = np.asarray(fidelity, np.float64) - calibration.threshold
    return np.asarray(expit(calibration.slope * distance))


def is_real(calibration: Calibration, fidelity: Float[np.ndarray, "*n"]) -> np.ndarray:
    """The verdict, bool: fidelity at or above the threshold, that is p_fake at most 0.5."""
    return np.asarray(fidelity, np.float64) >= calibration.threshold


def fixed_calibration(note: str, middle: float = 0.5) -> Calibration:
    """The threshold in the middle of the gap, and p_fake 0.9 and 0.1 at 0.3 below and above it.

    With the paper's ranges these are the centres of the fake and of the real range.
    """
    return Calibration(-float(np.log(9)) / 0.3, float(middle), "fixed", note)


def calibrate(
    fidelity: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], *, middle: float = 0.5
) -> Calibration:
    """Platt scaling of the validation videos' mean fidelities, both classes weighing the same.

    Falls back to `fixed_calibration(middle=...)` where validation cannot place a threshold: one
    class only, all fidelities equal, or fakes that score no lower than real faces.
    Raises InputError for non-finite fidelities. Platt, "Probabilistic outputs for SVMs", 1999.
    """
    f = np.asarray(fidelity, np.float64)
    if not np.isfinite(f).all():
        raise InputError(f"{int(np.sum(~np.isfinite(f)))} of {f.size} fidelities are not finite")
    if len(np.unique(label)) < 2:
        return fixed_calibration("validation has faces of one class only", middle)
    if f.std() < 1e-9:
        return fixed_calibration("all validation fidelities are equal", middle)
    z = (f - f.mean()) / f.std()
    fitted = LogisticRegression(class_weight="balanced").fit(z[:, None], label == FAKE)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope >= -1e-6:
        return fixed_calibration("validation fakes score no lower than real faces", middle)
    threshold = float(f.mean() - f.std() * intercept / slope)
    return Calibration(slope / float(f.std()), threshold, "validation")
