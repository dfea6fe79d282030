"""A trained detector on data it was not trained on: a labelled folder, or a table of datasets.

Only test splits are prepared. Faces are found and cropped as they were for training, unless an
option says otherwise.
"""

import contextlib
import copy
import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from deepfidelity_jax.detector.load import Detector, identify, load_fitted
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.arrays import Head
from deepfidelity_jax.files import fingerprint, locate, written_whole
from deepfidelity_jax.leaks import training_pictures
from deepfidelity_jax.options import checks
from deepfidelity_jax.options.arguments import OF_FOLDER, OF_TABLE
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality.measure import find_weights
from deepfidelity_jax.records import schema
from deepfidelity_jax.records.own_files import OwnFilesBuilder
from deepfidelity_jax.records.write import prepare, records_dir
from deepfidelity_jax.scoring import evaluate, metrics
from deepfidelity_jax.scoring.charts import Pictures
from deepfidelity_jax.scoring.exported_features import (
    export_once,
    find_earlier,
    find_test_records,
    retarget,
)
from deepfidelity_jax.scoring.report import write_report
from deepfidelity_jax.scoring.table import sources_of
from deepfidelity_jax.workdir import read_config

COLUMNS = ("dataset", "videos", "frames", "frame_auc", "video_auc", "video_acc", "video_eer")
# The options that say where a dataset's files are.
PLACES = ("manifest", "dir", "manual_dir")


