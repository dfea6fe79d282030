"""Calibration figures against brute force and scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics
from scipy.special import expit

from deepfidelity_jax.statistics.intervals import Level, Sample, draw_clusters
from deepfidelity_jax.statistics.reliability import (
    BINS,
    bin_gaps,
    brier,
    calibration_error,
    describe,
    error_interval,
    log_loss,
)


def drawn(n=300, seed=0):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.3).astype(int)
    p = np.round(np.clip(0.5 - 0.4 * label + 0.3 * rng.normal(size=n), 0, 1), 2)
    return label, p, rng.integers(0, 4, (3, n)).astype(float)


def class_weights(label, row):
    return row / np.array([row[label == kind].sum() for kind in (0, 1)])[label]


def test_the_error_by_brute_force():
    label, p, weights = drawn()
    found = calibration_error(Sample(label, p, weights))
    for value, row in zip(found, weights, strict=True):
        weight = class_weights(label, row) / 2
        total = 0.0
        for number in range(BINS):
            # In hundredths, as 0.3 * 10 and 0.7 * 10 are not whole in floating point.
            hundredths = np.rint(100 * p)
            inside = (hundredths >= 10 * number) & (hundredths < 10 * number + 10)
            inside |= (number == BINS - 1) & (hundredths == 100)
            if weight[inside].sum():
                mean = np.average(p[inside], weights=weight[inside])
                share = np.average(label[inside] == 0, weights=weight[inside])
                total += weight[inside].sum() * abs(mean - share)
        assert value == pytest.approx(total, abs=1e-12)


def test_brier_and_log_loss_equal_scikit_learn():
    label, p, weights = drawn()
    p = np.clip(p, 0.01, 0.99)
    for value, other, row in zip(
        brier(Sample(label, p, weights)), log_loss(Sample(label, p, weights)), weights, strict=True
    ):
        own = class_weights(label, row)
        assert value == pytest.approx(
            sklearn.metrics.brier_score_loss(1 - label, p, sample_weight=own)
        )
        assert other == pytest.approx(sklearn.metrics.log_loss(1 - label, p, sample_weight=own))


def test_a_sure_mistake_has_a_finite_loss():
    assert np.isfinite(log_loss(Sample(np.array([0, 1]), np.array([0.0, 1.0]), np.ones((1, 2)))))


def test_numbers_of_a_class_do_not_matter():
    """p_fake supposes that both classes are equally likely: ten times the reals change nothing."""
    label, p, _ = drawn()
    more = np.repeat(np.arange(len(label)), np.where(label == 1, 10, 1))
    for figure in (calibration_error, brier, log_loss):
        one, ten = (
            figure(Sample(label[rows], p[rows], np.ones((1, len(rows)))))[0]
            for rows in (np.arange(len(label)), more)
        )
        assert ten == pytest.approx(one)


def test_without_any_error_the_interval_begins_at_zero():
    rng = np.random.default_rng(3)
    label = np.arange(600) % 2
    evidence = rng.normal(size=600) + 1 - 2 * label
    draws = draw_clusters(label, 0, 200)
    right, wrong = (
        describe(Level(label, expit(slope * evidence), np.arange(600)), draws) for slope in (2, 6)
    )
    assert right["ci"]["ece"][0] == 0
    assert 0 < wrong["ci"]["ece"][0] < wrong["ece"] < wrong["ci"]["ece"][1] + 0.05
    assert wrong["brier"] > right["brier"]
    assert wrong["log_loss"] > right["log_loss"]


def test_the_interval_is_moved_down_by_the_bias():
    gaps = np.zeros((201, BINS))
    gaps[0, 0] = 0.5
    gaps[1:, 0] = 0.6 + np.linspace(-0.01, 0.01, 200)
    low, high = error_interval(gaps)
    # From .5905 to .6095 the percentiles reach; the bias is .1.
    assert low == pytest.approx(0.5905 - 0.2, abs=1e-6)
    assert high == pytest.approx(0.6095 - 0.1, abs=1e-6)


def test_the_diagram_holds_every_face_once():
    label, p, _ = drawn()
    level = Level(label, p, np.arange(len(label)))
    entry = describe(level, draw_clusters(label, 0, 10))
    assert sum(part["n"] for part in entry["diagram"]) == len(label) == entry["n"]
    for part in entry["diagram"]:
        assert part["low"] - 1e-9 <= part["p_fake"] <= part["high"] + 1e-9
    gaps = bin_gaps(Sample(label, p, np.ones((1, len(label)))))[0]
    assert np.abs(gaps).sum() == pytest.approx(entry["ece"])


def test_of_one_class_there_is_no_calibration():
    entry = describe(Level(np.zeros(9, int), np.full(9, 0.5), np.arange(9)), np.ones((3, 9)))
    assert entry["ece"] is entry["brier"] is entry["ci"]["log_loss"] is None
    assert "no real" in entry["note"]["ece"]
