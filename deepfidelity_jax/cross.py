"""One trained detector on the test splits of several datasets, into one table."""

import copy
import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from deepfidelity_jax import evaluate, fidelity, options, records
from deepfidelity_jax.detector import Detector, load
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.features import Features, export_once
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.pipeline import prepare, records_dir
from deepfidelity_jax.report import write_report
from deepfidelity_jax.workdir import read_config, say

COLUMNS = ("dataset", "videos", "frames", "frame_auc", "video_auc", "video_acc", "video_eer")


def run(config: ConfigDict, workdir: Path) -> None:
    """Evaluate the detector in `workdir` on each dataset of `config` that has a `manual_dir`.

    Writes eval/NAME/ for each, eval/cross.csv and the report. Raises InputError where the workdir
    holds no finished run, or none of the datasets is given.
    """
    own = options.complete(read_config(workdir))
    given = {
        name: group
        for name, group in config.items()
        if isinstance(group, ConfigDict) and group.manual_dir
    }
    if not given:
        names = [name for name, group in config.items() if isinstance(group, ConfigDict)]
        raise InputError(
            f"no dataset is given: name a copy of one by --config.NAME.manual_dir=COPY, NAME one "
            f"of {', '.join(names)}"
        )
    # Told before hours of preparation: what is wrong with any of them.
    builders = {}
    for name, group in given.items():
        changed = change(own, group, workdir)
        builder_class = records.builder_class(group.dataset)
        builders[name] = changed, builder_class.configured(changed, records_dir(own, workdir))
    detector = load(workdir)
    if detector.fidelity_model is None:
        raise InputError(f"{workdir} has no fidelity.npz: run --mode=fit with its own config first")

    found, pictures = {}, {}
    before = workdir / "eval" / own.data.dataset / "metrics.json"
    for name, (changed, builder) in builders.items():
        prepare(changed, builder, workdir)
        folder = Path(builder.data_path)
        features = export_once(lambda: detector, detector.step, folder, name, "test", workdir)
        features = retarget(features, detector, folder)
        changed.data.dataset = name  # as the table calls it
        place = workdir / "eval" / name
        found[name] = evaluate.evaluate(changed, detector.fidelity_model, features, "test", place)
        say(evaluate.describe(found[name], name, "test"))
        test = records.Records(folder, "test")
        pictures[name] = lambda rows, test=test: [test[row]["image"] for row in rows]
    if before.exists():
        found = {own.data.dataset: json.loads(before.read_text(encoding="utf-8"))} | found
    write_table(found, workdir / "eval" / "cross.csv")
    write_report(workdir, pictures)
    say(f"{describe(found)}\ntable: {workdir / 'eval' / 'cross.csv'}")


def change(own: ConfigDict, group: ConfigDict, workdir: Path) -> ConfigDict:
    """The trained run's configuration, with a dataset's options in place of its own."""
    changed = copy.deepcopy(own).unlock()
    options = {name: value for name, value in group.items() if name != "detector"}
    changed.data = own.data.to_dict() | options | {"prepare": ("test",), "beam": ""}
    if group.detector:
        changed.faces.detector = group.detector
    if changed.faces.detector == "yunet":
        changed.faces.yunet = str(workdir / "yunet.onnx")
    if own.quality.measure == "csv":
        changed.quality.measure = "none"  # that table is of other faces
    return changed


def retarget(features: Features, detector: Detector, folder: Path) -> Features:
    """With the targets that the detector's own quality range gives, where it is of one measure."""
    if records.metadata_of(folder)["quality"]["measure"] != detector.config.quality.measure:
        return replace(features, fidelity=np.full_like(features.fidelity, np.nan))
    quality = features.quality.astype(np.float64)
    targets = fidelity.scale(detector.fidelity_model.scale, quality, features.label)
    return replace(features, fidelity=targets)


def write_table(found: dict[str, dict], path: Path) -> None:
    """One row a dataset; an interval beside each value that has one."""
    rows = []
    for name, metrics in found.items():
        row = {
            "dataset": name,
            "videos": metrics["n_videos"],
            "frames": metrics["n_frames"],
            "threshold": metrics["threshold"],
            "threshold_from": metrics["threshold_from"],
        }
        for column in COLUMNS[3:]:
            low, high = metrics["ci"].get(column) or ("", "")
            row |= {column: metrics[column], f"{column}_low": low, f"{column}_high": high}
        rows.append(row)
    with written_whole(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def describe(found: dict[str, dict]) -> str:
    """The table for a person."""
    lines = [COLUMNS]
    for name, metrics in found.items():
        values = (metrics[column] for column in COLUMNS[3:])
        shown = ("-" if value is None else f"{value:.4f}" for value in values)
        lines.append((name, str(metrics["n_videos"]), str(metrics["n_frames"]), *shown))
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
