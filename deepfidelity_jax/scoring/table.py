"""Predictions as a table, one row per face, and their means over each video.

`Predictions` is predictions.csv. `group_videos` makes the score of a video from its frames: their
mean, unless told otherwise. `cluster_rows` says which rows belong together.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int, Shaped
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import LABELS
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.images.videos import spread_indices
from deepfidelity_jax.statistics import aggregation

GROUP = "group_"  # prefix of the columns that give the group of a face
# The columns that a file lacks if they are all empty, and what they then hold.
OPTIONAL = {"fidelity_deviation": np.nan, "origins": "", "people": ""}
NUMBERS = ("quality", "fidelity_target", "fidelity", "p_fake", "fidelity_deviation")
Column = Shaped[np.ndarray, "n"] | Sequence


@dataclass(frozen=True, eq=False)
class Predictions:
    """The columns of predictions.csv, in its order; one row per scored face.

    Takes sequences of equal length and holds them as arrays: text as objects, `frame` and `label`
    as int64, scores as float32, like the model's output. So a table that is read back equals the
    one that was written. The file lacks those of OPTIONAL that are all empty.

    Attributes:
      path: the image or video file the face comes from.
      dataset: its dataset.
      split: its split.
      method: the forgery method, 'original' for a real face.
      video_id: unique within the dataset.
      frame: index of the frame in its video.
      label: 0 fake, 1 real.
      quality: raw quality of the face, NaN if unknown.
      fidelity_target: target from its quality and class, NaN if unknown.
      fidelity: predicted fidelity, high is real.
      p_fake: calibrated probability of a fake, NaN if unknown.
      fidelity_deviation: standard deviation of the fidelity by the regressor, NaN if unknown.
      origins: the original videos that it shows or was forged from, as `video/NAME`, and the group
        of files that it belongs to, as `group/NAME`, where known; separated by spaces.
      people: the people that it shows, separated by spaces, if intervals are over people.

    Raises:
      ValueError: the columns differ in length, or a label is neither 0 nor 1.
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
    fidelity_deviation: Column = ()
    origins: Column = ()
    people: Column = ()

    def __post_init__(self):
        for name, empty in OPTIONAL.items():
            if not len(getattr(self, name)):
                object.__setattr__(self, name, [empty] * len(self.label))
        for field in fields(self):
            column = np.asarray(getattr(self, field.name), _dtype_of(field.name))
            object.__setattr__(self, field.name, column)
        lengths = {field.name: getattr(self, field.name).shape for field in fields(self)}
        if len(set(lengths.values())) > 1 or self.label.ndim != 1:
            raise ValueError(f"columns must be lists of equal length, not of shapes {lengths}")
        if not np.isin(self.label, (0, 1)).all():
            raise ValueError(
                f"labels must be 0 (fake) or 1 (real), not {np.unique(self.label).tolist()}"
            )

    def __len__(self) -> int:
        return len(self.label)

    def write_csv(self, path: Path, groups: Mapping[str, Column] | None = None) -> None:
        """Write predictions.csv. An interrupted write leaves the previous file.

        `groups`: further columns, by their names, which begin with `group_`.
        """
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        columns["label"] = np.array(LABELS, object)[self.label]
        for name, empty in OPTIONAL.items():
            if {*map(str, columns[name])} <= {str(empty)}:
                del columns[name]
        columns |= groups or {}
        # File names need not be valid UTF-8; surrogate escapes keep their bytes.
        text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
        with written_whole(path, "w", **text) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            # str(np.float32) is the shortest text that reads back as the same float32.
            writer.writerows(zip(*(map(str, column) for column in columns.values()), strict=True))

    @classmethod
    def read_csv(cls, path: Path) -> "Predictions":
        """Read what `write_csv` wrote, row for row.

        Raises:
          InputError: the file is missing, lacks a column or has it twice, or holds a value of the
            wrong type.
        """
        path = Path(path)
        try:
            with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                rows = list(csv.reader(file))
        except OSError as error:
            raise InputError(f"cannot read predictions {path}: {error.strerror}") from error
        except csv.Error as error:
            raise InputError(f"{path} is not a table of predictions: {error}") from error
        header, rows = (rows[0], rows[1:]) if rows else ([], [])
        require_once(path, header)
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in header and name not in OPTIONAL]
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
            return cls(**{name: columns[name] for name in names if name in columns})
        except ValueError as error:
            raise InputError(f"{path} is not a table of predictions: {error}") from error


