"""The report: one self-contained page on what was trained, how good it is and which faces are hard.

The page is made from the files of a workdir, and from face crops that a callable returns. It needs
no network and no script. The same files give the same page, byte for byte.
"""

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from deepfidelity_jax.detector.load import identify
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.calibration import is_real
from deepfidelity_jax.fidelity.scale import FAKE, LABELS, REAL
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.images.pictures import to_data_uri
from deepfidelity_jax.markup.drawings import inline
from deepfidelity_jax.markup.templates import open_template
from deepfidelity_jax.scoring import figure_charts
from deepfidelity_jax.scoring.charts import (
    COLOURS,
    TRAINING,
    Chart,
    Pictures,
    chart_style,
    draw_quality,
    draw_roc,
    draw_scores,
    draw_training,
    format_correlations,
    format_number,
    one_per_video,
    read_curves,
)
from deepfidelity_jax.scoring.metrics import biases
from deepfidelity_jax.scoring.table import Predictions

RESULTS = "eval/*/metrics.json"  # in a workdir
DEGRADED = "robustness/*/made_from.json"
FACES = 6  # shown in each group

# Title and meaning of each headline number, in the order of the page.
HEADLINES = {
    "video_auc": ("Video AUC", "how often a real video scores above a fake one"),
    "frame_auc": ("Frame AUC", "how often a real face scores above a fake one"),
    "video_acc": ("Video accuracy", "videos judged correctly"),
    "frame_acc": ("Frame accuracy", "faces judged correctly"),
    "eer": ("Equal error rate", "share misjudged where both classes have the same error rate"),
    "tpr_at_fpr_10pct": ("Caught at 10% false alarms", "fake faces below that threshold"),
}
PHOTO_HEADLINES = {
    "frame_auc": ("AUC", "how often a real face scores above a fake one"),
    "frame_acc": ("Accuracy", "faces judged correctly"),
    "real_frame_acc": ("Real faces recognised", "real faces at or above the threshold"),
    "fake_frame_acc": ("Fakes caught", "fake faces below the threshold"),
    "eer": HEADLINES["eer"],
    "tpr_at_fpr_10pct": HEADLINES["tpr_at_fpr_10pct"],
}
# Groups of faces: title, class, whether the highest fidelity comes first.
GROUPS = (
    ("Real, most convincing", REAL, True),
    ("Real, least convincing", REAL, False),
    ("Fake, least convincing", FAKE, False),
    ("Fake, most convincing", FAKE, True),
)
NEEDED = {
    *HEADLINES, *PHOTO_HEADLINES, "n_frames", "n_videos", "n_frames_real", "n_frames_fake",
    "n_videos_real", "n_videos_fake", "threshold", "threshold_from", "ci", "ci_from", "note",
    "by_method", "by_quality", "fidelity_quality_spearman",
}  # fmt: skip


def write_report(workdir: Path, pictures: Mapping[str, Pictures]) -> Path:
    """Write `report/index.html` from the files of a workdir.

    Reads config.json, metrics.jsonl, metrics.json and predictions.csv of each eval/<dataset>/, and
    robustness/. If a file is missing, the page says so. Figures of another detector than the one
    in the workdir are left out, and named.

    Args:
      workdir: a run.
      pictures: for each dataset whose faces can be shown, a function from row numbers of its
        predictions.csv to face crops.

    Returns:
      The path of the page.

    Raises:
      InputError: a file of the workdir is damaged.
    """
    workdir = Path(workdir)
    config = _read_json(workdir / "config.json")
    left_out = _read_table(workdir / "leave_one_out.csv")
    detector, evaluated = identify(workdir), sorted(path.parent for path in workdir.glob(RESULTS))
    results = [*workdir.glob(RESULTS), *workdir.glob(DEGRADED)]
    others = sorted(
        path.parent for path in results if detector and _maker_of(path) not in ("", detector)
    )
    sections = [
        _describe(folder, pictures.get(folder.name), others)
        for folder in evaluated
        if folder not in others
    ]
    # A name with a slash is a folder in a folder.
    parts = chain(*(workdir.glob(f"{top}/**/{RESULTS}") for top in ("cells", "without_*")))
    template = _open("report.html.j2")
    page = template.render(
        name=workdir.resolve().name,
        config=config,
        settings=list(_flatten(config or {})),
        datasets=sections,
        across=_compare_methods(sections) if len(sections) > 1 else None,
        known=bool(detector),
        others=[path.relative_to(workdir).as_posix() for path in others],
        training=_describe_training(workdir / "metrics.jsonl"),
        left_out=_describe_left_out(left_out),
        controls=_describe_controls(left_out),
        ablation=_read_ablation(workdir / "ablation.csv"),
        biases=dict.fromkeys(why for path in parts for why in biases(_read_json(path) or {})),
    )
    path = workdir / "report" / "index.html"
    # File names need not be valid text; a character that cannot be shown becomes a question mark.
    with written_whole(path) as file:
        file.write(page.encode("utf-8", "replace"))
    return path


