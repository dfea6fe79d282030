"""Image quality to a fidelity target, class by class (paper, section 3.2)."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.regressor import FAKE, REAL

# ------------------------------------------------------------------ quality -> fidelity target


@dataclass(frozen=True)
class FidelityScale:
    """The class-wise quality range of a training split, and the fidelity range it is mapped into.

    `fake` and `real` are target ranges inside [0, 1], fakes below; `fake_quality` and
    `real_quality` the fitted (low, high) of the raw quality. Raises InputError for ranges that are
    out of order or overlap. The paper's equation for the fidelity score.
    """

    fake_quality: tuple[float, float]
    real_quality: tuple[float, float]
    fake: tuple[float, float] = (0.0, 0.4)
    real: tuple[float, float] = (0.6, 1.0)

    def __post_init__(self):
        ends = (0.0, *self.fake, *self.real, 1.0)
        if any(a > b for a, b in pairwise(ends)) or self.fake == self.real:
            raise InputError(
                f"fidelity ranges fake {self.fake} and real {self.real} must be ordered, lie "
                "inside [0, 1] and not overlap, fake below real"
            )
        for name, (low, high) in (("fake", self.fake_quality), ("real", self.real_quality)):
            if not (np.isfinite([low, high]).all() and low <= high):
                raise InputError(f"quality range of {name} faces is not a range: {(low, high)}")

    @property
    def middle(self) -> float:
        """The middle of the gap between the two ranges: the threshold before any calibration."""
        return (self.fake[1] + self.real[0]) / 2

    def to_dict(self) -> dict[str, list[float]]:
        """The four ranges as JSON-able lists."""
        return {name: list(ends) for name, ends in asdict(self).items()}

    @classmethod
    def from_dict(cls, ranges: dict[str, Any]) -> "FidelityScale":
        """What `to_dict` gave; raises InputError when it is anything else."""
        try:
            pairs = {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
            return cls(**pairs)
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f"not a fidelity scale: {ranges!r}") from error


def fit_scale(
    quality: Float[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    *,
    fake: tuple[float, float] = (0.0, 0.4),
    real: tuple[float, float] = (0.6, 1.0),
    percentile: float = 0.0,
) -> FidelityScale:
    """The quality range of each class, from the training split alone.

    Args: raw quality [n]; label [n], 0 fake and 1 real; the two target ranges; `percentile` p takes
    the p-th and (100 - p)-th percentile for the ends, so that a few outliers do not set the scale.
    Raises InputError for non-finite qualities, a class without faces or an impossible percentile.
    """
    check_finite(quality)
    if not 0 <= percentile < 50:
        raise InputError(f"percentile must be in [0, 50), not {percentile}")
    ends = {}
    for value, name in ((FAKE, "fake"), (REAL, "real")):
        own = quality[label == value]
        if own.size == 0:
            raise InputError(f"no {name} face in the training split: fidelity needs both classes")
        low, high = np.percentile(own, [percentile, 100 - percentile])
        ends[name] = (float(low), float(high))
    return FidelityScale(ends["fake"], ends["real"], _pair(fake), _pair(real))


def scale(
    fitted: FidelityScale, quality: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Fidelity targets [n] float32 of faces with this quality and label, min-max within the class.

    Qualities outside the fitted range land on its end. A class whose quality was constant in
    training (no quality measure, or a single face) has no order to keep: it gets the outer end of
    its range, so that constant quality in both classes gives the plain labels 0 and 1.
    Raises InputError for non-finite qualities.
    """
    check_finite(quality)
    fidelity = np.empty(quality.shape, np.float64)
    for value, (q_low, q_high), (low, high), outer in (
        (FAKE, fitted.fake_quality, fitted.fake, fitted.fake[0]),
        (REAL, fitted.real_quality, fitted.real, fitted.real[1]),
    ):
        own = label == value
        if q_low == q_high:
            fidelity[own] = outer
        else:
            share = np.clip((quality[own].astype(np.float64) - q_low) / (q_high - q_low), 0, 1)
            fidelity[own] = low + (high - low) * share
    return fidelity.astype(np.float32)


def outside(
    fitted: FidelityScale, quality: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"]
) -> int:
    """How many faces have a quality beyond their class's fitted range (`scale` clips those)."""
    low, high = np.where(
        (label == REAL)[None],
        np.array(fitted.real_quality)[:, None],
        np.array(fitted.fake_quality)[:, None],
    )
    return int(np.sum((quality < low) | (quality > high)))


def check_finite(quality: Float[np.ndarray, " n"]) -> None:
    """Raises InputError that counts the non-finite qualities."""
    bad = int(np.sum(~np.isfinite(quality)))
    if bad:
        raise InputError(
            f"quality is not a finite number for {bad} of {quality.size} faces: give every face a "
            "quality or leave these faces out"
        )


def _pair(ends) -> tuple[float, float]:
    low, high = ends
    return float(low), float(high)
