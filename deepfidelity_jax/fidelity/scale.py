"""The fidelity target of a training face: its quality, scaled within its class (paper, section 3).

    target = low_c + (high_c - low_c) * (q - q_min_c) / (q_max_c - q_min_c)

q is the quality of the face and c its class. q_min_c and q_max_c come from the training split, and
[low_c, high_c] is [0, 0.4] for fake faces and [0.6, 1] for real ones. A good fake therefore gets a
higher target than a poor fake, but never as high as any real face.

The mapping 'rank' replaces the fraction by the share of the training faces of class c with a lower
quality than q, which spreads the targets of a class evenly over its range. The quality range 'both'
takes q_min and q_max, or the ranks, from the training faces of both classes together.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from deepfidelity_jax.errors import InputError

FAKE, REAL = 0, 1  # the labels, everywhere
LABELS = ("fake", "real")  # their names, by label
FAKE_TARGETS, REAL_TARGETS = (0.0, 0.4), (0.6, 1.0)  # the paper's ranges
MAPPINGS = ("linear", "rank")  # the paper's is linear
Range = tuple[float, float]
QUALITY_RANGES = ("class", "both")  # whose training faces set the range; the paper's is class
QUANTILES = 201  # quantiles of quality, between which ranks are linear


@dataclass(frozen=True)
class FidelityScale:
    """The quality range of each class, and the range of targets it is mapped to.

    Attributes:
      fake_quality: lowest and highest raw quality of the fake training faces.
      real_quality: the same for the real training faces.
      fake: lowest and highest target of a fake face.
      real: the same for a real face.
      fake_ranks: qualities of the fake training faces at evenly spaced ranks, from the lowest to
        the highest; empty for the linear mapping.
      real_ranks: the same for the real training faces.
      both_quality: lowest and highest raw quality of all training faces, if that one range is
        mapped for both classes; else empty. The ranks are then those of all training faces, too.

    Raises:
      InputError: the target ranges are not inside [0, 1], overlap, or do not have fake below real;
        or ranks do not rise from one end of their quality range to the other.
    """

    fake_quality: Range
    real_quality: Range
    fake: Range = FAKE_TARGETS
    real: Range = REAL_TARGETS
    fake_ranks: tuple[float, ...] = ()
    real_ranks: tuple[float, ...] = ()
    both_quality: Range | tuple[()] = ()

    def __post_init__(self):
        ends = (0.0, *self.fake, *self.real, 1.0)
        if any(a > b for a, b in pairwise(ends)) or self.fake == self.real:
            raise InputError(
                f"fidelity ranges fake {self.fake} and real {self.real} must be ordered, lie "
                "inside [0, 1] and not overlap, fake below real"
            )
        ranges = {"fake": self.fake_quality, "real": self.real_quality}
        for name, (low, high) in (ranges | {"all": self.mapped[0]}).items():
            if not (np.isfinite([low, high]).all() and low <= high):
                raise InputError(f"quality range of {name} faces is not a range: {(low, high)}")
        for ends_of, ranks in zip(self.mapped, (self.fake_ranks, self.real_ranks), strict=True):
            rising = all(a <= b for a, b in pairwise(ranks))
            if ranks and not (rising and (ranks[0], ranks[-1]) == ends_of):
                raise InputError(f"ranks of quality do not rise from {ends_of[0]} to {ends_of[1]}")

    @property
    def mapped(self) -> tuple[Range, Range]:
        """The quality range that is mapped to the targets of fake faces, and of real faces."""
        if self.both_quality:
            return self.both_quality, self.both_quality
        return self.fake_quality, self.real_quality

    @property
    def middle(self) -> float:
        """The middle of the gap between the classes: the threshold before any calibration."""
        return (self.fake[1] + self.real[0]) / 2

    def is_poor(
        self, quality: Float[np.ndarray, "*n"] | float
    ) -> Bool[np.ndarray, "*n"] | np.bool_:
        """True where quality is below the range of the real training faces; False for NaN."""
        return np.asarray(quality, np.float64) < self.real_quality[0]

    def to_dict(self) -> dict[str, list[float]]:
        """The ranges, and the ranks if there are any, as lists that JSON can hold."""
        return {name: list(values) for name, values in asdict(self).items() if values}

    @classmethod
    def from_dict(cls, ranges: dict[str, Any]) -> "FidelityScale":
        """The scale that `to_dict` wrote. Raises InputError for anything else."""
        try:
            arguments: dict[str, Any] = {
                name: tuple(map(float, values)) if name.endswith("_ranks") else _pair(values)
                for name, values in ranges.items()
            }
            return cls(**arguments)
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f"not a fidelity scale: {ranges!r}") from error


def scale(
    fitted: FidelityScale, quality: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Target of each face (float32) from its raw quality and its label, 0 fake or 1 real.

    Quality outside the fitted range is clipped to it. If all training faces that set it have the
    same quality (no measure, or a single face), there is nothing to rank: the class gets the outer
    end of its range, so that constant quality in both classes gives the plain labels 0 and 1.
    Raises InputError for non-finite quality.
    """
    _require_finite(quality)
    target = np.empty(quality.shape, np.float64)
    of_fakes, of_reals = fitted.mapped
    for kind, (q_min, q_max), (low, high), outer, ranks in (
        (FAKE, of_fakes, fitted.fake, fitted.fake[0], fitted.fake_ranks),
        (REAL, of_reals, fitted.real, fitted.real[1], fitted.real_ranks),
    ):
        of_kind = label == kind
        if q_min == q_max:
            target[of_kind] = outer
        elif ranks:
            target[of_kind] = low + (high - low) * rank(quality[of_kind].astype(np.float64), ranks)
        else:
            share = np.clip((quality[of_kind].astype(np.float64) - q_min) / (q_max - q_min), 0, 1)
            target[of_kind] = low + (high - low) * share
    return target.astype(np.float32)


