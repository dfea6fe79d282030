"""The charts of the report."""

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
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.scoring.metrics import roc_curve
from deepfidelity_jax.scoring.table import LABELS, Predictions, Videos, group_videos

Pictures = Callable[[Sequence[int]], list[bytes]]
POINTS = 400  # of a training curve; means over equal stretches of steps beyond that

# The charts are drawn in these colours, and each is then replaced by a variable of the page, so
# that one drawing suits the light and the dark scheme. Points of the scatter are pixels and keep
# theirs, which therefore stand out from white and from black.
COLOURS = {
    "ink": "#1d2129",
    "muted": "#7a818d",
    "grid": "#c9ced6",
    "real": "#2f7fb8",
    "fake": "#d2622a",
    "accent": "#6a5acd",
}
INK, MUTED, GRID, REAL, FAKE, ACCENT = COLOURS.values()
OF_CLASS = (FAKE, REAL)
PERCENTAGES = ("acc", "eer", "tpr")


def format_number(value: float | None, name: str = "auc") -> str:
    """A figure as people read it: a percentage by its name, else three decimals."""
    if value is None:
        return "–"
    percentage = any(part in PERCENTAGES for part in name.split("_"))
    return f"{100 * value:.1f}%" if percentage else f"{value:.3f}"


def short(value: float) -> str:
    """Four digits at most."""
    return f"{value:.4g}"


@dataclass(frozen=True)
class Chart:
    """A figure of the report.

    alternative: what it shows, for those who do not see it. caption: how to read it.
    """

    title: str
    figure: Figure
    alternative: str
    caption: str


def draw_roc(table: Predictions, metrics: Mapping) -> Chart:
    """Fakes caught against false alarms; ValueError where a class is missing."""
    levels = _levels(table)
    aucs = [format_number(metrics[name]) for name in ("frame_auc", "video_auc")]
    words = ", ".join(f"{auc} of {level}" for level, auc in zip(levels, aucs, strict=False))
    return Chart(
        "Fakes caught against false alarms (ROC)",
        _draw(partial(_paint_roc, levels=levels, threshold=_threshold(metrics))),
        f"ROC curve. AUC: {words}.",
        "The further to the upper left, the better; the diagonal is chance. "
        f"Dots mark the threshold in use. AUC: {words}.",
    )


def draw_scores(table: Predictions, metrics: Mapping, videos: bool = False) -> Chart:
    """Histogram of the fidelity of each class: of faces, or of whole videos."""
    name, level = list(_levels(table).items())[-1 if videos else 0]
    threshold = _threshold(metrics)
    called_real = level.fidelity >= threshold
    shares = {
        LABELS[kind]: format_number(called_real[level.label == kind].mean(), "acc")
        for kind in np.unique(level.label)
    }
    words = " and ".join(f"{share} of the {label}" for label, share in shares.items())
    return Chart(
        f"Scores of {name} by class",
        _draw(partial(_paint_histogram, level=level, threshold=threshold)),
        f"Histogram of the fidelity of {name}: {words} lie at the threshold "
        f"{threshold:.3f} or above.",
        "Real should lie right of the threshold, fake left of it; what overlaps is "
        "confused. Bars are shares of their own class.",
    )


def draw_quality(table: Predictions, metrics: Mapping) -> Chart:
    """Fidelity against the measured quality of the face."""
    spearman = metrics["fidelity_quality_spearman"]
    words = both_classes(spearman)
    return Chart(
        "Fidelity against face quality",
        _draw(partial(_paint_scatter, table=table, spearman=spearman)),
        f"Fidelity of faces against their raw quality. Spearman: {words}.",
        "Within a class, a better picture should get a higher fidelity: rank "
        f"correlation (Spearman) {words}. Lines are running medians.",
    )


TRAINING = {
    "loss": ("Loss", ("loss", "val_loss", "test_loss"), "Lower is better."),
    "val_frame_auc": (
        "Validation AUC", ("val_frame_auc",), "On data held out from training; chance is 0.5."
    ),
    "test_frame_auc": (
        "Test AUC", ("test_frame_auc",), "On the split that is reported: it picked the weights."
    ),
}  # fmt: skip


def draw_training(curves: Mapping, what: str) -> Chart | None:
    """A curve over the steps of training; None where there is none of it.

    Args:
      curves: of `read_curves`.
      what: one of `TRAINING`.
    """
    title, names, caption = TRAINING[what]
    drawn = {name: curves[name] for name in names if name in curves}
    if not drawn:
        return None
    words = ", ".join(f"{name} {values[-1]:.4g}" for name, (_, values) in drawn.items())
    return Chart(
        title,
        _draw(partial(_paint_curves, curves=drawn)),
        f"{title} over training steps. At the end: {words}.",
        f"At the end: {words}. {caption}",
    )


def find_mistakes(table: Predictions, threshold: float, count: int = 12) -> list[int]:
    """Rows of the faces furthest on the wrong side of the threshold, one of a video at most."""
    beyond = np.where(table.label == 0, 1, -1) * (table.fidelity - np.float64(threshold))
    wrong = (table.fidelity >= np.float64(threshold)) != (table.label == 1)
    order = np.argsort(-beyond, kind="stable")
    return one_per_video(table, order[wrong[order]])[:count]


