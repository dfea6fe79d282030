"""Two detectors on the same units: McNemar's test, the paired bootstrap, and Holm's correction."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit
from scipy.stats import binom, chi2

from deepfidelity_jax.statistics.intervals import draw_clusters

SURE = 0.05  # a corrected p-value below this is a difference
FEW = 25  # discordant units, below which McNemar's test is exact
BLOCK = 2000  # replicates drawn at once


class Discordant(NamedTuple):
    """Units that only the first or only the second judged correctly; p-value; whether exact."""

    first: int
    second: int
    p: float
    exact: bool


def mcnemar(first: Bool[np.ndarray, "n"], second: Bool[np.ndarray, "n"]) -> Discordant:
    """Whether two detectors are right equally often (McNemar, Psychometrika 1947).

    Exact, by the binomial distribution, with fewer than 25 discordant units; otherwise by
    chi-squared with continuity correction (Edwards 1948). Units must be independent.

    Args:
      first: whether the first detector judged each unit correctly.
      second: the same for the second.
    """
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    both = only_first + only_second
    if both < FEW:
        p = min(1.0, 2 * float(binom.cdf(min(only_first, only_second), both, 0.5)))
        return Discordant(only_first, only_second, p, True)
    statistic = max(0, abs(only_first - only_second) - 1) ** 2 / both
    return Discordant(only_first, only_second, float(chi2.sf(statistic, 1)), False)


def bootstrap_p(drawn: Float[np.ndarray, "r"]) -> float:
    """The two-sided p-value of a difference of 0, from replicates of the difference.

    Twice the smaller share of replicates on either side of 0, counting the data as one replicate,
    so that p is never 0 (Davison and Hinkley 1997, section 4.2).
    """
    below, above = np.sum(drawn <= 0), np.sum(drawn >= 0)
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(drawn) + 1)))


def replicates_for(tests: int, least: int) -> int:
    """The replicates that so many tests need, at least `least`.

    The smallest `bootstrap_p` is 2 / (replicates + 1), which Holm's correction multiplies by the
    number of tests. With these replicates the product is below a fifth of SURE. With too few, no
    difference could be found, however large.
    """
    return max(least, round(tests * 2 / (SURE / 5)))


def draw_blocks(
    kind: Int[np.ndarray, "c"], seed: int, replicates: int
) -> Iterator[Float[np.ndarray, "r c"]]:
    """What `draw_clusters` gives, in blocks of BLOCK replicates, which bounds the memory.

    Row 0 of the first block is the data itself. Every block has a seed of its own, from `seed` on.
    """
    for number, start in enumerate(range(0, max(1, replicates), BLOCK)):
        draws = draw_clusters(kind, seed + number, min(BLOCK, replicates - start))
        yield draws[1:] if number else draws


def compare_seeds(drawn: Float[np.ndarray, "s r"]) -> tuple[float, float, float] | None:
    """The mean difference of detectors trained with several seeds: low, high and p-value.

    The wider interval and the larger p-value of two. The bootstrap tells what other units would do
    to these seeds. With two seeds or more, Student's interval over their differences tells what
    other seeds would do to these units, and to the square of its half is added that of 1.96
    standard errors of what the seeds share. A unit that one detector likes by chance is liked with
    every seed, so that the differences do not show it, but their covariance over replicates does.
    A sum of squares keeps at least 95% for independent normal parts (Banerjee, Sankhya 1960).

    Args:
      drawn: the difference of each seed on the data, then on each replicate, the same for all
        seeds; NaN where it cannot be computed.

    Returns:
      None if no replicate has the difference of every seed.
    """
    kept = drawn[:, 1:][:, np.isfinite(drawn[:, 1:]).all(axis=0)]
    if not kept.size:
        return None
    means, seeds, value = kept.mean(axis=0), len(drawn), float(drawn[:, 0].mean())
    low, high = np.percentile(means, [2.5, 97.5]).tolist()
    p = bootstrap_p(means)
    if seeds > 1:
        seed_variance = np.var(drawn[:, 0], ddof=1) / seeds
        together = np.cov(kept, ddof=0)
        shared = max(0.0, np.mean(together[~np.eye(seeds, dtype=bool)]))

        def reach(p: float) -> float:
            return np.sqrt(
                seed_variance * stdtrit(seeds - 1, p / 2) ** 2 + shared * ndtri(p / 2) ** 2
            )

        low, high = min(low, value - reach(0.05)), max(high, value + reach(0.05))
        if reach(p) > abs(value):
            p = brentq(lambda p: reach(p) - abs(value), p, 1)
    return float(low), float(high), float(p)


def holm(p: Float[np.ndarray, "k"]) -> Float[np.ndarray, "k"]:
    """P-values corrected for k tests (Holm, Scandinavian Journal of Statistics 1979)."""
    order = np.argsort(p, kind="stable")
    scaled = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    corrected = np.empty(len(p))
    corrected[order] = scaled
    return corrected
