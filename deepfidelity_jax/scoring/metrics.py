"""Every number in metrics.json: per frame, per video, per forgery method, per face quality.

High fidelity is real (see `fidelity.calibration`). Detection rates take *fake* as the positive
class: a fake below the threshold is caught, a real face below it is a false alarm. Every statistic
is a function of a `Sample`, so that `intervals` can compute it on resampled videos, too.
"""

from functools import partial

import numpy as np
from jaxtyping import Float, Int

from deepfidelity_jax.fidelity.calibration import is_real
from deepfidelity_jax.fidelity.scale import FAKE, LABELS, REAL
from deepfidelity_jax.scoring.intervals import Level, Sample, Statistic, add_statistics, draw_videos
from deepfidelity_jax.scoring.table import Predictions, group_videos

THIRDS = ("lowest", "middle", "highest")


def summarize(
    table: Predictions,
    threshold: float,
    threshold_from: str,
    seed: int = 0,
    replicates: int = 1000,
) -> dict:
    """Everything in metrics.json, ready for `json.dump(..., allow_nan=False)`.

    A value that cannot be had (a class is missing, videos are too few) is None, and `note` says
    why. `eer`, `ap` and `tpr_at_...` are per frame; the same per video begin with `video_`.

    - `frame_auc`: probability that a random real frame scores above a random fake one, ties half.
    - `frame_acc`: share of right verdicts; `real_frame_acc` and `fake_frame_acc` within a class.
    - `eer`: equal error rate, interpolated linearly between thresholds.
    - `ap`: average precision, fake as the positive class and 1 - fidelity as its score.
    - `tpr_at_fpr_1pct`: share of fakes caught while at most 1% of the reals are false alarms.
    - `by_method`: the fakes of each method against all reals.
    - `by_quality`: thirds of the frames by raw quality, low <= quality < high (last: <= high).
    - `fidelity_quality_spearman`: rank correlation of fidelity and raw quality within each class.
    - `ci`: the 95% interval of each value, see `intervals`.

    Args:
      table: the predictions.
      threshold: fidelity at and above which a face is real.
      threshold_from: how the threshold was chosen; only written down.
      seed: of the bootstrap.
      replicates: of the bootstrap.

    Raises:
      InputError: one video_id stands for several videos.
      ValueError: a fidelity is not finite.
    """
    lost = np.count_nonzero(~np.isfinite(table.fidelity))
    if lost:
        raise ValueError(f"{lost} of {len(table)} rows have no finite fidelity")
    threshold = float(threshold)
    grouped = group_videos(table)
    draws = draw_videos(grouped.label, seed, replicates)
    frames = Level(table.label, table.fidelity, grouped.of_frame)
    videos = Level(grouped.label, grouped.fidelity, np.arange(len(grouped.label)))

    result = {
        "threshold": threshold,
        "threshold_from": threshold_from,
        **count_classes("n_frames", frames.label),
        **count_classes("n_videos", videos.label),
        "ci_from": f"95% percentile bootstrap over videos, {replicates} replicates, seed {seed}",
        "ci": {},
        "note": {},
    }
    for level, name, prefix in ((frames, "frame", ""), (videos, "video", "video_")):
        add_statistics(result, level, draws, {
            f"{name}_auc": auc,
            **_accuracies(name, threshold),
            f"{prefix}eer": equal_error_rate,
            f"{prefix}ap": average_precision,
            f"{prefix}tpr_at_fpr_1pct": partial(_caught_at, share=0.01),
            f"{prefix}tpr_at_fpr_10pct": partial(_caught_at, share=0.1),
        })  # fmt: skip

    result["by_method"] = {}
    for method in sorted(set(grouped.method[grouped.label == FAKE])):
        its_frames = frames.take((table.label == REAL) | (table.method == method))
        its_videos = videos.take((grouped.label == REAL) | (grouped.method == method))
        result["by_method"][method] = _method(its_frames, its_videos, draws, threshold)

    known = np.isfinite(table.quality)
    if not known.all():
        result["note"]["by_quality"] = f"{np.sum(~known)} frames of unknown quality are left out"
    result["by_quality"] = _thirds(table.quality, known, frames, draws, threshold)
    for kind in (FAKE, REAL):
        name, rows = f"fidelity_quality_spearman_{LABELS[kind]}", known & (table.label == kind)
        statistic = partial(spearman, other=table.quality[rows])
        add_statistics(result, frames.take(rows), draws, {name: statistic})
    result["fidelity_quality_spearman"] = {
        LABELS[kind]: result.pop(f"fidelity_quality_spearman_{LABELS[kind]}")
        for kind in (REAL, FAKE)
    }
    return result


def count_classes(name: str, label: Int[np.ndarray, "n"]) -> dict[str, int]:
    """Number of labels: in total, real, fake."""
    real, total = int(np.sum(label == REAL)), len(label)
    return {name: total, f"{name}_real": real, f"{name}_fake": total - real}


def _method(frames: Level, videos: Level, draws, threshold: float) -> dict:
    """The entry of one forgery method, from its own fakes and all reals."""
    entry = {
        "n_frames": int(np.sum(frames.label == FAKE)),
        "n_videos": int(np.sum(videos.label == FAKE)),
        "ci": {},
        "note": {},
    }
    for level, name in ((frames, "frame"), (videos, "video")):
        accuracies = _accuracies(name, threshold)
        caught = f"fake_{name}_acc"
        statistics = {f"{name}_auc": auc, caught: accuracies[caught]}
        add_statistics(entry, level, draws, statistics)
    return entry


