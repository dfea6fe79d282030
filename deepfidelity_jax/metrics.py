"""Predictions and what they are worth: per frame, per video, per method, per quality.

Polarity: label 0 is fake and 1 is real; a high fidelity speaks for real; a face or a video is
called real when its fidelity is at or above the threshold. Rates of detection take *fake* as
the positive class: what is caught are fakes, a false alarm is a real called fake.

Frames of one video resemble each other, so uncertainty comes from videos: the intervals are
95% percentile bootstrap intervals that draw whole videos with replacement, reals among reals and
fakes among fakes (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
A drawn sample is a row of weights: how often each video, and so each of its frames, occurs in
it. Row 0 is the sample itself, each video once. Every statistic maps rows of weights to one
number per row, so a value and its interval come from the same lines of code.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole

LABELS = ("fake", "real")
THIRDS = ("lowest", "middle", "highest")
# Below this many videos of a class, resampling them says little about others: no interval.
MIN_VIDEOS = 5
# Weights held at once while resampling; keeps memory flat and the working set near the cache.
CHUNK = 1_000_000

Column = Shaped[np.ndarray, "n"] | Sequence
Weights = Float[np.ndarray, "r n"]


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


def roc_curve(
    label: Int[np.ndarray, "n"], fidelity: Float[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k"]]:
    """Share of reals, and of fakes, called fake as the threshold rises from below all to above.

    Raises:
      ValueError: a class is missing.
    """
    if len(np.unique(label)) < 2:
        raise ValueError("a ROC curve needs scores of both classes")
    reals, fakes = Sample(label, fidelity, np.ones((1, len(label)))).below
    return reals[0] / reals[0, -1], fakes[0] / fakes[0, -1]


def summarize(
    table: Predictions,
    threshold: float,
    threshold_from: str,
    seed: int = 0,
    replicates: int = 1000,
) -> dict:
    """Everything in metrics.json; `json.dump(..., allow_nan=False)` takes it as it is.

    What cannot be had (a class is missing, videos are too few) is None, and `note` says why.
    Names without a level (`eer`, `ap`, `tpr_at_...`) are per frame; per video they begin with
    `video_`.

    - `frame_auc`: chance that a random real frame scores above a random fake one, ties half.
    - `frame_acc`: share of frames called rightly at the threshold; `real_frame_acc` and
      `fake_frame_acc` are the shares among the reals and among the fakes.
    - `eer`: equal error rate, the straight line between operating points included.
    - `ap`: average precision with fake as the positive class and 1 - fidelity as its score.
    - `tpr_at_fpr_1pct`: share of fakes caught while at most 1% of the reals are called fake.
    - `by_method`: the fakes of each method against all reals.
    - `by_quality`: frames by thirds of raw quality, low <= quality < high (the last: <= high).
    - `fidelity_quality_spearman`: rank correlation of predicted fidelity and raw quality among
      the frames of a class.
    - `ci`: the 95% interval of each value, by resampling videos.

    Raises:
      InputError: a video_id stands for several videos.
      ValueError: a fidelity is not a finite number.
    """
    lost = np.count_nonzero(~np.isfinite(table.fidelity))
    if lost:
        raise ValueError(f"{lost} of {len(table)} rows have no finite fidelity")
    threshold = float(threshold)
    grouped = group_videos(table)
    draws = _draw_videos(grouped.label, seed, replicates)
    frames = Level(table.label, table.fidelity, grouped.of_frame)
    videos = Level(grouped.label, grouped.fidelity, np.arange(len(grouped.label)))
    accuracy = partial(_accuracy, threshold=threshold)
    real_accuracy = partial(_accuracy, threshold=threshold, label=1)
    fake_accuracy = partial(_accuracy, threshold=threshold, label=0)

    result = {
        "threshold": threshold,
        "threshold_from": threshold_from,
        **_count("n_frames", frames),
        **_count("n_videos", videos),
        "ci_from": f"95% percentile bootstrap over videos, {replicates} replicates, seed {seed}",
        "ci": {},
        "note": {},
    }
    for level, name, prefix in ((frames, "frame", ""), (videos, "video", "video_")):
        _put(result, level, draws, {
            f"{name}_auc": _auc,
            f"{name}_acc": accuracy,
            f"real_{name}_acc": real_accuracy,
            f"fake_{name}_acc": fake_accuracy,
            f"{prefix}eer": _equal_error_rate,
            f"{prefix}ap": _average_precision,
            f"{prefix}tpr_at_fpr_1pct": partial(_caught_at, share=0.01),
            f"{prefix}tpr_at_fpr_10pct": partial(_caught_at, share=0.1),
        })  # fmt: skip

    result["by_method"] = {}
    for method in sorted(set(grouped.method[grouped.label == 0])):
        its_frames = frames.take((table.label == 1) | (table.method == method))
        its_videos = videos.take((grouped.label == 1) | (grouped.method == method))
        entry = {
            "n_frames": int(np.sum(its_frames.label == 0)),
            "n_videos": int(np.sum(its_videos.label == 0)),
            "ci": {},
            "note": {},
        }
        _put(entry, its_frames, draws, {"frame_auc": _auc, "fake_frame_acc": fake_accuracy})
        _put(entry, its_videos, draws, {"video_auc": _auc, "fake_video_acc": fake_accuracy})
        result["by_method"][method] = entry

    known = np.isfinite(table.quality)
    if not known.all():
        result["note"]["by_quality"] = f"{np.sum(~known)} frames of unknown quality are left out"
    result["by_quality"] = {}
    if known.any():
        edges = np.quantile(table.quality[known].astype(np.float64), [0, 1 / 3, 2 / 3, 1])
        third = np.where(known, np.searchsorted(edges[1:3], table.quality, side="right"), -1)
        for index, name in enumerate(THIRDS):
            its_frames = frames.take(third == index)
            entry = {"low": float(edges[index]), "high": float(edges[index + 1])}
            entry |= {**_count("n_frames", its_frames), "ci": {}, "note": {}}
            _put(entry, its_frames, draws, {
                "frame_auc": _auc,
                "frame_acc": accuracy,
                "real_frame_acc": real_accuracy,
                "fake_frame_acc": fake_accuracy,
            })  # fmt: skip
            result["by_quality"][name] = entry

    for label, name in enumerate(LABELS):
        rows = known & (table.label == label)
        statistic = partial(_spearman, other=table.quality[rows])
        _put(result, frames.take(rows), draws, {f"fidelity_quality_spearman_{name}": statistic})
    result["fidelity_quality_spearman"] = {
        name: result.pop(f"fidelity_quality_spearman_{name}") for name in ("real", "fake")
    }
    return result


def official_scoring(table: Predictions) -> dict:
    """Score as the paper's code does, to compare with its published numbers and for nothing else.

    Within a class, all frames whose folder (here: video) has the same name up to the first
    underscore are one group and score their mean; so FF++ videos of one target, by whatever method,
    and Celeb-DF videos of one person are merged. `auc` is over groups. `acc` is over groups at
    whichever of the 21 thresholds 0.40, 0.41 ... 0.60 suits these very scores best, the lowest of
    equals. What cannot be had because a class is missing is None.
    """
    names = [_official_name(video) for video in table.video_id]
    keys = list(zip(table.dataset, table.label.tolist(), names, strict=True))
    number = {key: index for index, key in enumerate(sorted(set(keys)))}
    of_frame = np.array([number[key] for key in keys], np.int64)
    mean = np.bincount(of_frame, table.fidelity) / np.bincount(of_frame)
    label = np.array([kind for _, kind, _ in number], np.int64)
    both = len(set(label.tolist())) == 2
    thresholds = np.linspace(0.4, 0.6, 21)
    accuracy = ((mean >= thresholds[:, None]) == label).mean(axis=1)
    best = int(accuracy.argmax())
    sample = Sample(label, mean, np.ones((1, len(label))))
    return {
        "auc": float(_auc(sample)[0]) if both else None,
        "acc": float(accuracy[best]) if both else None,
        "threshold": float(thresholds[best]),
        "threshold_from": "the best of 21 on these scores",
        **_count("n_groups", Level(label, mean, np.arange(len(label)))),
    }


def _official_name(video_id: str) -> tuple[str, ...]:
    """Path of a video below its folder of one class or method, its name cut at an underscore."""
    path = PurePosixPath(video_id)
    inside = path.parts[1:] or path.parts
    return (*inside[:-1], path.stem.split("_")[0])


@dataclass(frozen=True, eq=False)
class Level:
    """What is judged one by one, frames or videos: labels, scores, and the video of each."""

    label: Int[np.ndarray, "n"]
    score: Float[np.ndarray, "n"]
    video: Int[np.ndarray, "n"]

    def take(self, rows: Bool[np.ndarray, "n"]) -> "Level":
        """Only these rows."""
        return Level(self.label[rows], self.score[rows], self.video[rows])


@dataclass(frozen=True, eq=False)
class Sample:
    """Labelled scores, in each row of `weights` counted as often as it says."""

    label: Int[np.ndarray, "n"]
    score: Float[np.ndarray, "n"]
    weights: Float[np.ndarray, "r n"]

    @cached_property
    def below(self) -> tuple[Float[np.ndarray, "r k"], Float[np.ndarray, "r k"]]:
        """Weight of the reals, and of the fakes, below each cut between scores, from none to all.

        Equal scores are never cut apart, which is all that ties need.
        """
        order = np.argsort(self.score, kind="stable")
        last_of_ties = np.flatnonzero(np.diff(self.score[order], append=np.inf) > 0)
        weights = np.take(self.weights, order, axis=1)
        of_reals = weights * self.label[order].astype(np.float64)
        none = np.zeros((len(weights), 1))
        everything, reals = (
            np.hstack([none, np.take(np.cumsum(part, axis=1), last_of_ties, axis=1)])
            for part in (weights, of_reals)
        )
        return reals, everything - reals


def _draw_videos(
    label: Int[np.ndarray, "v"], seed: int, replicates: int
) -> Float[np.ndarray, "r v"]:
    """How often each video occurs in each replicate; row 0 is the sample itself."""
    rng = np.random.default_rng(seed)
    draws = np.ones((1 + replicates, len(label)))
    for kind in (0, 1):
        (members,) = np.nonzero(label == kind)
        if members.size:
            even = np.full(members.size, 1 / members.size)
            draws[1:, members] = rng.multinomial(members.size, even, replicates)
    return draws


def _put(
    entry: dict,
    level: Level,
    draws: Float[np.ndarray, "r v"],
    statistics: dict[str, Callable[[Sample], Float[np.ndarray, "r"]]],
) -> None:
    """Add each statistic, its interval and, where it has none, the reason to `entry`."""
    rows = max(1, CHUNK // max(1, len(level.label)))
    found = {name: [] for name in statistics}
    for start in range(0, len(draws), rows):
        weights = np.take(draws[start : start + rows], level.video, axis=1)
        sample = Sample(level.label, level.score, weights)
        # A share of nothing is NaN here and None with its reason below.
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, statistic in statistics.items():
                found[name].append(statistic(sample))
    videos = [len(np.unique(level.video[level.label == kind])) for kind in (0, 1)]
    for name, parts in found.items():
        value, *drawn = np.concatenate(parts)
        drawn = np.array(drawn)[np.isfinite(drawn)]
        entry[name] = float(value) if np.isfinite(value) else None
        entry["ci"][name] = None
        if entry[name] is None:
            empty = [LABELS[kind] for kind in (0, 1) if not videos[kind]]
            entry["note"][name] = (
                f"there are no {' and no '.join(empty)} faces"
                if empty
                else "too few faces for it, or all alike"
            )
        elif min(n for n in videos if n) < MIN_VIDEOS:
            entry["note"][name] = f"no interval: fewer than {MIN_VIDEOS} videos of a class"
        elif drawn.size:
            entry["ci"][name] = np.percentile(drawn, [2.5, 97.5]).tolist()
            if np.ptp(drawn) == 0:  # as when all is right: true of these videos, not of any
                entry["note"][name] = "all replicates are equal: the interval is too narrow"


def _count(name: str, level: Level) -> dict[str, int]:
    real = int(np.sum(level.label == 1))
    total = len(level.label)
    return {name: total, f"{name}_real": real, f"{name}_fake": total - real}


def _auc(sample: Sample) -> Float[np.ndarray, "r"]:
    reals, fakes = sample.below
    trapezoids = np.diff(reals) * (fakes[:, 1:] + fakes[:, :-1]) / 2
    return trapezoids.sum(axis=1) / (reals[:, -1] * fakes[:, -1])


def _equal_error_rate(sample: Sample) -> Float[np.ndarray, "r"]:
    reals, fakes = sample.below
    false_alarm, missed = reals / reals[:, -1:], 1 - fakes / fakes[:, -1:]
    gap = false_alarm - missed  # rises from -1 to 1
    after = np.argmax(gap >= 0, axis=1)[:, None]
    low, high = (np.take_along_axis(gap, k, axis=1) for k in (after - 1, after))
    start, end = (np.take_along_axis(false_alarm, k, axis=1) for k in (after - 1, after))
    return (start - low / (high - low) * (end - start))[:, 0]


def _average_precision(sample: Sample) -> Float[np.ndarray, "r"]:
    reals, fakes = sample.below
    called = np.maximum((reals + fakes)[:, 1:], 1)  # 1 where nothing is called, and caught, yet
    precision = fakes[:, 1:] / called
    found = np.sum(np.diff(fakes) * precision, axis=1) / fakes[:, -1]
    return np.where(reals[:, -1] > 0, found, np.nan)


def _caught_at(sample: Sample, share: float) -> Float[np.ndarray, "r"]:
    reals, fakes = sample.below
    if share * np.sum(sample.label == 1) < 1:  # it would mean none at all, not so small a share
        return np.full(len(reals), np.nan)
    allowed = reals <= share * reals[:, -1:] + 1e-9
    return np.max(np.where(allowed, fakes, 0), axis=1) / fakes[:, -1]


def _accuracy(sample: Sample, threshold: float, label: int | None = None) -> Float[np.ndarray, "r"]:
    # float64, as the threshold is, so that a score is judged here as it is in prediction.
    scores = np.unique(sample.score).astype(np.float64)
    cut = np.searchsorted(scores, threshold)
    reals, fakes = sample.below
    real_right, fake_right = reals[:, -1] - reals[:, cut], fakes[:, cut]
    if label is None:
        return (real_right + fake_right) / (reals[:, -1] + fakes[:, -1])
    return real_right / reals[:, -1] if label == 1 else fake_right / fakes[:, -1]


def _spearman(sample: Sample, other: Float[np.ndarray, "n"]) -> Float[np.ndarray, "r"]:
    if len(other) < 3:  # two points always lie on a line
        return np.full(len(sample.weights), np.nan)
    weights = sample.weights
    x, y = (_ranks(values, weights) for values in (sample.score, other))
    x, y = (z - np.average(z, axis=1, weights=weights)[:, None] for z in (x, y))
    xx, yy, xy = (np.sum(weights * z, axis=1) for z in (x * x, y * y, x * y))
    return xy / np.sqrt(xx * yy)


def _ranks(values: Float[np.ndarray, "n"], weights: Weights) -> Weights:
    """Rank of each value among the weighted values, ties sharing the middle, up to a constant."""
    order = np.argsort(values, kind="stable")
    new = np.diff(values[order], prepend=-np.inf) > 0
    group = np.empty(len(values), np.int64)
    group[order] = np.cumsum(new) - 1
    last_of_ties = np.append(np.flatnonzero(new)[1:], len(values)) - 1
    upto = np.cumsum(np.take(weights, order, axis=1), axis=1)[:, last_of_ties]
    return (upto - np.diff(upto, axis=1, prepend=0) / 2)[:, group]