def _describe_left_out(table: Sequence[dict]) -> list[dict]:
    """The rows of `leave_one_out.write_table`, in the form of a results table."""
    axis = 0.5 if all(float(row["low"] or 0.5) >= 0.5 for row in table) else 0
    return [
        {
            "name": row["left_out"], "n_frames": int(row["n_frames"]), "axis": axis, "note": {},
            "frame_auc": float(row["frame_auc"]),
            "ci": {"frame_auc": [float(row["low"]), float(row["high"])] if row["low"] else None},
        }
        for row in table
    ]  # fmt: skip


def _describe_controls(table: Sequence[dict]) -> dict | None:
    """What the same table says of each run's controls; None if that is nothing."""
    starts = ("called_fake_", "class_auc_")
    names = [name for name in (table or [{}])[0] if name.startswith(starts)]
    known = any(row[name] for row in table for name in names)
    return {"names": names, "rows": table} if known else None


def _read_ablation(path: Path) -> dict | None:
    """The tables that an ablation wrote."""
    rows, methods = _read_table(path), _read_table(path.with_name("ablation_methods.csv"))
    if not rows:
        return None
    names = [name for name in (methods or [{}])[0] if name not in ("cell", "seeds")]
    by_method = [(row["cell"], [row[name] for name in names]) for row in methods]
    # The number of seeds is the same in every row, and is shown above the table.
    return {"rows": rows, "seeds": rows[0]["seeds"], "methods": (names, by_method)}


def _compare_methods(sections: Sequence[dict]) -> tuple[list[str], list[tuple[str, list]]]:
    """Frame AUC of each dataset on all of its fakes and on those of each method."""
    tables = [{row["name"]: row["frame_auc"] for row in section["methods"]} for section in sections]
    names = list(dict.fromkeys(chain(*tables)))
    return ["All fakes", *names], [
        (section["name"], [section["metrics"]["frame_auc"], *(aucs.get(name) for name in names)])
        for section, aucs in zip(sections, tables, strict=True)
    ]


def _read_table(path: Path) -> list[dict]:
    """The rows of a CSV, None for what is empty; no rows without a file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: value or None for key, value in row.items()} for row in csv.DictReader(file)]


def _open(name: str) -> jinja2.Template:
    return open_template(
        Path(__file__).with_name(name),
        number=format_number,
        correlations=format_correlations,
        count="{:,}".format,
        short="{:.4g}".format,
    )


def _read_json(path: Path) -> Any:
    """What a file holds; None if it is not there."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; delete it and run again") from error


def _maker_of(path: Path) -> str:
    """Which detector made the results in `path`, as `identify` says it; empty if that is unknown.

    Earlier versions did not note it.
    """
    content = _read_json(path)
    return content.get("detector", "") if isinstance(content, dict) else ""


