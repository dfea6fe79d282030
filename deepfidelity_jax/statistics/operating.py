"""Thresholds for a wanted false alarm rate or cost, their rates, and risk against coverage.

A fake below the threshold is caught, a real face below it is a false alarm. Thresholds are chosen
on validation scores; rates are measured on other scores.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from deepfidelity_jax.fidelity.calibration import is_real
from deepfidelity_jax.fidelity.scale import FAKE, LABELS, REAL
from deepfidelity_jax.statistics.intervals import Level, Sample, add_statistics
from deepfidelity_jax.statistics.ranking import accuracy

Shares = Float[np.ndarray, "k"] | float
UNCERTAIN, CLEARLY_REAL = 1.0, 2.0  # verdicts as scores; 0 is fake


class Wanted(NamedTuple):
    """What the user requires of a detector in use.

    fpr: share of real faces that may lie below the threshold. cost_missed, cost_false_alarm: the
    cost of one missed fake and of one real face below it, in any unit. prevalence: share of fakes
    where the detector is used.
    """

    fpr: float
    cost_missed: float
    cost_false_alarm: float
    prevalence: float


def threshold_for_fpr(
    label: Int[np.ndarray, "n"], score: Float[np.ndarray, "n"], fpr: float
) -> float | None:
    """The highest threshold with at most this share of false alarms on these scores.

    None if the share is less than one of the reals.
    """
    reals = np.sort(score[label == REAL])
    allowed = int(np.floor(np.round(fpr * len(reals), 9)))
    if not allowed >= 1:
        return None
    return float(reals[allowed]) if allowed < len(reals) else float(np.nextafter(reals[-1], np.inf))


def threshold_for_costs(
    label: Int[np.ndarray, "n"], score: Float[np.ndarray, "n"], wanted: Wanted
) -> float | None:
    """The threshold with the lowest expected cost on these scores, the lowest if several tie.

    Candidates are half-way between any two neighbouring scores, below all and above all. None if a
    class is missing.
    """
    if len(np.unique(label)) < 2:
        return None
    score = np.asarray(score, np.float64)
    reals, fakes = Sample(label, score, np.ones((1, len(label)))).below
    missed, false_alarm = 1 - fakes[0] / fakes[0, -1], reals[0] / reals[0, -1]
    cost = np.asarray(expected_cost(missed, false_alarm, wanted))
    values = np.unique(score)
    ends = [values[0]], [np.nextafter(values[-1], np.inf)]
    return float(np.concatenate([ends[0], (values[1:] + values[:-1]) / 2, ends[1]])[cost.argmin()])


def expected_cost(missed: Shares, false_alarm: Shares, wanted: Wanted) -> Shares:
    """Expected cost of one face, from the shares of fakes missed and of reals called fake."""
    fakes = wanted.prevalence * wanted.cost_missed * missed
    return fakes + (1 - wanted.prevalence) * wanted.cost_false_alarm * false_alarm


def rates(threshold: float, wanted: Wanted) -> dict:
    """Statistics of a `Sample` at a threshold.

    fpr and tpr; precision, the share of fakes among what is called fake, and cost, the expected
    cost of one face, both at the wanted prevalence.
    """
    caught, right = (partial(accuracy, threshold=threshold, label=kind) for kind in (FAKE, REAL))

    def precision(sample):
        true = wanted.prevalence * caught(sample)
        return true / (true + (1 - wanted.prevalence) * (1 - right(sample)))

    return {
        "fpr": lambda sample: 1 - right(sample),
        "tpr": caught,
        "precision": precision,
        "cost": lambda sample: expected_cost(1 - caught(sample), 1 - right(sample), wanted),
    }


def describe_verdicts(
    level: Level,
    draws: Float[np.ndarray, "r c"],
    threshold: float,
    fake_below: float,
    poor: Bool[np.ndarray, "n"],
    small: Bool[np.ndarray, "n"],
) -> dict:
    """The entry `verdicts` of metrics.json, for one level: the shares by the rule of predict.

    Returns:
      For each class the share called fake, below `fake_below`, and the share that is uncertain,
      from there to the threshold, `poor` above it, or `small`, with intervals.
    """
    above = np.where(poor | ~is_real(level.score, threshold), UNCERTAIN, CLEARLY_REAL)
    judged = np.where(is_real(level.score, fake_below), above, 0.0)
    level = level.scored(np.where(small, UNCERTAIN, judged))
    entry = {"threshold": threshold, "fake_below": fake_below, "ci": {}, "note": {}}
    for kind in (REAL, FAKE):
        add_statistics(entry, level, draws, {
            f"{LABELS[kind]}_called_fake": partial(_below, limit=UNCERTAIN, kind=kind),
            f"{LABELS[kind]}_uncertain": partial(
                _between, low=UNCERTAIN, high=CLEARLY_REAL, kind=kind
            ),
        })  # fmt: skip
    return entry


def _below(sample: Sample, limit: float, kind: int) -> Float[np.ndarray, "r"]:
    """Share of a class that scores below a limit."""
    right = accuracy(sample, limit, kind)
    return 1 - right if kind == REAL else right


def _between(sample: Sample, low: float, high: float, kind: int) -> Float[np.ndarray, "r"]:
    return _below(sample, high, kind) - _below(sample, low, kind)


def risk_coverage(
    sample: Sample, threshold: float, doubt: Float[np.ndarray, "n"] | None = None
) -> tuple[Float[np.ndarray, "r k"], Float[np.ndarray, "r k"]]:
    """Share of units kept, and of wrong verdicts among them, as the least certain are left out.

    Units are kept in order of their doubt, the lowest first; without `doubt`, in order of the
    distance of their score from the threshold, the largest first. Units that are equal in that are
    kept together. (El-Yaniv and Wiener, "On the foundations of noise-free selective
    classification", JMLR 2010.)
    """
    score = np.asarray(sample.score, np.float64)
    sure = np.abs(score - threshold) if doubt is None else -np.asarray(doubt, np.float64)
    order = np.argsort(-sure, kind="stable")
    last_of_ties = np.flatnonzero(np.diff(-sure[order], append=np.inf) > 0)
    wrong = (score >= threshold) != (sample.label == REAL)
    weights = np.take(sample.weights, order, axis=1)
    kept, lost = (
        np.cumsum(part, axis=1)[:, last_of_ties] for part in (weights, weights * wrong[order])
    )
    return kept / kept[:, -1:], np.divide(lost, kept, out=np.zeros_like(lost), where=kept > 0)


def risk_area(
    sample: Sample, threshold: float, doubt: Float[np.ndarray, "n"] | None = None
) -> Float[np.ndarray, "r"]:
    """Area under the risk-coverage curve (AURC): the mean risk over all coverages, low is good."""
    if not len(sample.label):
        return np.full(len(sample.weights), np.nan)
    coverage, risk = risk_coverage(sample, threshold, doubt)
    return np.sum(np.diff(coverage, prepend=0, axis=1) * risk, axis=1)


def describe(
    level: Level,
    draws: Float[np.ndarray, "r c"],
    threshold: float,
    threshold_from: str,
    validation: Level | None,
    wanted: Wanted,
) -> dict:
    """The entry `operating_points` of metrics.json, for one level.

    Args:
      level: fidelity of each unit of the split that is scored.
      draws: from `intervals.draw_clusters`.
      threshold: threshold of the verdict.
      threshold_from: where it came from.
      validation: fidelity of each unit of validation, None if unknown.
      wanted: what the other thresholds are chosen for.

    Returns:
      `verdict`, `wanted_fpr` and `lowest_cost`: each a threshold, where it came from, and its rates
      on this split with intervals. Intervals are for the rates at that threshold; they exclude the
      uncertainty of the threshold itself.
    """
    points = {"verdict": (threshold, threshold_from, "")}
    if validation is None:
        why = "validation's scores are unknown, or its files: fitted by an earlier version"
        points |= {"wanted_fpr": (None, "", why), "lowest_cost": (None, "", why)}
    else:
        n = int(np.sum(validation.label == REAL))
        fpr = threshold_for_fpr(validation.label, validation.score, wanted.fpr)
        cost = threshold_for_costs(validation.label, validation.score, wanted)
        few = f"too few: {wanted.fpr:.4g} of {n} real ones in validation is less than one"
        one_class = "validation has one class only"
        points["wanted_fpr"] = (fpr, "validation", "" if fpr is not None else few)
        points["lowest_cost"] = (cost, "validation", "" if cost is not None else one_class)
    entries = {"wanted": wanted._asdict()}
    for name, (value, source, why) in points.items():
        entry = {"threshold": value, "threshold_from": source, "ci": {}, "note": {}}
        if value is None:
            entry["note"]["threshold"] = why
        else:
            add_statistics(entry, level, draws, rates(value, wanted))
            if entry["precision"] is None and entry["tpr"] is not None and entry["fpr"] is not None:
                entry["note"]["precision"] = "nothing is called fake"
        entries[name] = entry
    return entries
