"""Prediction files: ours, or any CSV with the columns path, label and score.

Nothing is guessed about other CSV files: the user says which class a high score means, and which
class the label 1 is.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import LABELS, REAL
from deepfidelity_jax.quality.table import normal, parse_number
from deepfidelity_jax.records.source import person_origin
from deepfidelity_jax.scoring.table import GROUP, Predictions, read_groups, require_once

NEEDED = ("path", "label", "score")
IDENTIFYING = ("path", "video_id", "frame")
SOURCES = ("person", "people", "origins")  # a name, and names as in `Predictions`
OURS = "fidelity"  # the column that identifies our files


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one file, negated if necessary so that high is real.

    Attributes:
      name: the file, as the user gave it.
      columns: the columns that identify rows: path, and video_id and frame if the file has them.
      video: the video of each row; None if the file has no video_id.
      label: 0 fake, 1 real.
      score: high is real.
      high: which class a high score means in the file.
      threshold: the file's own scores at or above this mean `high`; None if it is unknown.
      threshold_from: where the threshold came from, or why there is none.
      groups: the columns that give the group of each face.
      unscored: paths of rows without a score.
      sources: the original videos and the people of each row, as in `Predictions`, separated by
        spaces; empty if the file lacks them.
      unused: columns that play no part, of a file that is not ours.
    """

    name: str
    columns: dict[str, list[str]]
    video: list[str] | None
    label: Int[np.ndarray, "n"]
    score: Float[np.ndarray, "n"]
    high: str
    threshold: float | None
    threshold_from: str
    groups: dict[str, list[str]] = field(default_factory=dict)
    unscored: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def calls_real(self, score: Float[np.ndarray, "k"]) -> Bool[np.ndarray, "k"]:
        """Whether each score, in the direction of `score`, is called real."""
        score = np.asarray(score, np.float64)
        return score >= self.threshold if self.high == "real" else ~(-score >= self.threshold)


def read_all(
    paths: Sequence[str], high: Sequence[str], thresholds: Sequence[float], one: str | None
) -> list[Scores]:
    """Read prediction files, in their order.

    Args:
      paths: two files or more.
      high: which class a high score means in files that are not ours: one value for all of them, or
        one for each.
      thresholds: thresholds of the files that are not ours, likewise; empty if unknown.
      one: which class the label 1 is, in files that write labels as 0 and 1.

    Raises:
      InputError: a file cannot be read or is given twice, has two columns of one name, or a needed
        argument is missing.
    """
    if len(paths) < 2:
        raise InputError(f"compare takes two or more --input=FILE.csv, not {len(paths)}")
    twice = next((path for path in paths if list(paths).count(path) > 1), None)
    if twice:
        raise InputError(f"--input={twice} is given twice")
    headers = {path: _header(path) for path in paths}
    others = [path for path in paths if OURS not in headers[path]]
    arguments = {path: (None, None) for path in paths}
    for flag, given in (("--high", high), ("--threshold", thresholds)):
        if given and len(given) not in (1, len(others)):
            raise InputError(
                f"{flag} is given {len(given)} times, but {len(others)} of the files are not "
                "predictions.csv: give it once, or once for each of them in their order"
            )
    if others and not high:
        raise InputError(
            f"{others[0]} does not say which class a high score means: give --high=fake or "
            "--high=real"
        )
    for number, path in enumerate(others):
        pair = [column[number % len(column)] if column else None for column in (high, thresholds)]
        arguments[path] = tuple(pair)
    return [
        _read_other(path, headers[path], *arguments[path], one)
        if path in others
        else _read_ours(path)
        for path in paths
    ]


def _header(path: str) -> list[str]:
    header = next(iter(_rows(path)), [])
    require_once(path, header)
    return header


def _rows(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except (OSError, csv.Error) as error:
        raise InputError(f"--input={path} cannot be read: {error}") from None


def _read_ours(path: str) -> Scores:
    table = Predictions.read_csv(Path(path))
    threshold, source = _threshold_beside(Path(path))
    return Scores(
        name=path,
        columns={
            "path": [normal(name) for name in table.path],
            "video_id": table.video_id.tolist(),
            "frame": [str(frame) for frame in table.frame],
        },
        video=table.video_id.tolist(),
        label=table.label,
        score=table.fidelity,
        high="real",
        threshold=threshold,
        threshold_from=source,
        groups=read_groups(Path(path)),
        sources=list(map(" ".join, zip(table.origins, table.people, strict=True))),
    )


def _threshold_beside(path: Path) -> tuple[float | None, str]:
    """The threshold in the metrics.json that was written with a predictions.csv."""
    metrics = path.with_name("metrics.json")
    try:
        content = json.loads(metrics.read_text(encoding="utf-8"))
        return float(content["threshold"]), str(content["threshold_from"])
    except OSError:
        return None, "no metrics.json beside the file"
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{metrics} is damaged: it has no threshold") from None


def _read_other(
    path: str, header: list[str], high: str, threshold: float | None, one: str | None
) -> Scores:
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise InputError(
            f"{path} lacks the columns {', '.join(missing)}: give path,label,score, or a "
            "predictions.csv"
        )
    rows = _rows(path)[1:]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise InputError(f"{path}, record {number}: expected {len(header)} values")
    table = {name: [row[index] for row in rows] for index, name in enumerate(header)}
    scores = [_number(path, row, text) for row, text in enumerate(table["score"], 2)]
    kept = [row for row, score in enumerate(scores) if score is not None]
    labels = [_label(path, row, text, one) for row, text in enumerate(table["label"], 2)]
    table["path"] = [normal(name) for name in table["path"]]
    if "video_id" in table:  # photographs may have none
        pairs = zip(table["video_id"], table["path"], strict=True)
        table["video_id"] = [video if video.strip() else file for video, file in pairs]
        if "" in table["video_id"]:
            number = table["video_id"].index("") + 2
            raise InputError(f"{path}, record {number}: video_id and path are both empty")
    columns = {name: [table[name][row] for row in kept] for name in IDENTIFYING if name in table}
    if "person" in table:
        table["person"] = [person_origin(name) for name in table["person"]]
    named = [table[name] for name in SOURCES if name in table]
    known = {*NEEDED, *IDENTIFYING, *SOURCES}
    turned = 1 if high == "real" else -1
    return Scores(
        name=path,
        columns=columns,
        video=columns.get("video_id"),
        label=np.array([labels[row] for row in kept], np.int64),
        score=turned * np.array([scores[row] for row in kept], np.float64),
        high=high,
        threshold=threshold,
        threshold_from="no --threshold" if threshold is None else "--threshold",
        groups={
            name: [column[row] for row in kept]
            for name, column in table.items()
            if name.startswith(GROUP)
        },
        unscored=[table["path"][row] for row, score in enumerate(scores) if score is None],
        sources=[" ".join(column[row] for column in named) for row in kept] if named else [],
        unused=[name for name in header if name not in known and not name.startswith(GROUP)],
    )


def _number(path: str, row: int, text: str) -> float | None:
    """A score; None for an empty one."""
    return parse_number(text, f"{path}, record {row}: the score") if text.strip() else None


def _label(path: str, row: int, text: str, one: str | None) -> int:
    word = text.strip().lower()
    if word in LABELS:
        return LABELS.index(word)
    if word in ("0", "1") and one is None:
        raise InputError(
            f"{path} writes labels as 0 and 1 and does not say which is which: give --one=fake or "
            "--one=real, or write fake and real"
        )
    if word in ("0", "1"):
        return REAL if (word == "1") == (one == "real") else 1 - REAL
    raise InputError(f"{path}, record {row}: the label is {text!r}: give fake or real")