def draw_faces(table: Predictions, rows: Sequence[int], pictures: Pictures) -> Figure:
    """The faces of some rows, numbered from 1, with their class and fidelity."""
    columns = 6
    lines = max(1, -(-len(rows) // columns))
    with charts_alike():
        figure = Figure(figsize=(8.4, 1.85 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for place in axes:
            place.set_axis_off()
        for number, (place, row, picture) in enumerate(
            zip(axes, rows, pictures(rows), strict=False), 1
        ):
            kind = table.label[row]
            place.imshow(decode_image(picture), interpolation="antialiased")
            place.set_title(
                f"{number}: {LABELS[kind]}, {table.fidelity[row]:.3f}",
                fontsize=9.5, color=OF_CLASS[kind],
            )  # fmt: skip
        figure.draw_without_rendering()
    return figure


def one_per_video(table: Predictions, order: Int[np.ndarray, "k"]) -> list[int]:
    """Rows in their order, the first of each video, so that they differ."""
    first = {}
    for row in order:
        first.setdefault((table.dataset[row], table.video_id[row]), int(row))
    return list(first.values())


def _levels(table: Predictions) -> dict[str, Predictions | Videos]:
    """What is counted: faces and videos, or pictures alone where the two are one."""
    videos = group_videos(table)
    if len(videos.label) == len(table):
        return {"pictures": table}
    return {"frames": table, "videos": videos}


def _threshold(metrics: Mapping) -> np.float64:
    return np.float64(metrics["threshold"])  # a plain float would be rounded to float32


def both_classes(spearman: dict) -> str:
    """The rank correlation within each class."""
    return ", ".join(f"{label} {_signed(spearman[label])}" for label in ("real", "fake"))


def _signed(value: float | None) -> str:
    return "unknown" if value is None or np.isnan(value) else f"{value:+.2f}".replace("-", "−")


@contextlib.contextmanager
def charts_alike() -> Iterator[None]:
    """The look of every figure."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own style would change the page
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


def _draw(paint: Callable[[Axes], None]) -> Figure:
    with charts_alike():
        figure = Figure(figsize=(5.6, 3.9), layout="constrained")
        paint(figure.add_subplot())
        figure.draw_without_rendering()  # makes the ticks, which have the style of that moment
    return figure


def _paint_roc(axes: Axes, levels: Mapping, threshold: float) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    for name, level in levels.items():
        colour = ACCENT if name == "videos" else INK
        axes.plot(*roc_curve(level.label, level.fidelity), color=colour, label=name)
        called_fake = level.fidelity < threshold
        axes.plot(
            np.mean(called_fake[level.label == 1]), np.mean(called_fake[level.label == 0]),
            "o", color=colour, markersize=6, clip_on=False,
        )  # fmt: skip
    axes.set(
        xlim=(-0.01, 1.01), ylim=(-0.01, 1.01),
        xlabel="reals called fake", ylabel="fakes caught",
    )  # fmt: skip
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(loc="lower right")


def _paint_histogram(axes: Axes, level: Predictions | Videos, threshold: float) -> None:
    bins = np.linspace(min(0, level.fidelity.min()), max(1, level.fidelity.max()), 41)
    for kind in (0, 1):
        scores = level.fidelity[level.label == kind]
        if not scores.size:
            continue
        shares = np.full(scores.size, 1 / scores.size)
        colour = OF_CLASS[kind]
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
    for kind in (0, 1):
        rows = (table.label == kind) & np.isfinite(table.quality)
        quality, fidelity = table.quality[rows], table.fidelity[rows]
        if not quality.size:
            continue
        axes.scatter(
            quality, fidelity, s=size, color=OF_CLASS[kind], alpha=0.5, linewidths=0,
            rasterized=True,
        )  # fmt: skip
        order = np.argsort(quality, kind="stable")
        groups = [part for part in np.array_split(order, min(12, len(order) // 5 + 1)) if part.size]
        axes.plot(
            [np.median(quality[part]) for part in groups],
            [np.median(fidelity[part]) for part in groups],
            color=OF_CLASS[kind], marker="o", markersize=4,
            label=f"{LABELS[kind]}, Spearman {_signed(spearman[LABELS[kind]])}",
        )  # fmt: skip
    axes.set(xlabel="raw quality of the face", ylabel="fidelity")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, columnspacing=1.2)


def read_curves(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and values of every number in a file of JSON lines, in the order of steps."""
    found: dict[str, dict[int, float]] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            step = int(entry["step"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):  # a run that was killed leaves half a line
                break
            raise InputError(f"{path}, line {number} is damaged: {line[:80]}") from error
        for name, value in entry.items():
            if isinstance(value, int | float) and np.isfinite(value) and name != "step":
                # A resumed run repeats steps: what it wrote last is what it kept.
                found.setdefault(name, {})[step] = float(value)
    return {
        name: (np.array(sorted(values)), np.array([values[step] for step in sorted(values)]))
        for name, values in found.items()
    }


def _paint_curves(axes: Axes, curves: Mapping) -> None:
    names = {"loss": "training", "val_loss": "validation", "test_loss": "test"}
    for (name, (steps, values)), colour in zip(
        curves.items(), (INK, ACCENT, REAL, FAKE) * len(curves), strict=False
    ):
        pieces = min(POINTS, len(steps))
        steps, values = (
            [part.mean() for part in np.array_split(column, pieces)] for column in (steps, values)
        )
        label = names.get(name, "frame")
        few = "o" if len(steps) <= 40 else None
        axes.plot(steps, values, color=colour, marker=few, markersize=4, label=label)
    axes.set(xlabel="training step")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, columnspacing=1.2)
