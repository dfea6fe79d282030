"""Ranking statistics on weights equal scikit-learn's and SciPy's on repeated rows."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from deepfidelity_jax.statistics.intervals import Sample
from deepfidelity_jax.statistics.ranking import auc, average_precision, equal_error_rate, spearman


def test_weighted_statistics_equal_scikit_learn_ties_included():
    rng = np.random.default_rng(0)
    for levels in (3, 10, 1000):
        label = rng.integers(0, 2, 200)
        score = rng.integers(0, levels, 200) / levels
        weights = rng.integers(0, 4, (5, 200)).astype(float)
        area = auc(Sample(label, score, weights))
        precision = average_precision(Sample(label, score, weights))
        for row, a, p in zip(weights, area, precision, strict=True):
            assert a == pytest.approx(roc_auc_score(label, score, sample_weight=row), abs=1e-12)
            assert p == pytest.approx(
                average_precision_score(1 - label, -score, sample_weight=row), abs=1e-12
            )


def test_weights_count_as_repetition():
    rng = np.random.default_rng(1)
    label, score = rng.integers(0, 2, 50), rng.integers(0, 20, 50) / 20
    other, weights = rng.integers(0, 9, 50) / 9, rng.integers(0, 4, (4, 50)).astype(float)
    rate = equal_error_rate(Sample(label, score, weights))
    correlation = spearman(Sample(label, score, weights), other)
    for i, row in enumerate(weights):
        drawn = np.repeat(np.arange(50), row.astype(int))
        again = Sample(label[drawn], score[drawn], np.ones((1, len(drawn))))
        assert rate[i] == pytest.approx(equal_error_rate(again)[0], abs=1e-12)
        assert correlation[i] == pytest.approx(spearmanr(score[drawn], other[drawn])[0], abs=1e-12)
