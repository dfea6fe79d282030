"""DeLong's variance against structural components taken pair by pair, and a published example."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from deepfidelity_jax.statistics import delong


def slow_covariance(label, scores):
    """Structural components as DeLong defines them, each from all m * n pairs."""
    areas, reals, fakes = [], [], []
    for score in scores:
        real, fake = score[label == 1], score[label == 0]
        won = np.array([[1.0 if r > f else 0.5 if r == f else 0.0 for f in fake] for r in real])
        areas.append(won.mean())
        reals.append(won.mean(axis=1))
        fakes.append(won.mean(axis=0))
    s10, s01 = (
        np.array([[np.sum((a - a.mean()) * (b - b.mean())) / (len(a) - 1) for b in v] for a in v])
        for v in (reals, fakes)
    )
    return np.array(areas), s10 / len(reals[0]) + s01 / len(fakes[0])


@pytest.mark.parametrize("levels", [4, 30, 10_000])
def test_ranks_give_what_all_pairs_give_ties_included(levels):
    rng = np.random.default_rng(levels)
    label = np.repeat([0, 1], [23, 41])
    scores = np.floor(levels * rng.random((3, 64)) * (1 + label)) / levels
    areas, covariance = delong.covariance(label, scores)
    slow_areas, slow = slow_covariance(label, scores)
    np.testing.assert_allclose(areas, slow_areas, atol=1e-12)
    np.testing.assert_allclose(covariance, slow, atol=1e-12)
    for area, score in zip(areas, scores, strict=True):
        assert area == pytest.approx(roc_auc_score(label, score))


def test_a_published_example():
    """The 109 CT images of Hanley and McNeil (1982), rated 1 to 5.

    Stata's manual ([R] roctab, example 1) gives 0.8932, standard error 0.0307, and the interval
    from 0.83295 to 0.95339 by DeLong's formula.
    """
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    rating = np.concatenate([np.repeat(np.arange(1, 6), counts) for counts in (normal, abnormal)])
    label = np.repeat([0, 1], [58, 51])
    area, low, high = delong.auc_interval(label, rating.astype(float))
    assert area == pytest.approx(0.8932, abs=5e-5)
    assert (low, high) == (pytest.approx(0.83295, abs=5e-6), pytest.approx(0.95339, abs=5e-6))
    _, variance = delong.covariance(label, rating[None].astype(float))
    assert np.sqrt(variance[0, 0]) == pytest.approx(0.0307, abs=5e-5)


def test_the_difference_knows_that_scores_are_paired():
    rng = np.random.default_rng(1)
    label = np.arange(200) % 2
    first = label + rng.normal(size=200)
    second = first + 0.3 * rng.normal(size=200)
    found = delong.compare(label, first, second)
    areas, slow = slow_covariance(label, [first, second])
    error = np.sqrt(slow[0, 0] + slow[1, 1] - 2 * slow[0, 1])
    assert found.value == pytest.approx(areas[0] - areas[1])
    assert found.z == pytest.approx((areas[0] - areas[1]) / error)
    assert found.high - found.value == pytest.approx(1.959964 * error, rel=1e-6)
    assert error < 0.5 * np.sqrt(slow[0, 0] + slow[1, 1]), "as if they were independent"
    back = delong.compare(label, second, first)
    assert (back.value, back.p) == (pytest.approx(-found.value), pytest.approx(found.p))


def test_the_same_order_is_no_difference():
    label, score = np.arange(20) % 2, np.arange(20.0) % 7
    assert delong.compare(label, score, 3 * score + 1)[3:] == (0, 1)


@pytest.mark.parametrize("n", [5, 300])
@pytest.mark.parametrize("other", ["constant", "inverted"])
def test_without_variance_there_is_no_test(n, other):
    """Of one perfect and one useless detector: p would be 0, however few the units are."""
    label = np.repeat([0, 1], n)
    second = {"constant": np.zeros(2 * n), "inverted": -np.arange(2.0 * n)}[other]
    found = delong.compare(label, np.arange(2.0 * n), second)
    assert (found.z, found.p) == (None, None)
    assert found.value == pytest.approx(0.5 if other == "constant" else 1)


def test_one_pair_in_a_hundred_million_is_no_sign_of_a_difference():
    label = np.repeat([0, 1], 10_000)
    first = np.arange(20_000.0)
    second = first.copy()
    second[[9_999, 10_000]] = second[[10_000, 9_999]]
    found = delong.compare(label, first, second)
    assert found.value == pytest.approx(1e-8)
    assert 0.2 < found.p < 0.8


def test_one_of_a_class_has_no_variance():
    with pytest.raises(ValueError, match="1 real"):
        delong.covariance(np.array([0, 0, 1]), np.ones((1, 3)))


def test_p_values_are_even_where_there_is_no_difference():
    """Two detectors equally good: 5% of p-values are below 5%."""
    p = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        label = np.arange(120) % 2
        common = label + rng.normal(size=120)
        p.append(delong.compare(label, *(common + 0.5 * rng.normal(size=120) for _ in "ab")).p)
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.085
