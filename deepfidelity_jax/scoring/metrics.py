"""Every number in metrics.json: per frame, per video, per forgery method, per face quality.

`statistics.ranking` has the figures, `statistics.intervals` their intervals.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from deepfidelity_jax.faces.geometry import is_small
from deepfidelity_jax.fidelity.scale import FAKE, LABELS, REAL, FidelityScale
from deepfidelity_jax.scoring.table import (
    Predictions,
    Videos,
    cluster_rows,
    count_frames,
    group_videos,
    spread_rows,
)
from deepfidelity_jax.statistics.aggregation import AGGREGATES, mean
from deepfidelity_jax.statistics.intervals import (
    Level,
    Statistic,
    add_statistics,
    draw_clusters,
    kinds_of,
)
from deepfidelity_jax.statistics.operating import risk_area
from deepfidelity_jax.statistics.ranking import (
    accuracy,
    auc,
    average_precision,
    caught_at,
    equal_error_rate,
    spearman,
)

THIRDS = ("lowest", "middle", "highest")
FRAME_COUNTS = (1, 4, 8, 16)  # of `by_frames`
FALSE_ALARMS = {"1pct": 0.01, "10pct": 0.1, "0.1pct": 0.001}
# Read off the curve of the scored split itself, without a threshold set beforehand.
CURVE_FIGURES = (
    "auc", "eer", "ap", "tpr_at_fpr_1pct", "tpr_at_fpr_10pct", "tpr_at_fpr_0.1pct", "aurc",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Levels:
    """A table as frames and as videos, with the replicates used for both.

    grouped: the videos. aggregate: how their scores were made from frames.
    """

    frames: Level
    videos: Level
    draws: Float[np.ndarray, "r c"]
    grouped: Videos
    aggregate: str
    ci_from: str


def levels_of(
    table: Predictions,
    seed: int,
    replicates: int,
    *,
    aggregate: str = "mean",
    share: float = 0.1,
) -> Levels:
    """The frames and the videos of a table, in the clusters of `table.cluster_rows`.

    Args:
      table: the predictions.
      seed: of the bootstrap.
      replicates: of the bootstrap.
      aggregate: how frames make the score of a video, one of `aggregation.AGGREGATES`.
      share: of `top_share`.

    Raises:
      InputError: one video_id stands for several videos.
      ValueError: a fidelity is not finite.
    """
    lost = np.count_nonzero(~np.isfinite(table.fidelity))
    if lost:
        raise ValueError(f"{lost} of {len(table)} rows have no finite fidelity")
    grouped = group_videos(table, aggregate, share)
    clusters = "people" if any(table.people) else "videos"
    frames = Level(table.label, table.fidelity, cluster_rows([table])[0], clusters)
    videos = _videos(grouped, frames)
    draws = draw_clusters(kinds_of(videos.label, videos.cluster), seed, replicates)
    words = f"95% percentile bootstrap over {clusters}, {replicates} replicates, seed {seed}"
    return Levels(frames, videos, draws, grouped, aggregate, words)


def _videos(grouped: Videos, frames: Level) -> Level:
    """The videos, in the clusters of their frames."""
    cluster = np.zeros(len(grouped.label), np.int64)
    cluster[grouped.of_frame] = frames.cluster
    return Level(grouped.label, grouped.fidelity, cluster, frames.clusters)


def configured_levels(table: Predictions, config: ConfigDict) -> Levels:
    """The `levels_of` a table by the options of `eval`."""
    options = config.eval
    return levels_of(
        table, config.seed, options.bootstrap, aggregate=options.aggregate, share=options.top_share
    )


def poor_videos(
    levels: Levels, table: Predictions, scale: FidelityScale | None
) -> Bool[np.ndarray, "v"]:
    """Videos too poor for predict to call real, by the mean quality of the frames that have one."""
    poor = np.zeros(len(levels.videos.label), bool)
    known = np.isfinite(table.quality) & levels.grouped.deciding_rows(table)
    if scale is not None:
        videos, unit = np.unique(levels.grouped.of_frame[known], return_inverse=True)
        poor[videos] = scale.is_poor(mean(table.quality[known], unit))
    return poor


def small_videos(
    levels: Levels, table: Predictions, box: Float[np.ndarray, "n 4"] | None
) -> Bool[np.ndarray, "v"]:
    """Videos whose face, where it is largest, is too small for predict; None: no size is known."""
    small = np.zeros(len(levels.videos.label), bool)
    if box is not None:
        rows = np.flatnonzero(levels.grouped.deciding_rows(table))
        rows = rows[np.argsort(box[rows, 2] * box[rows, 3], kind="stable")]
        small[levels.grouped.of_frame[rows]] = is_small(box[rows])  # that of the largest stays
    return small


def biases(metrics: Mapping[str, Any]) -> list[str]:
    """Why the figures of a metrics.json are better than they would be on new data, in words."""
    reasons = []
    if metrics.get("checkpoint_picked_here"):
        reasons.append("the checkpoint was chosen on this same split")
    if metrics.get("look_alikes"):
        reasons.append(
            f"{metrics['look_alikes']} of the test videos or photographs look like one in training "
            "or validation, see leaks.json"
        )
    return reasons


def summarize(
    table: Predictions,
    threshold: float,
    threshold_from: str,
    seed: int = 0,
    replicates: int = 1000,
    *,
    levels: Levels | None = None,
    video_threshold: float | None = None,
) -> dict:
    """Everything in metrics.json, ready for `json.dump(..., allow_nan=False)`.

    A value that cannot be computed (a class is missing, there are too few videos) is None, and
    `note` says why. `eer`, `ap` and `tpr_at_...` are per frame; `video_eer` etc. are per video.

    - `frame_auc`: probability that a random real frame scores above a random fake one, ties half.
    - `frame_acc`: share of correct verdicts; `real_frame_acc` and `fake_frame_acc` in one class.
    - `eer`: equal error rate, interpolated linearly between thresholds.
    - `ap`: average precision, fake as the positive class and 1 - fidelity as its score.
    - `tpr_at_fpr_1pct`: share of fakes caught while at most 1% of the reals are false alarms;
      None if 1% of the reals is less than one.
    - `aurc`: area under the risk-coverage curve, see `operating.risk_area`.
    - `aurc_by_deviation`: the same where those with the largest `fidelity_deviation`, of a video
      the mean over its frames, are left out first; only if the table has one.
    - `by_aggregate`: `video_auc` by each way from frames to a video, of its own videos.
    - `by_frames`: `video_auc` from few evenly spaced frames of each video, and from all; only where
      a video has several.
    - `from_test_curve`: names of the figures without a threshold set beforehand.
    - `by_method`: the fakes of each method against all reals.
    - `by_quality`: thirds of the frames by raw quality, low <= quality < high (last: <= high).
    - `fidelity_quality_spearman`: rank correlation of fidelity and raw quality within each class.
    - `ci`: the 95% interval of each value, see `intervals`.

    Args:
      table: the predictions.
      threshold: fidelity at and above which a face is real.
      threshold_from: how the threshold was chosen; only recorded.
      seed: of the bootstrap.
      replicates: of the bootstrap.
      levels: from `levels_of`; by default, the score of a video is the mean of its frames.
      video_threshold: the threshold of videos, if their scores are not means.

    Raises:
      InputError: one video_id stands for several videos.
      ValueError: a fidelity is not finite.
    """
    levels = levels or levels_of(table, seed, replicates)
    frames, videos, draws, grouped = levels.frames, levels.videos, levels.draws, levels.grouped
    threshold = float(threshold)
    of_videos = threshold if video_threshold is None else float(video_threshold)
    limits = {"frame": threshold, "video": of_videos}

    doubt = {"frame": table.fidelity_deviation}
    doubt["video"] = mean(table.fidelity_deviation, grouped.of_frame)
    by_deviation = len(table) > 0 and bool(np.isfinite(table.fidelity_deviation).all())

    result = {
        "threshold": threshold,
        "threshold_from": threshold_from,
        **count_classes("n_frames", frames.label),
        **count_classes("n_videos", videos.label),
        "aggregate": levels.aggregate,
        **({"top_share": grouped.share} if levels.aggregate == "top_share" else {}),
        "cluster": frames.clusters,
        "n_clusters": draws.shape[1],
        "ci_from": levels.ci_from,
        "from_test_curve": [*CURVE_FIGURES, *(["aurc_by_deviation"] if by_deviation else [])],
        "ci": {},
        "note": {},
    }
    for level, name, prefix in ((frames, "frame", ""), (videos, "video", "video_")):
        add_statistics(result, level, draws, {
            f"{name}_auc": auc,
            **_accuracies(name, limits[name]),
            f"{prefix}eer": equal_error_rate,
            f"{prefix}ap": average_precision,
            f"{prefix}aurc": partial(risk_area, threshold=limits[name]),
            **{
                f"{prefix}tpr_at_fpr_{words}": partial(caught_at, share=share)
                for words, share in FALSE_ALARMS.items()
            },
        })  # fmt: skip
        if by_deviation:
            area = partial(risk_area, threshold=limits[name], doubt=doubt[name])
            add_statistics(result, level, draws, {f"{prefix}aurc_by_deviation": area})
        reals = int(np.sum(level.label == REAL))
        for words, share in FALSE_ALARMS.items():
            key = f"{prefix}tpr_at_fpr_{words}"
            if result[key] is None and 0 < reals < len(level.label):
                result["note"][key] = f"{share:.4g} of {reals} real {name}s is less than one"
    if limits["video"] != threshold:
        result["video_threshold"] = limits["video"]
    result["by_aggregate"] = _aggregates(table, levels)
    if by_frames := _frame_counts(table, levels):
        result["by_frames"] = by_frames

    result["by_method"] = {}
    for method in sorted(set(grouped.method[grouped.label == FAKE])):
        its_frames = frames.take((table.label == REAL) | (table.method == method))
        its_videos = videos.take((grouped.label == REAL) | (grouped.method == method))
        result["by_method"][method] = _method(its_frames, its_videos, draws, limits)

    known = np.isfinite(table.quality)
    if not known.all():
        result["note"]["by_quality"] = f"{np.sum(~known)} frames of unknown quality are left out"
    result["by_quality"] = _thirds(table.quality, known, frames, draws, threshold)
    add_rank_correlation(result, "fidelity_quality_spearman", table.quality, levels)
    return result


def add_rank_correlation(
    result: dict, name: str, quality: Float[np.ndarray, "n"], levels: Levels
) -> None:
    """Add Spearman's correlation of fidelity and quality within each class, with its intervals."""
    frames, known, correlations = levels.frames, np.isfinite(quality), {}
    for kind in (REAL, FAKE):
        rows, key = known & (frames.label == kind), f"{name}_{LABELS[kind]}"
        statistic = partial(spearman, other=quality[rows])
        add_statistics(result, frames.take(rows), levels.draws, {key: statistic})
        correlations[LABELS[kind]] = result.pop(key)
    result[name] = correlations


