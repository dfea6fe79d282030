"""The fidelity scale: where the verdict changes, where each person lies, and validation's faces."""

from typing import Any

import numpy as np
from jaxtyping import Float

from deepfidelity_jax.fidelity.scale import FAKE, REAL
from deepfidelity_jax.fidelity.stored import Validation

BINS = 40
APART = 2.5  # percent of the width; people closer together share a mark


def describe_scale(fitted, fidelities: dict[int, float]) -> dict[str, Any]:
    """What the page draws: positions in percent of an axis that includes 0, 1 and all values shown.

    Args:
      fitted: a `FidelityModel`.
      fidelities: the fidelity of each person marked, by number.
    """
    calibration, known = fitted.calibration, fitted.validation
    videos = None if known is None else video_means(known)
    ends = [0.0, 1.0, calibration.threshold, *fidelities.values()]
    if videos:
        ends += [end for values in videos for end in (values.min(), values.max())]
    low, high = min(ends), max(ends)

    def place(value: float) -> float:
        return 2 + 96 * (value - low) / (high - low)

    limit = calibration.fake_below
    return {
        "threshold": place(calibration.threshold),
        "limit": None if limit is None or limit == calibration.threshold else place(limit),
        "ticks": [(place(tick), f"{tick:g}") for tick in (0.0, 0.25, 0.5, 0.75, 1.0)],
        "marks": _marks({person: place(value) for person, value in fidelities.items()}),
        "validation": videos and [
            {"name": name, "bars": _bars(values, low, high), "count": len(values)}
            for name, values in zip(("real", "fake"), videos, strict=True)
        ],
    }  # fmt: skip


def video_means(known: Validation) -> tuple[Float[np.ndarray, "r"], Float[np.ndarray, "f"]] | None:
    """Fidelity of validation's real and fake videos or photographs, each the mean over its faces.

    None if a class is missing.
    """
    means = []
    for kind in (REAL, FAKE):
        of_kind = known.label == kind
        _, video = np.unique(known.video[of_kind], return_inverse=True)
        if not video.size:
            return None
        sums = np.bincount(video, weights=known.fidelity[of_kind].astype(np.float64))
        means.append(sums / np.bincount(video))
    return means[0], means[1]


def _marks(places: dict[int, float]) -> list[tuple[float, str]]:
    """Position and text of each mark: the numbers of the people at that position."""
    groups: list[list[int]] = []
    for person in sorted(places, key=lambda one: places[one]):
        if groups and places[person] - places[groups[-1][0]] < APART:
            groups[-1].append(person)
        else:
            groups.append([person])
    return [
        (sum(places[one] for one in group) / len(group), ", ".join(map(str, sorted(group))))
        for group in groups
    ]


def _bars(values: Float[np.ndarray, "n"], low: float, high: float) -> list[tuple[float, float]]:
    """Left edge and height in percent of each bar of a histogram."""
    counts, edges = np.histogram(values, BINS, (low, high))
    left = 2 + 96 * (edges[:-1] - low) / (high - low)
    return [(float(x), 100 * n / counts.max()) for x, n in zip(left, counts, strict=True) if n]
