"""Every 95% interval in metrics.json: a percentile bootstrap over whole videos.

How the interval of an AUC is made:

1. `draw_videos` draws videos with replacement, `config.eval.bootstrap` times: as many real ones as
   there are, from the real ones, and as many fake ones from the fake ones. A replicate is a row of
   counts, how often each video was drawn. Row 0 is the data itself, each video once.
2. Each frame takes the count of its video as its weight. Frames of one video resemble each other,
   so they are drawn together: 100 frames of one video are not 100 pieces of evidence.
3. `metrics.auc` maps rows of weights to one number per row. Row 0 gives the AUC and all others its
   distribution, from the same lines of code.
4. The interval runs from the 2.5th to the 97.5th percentile of that distribution. There is none
   with fewer than 5 videos of a class, as resampling those says little about others.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from deepfidelity_jax.fidelity.scale import FAKE, LABELS, REAL

MIN_VIDEOS = 5  # of a class, for an interval
CHUNK = 1_000_000  # weights held at once: bounds the memory, and keeps the work near the cache


@dataclass(frozen=True, eq=False)
class Level:
    """The units that are counted, frames or videos: label, score and video of each."""

    label: Int[np.ndarray, "n"]
    score: Float[np.ndarray, "n"]
    video: Int[np.ndarray, "n"]

    def take(self, rows: Bool[np.ndarray, "n"]) -> "Level":
        """The level with these units alone."""
        return Level(self.label[rows], self.score[rows], self.video[rows])


@dataclass(frozen=True, eq=False)
class Sample:
    """Labelled scores with r rows of weights: row by row, how often each unit occurs."""

    label: Int[np.ndarray, "n"]
    score: Float[np.ndarray, "n"]
    weights: Float[np.ndarray, "r n"]

    @cached_property
    def below(self) -> tuple[Float[np.ndarray, "r k"], Float[np.ndarray, "r k"]]:
        """Total weight of the reals, and of the fakes, that score below each possible threshold.

        The thresholds rise from below all scores to above all. There is one between each two
        neighbouring scores and none between equal ones, which is all that ties need.
        """
        order = np.argsort(self.score, kind="stable")
        last_of_ties = np.flatnonzero(np.diff(self.score[order], append=np.inf) > 0)
        weights = np.take(self.weights, order, axis=1)
        real_weights = weights * (self.label[order] == REAL)
        none = np.zeros((len(weights), 1))
        everything, reals = (
            np.hstack([none, np.take(np.cumsum(part, axis=1), last_of_ties, axis=1)])
            for part in (weights, real_weights)
        )
        return reals, everything - reals


Statistic = Callable[[Sample], Float[np.ndarray, "r"]]


def draw_videos(
    label: Int[np.ndarray, "v"], seed: int, replicates: int
) -> Float[np.ndarray, "r v"]:
    """How often each video occurs in each replicate; row 0 is the data itself."""
    rng = np.random.default_rng(seed)
    draws = np.ones((1 + replicates, len(label)))
    for kind in (FAKE, REAL):
        (members,) = np.nonzero(label == kind)
        if members.size:
            even = np.full(members.size, 1 / members.size)
            draws[1:, members] = rng.multinomial(members.size, even, replicates)
    return draws


def add_statistics(
    entry: dict,
    level: Level,
    draws: Float[np.ndarray, "r v"],
    statistics: dict[str, Statistic],
) -> None:
    """Add the value of each statistic to `entry`, its interval to `entry["ci"]`.

    Where a value or an interval cannot be had it is None, and `entry["note"]` says why.
    """
    found = _compute(level, draws, statistics)
    videos = [len(np.unique(level.video[level.label == kind])) for kind in (FAKE, REAL)]
    for name, (value, *drawn) in found.items():
        drawn = np.array(drawn)[np.isfinite(drawn)]
        entry[name] = float(value) if np.isfinite(value) else None
        entry["ci"][name] = None
        if entry[name] is None:
            empty = [LABELS[kind] for kind in (FAKE, REAL) if not videos[kind]]
            entry["note"][name] = (
                f"there are no {' and no '.join(empty)} faces"
                if empty
                else "too few faces, or all alike"
            )
        elif min(n for n in videos if n) < MIN_VIDEOS:
            entry["note"][name] = f"no interval: fewer than {MIN_VIDEOS} videos of a class"
        elif drawn.size:
            entry["ci"][name] = np.percentile(drawn, [2.5, 97.5]).tolist()
            if np.ptp(drawn) == 0:  # as when every verdict is right: of these videos, not of any
                entry["note"][name] = "all replicates are equal: the interval is too narrow"


def _compute(level, draws, statistics: dict[str, Statistic]) -> dict[str, np.ndarray]:
    """Each statistic on every row of draws, a chunk of rows at a time."""
    rows = max(1, CHUNK // max(1, len(level.label)))
    found = {name: [] for name in statistics}
    for start in range(0, len(draws), rows):
        weights = np.take(draws[start : start + rows], level.video, axis=1)
        sample = Sample(level.label, level.score, weights)
        # A share of nothing is NaN here, and becomes None with its reason.
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, statistic in statistics.items():
                found[name].append(statistic(sample))
    return {name: np.concatenate(parts) for name, parts in found.items()}
