"""The charts of the report, each as a matplotlib figure with a caption.

A `draw_` function gives a figure, a `_paint_` function fills its axes. The report and the notebook
show the same charts.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.calibration import is_real
from deepfidelity_jax.fidelity.scale import FAKE, LABELS, REAL
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.scoring.table import Predictions, Videos, group_videos
from deepfidelity_jax.statistics.ranking import roc_curve

# From row numbers of predictions.csv to the face crops of these rows, encoded as JPEG or PNG.
Pictures = Callable[[Sequence[int]], list[bytes]]
POINTS = 400  # most points of a training curve; more steps are averaged in equal groups

# The report replaces each colour by a variable of the page, so that one drawing suits its light and
# its dark scheme. The points of the scatter plot are pixels and keep their colours, so these are
# visible on both white and black.
COLOURS = {
    "ink": "#1d2129",
    "muted": "#7a818d",
    "grid": "#c9ced6",
    "real": "#2f7fb8",
    "fake": "#d2622a",
    "accent": "#6a5acd",
}
INK, MUTED, GRID, ACCENT = (COLOURS[name] for name in ("ink", "muted", "grid", "accent"))
CLASS_COLOURS = tuple(COLOURS[name] for name in LABELS)
PERCENTAGES = ("acc", "eer", "tpr")
# The training charts: title, curves of one quantity with their names, and a note.
TRAINING = {
    "loss": (
        "Training loss", {"loss": "training"}, "The weighted sum of all terms. Lower is better."
    ),
    "class": (
        "Class loss", {"class": "training", "val_loss": "validation", "test_loss": "test"},
        "Cross-entropy of the class, one term of the training loss. In training, faces are "
        "augmented and labels smoothed as configured. Lower is better.",
    ),
    "val_frame_auc": (
        "Validation AUC", {"val_frame_auc": "frame AUC"}, "On the validation split; chance is 0.5."
    ),
    "test_frame_auc": (
        "Test AUC", {"test_frame_auc": "frame AUC"},
        "On the test split, which the checkpoint was chosen on.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
      title: shown above it.
      figure: the drawing.
      alternative: what it shows, for readers who cannot see it.
      caption: how to read it.
    """

    title: str
    figure: Figure
    alternative: str
    caption: str


def draw_roc(table: Predictions, metrics: Mapping) -> Chart:
    """The ROC curve. Raises ValueError if a class is missing."""
    levels = levels_of(table, metrics)
    aucs = [format_number(metrics[name]) for name in ("frame_auc", "video_auc")]
    words = ", ".join(f"{auc} for {level}" for level, auc in zip(levels, aucs, strict=False))
    return Chart(
        "Fakes caught against false alarms (ROC)",
        draw(partial(_paint_roc, levels=levels, metrics=metrics)),
        f"ROC curve. AUC: {words}.",
        "Closer to the upper left is better; the diagonal is chance. "
        f"Dots mark the threshold. AUC: {words}.",
    )


def draw_scores(table: Predictions, metrics: Mapping, videos: bool = False) -> Chart:
    """Histograms of fidelity, one per class, over faces or over videos."""
    name, level = list(levels_of(table, metrics).items())[-1 if videos else 0]
    threshold = threshold_of(metrics, name)
    called_real = is_real(level.fidelity, threshold)
    shares = {
        LABELS[kind]: format_number(called_real[level.label == kind].mean(), "acc")
        for kind in np.unique(level.label)
    }
    words = " and ".join(f"{share} of the {label} ones" for label, share in shares.items())
    return Chart(
        f"Fidelity of {name}, by class",
        draw(partial(_paint_histogram, level=level, threshold=threshold)),
        f"Histogram of the fidelity of {name}: {words} are at the threshold "
        f"{threshold:.3f} or above.",
        "Real should be right of the threshold and fake left of it; the rest is misjudged. "
        "The bars of each class add up to 100%.",
    )


def draw_quality(table: Predictions, metrics: Mapping) -> Chart:
    """Fidelity against the measured quality of each face."""
    spearman = metrics["fidelity_quality_spearman"]
    words = format_correlations(spearman)
    return Chart(
        "Fidelity against face quality",
        draw(partial(_paint_scatter, table=table, spearman=spearman)),
        f"Fidelity of faces against their raw quality. Spearman correlation: {words}.",
        "Within a class, a better picture should get a higher fidelity (Spearman rank "
        f"correlation: {words}). Lines are running medians.",
    )