def _thirds(quality, known, frames: Level, draws, threshold: float) -> dict[str, dict]:
    """The entries of `by_quality`, from the frames whose quality is known."""
    if not known.any():
        return {}
    entries = {}
    edges = np.quantile(quality[known].astype(np.float64), [0, 1 / 3, 2 / 3, 1])
    third = np.where(known, np.searchsorted(edges[1:3], quality, side="right"), -1)
    for index, name in enumerate(THIRDS):
        its_frames = frames.take(third == index)
        entry = {"low": float(edges[index]), "high": float(edges[index + 1])}
        entry |= {**count_classes("n_frames", its_frames.label), "ci": {}, "note": {}}
        statistics = {"frame_auc": auc, **_accuracies("frame", threshold)}
        add_statistics(entry, its_frames, draws, statistics)
        entries[name] = entry
    return entries


def _accuracies(name: str, threshold: float) -> dict[str, Statistic]:
    """Share of right verdicts on all, on the reals, and on the fakes, by the names they have."""
    return {
        f"{name}_acc": partial(accuracy, threshold=threshold),
        f"real_{name}_acc": partial(accuracy, threshold=threshold, label=REAL),
        f"fake_{name}_acc": partial(accuracy, threshold=threshold, label=FAKE),
    }


# ------------------------------------------------------------------ statistics


def roc_curve(
    label: Int[np.ndarray, "n"], fidelity: Float[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k"]]:
    """False alarms and caught fakes, as shares, while the threshold rises.

    Raises:
      ValueError: a class is missing.
    """
    if len(np.unique(label)) < 2:
        raise ValueError("a ROC curve needs scores of both classes")
    reals, fakes = Sample(label, fidelity, np.ones((1, len(label)))).below
    return reals[0] / reals[0, -1], fakes[0] / fakes[0, -1]


def auc(sample: Sample) -> Float[np.ndarray, "r"]:
    """Area under the ROC curve, for each row of weights."""
    reals, fakes = sample.below
    trapezoids = np.diff(reals) * (fakes[:, 1:] + fakes[:, :-1]) / 2
    return trapezoids.sum(axis=1) / (reals[:, -1] * fakes[:, -1])


def accuracy(sample: Sample, threshold: float, label: int | None = None) -> Float[np.ndarray, "r"]:
    """Share of right verdicts, among all or among one class, for each row of weights."""
    cut = np.count_nonzero(~is_real(np.unique(sample.score), threshold))
    reals, fakes = sample.below
    real_right, fake_right = reals[:, -1] - reals[:, cut], fakes[:, cut]
    if label is None:
        return (real_right + fake_right) / (reals[:, -1] + fakes[:, -1])
    return real_right / reals[:, -1] if label == REAL else fake_right / fakes[:, -1]


def equal_error_rate(sample: Sample) -> Float[np.ndarray, "r"]:
    """The rate at which false alarms and missed fakes are equal, for each row of weights."""
    reals, fakes = sample.below
    false_alarm, missed = reals / reals[:, -1:], 1 - fakes / fakes[:, -1:]
    gap = false_alarm - missed  # rises from -1 to 1
    after = np.argmax(gap >= 0, axis=1)[:, None]
    low, high = (np.take_along_axis(gap, k, axis=1) for k in (after - 1, after))
    start, end = (np.take_along_axis(false_alarm, k, axis=1) for k in (after - 1, after))
    return (start - low / (high - low) * (end - start))[:, 0]


def average_precision(sample: Sample) -> Float[np.ndarray, "r"]:
    """Precision averaged over recall, fake as the positive class, for each row of weights."""
    reals, fakes = sample.below
    called_fake = np.maximum((reals + fakes)[:, 1:], 1)  # 1 where none is yet: precision is 0
    precision = fakes[:, 1:] / called_fake
    found = np.sum(np.diff(fakes) * precision, axis=1) / fakes[:, -1]
    return np.where(reals[:, -1] > 0, found, np.nan)


def spearman(sample: Sample, other: Float[np.ndarray, "n"]) -> Float[np.ndarray, "r"]:
    """Rank correlation of the scores with other values, for each row of weights."""
    if len(other) < 3:  # two points always lie on a line
        return np.full(len(sample.weights), np.nan)
    weights = sample.weights
    x, y = (_ranks(values, weights) for values in (sample.score, other))
    x, y = (z - np.average(z, axis=1, weights=weights)[:, None] for z in (x, y))
    xx, yy, xy = (np.sum(weights * z, axis=1) for z in (x * x, y * y, x * y))
    return xy / np.sqrt(xx * yy)


def _caught_at(sample: Sample, share: float) -> Float[np.ndarray, "r"]:
    """Share of fakes caught at no more than this share of false alarms."""
    reals, fakes = sample.below
    if share * np.sum(sample.label == REAL) < 1:  # this share of the reals is not even one
        return np.full(len(reals), np.nan)
    allowed = reals <= share * reals[:, -1:] + 1e-9
    return np.max(np.where(allowed, fakes, 0), axis=1) / fakes[:, -1]


def _ranks(
    values: Float[np.ndarray, "n"], weights: Float[np.ndarray, "r n"]
) -> Float[np.ndarray, "r n"]:
    """Rank of each value among the weighted values, up to a constant; ties share their mean."""
    order = np.argsort(values, kind="stable")
    new = np.diff(values[order], prepend=-np.inf) > 0
    group = np.empty(len(values), np.int64)
    group[order] = np.cumsum(new) - 1
    last_of_ties = np.append(np.flatnonzero(new)[1:], len(values)) - 1
    upto = np.cumsum(np.take(weights, order, axis=1), axis=1)[:, last_of_ties]
    return (upto - np.diff(upto, axis=1, prepend=0) / 2)[:, group]
