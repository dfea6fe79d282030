"""Predictions as a table: by frame and by video."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, Shaped

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole

LABELS = ("fake", "real")

Column = Shaped[np.ndarray, "n"] | Sequence


@dataclass(frozen=True, eq=False)
class Predictions:
    """One row per scored face; the columns of predictions.csv, in its order.

    Any sequences of one length n are taken and held as arrays: texts as objects, `frame` and
    `label` as int64, scores as float32 as the model gives them, so that a table read back
    equals the table written.

    Attributes:
      path: the picture or video the face comes from.
      dataset: its dataset.
      split: its split.
      method: the forgery method, 'original' for a real face.
      video_id: unique in the dataset.
      frame: number of the frame in its video.
      label: 0 fake, 1 real.
      quality: raw quality of the face; NaN where unknown.
      fidelity_target: the fidelity that its quality and class ask for; NaN where unknown.
      fidelity: the predicted fidelity, high is real.
      p_fake: the calibrated probability of fake; NaN where unknown.
    """

    path: Column
    dataset: Column
    split: Column
    method: Column
    video_id: Column
    frame: Column
    label: Column
    quality: Column
    fidelity_target: Column
    fidelity: Column
    p_fake: Column

    def __post_init__(self):
        for field in fields(self):
            column = np.asarray(getattr(self, field.name), _dtype(field.name))
            object.__setattr__(self, field.name, column)
        lengths = {field.name: getattr(self, field.name).shape for field in fields(self)}
        if len(set(lengths.values())) > 1 or self.label.ndim != 1:
            raise ValueError(f"the columns must be equally long lists, not of shapes {lengths}")
        if not np.isin(self.label, (0, 1)).all():
            raise ValueError(f"labels are 0 fake or 1 real, not {np.unique(self.label).tolist()}")

    def __len__(self) -> int:
        return len(self.label)

    def write_csv(self, path: Path) -> None:
        """Write predictions.csv: all of it or, when interrupted, nothing of it."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        columns["label"] = np.array(LABELS, object)[self.label]
        # File names need not be valid UTF-8: surrogates carry their bytes through.
        text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
        with written_whole(path, "w", **text) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            # str of a NumPy float32 is the shortest text that reads back as the same float32.
            writer.writerows(zip(*(map(str, column) for column in columns.values()), strict=True))

    @classmethod
    def read_csv(cls, path: Path) -> "Predictions":
        """Read what `write_csv` wrote, row for row.

        Raises:
          InputError: the file is missing, lacks a column or holds a value of the wrong kind.
        """
        path = Path(path)
        try:
            with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
                rows = list(csv.reader(file))
        except OSError as error:
            raise InputError(f"cannot read predictions {path}: {error.strerror}") from error
        except csv.Error as error:
            raise InputError(f"{path} is not a table of predictions: {error}") from error
        header, rows = (rows[0], rows[1:]) if rows else ([], [])
        missing = [field.name for field in fields(cls) if field.name not in header]
        if missing:
            raise InputError(f"{path} lacks the columns {', '.join(missing)}")
        broken = next((i for i, row in enumerate(rows, 2) if len(row) != len(header)), None)
        if broken:
            raise InputError(f"{path}, record {broken}: expected {len(header)} values")
        columns = dict(
            zip(header, zip(*rows, strict=True) if rows else [()] * len(header), strict=True)
        )
        try:
            columns["label"] = [LABELS.index(label) for label in columns["label"]]
            return cls(**{field.name: columns[field.name] for field in fields(cls)})
        except ValueError as error:
            raise InputError(f"{path} is not a table of predictions: {error}") from error


def _dtype(column: str) -> type:
    if column in ("frame", "label"):
        return np.int64
    return np.float32 if column in ("quality", "fidelity_target", "fidelity", "p_fake") else object


@dataclass(frozen=True, eq=False)
class Videos:
    """The videos of a table, ordered by dataset and video_id.

    Attributes:
      dataset: dataset of each video.
      video_id: its name there.
      method: forgery method of each video.
      label: 0 fake, 1 real.
      fidelity: mean over its frames.
      p_fake: mean over its frames.
      of_frame: for each of the n rows of the table, which of the v videos it belongs to.
    """

    dataset: Shaped[np.ndarray, "v"]
    video_id: Shaped[np.ndarray, "v"]
    method: Shaped[np.ndarray, "v"]
    label: Int[np.ndarray, "v"]
    fidelity: Float32[np.ndarray, "v"]
    p_fake: Float32[np.ndarray, "v"]
    of_frame: Int[np.ndarray, "n"]


def group_videos(table: Predictions) -> Videos:
    """Mean scores of each video, told apart by dataset and video_id.

    Raises:
      InputError: one video_id stands for several labels or methods, so that different videos
        would be averaged into one.
    """
    keys = list(zip(table.dataset, table.video_id, strict=True))
    names = sorted(set(keys))
    number = {name: index for index, name in enumerate(names)}
    of_frame = np.array([number[key] for key in keys], np.int64)
    first = np.zeros(len(names), np.int64)
    first[of_frame[::-1]] = np.arange(len(keys))[::-1]
    for column in (table.label, table.method):
        mixed = np.flatnonzero(column != column[first][of_frame])
        if mixed.size:
            dataset, video_id = keys[mixed[0]]
            kinds = sorted({str(column[mixed[0]]), str(column[first[of_frame[mixed[0]]]])})
            raise InputError(
                f"video_id '{video_id}' of dataset '{dataset}' stands for both "
                f"{' and '.join(kinds)}: a video_id must be unique in its dataset"
            )
    sizes = np.bincount(of_frame, minlength=len(names))

    def mean(column):
        return (np.bincount(of_frame, column, minlength=len(names)) / sizes).astype(np.float32)

    return Videos(
        dataset=np.array([name[0] for name in names], object),
        video_id=np.array([name[1] for name in names], object),
        method=table.method[first],
        label=table.label[first],
        fidelity=mean(table.fidelity),
        p_fake=mean(table.p_fake),
        of_frame=of_frame,
    )
