"""Bootstrap intervals over videos."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from deepfidelity_jax.scoring.table import LABELS

# Below this many videos of a class, resampling them says little about others: no interval.
MIN_VIDEOS = 5
# Weights held at once while resampling; keeps memory flat and the working set near the cache.
CHUNK = 1_000_000
Weights = Float[np.ndarray, "r n"]


@dataclass(frozen=True, eq=False)
class Level:
    """What is judged one by one, frames or videos: labels, scores, and the video of each."""

    label: Int[np.ndarray, "n"]
    score: Float[np.ndarray, "n"]
    video: Int[np.ndarray, "n"]

    def take(self, rows: Bool[np.ndarray, "n"]) -> "Level":
        """Only these rows."""
        return Level(self.label[rows], self.score[rows], self.video[rows])


@dataclass(frozen=True, eq=False)
class Sample:
    """Labelled scores, in each row of `weights` counted as often as it says."""

    label: Int[np.ndarray, "n"]
    score: Float[np.ndarray, "n"]
    weights: Float[np.ndarray, "r n"]

    @cached_property
    def below(self) -> tuple[Float[np.ndarray, "r k"], Float[np.ndarray, "r k"]]:
        """Weight of the reals, and of the fakes, below each cut between scores, from none to all.

        Equal scores are never cut apart, which is all that ties need.
        """
        order = np.argsort(self.score, kind="stable")
        last_of_ties = np.flatnonzero(np.diff(self.score[order], append=np.inf) > 0)
        weights = np.take(self.weights, order, axis=1)
        of_reals = weights * self.label[order].astype(np.float64)
        none = np.zeros((len(weights), 1))
        everything, reals = (
            np.hstack([none, np.take(np.cumsum(part, axis=1), last_of_ties, axis=1)])
            for part in (weights, of_reals)
        )
        return reals, everything - reals


def draw_videos(
    label: Int[np.ndarray, "v"], seed: int, replicates: int
) -> Float[np.ndarray, "r v"]:
    """How often each video occurs in each replicate; row 0 is the sample itself."""
    rng = np.random.default_rng(seed)
    draws = np.ones((1 + replicates, len(label)))
    for kind in (0, 1):
        (members,) = np.nonzero(label == kind)
        if members.size:
            even = np.full(members.size, 1 / members.size)
            draws[1:, members] = rng.multinomial(members.size, even, replicates)
    return draws


def put_in_order(
    entry: dict,
    level: Level,
    draws: Float[np.ndarray, "r v"],
    statistics: dict[str, Callable[[Sample], Float[np.ndarray, "r"]]],
) -> None:
    """Add each statistic, its interval and, where it has none, the reason to `entry`."""
    rows = max(1, CHUNK // max(1, len(level.label)))
    found = {name: [] for name in statistics}
    for start in range(0, len(draws), rows):
        weights = np.take(draws[start : start + rows], level.video, axis=1)
        sample = Sample(level.label, level.score, weights)
        # A share of nothing is NaN here and None with its reason below.
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, statistic in statistics.items():
                found[name].append(statistic(sample))
    videos = [len(np.unique(level.video[level.label == kind])) for kind in (0, 1)]
    for name, parts in found.items():
        value, *drawn = np.concatenate(parts)
        drawn = np.array(drawn)[np.isfinite(drawn)]
        entry[name] = float(value) if np.isfinite(value) else None
        entry["ci"][name] = None
        if entry[name] is None:
            empty = [LABELS[kind] for kind in (0, 1) if not videos[kind]]
            entry["note"][name] = (
                f"there are no {' and no '.join(empty)} faces"
                if empty
                else "too few faces for it, or all alike"
            )
        elif min(n for n in videos if n) < MIN_VIDEOS:
            entry["note"][name] = f"no interval: fewer than {MIN_VIDEOS} videos of a class"
        elif drawn.size:
            entry["ci"][name] = np.percentile(drawn, [2.5, 97.5]).tolist()
            if np.ptp(drawn) == 0:  # as when all is right: true of these videos, not of any
                entry["note"][name] = "all replicates are equal: the interval is too narrow"
