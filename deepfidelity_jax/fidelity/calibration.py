"""From fidelity to a verdict: the threshold, and the probability of a fake.

High fidelity is real. This is the only module that compares fidelity with a threshold: a face or a
video is real if its fidelity is at or above it. The threshold comes from Platt scaling of the
validation videos ('validation'), or is the middle of the gap between the two target ranges where
validation cannot decide ('fixed'). Below it a face is fake; but where too many real faces lie
there, a lower limit `fake_below` is fitted, and between the two nothing is claimed: uncertain.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import FAKE

Scores = Float[np.ndarray, "*n"] | float


@dataclass(frozen=True)
class Calibration:
    """The threshold, and the slope of p_fake = sigmoid(slope * (fidelity - threshold)).

    Written around the threshold, p_fake crosses 0.5 exactly where the verdict changes.

    Attributes:
      slope: negative, as p_fake falls when fidelity rises.
      threshold: fidelity at and above which a face is real.
      threshold_from: 'validation' or 'fixed'.
      note: why the threshold is fixed.
      fake_below: fidelity below which a face is called fake; None for the threshold itself.
    """

    slope: float
    threshold: float
    threshold_from: str
    note: str = ""
    fake_below: float | None = None

    def __post_init__(self):
        if not (self.slope < 0 and np.isfinite([self.slope, self.threshold]).all()):
            raise InputError(f"not a calibration: slope {self.slope}, threshold {self.threshold}")
        if self.fake_below is not None and not self.fake_below <= self.threshold:
            raise InputError(f"not a calibration: fake below {self.fake_below}")

    def verdicts(self, fidelity: Scores) -> np.ndarray:
        """'real', 'uncertain' or 'fake' for each fidelity."""
        limit = self.threshold if self.fake_below is None else self.fake_below
        below = np.where(is_real(fidelity, limit), "uncertain", "fake")
        return np.where(is_real(fidelity, self.threshold), "real", below)


def is_real(
    fidelity: Scores, threshold: Float[np.ndarray, "*k"] | float
) -> Bool[np.ndarray, "..."] | np.bool_:
    """The verdict: True where fidelity is at or above the threshold.

    Compared in float64: if the threshold were rounded to the float32 of the scores, a face right at
    the threshold could get a verdict here that its p_fake contradicts.
    """
    return np.asarray(fidelity, np.float64) >= threshold


def p_fake(calibration: Calibration, fidelity: Scores) -> Float[np.ndarray, "*n"]:
    """Probability of a fake (float64) when real and fake are equally likely a priori."""
    distance = np.asarray(fidelity, np.float64) - calibration.threshold
    return np.asarray(expit(calibration.slope * distance))


def calibrate(
    fidelity: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], *, middle: float
) -> Calibration:
    """Platt scaling (Platt, "Probabilistic outputs for SVMs", 1999), both classes weighted alike.

    Args:
      fidelity: mean fidelity of each validation video.
      label: 0 fake, 1 real.
      middle: the threshold to fall back on if validation cannot place one: there is only one class,
        all fidelities are equal, or fakes score no lower than real faces.

    Raises:
      InputError: a fidelity is not finite.
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


def fixed_calibration(note: str, middle: float = 0.5) -> Calibration:
    """The threshold in the middle of the gap, with p_fake 0.9 and 0.1 at 0.3 below and above it.

    With the paper's ranges, 0.3 from the middle are the centres of the fake and the real range.
    """
    return Calibration(-float(np.log(9)) / 0.3, float(middle), "fixed", note)
