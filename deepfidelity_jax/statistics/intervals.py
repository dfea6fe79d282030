"""Every 95% interval in metrics.json: a percentile bootstrap over whole clusters.

A cluster is a video, or a person with every video that shows them. The interval of an AUC:

1. `draw_clusters` draws clusters with replacement, `config.eval.bootstrap` times: as many real ones
   as there are, from the real ones, and as many fake ones from the fake ones; those with both, as a
   person has, are a third kind. A replicate is a row of counts, how often each cluster was drawn.
   Row 0 is the data itself, each cluster once.
2. Each frame takes the count of its cluster as its weight. Frames of one video resemble each other,
   so they are drawn together: 100 frames of one video are not 100 pieces of evidence.
3. `ranking.auc` maps rows of weights to one number per row. Row 0 gives the AUC, and the other rows
   give its distribution by the same code.
4. The interval runs from the 2.5th to the 97.5th percentile of that distribution. There is none
   with fewer than 5 clusters of a class, as resampling so few says little about others.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from deepfidelity_jax.fidelity.scale import FAKE, LABELS, REAL

MIN_CLUSTERS = 5  # of a class, for an interval
BOTH = 2  # the kind of a cluster with real and fake faces
CHUNK = 1_000_000  # weights held at once, which bounds the memory and suits the cache


@dataclass(frozen=True, eq=False)
class Level:
    """The units that are counted, frames or videos: label, score and cluster of each.

    clusters: the name of the clusters, in the plural.
    """

    label: Int[np.ndarray, "n"]
    score: Float[np.ndarray, "n"]
    cluster: Int[np.ndarray, "n"]
    clusters: str = "videos"

    def take(self, rows: Bool[np.ndarray, "n"]) -> "Level":
        """The level with only these units."""
        return Level(self.label[rows], self.score[rows], self.cluster[rows], self.clusters)

    def scored(self, score: Float[np.ndarray, "n"]) -> "Level":
        """The level with other scores."""
        return replace(self, score=score)


@dataclass(frozen=True, eq=False)
class Sample:
    """Labelled scores with r rows of weights: how often each unit occurs in each replicate."""

    label: Int[np.ndarray, "n"]
    score: Float[np.ndarray, "n"]
    weights: Float[np.ndarray, "r n"]

    @cached_property
    def balanced(self) -> Float[np.ndarray, "r n"]:
        """The weights, scaled to sum to 1/2 in each class."""
        classes = [np.where(self.label == kind, self.weights, 0) for kind in (FAKE, REAL)]
        return sum(part / part.sum(axis=1, keepdims=True) / 2 for part in classes)

    @cached_property
    def below(self) -> tuple[Float[np.ndarray, "r k"], Float[np.ndarray, "r k"]]:
        """Total weight of the reals, and of the fakes, that score below each possible threshold.

        The thresholds rise from below all scores to above all scores, with one between each two
        different neighbouring scores. With none between equal scores, ties are handled correctly.
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


Statistic = Callable[[Sample], Float[np.ndarray, "r *more"]]


def kinds_of(label: Int[np.ndarray, "n"], cluster: Int[np.ndarray, "n"]) -> Int[np.ndarray, "c"]:
    """The class of each cluster: 0 fake, 1 real, 2 both."""
    count = int(cluster.max(initial=-1)) + 1
    has = [np.bincount(cluster[label == kind], minlength=count) > 0 for kind in (FAKE, REAL)]
    return np.where(has[FAKE] & has[REAL], BOTH, np.where(has[REAL], REAL, FAKE))


def draw_clusters(
    kind: Int[np.ndarray, "c"], seed: int, replicates: int
) -> Float[np.ndarray, "r c"]:
    """How often each cluster occurs in each replicate; row 0 is the data itself."""
    rng = np.random.default_rng(seed)
    draws = np.ones((1 + replicates, len(kind)))
    for one in (FAKE, REAL, BOTH):
        (members,) = np.nonzero(kind == one)
        if members.size:
            even = np.full(members.size, 1 / members.size)
            draws[1:, members] = rng.multinomial(members.size, even, replicates)
    return draws


def add_statistics(
    entry: dict,
    level: Level,
    draws: Float[np.ndarray, "r c"],
    statistics: dict[str, Statistic],
) -> None:
    """Add the value of each statistic to `entry`, its interval to `entry["ci"]`.

    A value or interval that cannot be computed is None, and `entry["note"]` says why.
    """
    resampled = resample(level, draws, statistics)
    counts = [len(np.unique(level.cluster[level.label == kind])) for kind in (FAKE, REAL)]
    for name, values in resampled.items():
        value, drawn = values[0], values[1:][np.isfinite(values[1:])]
        entry[name] = float(value) if np.isfinite(value) else None
        entry["ci"][name] = None
        if entry[name] is None:
            empty = [LABELS[kind] for kind in (FAKE, REAL) if not counts[kind]]
            entry["note"][name] = (
                f"there are no {' and no '.join(empty)} faces"
                if empty
                else "too few faces, or all alike"
            )
        elif min(n for n in counts if n) < MIN_CLUSTERS:
            entry["note"][name] = (
                f"no interval: fewer than {MIN_CLUSTERS} {level.clusters} of a class"
            )
        elif drawn.size:
            entry["ci"][name] = interval(drawn)
            if np.ptp(drawn) == 0:  # such as when all verdicts on these videos are correct
                entry["note"][name] = "all replicates are equal: the interval is too narrow"


def interval(drawn: Float[np.ndarray, "r"], share: float = 0.95) -> list[float]:
    """The percentile interval that holds this share of the replicates."""
    tail = round(50 * (1 - share), 9)  # exactly 2.5 for 95%
    return np.percentile(drawn, [tail, 100 - tail]).tolist()


def resample(
    level: Level, draws: Float[np.ndarray, "r c"], statistics: dict[str, Statistic]
) -> dict[str, Float[np.ndarray, "r *more"]]:
    """Each statistic on every row of draws, a chunk of rows at a time; NaN where there is none."""
    rows = max(1, CHUNK // max(1, len(level.label)))
    chunks = {name: [] for name in statistics}
    for start in range(0, len(draws), rows):
        weights = np.take(draws[start : start + rows], level.cluster, axis=1)
        sample = Sample(level.label, level.score, weights)
        # A share of no units is NaN here, and becomes None with a reason.
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, statistic in statistics.items():
                chunks[name].append(statistic(sample))
    return {name: np.concatenate(parts) for name, parts in chunks.items()}
