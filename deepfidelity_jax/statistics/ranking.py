"""How well scores rank: ROC, AUC, accuracy, equal error rate, average precision, rank correlation.

High fidelity is real (see `fidelity.calibration`). Detection rates take *fake* as the positive
class: a fake below the threshold is caught, a real face below it is a false alarm. Every statistic
is a function of a `Sample`, so that `intervals` can compute it on resampled videos, too.
"""

import numpy as np
from jaxtyping import Float, Int

from deepfidelity_jax.fidelity.calibration import is_real
from deepfidelity_jax.fidelity.scale import REAL
from deepfidelity_jax.statistics.intervals import Sample


def roc_curve(
    label: Int[np.ndarray, "n"], fidelity: Float[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k"]]:
    """The shares of false alarms and of caught fakes as the threshold rises.

    Raises:
      ValueError: a class is missing.
    """
    if len(np.unique(label)) < 2:
        raise ValueError("a ROC curve needs scores of both classes")
    reals, fakes = Sample(label, fidelity, np.ones((1, len(label)))).below
    return reals[0] / reals[0, -1], fakes[0] / fakes[0, -1]


def auc(sample: Sample) -> Float[np.ndarray, "r"]:
    """Area under the ROC curve, for each row of weights."""
    reals, fakes = sample.below
    trapezoids = np.diff(reals) * (fakes[:, 1:] + fakes[:, :-1]) / 2
    return trapezoids.sum(axis=1) / (reals[:, -1] * fakes[:, -1])


def accuracy(sample: Sample, threshold: float, label: int | None = None) -> Float[np.ndarray, "r"]:
    """Share of correct verdicts, overall or in one class, for each row of weights."""
    cut = np.count_nonzero(~is_real(np.unique(sample.score), threshold))
    reals, fakes = sample.below
    real_right, fake_right = reals[:, -1] - reals[:, cut], fakes[:, cut]
    if label is None:
        return (real_right + fake_right) / (reals[:, -1] + fakes[:, -1])
    return real_right / reals[:, -1] if label == REAL else fake_right / fakes[:, -1]


def equal_error_rate(sample: Sample) -> Float[np.ndarray, "r"]:
    """The rate at which false alarms and missed fakes are equal, for each row of weights."""
    reals, fakes = sample.below
    false_alarm, missed = reals / reals[:, -1:], 1 - fakes / fakes[:, -1:]
    gap = false_alarm - missed  # rises from -1 to 1
    after = np.argmax(gap >= 0, axis=1)[:, None]
    low, high = (np.take_along_axis(gap, k, axis=1) for k in (after - 1, after))
    start, end = (np.take_along_axis(false_alarm, k, axis=1) for k in (after - 1, after))
    return (start - low / (high - low) * (end - start))[:, 0]


def average_precision(sample: Sample) -> Float[np.ndarray, "r"]:
    """Precision averaged over recall, fake as the positive class, for each row of weights."""
    reals, fakes = sample.below
    called_fake = np.maximum((reals + fakes)[:, 1:], 1)  # 1 where there is none: precision is 0
    precision = fakes[:, 1:] / called_fake
    average = np.sum(np.diff(fakes) * precision, axis=1) / fakes[:, -1]
    return np.where(reals[:, -1] > 0, average, np.nan)


def spearman(sample: Sample, other: Float[np.ndarray, "n"]) -> Float[np.ndarray, "r"]:
    """Rank correlation of the scores with other values, for each row of weights."""
    if len(other) < 3:  # two points always lie on a line
        return np.full(len(sample.weights), np.nan)
    weights = sample.weights
    x, y = (_ranks(values, weights) for values in (sample.score, other))
    x, y = (z - np.average(z, axis=1, weights=weights)[:, None] for z in (x, y))
    xx, yy, xy = (np.sum(weights * z, axis=1) for z in (x * x, y * y, x * y))
    return xy / np.sqrt(xx * yy)


def caught_at(sample: Sample, share: float) -> Float[np.ndarray, "r"]:
    """Share of fakes caught at no more than this share of false alarms."""
    reals, fakes = sample.below
    if share * np.sum(sample.label == REAL) < 1:  # this share of the reals is less than one
        return np.full(len(reals), np.nan)
    allowed = reals <= share * reals[:, -1:] + 1e-9
    return np.max(np.where(allowed, fakes, 0), axis=1) / fakes[:, -1]


def _ranks(
    values: Float[np.ndarray, "n"], weights: Float[np.ndarray, "r n"]
) -> Float[np.ndarray, "r n"]:
    """Rank of each value among the weighted values, up to a constant; ties get their mean rank."""
    order = np.argsort(values, kind="stable")
    new = np.diff(values[order], prepend=-np.inf) > 0
    group = np.empty(len(values), np.int64)
    group[order] = np.cumsum(new) - 1
    last_of_ties = np.append(np.flatnonzero(new)[1:], len(values)) - 1
    upto = np.cumsum(np.take(weights, order, axis=1), axis=1)[:, last_of_ties]
    return (upto - np.diff(upto, axis=1, prepend=0) / 2)[:, group]