def _dtype_of(column: str) -> type:
    if column in ("frame", "label"):
        return np.int64
    return np.float32 if column in NUMBERS else object


def require_once(path: str | Path, header: Sequence[str]) -> None:
    """InputError if two columns of a table have the same name."""
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice:
        raise InputError(f"{path} has two columns {twice!r}: keep one")


def read_groups(path: Path) -> dict[str, list[str]]:
    """The `group_` columns of a predictions.csv that `Predictions.read_csv` can read."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file)
        columns = {name: [] for name in rows.fieldnames or () if name.startswith(GROUP)}
        for row in rows:
            for name, column in columns.items():
                column.append(row[name])
    return columns


# FaceForensics++ names no people, but each of its original videos shows a different person.
ONE_PERSON = ("video/", "actor/")


def sources_of(
    config: ConfigDict, origins: Sequence[str], *, is_own: bool = True
) -> dict[str, list[str]]:
    """The columns `origins` and `people` of `Predictions`.

    Args:
      config: `eval.cluster`, which asks for people, and the dataset.
      origins: of each record, as in `records.schema`.
      is_own: whether these are the run's own data. The others have no people where the records do
        not name all of them.

    Raises:
      InputError: the run's own data do not name all people.
    """
    columns = {"origins": _named(origins, ("video/", "group/")), "people": []}
    if config.eval.cluster == "person":
        people = _named(origins, ONE_PERSON if config.data.dataset == "ffpp" else ("person/",))
        unknown = people.count("")
        if unknown and is_own:
            raise InputError(
                f"config.eval.cluster is person, but the records name no person for {unknown} of "
                f"{len(people)} faces: use --config.eval.cluster=video"
            )
        if not unknown:
            columns["people"] = people
    return columns


def _named(origins: Iterable[str], kinds: tuple[str, ...]) -> list[str]:
    return [" ".join(name for name in names.split() if name.startswith(kinds)) for names in origins]


@dataclass(frozen=True, eq=False)
class Videos:
    """The videos of a table, sorted by dataset and video_id.

    Attributes:
      dataset: its dataset.
      video_id: its name there.
      method: its forgery method.
      label: 0 fake, 1 real.
      fidelity: aggregated from its frames.
      of_frame: index of the video that each row of the table belongs to.
      share: the share of frames that count, if only the least real ones do.
    """

    dataset: Shaped[np.ndarray, "v"]
    video_id: Shaped[np.ndarray, "v"]
    method: Shaped[np.ndarray, "v"]
    label: Int[np.ndarray, "v"]
    fidelity: Float32[np.ndarray, "v"]
    of_frame: Int[np.ndarray, "n"]
    share: float = 0.1

    def deciding_rows(self, table: Predictions) -> Bool[np.ndarray, "n"]:
        """Rows that decide the scores: with `least_person`, those of one person of each file."""
        return table.video_id == self.video_id[self.of_frame]


def group_videos(
    table: Predictions,
    aggregate: str = "mean",
    share: float = 0.1,
    rows: Bool[np.ndarray, "n"] | None = None,
) -> Videos:
    """The score of each video; a video is identified by dataset and video_id.

    With `least_person`, all people of one file, each with a video_id, form one video, and so do
    their forgeries of one method.

    Args:
      table: the predictions.
      aggregate: one of `aggregation.AGGREGATES`.
      share: of `top_share`.
      rows: those whose scores count, at least one of each video; by default all.

    Raises:
      InputError: a video_id has more than one label or method, so that different videos would be
        averaged into one.
    """
    names, of_frame = _number_videos(table)
    first = np.zeros(len(names), np.int64)
    first[of_frame[::-1]] = np.arange(len(table))[::-1]
    for column in (table.label, table.method):
        mixed = np.flatnonzero(column != column[first][of_frame])
        if mixed.size:
            dataset, video_id = names[of_frame[mixed[0]]]
            kinds = sorted({str(column[mixed[0]]), str(column[first[of_frame[mixed[0]]]])})
            raise InputError(
                f"video_id '{video_id}' of dataset '{dataset}' stands for both "
                f"{' and '.join(kinds)}: a video_id must be unique in its dataset"
            )
    counted = np.ones(len(table), bool) if rows is None else rows
    score = aggregation.aggregate(aggregate, table.fidelity[counted], of_frame[counted], share)
    videos = Videos(
        dataset=np.array([name[0] for name in names], object),
        video_id=np.array([name[1] for name in names], object),
        method=table.method[first],
        label=table.label[first],
        fidelity=score.astype(np.float32),
        of_frame=of_frame,
        share=share,
    )
    return _join_people(table, videos) if aggregate == "least_person" else videos


def _number_videos(table: Predictions) -> tuple[list[tuple[str, str]], Int[np.ndarray, "n"]]:
    """Dataset and video_id of each video, in order, and the number of the video of each row."""
    keys = list(zip(table.dataset, table.video_id, strict=True))
    names = sorted(set(keys))
    number = {name: index for index, name in enumerate(names)}
    return names, np.array([number[key] for key in keys], np.int64)


def count_frames(table: Predictions) -> Int[np.ndarray, "v"]:
    """The number of rows of each video_id of each dataset."""
    return np.bincount(_number_videos(table)[1])


def spread_rows(table: Predictions, count: int) -> Bool[np.ndarray, "n"]:
    """`count` rows of each video, spread evenly over its frames; all of a video that has fewer."""
    _, of_frame = _number_videos(table)
    order, size = np.lexsort((table.frame, of_frame)), np.bincount(of_frame)
    first = np.cumsum(size) - size
    chosen = [
        start + index
        for start, frames in zip(first, size, strict=True)
        for index in spread_indices(int(frames), count)
    ]
    rows = np.zeros(len(table), bool)
    rows[order[chosen]] = True
    return rows


def _join_people(table: Predictions, people: Videos) -> Videos:
    """Join the videos that share a file into one, with the score of the least real of them."""
    # What was forged from a file has the path of that file, and is joined by method.
    keys = list(zip(table.dataset, table.path, table.method, strict=True))
    number = {key: i for i, key in enumerate(keys)}
    of_file = np.array([number[key] for key in keys], np.int64)
    lead, unit = aggregation.join_people(people.fidelity, people.of_frame, of_file)
    return Videos(
        dataset=people.dataset[lead],
        video_id=people.video_id[lead],
        method=people.method[lead],
        label=people.label[lead],
        fidelity=people.fidelity[lead],
        of_frame=unit[people.of_frame],
        share=people.share,
    )


def cluster_rows(tables: Sequence[Predictions]) -> list[Int[np.ndarray, "n"]]:
    """The cluster of each row of each table, numbered alike in all: what intervals draw together.

    A cluster is a video with the forgeries made from it, by `path` and `origins`, and everything
    that shared `people` connect (a forgery connects two).
    """
    rows = [
        row
        for table in tables
        for row in zip(
            table.dataset, table.video_id, table.path, table.origins, table.people, strict=True
        )
    ]
    number = {name: index for index, name in enumerate(sorted({row[:2] for row in rows}))}
    cluster = aggregation.cluster_sources(
        np.array([number[row[:2]] for row in rows], np.int64),
        [(dataset, path) for dataset, _, path, *_ in rows],
        [f"{origins} {people}" for *_, origins, people in rows],
    )
    return np.split(cluster, np.cumsum([len(table) for table in tables])[:-1])
