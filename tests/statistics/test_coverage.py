"""95% intervals hold the truth in about 95% of draws from populations whose truth is known."""

import coverage
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("case", coverage.CASES)
def test_intervals_hold_the_truth(case):
    assert 0.92 <= coverage.measure(coverage.CASES[case], 500) <= 0.98


def test_the_truth_is_that_of_the_population():
    """With many videos, every figure comes close to what its interval has to hold."""
    for name, case in coverage.CASES.items():
        found = coverage.measure(case, 8)
        assert found >= 0.5, name