def count_classes(name: str, label: Int[np.ndarray, "n"]) -> dict[str, int]:
    """Number of labels: in total, real, fake."""
    real, total = int(np.sum(label == REAL)), len(label)
    return {name: total, f"{name}_real": real, f"{name}_fake": total - real}


def _aggregates(table: Predictions, levels: Levels) -> dict[str, dict]:
    """`video_auc` by each aggregate; `least_person` may have fewer videos than the others."""
    groupings = {name: group_videos(table, name, levels.grouped.share) for name in AGGREGATES}
    return {
        name: _video_auc(_videos(grouped, levels.frames), levels.draws)
        for name, grouped in groupings.items()
    }


def _frame_counts(table: Predictions, levels: Levels) -> dict[str, dict]:
    """`video_auc` from that many frames of each video, or all of a video that has fewer."""
    most = int(count_frames(table).max(initial=0))
    if most < 2:
        return {}
    counts = {str(count): count for count in FRAME_COUNTS if count < most} | {"all": most}
    aggregation = levels.aggregate, levels.grouped.share
    return {
        name: _video_auc(
            _videos(group_videos(table, *aggregation, spread_rows(table, count)), levels.frames),
            levels.draws,
        )
        for name, count in counts.items()
    }


def _video_auc(videos: Level, draws: Float[np.ndarray, "r c"]) -> dict:
    """`video_auc` of other scores or other videos, on the same replicates."""
    entry = {"n_videos": len(videos.label), "ci": {}, "note": {}}
    add_statistics(entry, videos, draws, {"video_auc": auc})
    return entry


def _method(frames: Level, videos: Level, draws, limits: dict[str, float]) -> dict:
    """The entry of one forgery method, from its own fakes and all reals."""
    entry = {
        "n_frames": int(np.sum(frames.label == FAKE)),
        "n_videos": int(np.sum(videos.label == FAKE)),
        "ci": {}, "note": {},
    }  # fmt: skip
    for level, name in ((frames, "frame"), (videos, "video")):
        accuracies = _accuracies(name, limits[name])
        caught = f"fake_{name}_acc"
        add_statistics(entry, level, draws, {f"{name}_auc": auc, caught: accuracies[caught]})
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
        figures = {"frame_auc": auc, **_accuracies("frame", threshold)}
        add_statistics(entry, its_frames, draws, figures)
        entries[name] = entry
    return entries


def _accuracies(name: str, threshold: float) -> dict[str, Statistic]:
    """Share of correct verdicts on all rows, on reals and on fakes, by name."""
    return {
        f"{name}_acc": partial(accuracy, threshold=threshold),
        f"real_{name}_acc": partial(accuracy, threshold=threshold, label=REAL),
        f"fake_{name}_acc": partial(accuracy, threshold=threshold, label=FAKE),
    }