def _flatten(settings: Mapping, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(value)


def _describe(folder: Path, pictures: Pictures | None, others: Collection[Path]) -> dict:
    """What the page says about one dataset, without the folders `others`."""
    metrics = _read_json(folder / "metrics.json")
    missing = sorted(NEEDED - metrics.keys())
    if missing:
        raise InputError(
            f"{folder / 'metrics.json'} lacks {', '.join(missing)}: delete it and evaluate again"
        )
    # Photographs: every video is a single picture, so frames and videos are the same.
    one_each = metrics["n_frames"] == metrics["n_videos"]
    spearman = {
        f"{figure}_{name}": value
        for figure in ("fidelity_quality_spearman", "fidelity_known_quality_spearman")
        for name, value in metrics.get(figure, {}).items()
    }
    degraded = folder.parents[1] / "robustness" / folder.name
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
        "robustness": None if degraded in others else _read_robustness(degraded),
        "biases": biases(metrics),
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
    if np.isfinite(table.fidelity_target).any():
        charts.append(figure_charts.draw_targets(table))
    if metrics.get("calibration", {}).get("video", {}).get("diagram"):
        charts.append(figure_charts.draw_reliability(metrics))
    if "aurc" in metrics:
        charts.append(figure_charts.draw_risk_coverage(table, metrics))
    section["charts"] = [_to_page(chart) for chart in charts]
    section["faces"] = _pick_faces(table, pictures, metrics["threshold"]) if pictures else None
    return section


def _read_robustness(place: Path) -> dict | None:
    """Curves, table and examples that `experiments.robustness` wrote."""
    if not (place / "examples.jpg").exists():
        return None
    svg = (place / "curves.svg").read_text(encoding="utf-8")
    return {
        "rows": _read_table(place / "table.csv"),
        "overall": _read_table(place / "overall.csv"),
        "known": bool(_maker_of(place / "made_from.json")),
        "drawing": inline(
            svg, "Frame AUC and real faces called fake over five severities", COLOURS
        ),
        "examples": to_data_uri((place / "examples.jpg").read_bytes()),
    }


def _rows(metrics: dict, name: str) -> list[dict]:
    """Rows of a table, each with the start of the axis for its AUC."""
    rows = [{"name": key, **entry} for key, entry in metrics[name].items()]
    aucs = ("frame_auc", "video_auc")
    lows = [row["ci"][auc][0] for row in rows for auc in aucs if row["ci"].get(auc)]
    start = 0.5 if min(lows, default=1) >= 0.5 else 0
    return [row | {"axis": start} for row in rows]


def _pick_faces(table: Predictions, pictures: Pictures, threshold: float) -> list[dict]:
    """The highest and lowest scores of each class, at most one face per video."""
    groups = []
    for title, kind, best_first in GROUPS:
        order = np.argsort(-table.fidelity if best_first else table.fidelity, kind="stable")
        rows = one_per_video(table, order[table.label[order] == kind])[:FACES]
        encoded = pictures(rows) if rows else []
        if len(encoded) != len(rows):
            raise ValueError(f"asked for {len(rows)} pictures, got {len(encoded)}")
        faces = [
            {
                "source": to_data_uri(picture),
                "label": LABELS[kind],
                "fidelity": float(table.fidelity[row]),
                "wrong": is_real(table.fidelity[row : row + 1], threshold)[0] != (kind == REAL),
                "method": table.method[row],
                "video": table.video_id[row],
                "path": table.path[row],
            }
            for row, picture in zip(rows, encoded, strict=True)
        ]
        end = "highest" if best_first else "lowest"
        groups.append({"title": title, "end": f"{end} fidelity", "faces": faces})
    return groups


def _to_page(chart: Chart) -> dict:
    """The chart as inline SVG with the colours and the font of the page."""
    file = io.StringIO()
    with chart_style():
        chart.figure.savefig(file, format="svg", transparent=True, dpi=160, metadata={"Date": None})
    drawing = inline(file.getvalue(), chart.alternative, COLOURS)
    return {"title": chart.title, "drawing": drawing, "caption": chart.caption}


def _describe_training(path: Path) -> dict | None:
    """What the page says about the training; None if nothing was recorded."""
    if not path.exists():
        return None
    curves = read_curves(path)
    if not curves:
        return None
    charts = [draw_training(curves, key) for key in TRAINING]
    rate = curves.get("images_per_s")
    return {
        "steps": int(max(steps[-1] for steps, _ in curves.values())),
        "rate": float(np.median(rate[1])) if rate else None,
        "charts": [_to_page(chart) for chart in charts if chart],
    }
