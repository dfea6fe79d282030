"""From fidelity to a verdict: the threshold, and the probability of a fake.

High fidelity is real. This is the only module that compares fidelity with a threshold: a face or a
video is real if its fidelity is at or above it. The threshold comes from Platt scaling of the
validation videos ('validation'), or is the middle of the gap between the two target ranges where
validation cannot decide ('fixed'). A face below it is fake. If a lower threshold `fake_below` is
fitted, only a face below that is fake, and a face between the two is uncertain, as is a face
that would be real but is too poor to judge. Poor faces can be fake: a forgery often lowers quality
itself, and the lower threshold holds for real faces that were made poor.

Other curves can replace Platt's. Each never rises with fidelity, and the threshold is where it
crosses 0.5.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import FAKE

Scores = Float[np.ndarray, "*n"] | float
METHODS = ("platt", "isotonic", "beta", "temperature")
# Fidelity can leave the range from 0 to 1, where beta calibration takes logarithms.
NEAREST = 1e-3


@dataclass(frozen=True)
class Calibration:
    """The threshold, and the slope of p_fake = sigmoid(slope * (fidelity - threshold)).

    Written around the threshold, p_fake crosses 0.5 exactly where the verdict changes.

    Attributes:
      slope: negative, as p_fake falls when fidelity rises; not used by isotonic and beta.
      threshold: fidelity at and above which a face is real.
      threshold_from: 'validation' or 'fixed'.
      note: why the threshold is fixed.
      fake_below: fidelity below which a face is called fake; None for the threshold itself.
      method: one of METHODS.
      curve: for isotonic, fidelities in ascending order and the p_fake of each; for beta, one row
        of a, b and c; otherwise empty.
    """

    slope: float
    threshold: float
    threshold_from: str
    note: str = ""
    fake_below: float | None = None
    method: str = "platt"
    curve: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self):
        rows = {"isotonic": 2, "beta": 1}.get(self.method, 0)
        if self.method not in METHODS or len(self.curve) != rows:
            raise InputError(f"not a calibration: {self.method} with {len(self.curve)} arrays")
        if not (self.slope < 0 and np.isfinite([self.slope, self.threshold]).all()):
            raise InputError(f"not a calibration: slope {self.slope}, threshold {self.threshold}")
        if self.fake_below is not None and not self.fake_below <= self.threshold:
            raise InputError(f"not a calibration: fake below {self.fake_below}")

    @property
    def is_fitted(self) -> bool:
        """Whether the curve was fitted on validation; temperature scaling fixes its threshold."""
        return self.threshold_from == "validation" or self.method == "temperature"

    def verdicts(
        self,
        fidelity: Scores,
        poor: Bool[np.ndarray, "*n"] | bool = False,
        small: Bool[np.ndarray, "*n"] | bool = False,
    ) -> np.ndarray:
        """'real', 'uncertain' or 'fake' for each fidelity.

        `poor` faces are never real, and `small` ones are always uncertain.

        Without a lower threshold every face is real or fake.
        """
        if self.fake_below is None:
            return np.where(is_real(fidelity, self.threshold), "real", "fake")
        real = is_real(fidelity, self.threshold) & ~np.asarray(poor)
        below = np.where(is_real(fidelity, self.fake_below), "uncertain", "fake")
        return np.where(small, "uncertain", np.where(real, "real", below))


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
    f = np.asarray(fidelity, np.float64)
    if calibration.method == "isotonic":
        knots, values = calibration.curve
        p = np.interp(f, knots, values)
    elif calibration.method == "beta":
        p = expit(_beta_logit(f, *calibration.curve[0]))
    else:
        return np.asarray(expit(calibration.slope * (f - calibration.threshold)))
    # Rounding, or a flat segment at 0.5, must not contradict the verdict.
    real = is_real(f, calibration.threshold)
    return np.where(real, np.minimum(p, 0.5), np.maximum(p, 0.5))


def calibrate(
    fidelity: Float[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    *,
    middle: float,
    method: str = "platt",
) -> Calibration:
    """The threshold and p_fake from validation, with both classes weighted equally.

    platt: a sigmoid (Platt, "Probabilistic outputs for SVMs", 1999). temperature: the sigmoid with
    its threshold held in the middle (Guo et al., "On calibration of modern neural networks", 2017).
    isotonic: the best curve that never rises (Zadrozny and Elkan, KDD 2002). beta: logit p_fake =
    a ln s - b ln(1 - s) + c with s = 1 - fidelity, a and b not negative (Kull, Silva Filho and
    Flach, "Beta calibration", AISTATS 2017). The logistic fits have scikit-learn's default penalty,
    which keeps them finite if validation is separated without error.

    Args:
      fidelity: mean fidelity of each validation video.
      label: 0 fake, 1 real.
      middle: the threshold if validation cannot give one: there is only one class, all fidelities
        are equal, or fakes score no lower than real faces.
      method: one of METHODS.

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
    from sklearn.linear_model import LogisticRegression  # only where it fits: slow to import

    z = (f - f.mean()) / f.std()
    fitted = LogisticRegression(class_weight="balanced").fit(z[:, None], label == FAKE)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope >= -1e-6:
        return fixed_calibration("validation fakes score no lower than real faces", middle)
    threshold = float(f.mean() - f.std() * intercept / slope)
    platt = Calibration(slope / float(f.std()), threshold, "validation")
    match method:
        case "temperature":
            return _temperature(f, label, middle)
        case "isotonic":
            return _isotonic(platt, f, label)
        case "beta":
            return _beta(platt, f, label, middle)
        case _:
            return platt