def rank(quality: Float[np.ndarray, " n"], ranks: tuple[float, ...]) -> Float[np.ndarray, " n"]:
    """Share of the training faces below each quality, 0 to 1; equal qualities get their mean."""
    known, position = np.unique(ranks, return_inverse=True)
    even = np.linspace(0, 1, len(ranks))
    return np.interp(quality, known, np.bincount(position, even) / np.bincount(position))


def fit_scale(
    quality: Float[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    *,
    fake: tuple[float, float] = FAKE_TARGETS,
    real: tuple[float, float] = REAL_TARGETS,
    percentile: float = 0.0,
    mapping: str = "linear",
    quality_range: str = "class",
) -> FidelityScale:
    """The scale of a training split.

    Args:
      quality: raw quality of each face.
      label: 0 fake, 1 real.
      fake: target range of fake faces.
      real: target range of real faces.
      percentile: p takes the p-th and (100 - p)-th percentile as the ends of a quality range, so
        that a few outliers do not set the scale. 0 takes the lowest and highest quality.
      mapping: of MAPPINGS.
      quality_range: of QUALITY_RANGES.

    Raises:
      InputError: quality is not finite, a class has no face, or the percentile is impossible.
    """
    _require_finite(quality)
    if not 0 <= percentile < 50:
        raise InputError(f"percentile must be in [0, 50), not {percentile}")
    ranges = []
    for kind, name in ((FAKE, "fake"), (REAL, "real")):
        of_kind = quality[label == kind]
        if of_kind.size == 0:
            raise InputError(f"no {name} face in the training split: fidelity needs both classes")
        ranges.append(_fit_range(of_kind, percentile, mapping))
    (fake_quality, fake_ranks), (real_quality, real_ranks) = ranges
    both_quality: Range | tuple[()] = ()
    if quality_range == "both":
        both_quality, fake_ranks = _fit_range(quality, percentile, mapping)
        real_ranks = fake_ranks
    return FidelityScale(
        fake_quality, real_quality, _pair(fake), _pair(real), fake_ranks, real_ranks, both_quality
    )


def _fit_range(quality, percentile: float, mapping: str) -> tuple[Range, tuple[float, ...]]:
    """The ends of the quality of some faces, and the qualities at evenly spaced ranks, if any."""
    places = np.linspace(percentile, 100 - percentile, QUANTILES)
    low, *inner, high = np.percentile(quality, places).tolist()
    return (low, high), (low, *inner, high) if mapping == "rank" else ()


def outside(
    fitted: FidelityScale, quality: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"]
) -> int:
    """How many faces have a quality outside the range of their targets, which `scale` clips."""
    of_fakes, of_reals = fitted.mapped
    low, high = np.where(
        (label == REAL)[None], np.array(of_reals)[:, None], np.array(of_fakes)[:, None]
    )
    return int(np.sum((quality < low) | (quality > high)))


def _require_finite(quality) -> None:
    bad = int(np.sum(~np.isfinite(quality)))
    if bad:
        raise InputError(
            f"quality is not a finite number for {bad} of {quality.size} faces: give every face a "
            "quality or leave these faces out"
        )


def _pair(ends) -> tuple[float, float]:
    low, high = ends
    return float(low), float(high)
