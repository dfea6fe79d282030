"""One self-contained page on a run: what was trained, how well it does, which faces are hard.

Everything on the page comes from the files of a workdir, apart from the pictures of the faces,
which a callable hands over. The page needs no network and no script, and is the same, byte for
byte, for the same files.
"""

import base64
import contextlib
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jinja2
import matplotlib
import numpy as np
from jaxtyping import Int
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from deepfidelity_jax import media
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.metrics import LABELS, Predictions, Videos, group_videos, roc_curve

Pictures = Callable[[Sequence[int]], list[bytes]]

FACES = 6  # shown of each class at either end
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

# What the headline says of each number, in the order of the page.
HEADLINES = {
    "video_auc": ("Video AUC", "a real video scores above a fake one this often"),
    "frame_auc": ("Frame AUC", "a real face scores above a fake one this often"),
    "video_acc": ("Video accuracy", "videos called rightly at the threshold"),
    "frame_acc": ("Frame accuracy", "faces called rightly at the threshold"),
    "eer": ("Equal error rate", "faces; as many reals called fake as fakes missed"),
    "tpr_at_fpr_10pct": ("Caught at 10% false alarms", "fake faces found; 1 real in 10 is lost"),
}
PHOTO_HEADLINES = {
    "frame_auc": ("AUC", "a real face scores above a fake one this often"),
    "frame_acc": ("Accuracy", "faces called rightly at the threshold"),
    "real_frame_acc": ("Reals recognised", "real faces called real at the threshold"),
    "fake_frame_acc": ("Fakes caught", "fake faces called fake at the threshold"),
    "eer": ("Equal error rate", "as many reals called fake as fakes missed"),
    "tpr_at_fpr_10pct": ("Caught at 10% false alarms", "fake faces found; 1 real in 10 is lost"),
}
NEEDED = {
    *HEADLINES, *PHOTO_HEADLINES, "n_frames", "n_videos", "n_frames_real", "n_frames_fake",
    "n_videos_real", "n_videos_fake", "threshold", "threshold_from", "ci", "ci_from", "note",
    "by_method", "by_quality", "fidelity_quality_spearman",
}  # fmt: skip
PERCENTAGES = ("acc", "eer", "tpr")


def write_report(workdir: Path, pictures: Mapping[str, Pictures]) -> Path:
    """Write `report/index.html` from what the workdir holds.

    Reads config.json, metrics.jsonl and each eval/<dataset>/ with its metrics.json and
    predictions.csv. What is missing is left out, and the page says so.

    Args:
      workdir: folder of the run.
      pictures: for a dataset, a callable that takes row numbers of its predictions.csv and
        returns as many face crops, encoded as JPEG or PNG.

    Returns:
      The path of the page.

    Raises:
      InputError: a file of the workdir is damaged.
    """
    workdir = Path(workdir)
    config = _read_json(workdir / "config.json")
    evaluated = sorted(path.parent for path in workdir.glob("eval/*/metrics.json"))
    template = _environment().get_template("report.html.j2")
    page = template.render(
        name=workdir.resolve().name,
        config=config,
        settings=list(_flatten(config or {})),
        datasets=[_describe(folder, pictures.get(folder.name)) for folder in evaluated],
        training=_describe_training(workdir / "metrics.jsonl"),
    )
    path = workdir / "report" / "index.html"
    # Names of files need not be valid text; what cannot be shown becomes a question mark.
    with written_whole(path) as file:
        file.write(page.encode("utf-8", "replace"))
    return path


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda n: f"{n:,}",
        "number": _format,
        "short": _short,
        "both": _both,
    }
    return environment


