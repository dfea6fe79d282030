"""Charts of fidelity targets, of the reliability of p_fake, and of risk against coverage."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from deepfidelity_jax.records.schema import FAKE, LABELS, REAL
from deepfidelity_jax.scoring.charts import (
    ACCENT,
    CLASS_COLOURS,
    INK,
    MUTED,
    Chart,
    draw,
    format_number,
    levels_of,
    threshold_of,
)
from deepfidelity_jax.scoring.table import Predictions
from deepfidelity_jax.statistics.intervals import Sample
from deepfidelity_jax.statistics.operating import risk_coverage

SAMPLES = 400  # points of the curve that are drawn


def draw_targets(table: Predictions) -> Chart:
    """Histograms of the fidelity targets, one per class. Needs a target."""
    known = np.isfinite(table.fidelity_target)
    ranges = {
        LABELS[kind]: table.fidelity_target[known & (table.label == kind)]
        for kind in (FAKE, REAL)
        if (known & (table.label == kind)).any()
    }
    words = ", ".join(
        f"{name} {targets.min():.3f} to {targets.max():.3f}" for name, targets in ranges.items()
    )
    return Chart(
        "Fidelity targets, by class",
        draw(partial(_paint_targets, ranges=ranges)),
        f"Histogram of fidelity targets: {words}.",
        "The fidelity targets of these faces: the quality of each, scaled to the range of its "
        f"class ({words}). The bars of each class add up to 100%.",
    )


def draw_reliability(metrics: Mapping) -> Chart:
    """The reliability diagram, from metrics.json. Needs both classes."""
    calibration = metrics["calibration"]
    one_each = metrics["n_frames"] == metrics["n_videos"]
    levels = {"pictures": calibration["video"]} if one_each else {
        "frames": calibration["frame"], "videos": calibration["video"]
    }  # fmt: skip
    words = ", ".join(f"{entry['ece']:.3f} for {name}" for name, entry in levels.items())
    return Chart(
        "Fakes among faces of equal p_fake (reliability)",
        draw(partial(_paint_reliability, levels=levels)),
        f"Reliability diagram. Expected calibration error: {words}.",
        "On the diagonal p_fake is the share of fakes, with real and fake equally likely; above it "
        f"there are more fakes than p_fake says. Larger dots stand for more. p_fake by "
        f"{calibration['method']}. Expected calibration error: {words}.",
    )


def draw_risk_coverage(table: Predictions, metrics: Mapping) -> Chart:
    """The share of wrong verdicts as the least certain ones are left out."""
    levels = levels_of(table, metrics)
    names = ("aurc", "video_aurc")
    words = ", ".join(
        f"{format_number(metrics[name])} for {level}"
        for level, name in zip(levels, names, strict=False)
    )
    return Chart(
        "Wrong verdicts when the least sure are left out",
        draw(partial(_paint_risk, levels=levels, metrics=metrics)),
        f"Risk-coverage curve. Area under it: {words}.",
        "From right to left, those closest to the threshold are left out. The curve should fall "
        "towards the left. It is computed from these same scores, without a threshold chosen "
        f"beforehand. Area under it: {words}.",
    )


def _colour(name: str) -> str:
    return ACCENT if name == "videos" else INK


def _paint_targets(axes: Axes, ranges: Mapping) -> None:
    bins = np.linspace(0, 1, 41)
    for name, targets in ranges.items():
        shares, colour = np.full(targets.size, 1 / targets.size), CLASS_COLOURS[LABELS.index(name)]
        axes.hist(targets, bins, weights=shares, color=colour, alpha=0.3, label=name)
        axes.hist(targets, bins, weights=shares, histtype="step", color=colour, linewidth=1.4)
    axes.set(xlim=(0, 1), xlabel="fidelity target", ylabel="share of the class")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, columnspacing=1.2)


def _paint_reliability(axes: Axes, levels: Mapping) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    for name, entry in levels.items():
        bins = entry["diagram"]
        x, y = ([part[key] for part in bins] for key in ("p_fake", "share_fake"))
        size = 20 + 120 * np.array([part["n"] for part in bins]) / entry["n"]
        axes.plot(x, y, color=_colour(name), label=name)
        axes.scatter(x, y, s=size, color=_colour(name), zorder=3, clip_on=False)
    axes.set(
        xlim=(-0.01, 1.01), ylim=(-0.01, 1.01),
        xlabel="mean p_fake", ylabel="share of fakes, classes weighted equally",
    )  # fmt: skip
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(loc="lower right")


def _paint_risk(axes: Axes, levels: Mapping, metrics: Mapping) -> None:
    for name, level in levels.items():
        sample = Sample(level.label, level.fidelity, np.ones((1, len(level.label))))
        coverage, risk = (x[0] for x in risk_coverage(sample, threshold_of(metrics, name)))
        few = np.unique(np.linspace(0, len(risk) - 1, SAMPLES).astype(int))
        axes.plot(coverage[few], risk[few], color=_colour(name), label=name)
    axes.set(xlim=(0, 1.01), xlabel="share that gets a verdict", ylabel="wrong verdicts among them")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, columnspacing=1.2)
