"""95% intervals hold the truth in about 95% of draws from populations whose truth is known."""

import coverage
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("case", coverage.CASES)
def test_intervals_hold_the_truth(case):
    assert 0.92 <= coverage.measure(coverage.CASES[case], 500) <= 0.98