def _read_json(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; delete it and run again") from error


def _flatten(settings: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(value)


def _format(value: float | None, name: str = "auc") -> str:
    if value is None:
        return "–"
    percentage = any(part in PERCENTAGES for part in name.split("_"))
    return f"{100 * value:.1f}%" if percentage else f"{value:.3f}"


def _short(value: float) -> str:
    return f"{value:.4g}"


def _describe(folder: Path, pictures: Pictures | None) -> dict:
    """What the page says of one dataset."""
    metrics = _read_json(folder / "metrics.json")
    missing = sorted(NEEDED - metrics.keys())
    if missing:
        raise InputError(
            f"{folder / 'metrics.json'} lacks {', '.join(missing)}; delete it and evaluate again"
        )
    # Photographs: every video is one picture, and the two levels are one.
    one_each = metrics["n_frames"] == metrics["n_videos"]
    spearman = {
        f"fidelity_quality_spearman_{name}": value
        for name, value in metrics["fidelity_quality_spearman"].items()
    }
    section = {
        "name": folder.name,
        "splits": [],
        "metrics": metrics,
        "one_each": one_each,
        "headlines": PHOTO_HEADLINES if one_each else HEADLINES,
        "methods": _rows(metrics, "by_method"),
        "qualities": _rows(metrics, "by_quality"),
        "numbers": {name: (metrics | spearman)[name] for name in metrics["ci"]},
        "charts": [],
        "faces": None,
    }
    if not (folder / "predictions.csv").exists():
        return section
    table = Predictions.read_csv(folder / "predictions.csv")
    if not len(table):
        return section
    section["splits"] = sorted(set(table.split))
    charts = [draw_roc(table, metrics)] if len(np.unique(table.label)) == 2 else []
    charts.append(draw_scores(table, metrics))
    if not one_each:
        charts.append(draw_scores(table, metrics, videos=True))
    if np.isfinite(table.quality).any():
        charts.append(draw_quality(table, metrics))
    section["charts"] = [_to_page(chart) for chart in charts]
    section["faces"] = _pick_faces(table, pictures, metrics["threshold"]) if pictures else None
    return section


def _rows(metrics: dict, name: str) -> list[dict]:
    """Rows of a table, each with the start of the axis on which its AUC is drawn."""
    rows = [{"name": key, **entry} for key, entry in metrics[name].items()]
    aucs = ("frame_auc", "video_auc")
    lows = [row["ci"][auc][0] for row in rows for auc in aucs if row["ci"].get(auc)]
    start = 0.5 if min(lows, default=1) >= 0.5 else 0
    return [row | {"axis": start} for row in rows]


def _pick_faces(table: Predictions, pictures: Pictures, threshold: float) -> list[dict]:
    """The faces at either end of each class, at most one of a video so that they differ."""
    groups = []
    for title, kind, best_first in (
        ("Real, and clearly so", 1, True),
        ("Real, yet hard to believe", 1, False),
        ("Fake, and clearly so", 0, False),
        ("Fake, yet convincing", 0, True),
    ):
        order = np.argsort(-table.fidelity if best_first else table.fidelity, kind="stable")
        rows = _one_per_video(table, order[table.label[order] == kind])[:FACES]
        encoded = pictures(rows) if rows else []
        if len(encoded) != len(rows):
            raise ValueError(f"asked for {len(rows)} pictures, got {len(encoded)}")
        faces = [
            {
                "source": _as_data(picture),
                "label": LABELS[kind],
                "fidelity": float(table.fidelity[row]),
                "wrong": (float(table.fidelity[row]) >= threshold) != (kind == 1),
                "method": table.method[row],
                "video": table.video_id[row],
                "path": table.path[row],
            }
            for row, picture in zip(rows, encoded, strict=True)
        ]
        end = "highest" if best_first else "lowest"
        groups.append({"title": title, "end": f"{end} fidelity", "faces": faces})
    return groups


def _as_data(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


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
    aucs = [_format(metrics[name]) for name in ("frame_auc", "video_auc")]
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
        LABELS[kind]: _format(called_real[level.label == kind].mean(), "acc")
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
    words = _both(spearman)
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
    return _one_per_video(table, order[wrong[order]])[:count]


def draw_faces(table: Predictions, rows: Sequence[int], pictures: Pictures) -> Figure:
    """The faces of some rows, numbered from 1, with their class and fidelity."""
    columns = 6
    lines = max(1, -(-len(rows) // columns))
    with _style():
        figure = Figure(figsize=(8.4, 1.85 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for place in axes:
            place.set_axis_off()
        for number, (place, row, picture) in enumerate(
            zip(axes, rows, pictures(rows), strict=False), 1
        ):
            kind = table.label[row]
            place.imshow(media.decode_image(picture), interpolation="antialiased")
            place.set_title(
                f"{number}: {LABELS[kind]}, {table.fidelity[row]:.3f}",
                fontsize=9.5, color=OF_CLASS[kind],
            )  # fmt: skip
        figure.draw_without_rendering()
    return figure


def _one_per_video(table: Predictions, order: Int[np.ndarray, "k"]) -> list[int]:
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


def _both(spearman: dict) -> str:
    return ", ".join(f"{label} {_signed(spearman[label])}" for label in ("real", "fake"))


def _signed(value: float | None) -> str:
    return "unknown" if value is None or np.isnan(value) else f"{value:+.2f}".replace("-", "−")


@contextlib.contextmanager
def _style() -> Iterator[None]:
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
    with _style():
        figure = Figure(figsize=(5.6, 3.9), layout="constrained")
        paint(figure.add_subplot())
        figure.draw_without_rendering()  # makes the ticks, which have the style of that moment
    return figure


def _to_page(chart: Chart) -> dict:
    """A chart for the page: as inline SVG whose colours and font are the page's."""
    file = io.StringIO()
    with _style():
        chart.figure.savefig(file, format="svg", transparent=True, dpi=160, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"(?s)<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg)
    view = re.search(r'viewBox="[^"]*"', svg).group()
    opening = f'<svg {view} role="img" aria-label="{escape(chart.alternative)}">'
    svg = re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)
    svg = svg.replace("xlink:href", "href")
    # Names that nothing refers to go; the others must not clash with those of other drawings.
    own = hashlib.sha256(svg.encode()).hexdigest()[:8]
    used = set(re.findall(r'(?:url\(|href=")#(\w+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found.group() if found[1] in used else "", svg)
    svg = re.sub(r'(id="|url\(#|href="#)(?=\w)', rf"\g<1>d{own}-", svg)
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return {"title": chart.title, "drawing": Markup(svg), "caption": chart.caption}


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


def _describe_training(path: Path) -> dict | None:
    """What the page says of the training; None when there is no record of it."""
    if not path.exists():
        return None
    curves = read_curves(path)
    if not curves:
        return None
    charts = [draw_training(curves, what) for what in TRAINING]
    rate = curves.get("images_per_s")
    return {
        "steps": int(max(steps[-1] for steps, _ in curves.values())),
        "rate": float(np.median(rate[1])) if rate else None,
        "charts": [_to_page(chart) for chart in charts if chart],
    }


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