def draw_training(curves: Mapping, key: str) -> Chart | None:
    """The chart of TRAINING with this key, from `read_curves`; None if there are no such curves."""
    title, names, caption = TRAINING[key]
    drawn = {label: curves[name] for name, label in names.items() if name in curves}
    if not drawn:
        return None
    words = ", ".join(f"{label} {values[-1]:.4g}" for label, (_, values) in drawn.items())
    return Chart(
        title,
        draw(partial(_paint_curves, curves=drawn)),
        f"{title} over training steps. At the end: {words}.",
        f"At the end: {words}. {caption}",
    )


def find_mistakes(table: Predictions, threshold: float, count: int = 12) -> list[int]:
    """Rows of the faces furthest on the wrong side of the threshold, at most one per video."""
    wrong = is_real(table.fidelity, threshold) != (table.label == REAL)
    order = np.argsort(-np.abs(table.fidelity - np.float64(threshold)), kind="stable")
    return one_per_video(table, order[wrong[order]])[:count]


def draw_faces(table: Predictions, rows: Sequence[int], pictures: Pictures) -> Figure:
    """The faces of these rows, numbered from 1, with class and fidelity."""
    columns = 6
    lines = max(1, -(-len(rows) // columns))
    with chart_style():
        figure = Figure(figsize=(8.4, 1.85 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for cell in axes:
            cell.set_axis_off()
        for number, (cell, row, picture) in enumerate(
            zip(axes, rows, pictures(rows), strict=False), 1
        ):
            kind = table.label[row]
            cell.imshow(decode_image(picture), interpolation="antialiased")
            cell.set_title(
                f"{number}: {LABELS[kind]}, {table.fidelity[row]:.3f}",
                fontsize=9.5, color=CLASS_COLOURS[kind],
            )  # fmt: skip
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine(None)
    return figure


def one_per_video(table: Predictions, order: Int[np.ndarray, "k"]) -> list[int]:
    """The first row of each video, in the order given."""
    first = {}
    for row in order:
        first.setdefault((table.dataset[row], table.video_id[row]), int(row))
    return list(first.values())


def format_number(value: float | None, name: str = "auc") -> str:
    """A percentage with one decimal if the name is that of a rate, else three decimals."""
    if value is None:
        return "–"
    percentage = any(part in PERCENTAGES for part in name.split("_"))
    return f"{100 * value:.1f}%" if percentage else f"{value:.3f}"


def format_correlations(spearman: Mapping) -> str:
    """The rank correlation within each class."""
    return ", ".join(f"{label} {_signed(spearman[label])}" for label in ("real", "fake"))


def _signed(value: float | None) -> str:
    return "unknown" if value is None or np.isnan(value) else f"{value:+.2f}".replace("-", "−")


def levels_of(table: Predictions, metrics: Mapping) -> dict[str, Predictions | Videos]:
    """Frames and videos, or only pictures if every video has a single frame."""
    videos = group_videos(table, metrics.get("aggregate", "mean"), metrics.get("top_share", 0.1))
    if len(videos.label) == len(table):
        return {"pictures": table}
    return {"frames": table, "videos": videos}


def threshold_of(metrics: Mapping, name: str) -> float:
    """The threshold of frames, or of videos where it differs."""
    threshold = metrics["threshold"]
    return metrics.get("video_threshold", threshold) if name == "videos" else threshold


@contextlib.contextmanager
def chart_style() -> Iterator[None]:
    """The style of every figure, independent of the user's matplotlib settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams |= {
            "svg.fonttype": "none",
            "text.parse_math": False,
            "svg.hashsalt": "report",
            "font.size": 10.5,
            "text.color": INK,
            "axes.edgecolor": MUTED,
            "axes.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": GRID,
            "grid.linewidth": 0.6,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "lines.linewidth": 1.8,
            "legend.frameon": False,
            "legend.borderpad": 0,
            "legend.handlelength": 1.4,
        }
        yield


def draw(paint: Callable[[Axes], None]) -> Figure:
    """A figure of one chart, whose axes `paint` fills."""
    with chart_style():
        figure = Figure(figsize=(5.6, 3.9), layout="constrained")
        paint(figure.add_subplot())
        figure.get_layout_engine().execute(figure)  # makes the ticks, while the style is set
        figure.set_layout_engine(None)  # saving would lay it out twice more
    return figure


def _paint_roc(axes: Axes, levels: Mapping, metrics: Mapping) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    for name, level in levels.items():
        colour = ACCENT if name == "videos" else INK
        axes.plot(*roc_curve(level.label, level.fidelity), color=colour, label=name)
        called_fake = ~is_real(level.fidelity, threshold_of(metrics, name))
        axes.plot(
            np.mean(called_fake[level.label == REAL]), np.mean(called_fake[level.label == FAKE]),
            "o", color=colour, markersize=6, clip_on=False,
        )  # fmt: skip
    axes.set(
        xlim=(-0.01, 1.01), ylim=(-0.01, 1.01),
        xlabel="false alarms (reals below the threshold)", ylabel="fakes caught",
    )  # fmt: skip
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(loc="lower right")


def _paint_histogram(axes: Axes, level: Predictions | Videos, threshold: float) -> None:
    bins = np.linspace(min(0, level.fidelity.min()), max(1, level.fidelity.max()), 41)
    for kind in (FAKE, REAL):
        scores = level.fidelity[level.label == kind]
        if not scores.size:
            continue
        shares = np.full(scores.size, 1 / scores.size)
        colour = CLASS_COLOURS[kind]
        axes.hist(scores, bins, weights=shares, color=colour, alpha=0.3, label=LABELS[kind])
        axes.hist(scores, bins, weights=shares, histtype="step", color=colour, linewidth=1.4)
    words = f"threshold {threshold:.3f}"
    axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=words)
    axes.set(xlabel="fidelity (low: fake, high: real)", ylabel="share of the class")
    axes.yaxis.set_major_formatter(PercentFormatter(1))  # as many decimals as the ticks need
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2)


def _paint_scatter(axes: Axes, table: Predictions, spearman: dict) -> None:
    size = float(np.clip(6000 / max(1, len(table)), 2, 14))
    for kind in (FAKE, REAL):
        rows = (table.label == kind) & np.isfinite(table.quality)
        quality, fidelity = table.quality[rows], table.fidelity[rows]
        if not quality.size:
            continue
        axes.scatter(
            quality, fidelity, s=size, color=CLASS_COLOURS[kind], alpha=0.5, linewidths=0,
            rasterized=True,
        )  # fmt: skip
        order = np.argsort(quality, kind="stable")
        groups = [part for part in np.array_split(order, min(12, len(order) // 5 + 1)) if part.size]
        axes.plot(
            [np.median(quality[part]) for part in groups],
            [np.median(fidelity[part]) for part in groups],
            color=CLASS_COLOURS[kind], marker="o", markersize=4,
            label=f"{LABELS[kind]}, Spearman {_signed(spearman[LABELS[kind]])}",
        )  # fmt: skip
    axes.set(xlabel="raw quality of the face", ylabel="fidelity")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, columnspacing=1.2)


def read_curves(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and values of every number in metrics.jsonl, sorted by step.

    Raises:
      InputError: a line other than the last is damaged.
    """
    curves: dict[str, dict[int, float]] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            step = int(entry["step"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):  # a killed run leaves a partial last line
                break
            raise InputError(f"{path}, line {number} is damaged: {line[:80]}") from error
        for name, value in entry.items():
            if isinstance(value, int | float) and np.isfinite(value) and name != "step":
                # A resumed run repeats steps; the last value is the valid one.
                curves.setdefault(name, {})[step] = float(value)
    return {
        name: (np.array(sorted(values)), np.array([values[step] for step in sorted(values)]))
        for name, values in curves.items()
    }


def _paint_curves(axes: Axes, curves: Mapping) -> None:
    for (label, (steps, values)), colour in zip(curves.items(), (INK, ACCENT, MUTED), strict=False):
        pieces = min(POINTS, len(steps))
        steps, values = (
            [part.mean() for part in np.array_split(column, pieces)] for column in (steps, values)
        )
        few = "o" if len(steps) <= 40 else None
        axes.plot(steps, values, color=colour, marker=few, markersize=4, label=label)
    axes.set(xlabel="training step")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, columnspacing=1.2)
