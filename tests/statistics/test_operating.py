"""Operating points: thresholds by exhaustive search, rates by counting, abstention by hand."""

import numpy as np
import pytest

from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.statistics.intervals import Level, Sample, draw_clusters
from deepfidelity_jax.statistics.operating import (
    Wanted,
    describe,
    describe_verdicts,
    expected_cost,
    risk_area,
    risk_coverage,
    threshold_for_costs,
    threshold_for_fpr,
)

WANTED = Wanted(fpr=0.1, cost_missed=5.0, cost_false_alarm=1.0, prevalence=0.2)


def scores(n=200, seed=0, levels=40):
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    return label, np.round(levels * (rng.normal(size=n) + 1.5 * label)) / levels


def level_of(label, score):
    return Level(label, score, np.arange(len(label)))


@pytest.mark.parametrize("fpr", [0.01, 0.1, 0.37])
def test_no_higher_threshold_keeps_the_wanted_false_alarms(fpr):
    label, score = scores()
    reals = score[label == 1]
    found = threshold_for_fpr(label, score, fpr)
    assert np.mean(reals < found) <= fpr
    assert np.mean(reals < np.nextafter(found, np.inf)) > fpr


def test_a_share_of_less_than_one_face_places_nothing():
    label, score = scores(n=198)  # 99 reals
    assert threshold_for_fpr(label, score, 0.01) is None
    level, wanted = level_of(label, score), WANTED._replace(fpr=0.01)
    found = describe(level, np.ones((2, 198)), 0.5, "fixed", level, wanted)
    assert found["wanted_fpr"]["threshold"] is None
    assert "0.01 of 99 real ones in validation" in found["wanted_fpr"]["note"]["threshold"]
    assert "fpr" not in found["wanted_fpr"], "no number where nothing was placed"


def test_the_lowest_cost_by_exhaustive_search():
    label, score = scores()
    for wanted in (WANTED, WANTED._replace(prevalence=0.9), WANTED._replace(cost_false_alarm=50.0)):
        tried = np.unique(score)
        tried = np.r_[tried[0], (tried[1:] + tried[:-1]) / 2, tried[-1] + 1]
        costs = [
            expected_cost(np.mean(score[label == 0] >= t), np.mean(score[label == 1] < t), wanted)
            for t in tried
        ]
        found = threshold_for_costs(label, score, wanted)
        own = expected_cost(
            np.mean(score[label == 0] >= found), np.mean(score[label == 1] < found), wanted
        )
        assert own == pytest.approx(min(costs))
    assert threshold_for_costs(np.ones(3, int), np.arange(3.0), WANTED) is None


def test_the_lowest_of_thresholds_that_cost_the_same():
    """One missed fake, or one false alarm: half of a class either way."""
    label, score = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.9])
    wanted = Wanted(fpr=0.1, cost_missed=1.0, cost_false_alarm=1.0, prevalence=0.5)
    tried = np.array([0.1, 0.25, 0.65, 1.0])
    costs = [
        expected_cost(np.mean(score[label == 0] >= t), np.mean(score[label == 1] < t), wanted)
        for t in tried
    ]
    cheapest = tried[np.equal(costs, min(costs))]
    assert len(cheapest) == 2
    assert threshold_for_costs(label, score, wanted) == pytest.approx(cheapest.min())


def test_rates_by_counting():
    label, score = scores(seed=1)
    draws = draw_clusters(label, 0, 100)
    found = describe(level_of(label, score), draws, 0.75, "validation", level_of(*scores()), WANTED)
    entry = found["verdict"]
    fpr, tpr = np.mean(score[label == 1] < 0.75), np.mean(score[label == 0] < 0.75)
    assert (entry["threshold"], entry["fpr"], entry["tpr"]) == (0.75, fpr, tpr)
    # Of 1000 faces 200 are fake.
    assert entry["precision"] == pytest.approx(200 * tpr / (200 * tpr + 800 * fpr))
    assert entry["cost"] == pytest.approx((200 * (1 - tpr) * 5 + 800 * fpr) / 1000)
    for name in ("fpr", "tpr", "precision", "cost"):
        low, high = entry["ci"][name]
        assert low < entry[name] < high
    assert found["wanted_fpr"]["threshold"] == threshold_for_fpr(*scores(), 0.1)
    assert found["wanted"] == WANTED._asdict()