def evaluate_folder(
    workdir: str | Path,
    folder: str | Path,
    faces: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> dict:
    """Score a folder with `real/` and `fake/` inside, or a table, by the detector in `workdir`.

    Writes metrics.json and predictions.csv to eval/NAME/, where NAME is the `dataset` of the
    returned metrics, and the report. The records of the folder are kept in the workdir as well.

    Args:
      workdir: a finished run.
      folder: photographs and videos; a folder inside `fake/` names the method. Or a table of them,
        as datasets/manifest reads it; if it gives splits, only the test split is scored.
      faces: options of `config.faces` that differ from training, such as `{"detector": "none"}`.
      data: options of `config.data` for a table, such as `{"real_label": "1"}`, or for a folder,
        such as `{"group": "file"}`; by default a folder is grouped as for training.

    Returns:
      The metrics of every evaluation, and also: `folder`, `n_files`, `faces_digest`, `notes` about
      files that were left out, and `training_checked`, whether the pictures could be compared with
      those the detector was trained on.

    Raises:
      InputError: the folder, the table or a finished run is missing, a label is missing, or some
        of the pictures were seen in training.
    """
    workdir = Path(workdir)
    trained_config = checks.complete(read_config(workdir))
    name, changed, builder = plan_folder(workdir, folder, faces, data)
    detector = load_fitted(workdir)
    summary = score(detector, trained_config, changed, builder, name, workdir)
    write_report(workdir, pictures_of(workdir))
    say(evaluate.describe(summary, str(locate(folder)), "test"))
    say(f"report: {workdir / 'report' / 'index.html'}")
    return summary


def plan_folder(
    workdir: Path,
    folder: str | Path,
    faces: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> tuple[str, ConfigDict, OwnFilesBuilder]:
    """The name, the config and the builder of the records that `evaluate_folder` scores."""
    folder = locate(folder)
    trained_config = checks.complete(read_config(workdir))
    if not folder.exists():
        raise InputError(
            f"{folder} is not a folder: give one with real/ and fake/ inside, or a table (.csv, "
            ".parquet or .jsonl)"
        )
    for option, value in (data or {}).items():
        if option not in (OF_FOLDER if folder.is_dir() else OF_TABLE):
            wanted, there = ("table", "folder") if folder.is_dir() else ("folder", "table")
            raise InputError(f"config.data.{option} is for a {wanted}, but {folder} is a {there}")
        checks.check_one(f"data.{option}", value)
    resolved = folder.resolve()
    # The digest of the path distinguishes folders of the same name.
    name = re.sub(r"[^\w.-]+", "_", resolved.name)[:80] + f"-{fingerprint(str(resolved))[:6]}"
    if folder.is_dir():
        source = {"dataset": "face_folder", "dir": str(folder)}
    else:
        source = {"dataset": "manifest", "manifest": str(folder)}
    changed = adapt_config(trained_config, workdir, source | dict(data or {}), faces or {})
    builder = schema.builder_class(changed.data.dataset).configured(
        changed, workdir.absolute() / "records"
    )
    return name, changed, builder


def run(config: ConfigDict, workdir: Path) -> None:
    """Evaluate the detector in `workdir` on every dataset whose location is given.

    Writes eval/NAME/ for each dataset, the table eval/cross.csv, and the report.

    Raises:
      InputError: the workdir holds no finished run, no dataset is given, or a dataset has an option
        it does not use.
    """
    trained_config = checks.complete(read_config(workdir))
    groups = {name: group for name, group in config.items() if isinstance(group, ConfigDict)}
    datasets = {
        name: group for name, group in groups.items() if any(group.get(key) for key in PLACES)
    }
    if not datasets:
        raise InputError(
            "no dataset is given: set --config.NAME.manual_dir=COPY, where NAME is one of "
            f"{', '.join(groups)}; or --config.folder.dir for a folder of your own"
        )
    # Check all datasets before hours of preparation.
    builders = {}
    for name, group in datasets.items():
        if name == trained_config.data.dataset:
            raise InputError(f"{name} is the run's own dataset: give the other one another name")
        with rename_options(name):
            builder_class = schema.builder_class(group.dataset)
            require_used(name, group, builder_class)
            data = {key: value for key, value in group.items() if value != ""}
            faces = {"detector": data.pop("detector")} if "detector" in data else {}
            changed = adapt_config(trained_config, workdir, data, faces)
            records = records_dir(trained_config, workdir)
            builders[name] = changed, builder_class.configured(changed, records)
    detector = load_fitted(workdir)

    summaries = {}
    own_path = workdir / "eval" / trained_config.data.dataset / "metrics.json"
    for name, (changed, builder) in builders.items():
        with rename_options(name):
            summaries[name] = score(detector, trained_config, changed, builder, name, workdir)
        say(evaluate.describe(summaries[name], name, "test"))
    if own_path.exists():
        own_summary = json.loads(own_path.read_text(encoding="utf-8"))
        present = identify(workdir)
        if own_summary.get("detector", present) == present:
            summaries = {trained_config.data.dataset: own_summary} | summaries
        else:
            say(f"{own_path} is of another detector, and left out: --mode=evaluate writes it anew")
    write_table(summaries, workdir / "eval" / "cross.csv")
    write_report(workdir, pictures_of(workdir))
    say(f"{describe(summaries)}\ntable: {workdir / 'eval' / 'cross.csv'}")


@contextlib.contextmanager
def rename_options(name: str) -> Iterator[None]:
    """Errors give a dataset's options the names that they have in a config of several."""
    try:
        yield
    except InputError as error:
        text = str(error).replace("config.data.", f"config.{name}.")
        text = text.replace("config.faces.detector", f"config.{name}.detector")
        raise InputError(text) from None


def require_used(name: str, group: ConfigDict, builder_class) -> None:
    """Raise InputError if a dataset has an option that it does not use."""
    used = {*builder_class.OPTIONS, "dataset", "detector"}
    for key, value in group.items():
        if value and key not in used:
            shown = ", ".join(builder_class.OPTIONS)
            raise InputError(
                f"config.{name}.{key} is {value!r}, but {group.dataset} does not use it: its "
                f"options are {shown}"
            )


def adapt_config(
    trained_config: ConfigDict, workdir: Path, data: Mapping[str, Any], faces: Mapping[str, Any]
) -> ConfigDict:
    """The config of the trained run, changed to the test split of other data."""
    changed = copy.deepcopy(trained_config).unlock()
    # Clear the locations of the run's own data, which would be scored instead, and its cluster.
    others = ("real_folder", "fake_folder", "bench_json", "real_label", "beam")
    nowhere = dict.fromkeys((*PLACES, *others), "")
    changed.data = trained_config.data.to_dict() | nowhere | dict(data) | {"prepare": ("test",)}
    changed.faces.update(faces)
    if changed.faces.detector == "yunet":
        changed.faces.yunet = faces.get("yunet") or str(workdir / "yunet.onnx")
        if not Path(changed.faces.yunet).is_file():
            raise InputError(f"the face detector yunet needs {changed.faces.yunet}: no such file")
    if trained_config.quality.measure == "csv":
        changed.quality.measure = "none"  # that table is about other faces
    if trained_config.quality.measure == "ser_fiq":
        if weights := find_weights(trained_config.quality.weights, workdir):
            changed.quality.weights = str(weights)
        else:
            changed.quality.measure = "none"
            say(f"quality is not measured: {trained_config.quality.weights} is missing")
    return changed


def score(
    detector: Detector,
    trained_config: ConfigDict,
    changed: ConfigDict,
    builder,
    name: str,
    workdir: Path,
) -> dict:
    """Prepare, export and evaluate the test split of one dataset, called `name` in the workdir."""
    about = {"folder": next(changed.data[key] for key in PLACES if changed.data[key])}
    is_own = isinstance(builder, OwnFilesBuilder)
    seen = seen_in_training(trained_config, workdir)
    about["training_checked"] = bool(seen)
    if is_own:
        # Compare whole files first: this needs no preparation, which can take hours.
        files = {source.digest: source.name for source in builder.builder_config.sources}
        training_pictures.require_unseen(files, seen, Path(about["folder"]))
    prepare(builder)
    folder = Path(builder.data_path)
    crops = training_pictures.digests_of(folder, "test")
    training_pictures.require_unseen(crops, seen, Path(about["folder"]))
    if is_own:
        about["notes"] = schema.metadata_of(folder)["notes"]
    about["faces_digest"] = training_pictures.digest_of_faces(crops)
    about |= {"faces": changed.faces.to_dict(), "records": schema.identity(folder)}
    about["detector"] = identify(workdir)
    how = {
        "mirror_average": detector.mirror_average,
        "with_answers": isinstance(detector.fidelity_model.regressor.arrays, Head),
    }
    features = export_once(lambda: detector, detector.weights, folder, name, "test", workdir, **how)
    features = retarget(features, detector, folder)
    rows = [(record["origins"], record["bbox"]) for record in schema.Records(folder, "test")]
    origins, boxes = zip(*rows, strict=True)
    sources = sources_of(changed, origins, is_own=False)
    if changed.eval.cluster == "person" and not sources["people"]:
        say(f"{name}: not every face has a person's name, so intervals are over videos")
    # Other compressions of the same benchmark are the same videos.
    same = builder.name == trained_config.data.dataset and not is_own
    picked_here = same and trained_config.train.select_on == "test"
    changed.data.dataset = name  # its name in the tables
    eval_dir = workdir / "eval" / name
    return evaluate.evaluate(
        changed,
        detector.fidelity_model,
        features,
        "test",
        eval_dir,
        picked_here=picked_here,
        about=about,
        sources=sources,
        groups=evaluate.groups_of(folder, features.path),
        boxes=np.array(boxes),
    )


def seen_in_training(trained_config: ConfigDict, workdir: Path) -> dict[str, str]:
    """Digests of the pictures the detector was trained and calibrated on; empty if unknown.

    The workdir holds them, unless an earlier version trained it. Then they come from all records in
    the workdir that have a training split. Records outside the workdir may belong to other runs, so
    they count only if this run exported their features.
    """
    seen = training_pictures.seen_by(workdir)
    if seen:
        return seen
    inside = (workdir / "records" / trained_config.data.dataset).glob("*/*/dataset_info.json")
    folders = {info.parent for info in inside if "train" in schema.splits_of(info.parent)}
    exported = find_earlier(workdir, trained_config.data.dataset, "train")
    for folder in folders | ({exported} if exported else set()):
        seen |= training_pictures.digests_of_training(folder)
    return seen


def pictures_of(workdir: Path) -> dict[str, Pictures]:
    """A function from rows to face crops, for each evaluation whose records are available."""
    pictures = {}
    for path in sorted(workdir.glob("eval/*/metrics.json")):
        folder = find_test_records(workdir, path.parent.name)
        if folder:
            test = schema.Records(folder, "test")
            pictures[path.parent.name] = lambda rows, test=test: [
                test[row]["image"] for row in rows
            ]
    return pictures


def write_table(summaries: dict[str, dict], path: Path) -> None:
    """Write one row per dataset, with the interval of each value that has one."""
    rows = []
    for name, summary in summaries.items():
        row = {
            "dataset": name,
            "videos": summary["n_videos"],
            "frames": summary["n_frames"],
            "threshold": summary.get("video_threshold", summary["threshold"]),
            "threshold_from": summary["threshold_from"],
        }
        for column in COLUMNS[3:]:
            low, high = summary["ci"].get(column) or ("", "")
            row |= {column: summary[column], f"{column}_low": low, f"{column}_high": high}
        rows.append(row | {"optimistic_because": "; ".join(metrics.biases(summary))})
    with written_whole(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def describe(summaries: dict[str, dict]) -> str:
    """The table as text for the terminal."""
    lines = [COLUMNS]
    for name, summary in summaries.items():
        values = (summary[column] for column in COLUMNS[3:])
        shown = ("-" if value is None else f"{value:.4f}" for value in values)
        lines.append((name, str(summary["n_videos"]), str(summary["n_frames"]), *shown))
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    notes = (
        f"figures of {name} are optimistic: {why}"
        for name, summary in summaries.items()
        for why in metrics.biases(summary)
    )
    return "\n".join([*table, *notes])
