"""Whether p_fake means what it says: calibration error, Brier score, log loss.

A `Sample` here holds p_fake as its score. p_fake assumes that real and fake are equally likely, so
both classes have the same total weight, regardless of their sizes in the split.
"""

import numpy as np
from jaxtyping import Float

from deepfidelity_jax.fidelity.scale import FAKE
from deepfidelity_jax.statistics.intervals import (
    Level,
    Sample,
    add_statistics,
    interval,
    resample,
)

BINS = 10  # of equal width, each low <= p_fake < high; the last includes 1
LEAST = 1e-15  # a probability of 0 would have an infinite log loss


def bin_of(p: Float[np.ndarray, "n"]) -> np.ndarray:
    """The bin of each probability."""
    return np.minimum((np.asarray(p, np.float64) * BINS).astype(np.int64), BINS - 1)


def bin_gaps(sample: Sample) -> Float[np.ndarray, "r b"]:
    """Mean p_fake minus share of fakes in each bin, times the bin's weight, for each row."""
    gap = sample.balanced * (sample.score - (sample.label == FAKE))
    return gap @ np.eye(BINS)[bin_of(sample.score)]


def calibration_error(sample: Sample) -> Float[np.ndarray, "r"]:
    """Expected calibration error, for each row of weights.

    The mean over faces of |mean p_fake - share of fakes| in their bin (Naeini, Cooper and
    Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015).
    """
    return np.abs(bin_gaps(sample)).sum(axis=1)


def error_interval(gaps: Float[np.ndarray, "r b"]) -> list[float]:
    """The 95% interval of a calibration error, from `bin_gaps` of the data and of replicates.

    Chance mostly raises a calibration error: the estimate is biased upward, and its replicates
    twice as much. So the lower end of the percentile interval is moved down by twice the bias, and
    the upper end, to be on the safe side, by the bias. The interval begins at 0 unless the error
    exceeds 97.5% of the errors of a perfectly calibrated p_fake, by the same replicates.
    benchmarks/coverage.py measures how often such intervals contain the true value.
    """
    value, drawn = np.abs(gaps[0]).sum(), np.abs(gaps[1:]).sum(axis=1)
    by_chance = np.abs(gaps[1:] - gaps[0]).sum(axis=1)
    bias = drawn.mean() - value
    low, high = interval(drawn)
    low, high = low - 2 * bias, high - bias
    if value <= np.percentile(by_chance, 97.5):
        low = 0.0
    return [max(0.0, float(low)), max(0.0, float(high))]


def brier(sample: Sample) -> Float[np.ndarray, "r"]:
    """Mean squared error of p_fake, for each row of weights; a constant 0.5 has 0.25."""
    return sample.balanced @ (sample.score - (sample.label == FAKE)) ** 2


def log_loss(sample: Sample) -> Float[np.ndarray, "r"]:
    """Mean negative log-likelihood in nats, for each row of weights; a constant 0.5 has ln 2."""
    right = np.where(sample.label == FAKE, sample.score, 1 - np.asarray(sample.score, np.float64))
    return -(sample.balanced @ np.log(np.clip(right, LEAST, 1)))


def diagram(level: Level) -> list[dict]:
    """The reliability diagram: n, mean p_fake and share of fakes of each bin that is not empty."""
    weights = Sample(level.label, level.score, np.ones((1, len(level.label)))).balanced[0]
    bins = bin_of(level.score)
    return [
        {
            "low": number / BINS,
            "high": (number + 1) / BINS,
            "n": int(np.sum(bins == number)),
            "p_fake": float(
                np.average(level.score[bins == number], weights=weights[bins == number])
            ),
            "share_fake": float(
                np.average(level.label[bins == number] == FAKE, weights=weights[bins == number])
            ),
        }
        for number in np.unique(bins).tolist()
    ]


def describe(level: Level, draws: Float[np.ndarray, "r c"]) -> dict:
    """The figures of one level with their intervals, and the diagram.

    Args:
      level: p_fake of each unit.
      draws: from `intervals.draw_clusters`.
    """
    entry = {"n": len(level.label), "bins": BINS, "ci": {}, "note": {}}
    statistics = {"ece": calibration_error, "brier": brier, "log_loss": log_loss}
    add_statistics(entry, level, draws, statistics)
    if entry["ci"]["ece"] is not None:
        entry["ci"]["ece"] = error_interval(resample(level, draws, {"gaps": bin_gaps})["gaps"])
    entry["diagram"] = diagram(level) if len(np.unique(level.label)) == 2 else []
    return entry