@pytest.mark.parametrize("places", [(60, 110), (80, 80)])
def test_verdicts_by_the_rule_of_predict(places):
    """Scores are at both limits, too, which can be the same."""
    label, score = scores(seed=1)
    limit, threshold = np.sort(score)[[*places]].tolist()
    rule = Calibration(-5.0, threshold, "validation", fake_below=limit)
    draws = draw_clusters(label, 0, 100)
    poor, small = np.random.default_rng(2).random((2, len(score))) < 0.3
    found = describe_verdicts(level_of(label, score), draws, threshold, limit, poor, small)
    for kind, name in ((1, "real"), (0, "fake")):
        own = label == kind
        told = rule.verdicts(score[own], poor[own], small[own])
        assert (told[small[own]] == "uncertain").all()
        for key, verdict in (("called_fake", "fake"), ("uncertain", "uncertain")):
            share = found[f"{name}_{key}"]
            assert share == pytest.approx(np.mean(told == verdict))
            low, high = found["ci"][f"{name}_{key}"]
            assert low < share < high
    real = level_of(label, score).take(label == 1)
    alone = describe_verdicts(real, draws, threshold, limit, poor[label == 1], small[label == 1])
    assert alone["fake_called_fake"] is None


def test_without_validation_scores_only_the_verdict_has_rates():
    label, score = scores()
    found = describe(level_of(label, score), np.ones((2, 200)), 0.5, "fixed", None, WANTED)
    assert found["verdict"]["fpr"] is not None
    for name in ("wanted_fpr", "lowest_cost"):
        assert found[name]["threshold"] is None
        assert "unknown" in found[name]["note"]["threshold"]


def test_abstention_by_hand():
    # Distances from 0.5: .4 right, .3 wrong, .25 right, .25 wrong: the last two are kept together.
    sample = Sample(np.array([1, 1, 0, 0]), np.array([0.9, 0.2, 0.25, 0.75]), np.ones((1, 4)))
    coverage, risk = risk_coverage(sample, 0.5)
    np.testing.assert_allclose(coverage[0], [0.25, 0.5, 1])
    np.testing.assert_allclose(risk[0], [0, 0.5, 0.5])
    assert risk_area(sample, 0.5)[0] == pytest.approx(0.25 * 0 + 0.25 * 0.5 + 0.5 * 0.5)


def test_abstention_by_another_doubt_by_hand():
    # Right, wrong, right, wrong: the doubt leaves out the wrong ones first, two of them together.
    sample = Sample(np.array([1, 1, 0, 0]), np.array([0.9, 0.2, 0.25, 0.75]), np.ones((1, 4)))
    doubt = np.array([0.1, 0.3, 0.2, 0.3])
    coverage, risk = risk_coverage(sample, 0.5, doubt)
    np.testing.assert_allclose(coverage[0], [0.25, 0.5, 1])
    np.testing.assert_allclose(risk[0], [0, 0, 0.5])
    assert risk_area(sample, 0.5, doubt)[0] == pytest.approx(0.5 * 0.5)


def test_risk_area_equals_its_definition_and_weights_count_as_repetition():
    """The mean, over all numbers of faces kept, of the share of wrong verdicts among them."""
    rng = np.random.default_rng(5)
    label, score = rng.integers(0, 2, 80), rng.normal(size=80)
    right = (score >= 0.1) == (label == 1)
    order = np.argsort(-np.abs(score - 0.1))
    expected = np.mean([np.mean(~right[order[: k + 1]]) for k in range(80)])
    assert risk_area(Sample(label, score, np.ones((1, 80))), 0.1)[0] == pytest.approx(expected)
    weights = rng.integers(0, 3, (3, 80)).astype(float)
    for value, row in zip(risk_area(Sample(label, score, weights), 0.1), weights, strict=True):
        rows = np.repeat(np.arange(80), row.astype(int))
        again = Sample(label[rows], score[rows], np.ones((1, len(rows))))
        assert value == pytest.approx(risk_area(again, 0.1)[0])
