"""DeLong's test: whether two AUCs on the same independent videos differ by more than chance.

The AUC is a mean over pairs of a real and a fake score. Its variance follows from the effect of
each score on that mean, the structural components. Sun and Xu compute these from ranks, in
O(n log n) instead of O(m n).

DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver
operating characteristic curves", Biometrics 1988; Sun and Xu, "Fast implementation of DeLong's
algorithm", IEEE Signal Processing Letters 2014.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, rankdata

from deepfidelity_jax.fidelity.scale import FAKE, REAL


class Difference(NamedTuple):
    """Two AUCs compared: first minus second, its 95% interval, z, and the two-sided p-value.

    z and p are None if the AUCs differ, but the variance is estimated as 0: every score has the
    same effect on the difference, such as with one detector perfect and the other constant.
    """

    value: float
    low: float
    high: float
    z: float | None
    p: float | None


def covariance(
    label: Int[np.ndarray, "n"], scores: Float[np.ndarray, "k n"]
) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k k"]]:
    """The AUCs of k detectors on the same independent units, and their covariance.

    Raises:
      ValueError: a class has fewer than two units, which have no variance.
    """
    real, fake = (np.asarray(scores, np.float64)[:, label == kind] for kind in (REAL, FAKE))
    m, n = real.shape[1], fake.shape[1]
    if min(m, n) < 2:
        raise ValueError(f"DeLong needs two of each class, not {m} real and {n} fake")
    together = rankdata(np.hstack([real, fake]), axis=1)
    # For each real score the share of fakes below it, for each fake score the share of reals above.
    of_real = (together[:, :m] - rankdata(real, axis=1)) / n
    of_fake = 1 - (together[:, m:] - rankdata(fake, axis=1)) / m
    return of_real.mean(axis=1), np.cov(of_real).reshape(len(scores), -1) / m + np.cov(
        of_fake
    ).reshape(len(scores), -1) / n


def auc_interval(
    label: Int[np.ndarray, "n"], score: Float[np.ndarray, "n"]
) -> tuple[float, float, float]:
    """An AUC with its 95% interval, within 0 and 1: value, low, high."""
    (area,), ((variance,),) = covariance(label, score[None])
    reach = norm.ppf(0.975) * np.sqrt(variance)
    return float(area), float(max(0, area - reach)), float(min(1, area + reach))


def compare(
    label: Int[np.ndarray, "n"], first: Float[np.ndarray, "n"], second: Float[np.ndarray, "n"]
) -> Difference:
    """Whether two detectors differ in AUC.

    If both order every pair alike, the difference is exactly 0 and p is 1.
    """
    areas, cov = covariance(label, np.stack([first, second]))
    difference = float(areas[0] - areas[1])
    error = float(np.sqrt(max(0.0, cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])))
    reach = float(norm.ppf(0.975)) * error
    bounds = difference - reach, difference + reach
    # A rounding error of about 1e-17 may remain of a difference or a variance of 0.
    if abs(difference) < 1e-12:
        return Difference(difference, *bounds, 0.0, 1.0)
    if error < 1e-6 * abs(difference):
        return Difference(difference, *bounds, None, None)
    z = difference / error
    return Difference(difference, *bounds, z, float(2 * norm.sf(abs(z))))
