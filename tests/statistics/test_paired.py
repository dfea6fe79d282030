"""McNemar and Holm equal statsmodels; the bootstrap's p-value equals its definition."""

import numpy as np
import pytest
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


def test_the_bootstraps_p_value_is_twice_the_smaller_side():
    drawn = np.r_[np.full(30, -1.0), np.full(969, 1.0)]
    assert paired.bootstrap_p(drawn) == pytest.approx(2 * 31 / 1000)
    assert paired.bootstrap_p(-drawn) == paired.bootstrap_p(drawn)
    assert paired.bootstrap_p(np.ones(999)) == pytest.approx(2 / 1000), "never 0"
    assert paired.bootstrap_p(np.zeros(99)) == 1
