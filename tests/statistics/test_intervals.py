"""Intervals come from videos: they cover the truth, and more frames do not narrow them."""

import json
from dataclasses import fields

import numpy as np
import pytest
from scipy.stats import norm
from score_tables import simulated

from deepfidelity_jax.scoring.metrics import summarize
from deepfidelity_jax.scoring.table import Predictions
from deepfidelity_jax.statistics.intervals import Level, add_statistics, draw_clusters


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """Of 95% intervals about 95% hold the true AUC, although frames of a video are alike."""
    # Two frames' difference across classes: normal, variance 2 * (1 + .25 + .25).
    truth = norm.cdf(1 / np.sqrt(3))
    inside = 0
    for trial in range(60):
        data = simulated(np.random.default_rng(trial), videos=80, frames=3)
        low, high = summarize(data, 0.5, "fixed", replicates=200)["ci"]["frame_auc"]
        inside += low <= truth <= high
    assert inside >= 52


def test_more_frames_of_the_same_videos_are_no_more_evidence():
    data = simulated(np.random.default_rng(4))
    more = Predictions(**{f.name: np.repeat(getattr(data, f.name), 3) for f in fields(data)})
    one, three = (summarize(t, 0.5, "fixed", replicates=100) for t in (data, more))
    for name in ("frame_auc", "frame_acc", "eer", "video_auc", "fidelity_quality_spearman_real"):
        np.testing.assert_allclose(three["ci"][name], one["ci"][name], rtol=1e-6)


def test_seed_and_nothing_else_decides_the_intervals():
    data = simulated(np.random.default_rng(5))
    shuffled = np.random.default_rng(6).permutation(len(data))
    again = Predictions(**{f.name: getattr(data, f.name)[shuffled] for f in fields(data)})
    first = summarize(data, 0.5, "fixed", seed=7, replicates=100)
    assert json.dumps(first) == json.dumps(summarize(data, 0.5, "fixed", seed=7, replicates=100))
    reordered = summarize(again, 0.5, "fixed", seed=7, replicates=100)
    assert reordered["ci"]["frame_auc"] == first["ci"]["frame_auc"]
    other = summarize(data, 0.5, "fixed", seed=8, replicates=100)
    assert other["ci"]["frame_auc"] != first["ci"]["frame_auc"]


def test_chunks_of_replicates_make_no_difference(monkeypatch):
    data = simulated(np.random.default_rng(7))
    whole = summarize(data, 0.5, "fixed", replicates=50)
    monkeypatch.setattr("deepfidelity_jax.statistics.intervals.CHUNK", 1000)
    assert summarize(data, 0.5, "fixed", replicates=50) == whole


def test_a_replicate_draws_each_class_to_its_own_size():
    label = np.repeat([0, 1], [30, 10])
    draws = draw_clusters(label, seed=0, replicates=500)
    assert draws.shape == (501, 40)
    assert (draws[0] == 1).all(), "row 0 is the data itself"
    assert (draws[1:, label == 0].sum(axis=1) == 30).all()
    assert (draws[1:, label == 1].sum(axis=1) == 10).all()
    # Drawn with replacement, evenly: a mean of 1, and a variance of 1 - 1/n.
    np.testing.assert_allclose(draws[1:].mean(axis=0), 1, atol=0.2)
    np.testing.assert_allclose(draws[1:, label == 1].var(), 0.9, atol=0.1)


def test_frames_are_drawn_with_their_video():
    """The statistic sees every frame of a video equally often."""
    level = Level(np.array([0, 0, 1, 1]), np.arange(4.0), np.array([0, 0, 1, 2]))
    seen = []

    def remember(sample):
        seen.append(sample.weights)
        return sample.weights.sum(axis=1)

    draws = np.array([[1.0, 1, 1], [2, 0, 3]])
    entry = {"ci": {}, "note": {}}
    add_statistics(entry, level, draws, {"count": remember})
    assert np.concatenate(seen).tolist() == [[1, 1, 1, 1], [2, 2, 0, 3]]
    assert entry["count"] == 4
    assert entry["note"]["count"] == "no interval: fewer than 5 videos of a class"


def test_the_interval_is_the_middle_95_percent():
    label = np.repeat([0, 1], 5)
    level = Level(label, np.zeros(10), np.arange(10))
    draws = np.ones((1002, 10))
    draws[1:, 0] = np.arange(1001.0)
    entry = {"ci": {}, "note": {}}
    add_statistics(entry, level, draws, {"first": lambda sample: sample.weights[:, 0]})
    assert entry == {"first": 1.0, "ci": {"first": [25.0, 975.0]}, "note": {}}
