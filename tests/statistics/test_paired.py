"""McNemar and Holm equal statsmodels; the bootstrap's p-value equals its definition."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from deepfidelity_jax.statistics import paired


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(3, 9), (0, 5), (12, 12), (40, 21), (0, 0)]
)
def test_mcnemar_equals_statsmodels(only_first, only_second):
    first = np.repeat([True, False, True, False], [only_first, only_second, 30, 10])
    second = np.repeat([False, True, True, False], [only_first, only_second, 30, 10])
    found = paired.mcnemar(first, second)
    exact = only_first + only_second < 25
    table = [[30, only_first], [only_second, 10]]
    expected = contingency_tables.mcnemar(table, exact=exact, correction=True).pvalue
    assert found == (only_first, only_second, pytest.approx(expected), exact)


@pytest.mark.slow
def test_holm_equals_statsmodels():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 30):
        p = np.round(rng.random(n) ** 3, 2)  # with ties and zeros
        np.testing.assert_allclose(paired.holm(p), multipletests(p, method="holm")[1])
    assert paired.holm(np.array([])).size == 0


@pytest.mark.parametrize("tests", [1, 10, 11, 55, 1225])
def test_no_number_of_tests_hides_a_plain_difference(tests):
    replicates = paired.replicates_for(tests, 2000)
    assert (replicates == 2000) == (tests <= 10)
    p = np.full(tests, paired.bootstrap_p(np.ones(replicates)))
    assert 0.005 < paired.holm(p)[0] < 0.01 or tests < 10


def simulate_seeds(rng, seeds, shared, own):
    """Differences around 0: the data and 200 replicates; `own` differs from seed to seed."""
    bootstrap = shared * rng.normal(size=200)
    data = shared * rng.normal() + own * rng.normal(size=(seeds, 1))
    return np.hstack([data, data + bootstrap])


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize(("shared", "own"), [(1, 0), (0, 1), (1, 1)])
def test_a_difference_over_seeds_is_covered_whatever_its_source(seeds, shared, own):
    inside = small = 0
    for trial in range(200):
        drawn = simulate_seeds(np.random.default_rng(trial), seeds, shared, own)
        low, high, p = paired.compare_seeds(drawn)
        inside += low <= 0 <= high
        small += p < 0.05
    assert inside >= 182  # 95% but for chance
    assert small <= 18


def test_the_p_value_over_seeds_is_that_of_the_interval():
    """One that ends at 0 has p = .05, by Student alone where the seeds share nothing."""
    drawn = np.repeat(np.array([[0.1], [0.2], [0.4]]), 51, axis=1)
    low, high, p = paired.compare_seeds(drawn)
    expected = ttest_1samp(drawn[:, 0], 0)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval()))
    assert p == pytest.approx(expected.pvalue)
    low, high, p = paired.compare_seeds(drawn - low)
    assert (low, p) == (pytest.approx(0), pytest.approx(0.05))


def test_the_interval_over_seeds_is_never_narrower_than_that_over_units():
    """Seeds that happen to agree, as two often do, are no evidence."""
    rng = np.random.default_rng(0)
    drawn = np.hstack([np.full((2, 1), 0.1), 0.1 + 0.3 * rng.normal(size=(2, 500))])
    low, high, p = paired.compare_seeds(drawn)
    means = drawn[:, 1:].mean(axis=0)
    assert (low, high) == tuple(np.percentile(means, [2.5, 97.5]))
    assert p == paired.bootstrap_p(means)


def test_replicates_without_a_difference_do_not_count():
    drawn = np.array([[0.1, 0.0, np.nan, 0.2], [0.1, 0.1, 0.3, 0.1]])
    assert paired.compare_seeds(drawn) == paired.compare_seeds(drawn[:, [0, 1, 3]])
    assert paired.compare_seeds(drawn[:, [0, 2]]) is None
    assert paired.compare_seeds(drawn[:, :1]) is None


def test_the_bootstraps_p_value_is_twice_the_smaller_side():
    drawn = np.r_[np.full(30, -1.0), np.full(969, 1.0)]
    assert paired.bootstrap_p(drawn) == pytest.approx(2 * 31 / 1000)
    assert paired.bootstrap_p(-drawn) == paired.bootstrap_p(drawn)
    assert paired.bootstrap_p(np.ones(999)) == pytest.approx(2 / 1000), "never 0"
    assert paired.bootstrap_p(np.zeros(99)) == 1