def _temperature(f, label, middle: float) -> Calibration:
    """The sigmoid around the middle; only its slope is fitted."""
    from sklearn.linear_model import LogisticRegression

    spread = float(f.std())
    fitted = LogisticRegression(class_weight="balanced", fit_intercept=False)
    slope = float(fitted.fit((f[:, None] - middle) / spread, label == FAKE).coef_[0, 0])
    if slope >= -1e-6:
        return fixed_calibration("validation fakes do not lie below the middle of the gap", middle)
    note = "temperature scaling leaves it in the middle of the gap"
    return Calibration(slope / spread, float(middle), "fixed", note, method="temperature")


def _isotonic(platt: Calibration, f, label) -> Calibration:
    """Steps at the scores, joined by straight lines; the threshold is the first p_fake of 0.5."""
    from sklearn.isotonic import IsotonicRegression

    fakes = label == FAKE
    weight = np.where(fakes, 0.5 / fakes.sum(), 0.5 / (~fakes).sum())
    fitted = IsotonicRegression(increasing=False).fit(f, fakes, sample_weight=weight)
    x, p = fitted.X_thresholds_, fitted.y_thresholds_
    after = int(np.argmax(p <= 0.5))  # the means of two classes alike lie around 0.5
    threshold = x[after]
    if after and p[after] < 0.5:
        threshold = np.interp(0.5, p[after - 1 : after + 1][::-1], x[after - 1 : after + 1][::-1])
    curve = tuple(x.tolist()), tuple(p.tolist())
    return replace(platt, threshold=float(threshold), method="isotonic", curve=curve)


def _beta(platt: Calibration, f, label, middle: float) -> Calibration:
    """Beta calibration; a coefficient that would be negative is left out, as in the paper."""
    from scipy.optimize import brentq
    from sklearn.linear_model import LogisticRegression

    columns, kept = _beta_columns(f), [0, 1]
    while True:
        # The two columns are nearly parallel, so the fit needs more steps and a finer tolerance.
        fitted = LogisticRegression(class_weight="balanced", tol=1e-9, max_iter=1000)
        fitted.fit(columns[:, kept], label == FAKE)
        negative = [kept[i] for i in np.flatnonzero(fitted.coef_[0] < 0)]
        if not negative:
            break
        kept = [column for column in kept if column != negative[0]]
        if not kept:
            return fixed_calibration("validation fakes score no lower than real faces", middle)
    a, b = (float(fitted.coef_[0][kept.index(i)]) if i in kept else 0.0 for i in (0, 1))
    curve = (a, b, float(fitted.intercept_[0]))
    low, high = (float(_beta_logit(np.float64(end), *curve)) for end in (NEAREST, 1 - NEAREST))
    if not low > 0 > high:
        return fixed_calibration("beta calibration does not cross 0.5", middle)
    threshold = brentq(_beta_logit, NEAREST, 1 - NEAREST, args=curve, xtol=1e-15)
    return replace(platt, threshold=float(threshold), method="beta", curve=(curve,))


def _beta_columns(f) -> np.ndarray:
    """ln s and -ln(1 - s), s = 1 - fidelity: both fall when fidelity rises."""
    s = 1 - np.clip(f, NEAREST, 1 - NEAREST)
    return np.stack([np.log(s), -np.log1p(-s)], axis=-1)


def _beta_logit(f, a: float, b: float, c: float):
    return _beta_columns(f) @ np.array([a, b]) + c


def fixed_calibration(note: str, middle: float = 0.5) -> Calibration:
    """The threshold in the middle of the gap, with p_fake 0.9 and 0.1 at 0.3 below and above it.

    With the paper's ranges, 0.3 from the middle are the centres of the fake and the real range.
    """
    return Calibration(-float(np.log(9)) / 0.3, float(middle), "fixed", note)
