"""What is drawn is what metrics.json and the scores say."""

from dataclasses import replace

import numpy as np
from matplotlib.colors import to_hex
from score_tables import simulated

from deepfidelity_jax.records.schema import FAKE, LABELS, REAL
from deepfidelity_jax.scoring.charts import COLOURS
from deepfidelity_jax.scoring.figure_charts import (
    draw_reliability,
    draw_risk_coverage,
    draw_targets,
)
from deepfidelity_jax.scoring.metrics import levels_of, summarize
from deepfidelity_jax.statistics import reliability


def test_the_diagram_has_the_points_of_the_metrics():
    data = simulated(np.random.default_rng(0))
    levels = levels_of(data, 0, 20)
    p = 1 / (1 + np.exp(4 * (data.fidelity.astype(float) - 0.5)))
    frame = reliability.describe(levels.frames.scored(p), levels.draws)
    metrics = summarize(data, 0.5, "fixed", levels=levels)
    metrics["calibration"] = {"method": "platt", "frame": frame, "video": frame}
    chart = draw_reliability(metrics)
    _, frames, _ = chart.figure.axes[0].lines
    expected = [[part["p_fake"], part["share_fake"]] for part in frame["diagram"]]
    np.testing.assert_allclose(frames.get_xydata(), expected)
    assert f"{frame['ece']:.3f} for frames" in chart.caption


def test_targets_are_drawn_by_class():
    """A target that is not known is not drawn."""
    rng = np.random.default_rng(0)
    data = simulated(rng)
    fidelity_target = 0.4 * rng.random(len(data.label)) + 0.5 * data.label
    fidelity_target[::7] = np.nan
    data = replace(data, fidelity_target=fidelity_target)
    chart = draw_targets(data)
    shown = {group[0].get_label(): group for group in chart.figure.axes[0].containers}
    for (name, bars), label in zip(sorted(shown.items()), (FAKE, REAL), strict=True):
        assert name == LABELS[label]
        own = data.fidelity_target[data.label == label]
        own = own[np.isfinite(own)]
        heights = np.array([bar.get_height() for bar in bars])
        expected, _ = np.histogram(own, np.linspace(0, 1, 41))
        np.testing.assert_allclose(heights, expected / len(own), atol=1e-6)
        assert to_hex(bars[0].get_facecolor()) == COLOURS[name]
        for words in (chart.caption, chart.alternative):
            assert f"{name} {own.min():.3f} to {own.max():.3f}" in words


def test_all_verdicts_together_are_as_wrong_as_the_accuracy_says():
    data = simulated(np.random.default_rng(0))
    metrics = summarize(data, 0.5, "fixed", replicates=10)
    frames, videos = draw_risk_coverage(data, metrics).figure.axes[0].lines
    np.testing.assert_allclose(frames.get_xydata()[-1], [1, 1 - metrics["frame_acc"]])
    np.testing.assert_allclose(videos.get_xydata()[-1], [1, 1 - metrics["video_acc"]])
