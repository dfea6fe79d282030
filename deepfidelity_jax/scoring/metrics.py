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

from functools import partial

import numpy as np
from jaxtyping import Float, Int

from deepfidelity_jax.scoring.intervals import Level, Sample, Weights, draw_videos, put_in_order
from deepfidelity_jax.scoring.table import LABELS, Predictions, group_videos

THIRDS = ("lowest", "middle", "highest")


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
    draws = draw_videos(grouped.label, seed, replicates)
    frames = Level(table.label, table.fidelity, grouped.of_frame)
    videos = Level(grouped.label, grouped.fidelity, np.arange(len(grouped.label)))
    accuracy = partial(_accuracy, threshold=threshold)
    real_accuracy = partial(_accuracy, threshold=threshold, label=1)
    fake_accuracy = partial(_accuracy, threshold=threshold, label=0)

    result = {
        "threshold": threshold,
        "threshold_from": threshold_from,
        **count_level("n_frames", frames),
        **count_level("n_videos", videos),
        "ci_from": f"95% percentile bootstrap over videos, {replicates} replicates, seed {seed}",
        "ci": {},
        "note": {},
    }
    for level, name, prefix in ((frames, "frame", ""), (videos, "video", "video_")):
        put_in_order(result, level, draws, {
            f"{name}_auc": auc,
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
        put_in_order(entry, its_frames, draws, {"frame_auc": auc, "fake_frame_acc": fake_accuracy})
        put_in_order(entry, its_videos, draws, {"video_auc": auc, "fake_video_acc": fake_accuracy})
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
            entry |= {**count_level("n_frames", its_frames), "ci": {}, "note": {}}
            put_in_order(entry, its_frames, draws, {
                "frame_auc": auc,
                "frame_acc": accuracy,
                "real_frame_acc": real_accuracy,
                "fake_frame_acc": fake_accuracy,
            })  # fmt: skip
            result["by_quality"][name] = entry

    for label, name in enumerate(LABELS):
        rows = known & (table.label == label)
        statistic = partial(_spearman, other=table.quality[rows])
        put_in_order(
            result, frames.take(rows), draws, {f"fidelity_quality_spearman_{name}": statistic}
        )
    result["fidelity_quality_spearman"] = {
        name: result.pop(f"fidelity_quality_spearman_{name}") for name in ("real", "fake")
    }
    return result


def count_level(name: str, level: Level) -> dict[str, int]:
    """How many there are, in all and of each class."""
    real = int(np.sum(level.label == 1))
    total = len(level.label)
    return {name: total, f"{name}_real": real, f"{name}_fake": total - real}


def auc(sample: Sample) -> Float[np.ndarray, "r"]:
    """Area under the ROC curve, of each resampling."""
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
