"""The table of an ablation: means over seeds, and paired differences from the base.

A difference compares a cell with the base run of the same seed on the same test faces. Its interval
and p value (`paired.compare_seeds`) are the more cautious of a bootstrap over videos and of
Student's t over seeds. Both runs of a pair see the same draws, so that what they share, such as
hard videos, cancels out. A video is drawn once for all seeds that test it, because a gain on it by
chance occurs with every seed. Many cells need more replicates than one (`paired.replicates_for`).
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from deepfidelity_jax.comparison.tables import escape
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.scoring.table import Predictions, Videos, cluster_rows, group_videos
from deepfidelity_jax.statistics.intervals import Level, kinds_of, resample
from deepfidelity_jax.statistics.paired import compare_seeds, draw_blocks, holm, replicates_for
from deepfidelity_jax.statistics.ranking import auc

# Column, its title, and its number format.
COLUMNS = {
    "cell": ("Cell", "{}"),
    "seeds": ("Seeds", "{}"),
    "frame_auc": ("Frame AUC", "{:.4f}"),
    "frame_auc_half": ("± 95%", "{:.4f}"),
    "frame_diff": ("Difference", "{:+.4f}"),
    "frame_low": ("from", "{:+.4f}"),
    "frame_high": ("to", "{:+.4f}"),
    "frame_p": ("p, Holm", "{:.3f}"),
    "video_auc": ("Video AUC", "{:.4f}"),
    "video_auc_half": ("± 95%", "{:.4f}"),
    "video_diff": ("Difference", "{:+.4f}"),
    "video_low": ("from", "{:+.4f}"),
    "video_high": ("to", "{:+.4f}"),
    "video_p": ("p, Holm", "{:.3f}"),
    "spearman_real": ("Spearman, real", "{:.3f}"),
    "spearman_fake": ("Spearman, fake", "{:.3f}"),
    "minutes": ("Minutes", "{:.1f}"),
    "peak_mib": ("Peak MiB", "{:.0f}"),
}
NONE = "–"
SAME = ("path", "frame", "video_id", "label")  # what tells the faces of a test set apart


@dataclass(frozen=True)
class Result:
    """A finished cell: metrics and predictions of the test split, time and memory."""

    name: str
    seed: int
    metrics: dict[str, Any]
    table: Predictions
    seconds: float
    peak_mib: int

    @cached_property
    def videos(self) -> Videos:
        """The videos of the table, as `video_auc` in the metrics takes them."""
        aggregation = self.metrics.get("aggregate", "mean"), self.metrics.get("top_share", 0.1)
        return group_videos(self.table, *aggregation)


def summarize(results: Sequence[Result], replicates: int) -> list[dict[str, Any]]:
    """One row per cell, the base first; a value that cannot be computed is None.

    Minutes are the mean total of training, features, fit and evaluation, and memory is the peak in
    these. Training and features count in every cell that shares them; the preparation of records
    counts in none. `± 95%` is half of Student's interval over seeds, for two seeds or
    more. p values are corrected by Holm's method for the number of cells.

    Args:
      results: the finished cells, among them a base of each seed.
      replicates: number of bootstrap replicates, or more if so many cells need more; 0 gives no
        intervals.
    """
    names = list(dict.fromkeys(result.name for result in results))
    if replicates:
        replicates = replicates_for(len(names) - 1, replicates)
    base = {result.seed: result for result in results if result.name == "base"}
    rows = []
    for name in names:
        runs = [result for result in results if result.name == name]
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {"cell": name, "seeds": len(runs)}
        for level in ("frame", "video"):
            values = [run.metrics[f"{level}_auc"] for run in runs]
            row[f"{level}_auc"] = _mean(values)
            row[f"{level}_auc_half"] = half_interval(values)
            if name != "base":
                both = [(base[run.seed], run) for run in runs]
                difference = paired_difference(
                    [(first.table, second.table) for first, second in both],
                    level,
                    replicates,
                    videos=[(first.videos, second.videos) for first, second in both],
                )
                keys = (f"{level}_{key}" for key in ("diff", "low", "high", "p"))
                row |= dict(zip(keys, difference, strict=True))
        for kind in ("real", "fake"):
            values = [run.metrics["fidelity_quality_spearman"][kind] for run in runs]
            row[f"spearman_{kind}"] = _mean(values)
        row["minutes"] = float(np.mean([run.seconds for run in runs])) / 60
        row["peak_mib"] = max(run.peak_mib for run in runs)
        rows.append(row)
    for column in ("frame_p", "video_p"):
        tested = [row for row in rows if row[column] is not None]
        if tested:
            corrected = holm(np.array([row[column] for row in tested]))
            for row, p in zip(tested, corrected, strict=True):
                row[column] = float(p)
    return rows


def half_interval(values: Sequence[float | None]) -> float | None:
    """Half of Student's 95% interval of the mean; None for fewer than two values."""
    if len(values) < 2 or None in values:
        return None
    spread = stats.sem(np.array(values, float))
    return float(spread * stats.t.ppf(0.975, len(values) - 1))


def paired_difference(
    pairs: Sequence[tuple[Predictions, Predictions]],
    level: str,
    replicates: int,
    seed: int = 0,
    videos: Sequence[tuple[Videos, Videos]] | None = None,
) -> tuple[float | None, float | None, float | None, float | None]:
    """Mean difference in AUC over pairs, its 95% interval, and the two-sided p value.

    Args:
      pairs: predictions of the base and of the other run, one pair per seed.
      level: 'frame' or 'video'.
      replicates: number of bootstrap replicates; 0 gives no interval.
      seed: seed of the bootstrap.
      videos: the videos of each pair; by default the score of a video is the mean of its frames.

    Returns:
      Difference, low, high, p. The last three are None without replicates that hold both classes;
      all four are None if the runs of a pair were tested on different faces, or group frames into
      videos differently.
    """
    if not all(_same_faces(base, other) for base, other in pairs):
        return None, None, None, None
    videos = videos or [(group_videos(base), group_videos(other)) for base, other in pairs]
    alike = all(np.array_equal(base.of_frame, other.of_frame) for base, other in videos)
    if level == "video" and not alike:
        return None, None, None, None  # a video is a file in one, a person in the other
    blocks = []
    for drawn_together in draw_videos(
        [base for base, _ in pairs], [base for base, _ in videos], seed, replicates
    ):
        differences = []
        for (base, other), grouped, draws in zip(pairs, videos, drawn_together, strict=True):
            if level == "frame":
                label, video = base.label, grouped[0].of_frame
                scores = base.fidelity, other.fidelity
            else:
                label, video = grouped[0].label, np.arange(len(grouped[0].label))
                scores = grouped[0].fidelity, grouped[1].fidelity
            before, after = (
                resample(Level(label, score, video), draws, {"auc": auc})["auc"] for score in scores
            )
            differences.append(after - before)
        blocks.append(np.stack(differences))
    drawn: Float[np.ndarray, "pairs r"] = np.concatenate(blocks, axis=1)
    if not np.isfinite(drawn[:, 0]).all():
        return None, None, None, None
    return float(drawn[:, 0].mean()), *(compare_seeds(drawn) or (None, None, None))


def draw_videos(
    tables: Sequence[Predictions], videos: Sequence[Videos], seed: int, replicates: int
) -> Iterator[Iterator[Float[np.ndarray, "r v"]]]:
    """How often each video occurs in each replicate, the same in every test set that holds it.

    A video is drawn together with what `cluster_rows` says. The replicates come in blocks, each
    with the draws of every test set; row 0 of the first block is the data itself.
    """
    clusters = cluster_rows(tables)
    label = np.concatenate([table.label for table in tables])
    of_videos = [np.zeros(len(grouped.label), np.int64) for grouped in videos]
    for of_video, grouped, numbers in zip(of_videos, videos, clusters, strict=True):
        of_video[grouped.of_frame] = numbers
    kinds = kinds_of(label, np.concatenate(clusters))
    for draws in draw_blocks(kinds, seed, replicates):
        yield (draws[:, of_video] for of_video in of_videos)


def summarize_methods(results: Sequence[Result]) -> tuple[list[str], list[dict[str, Any]]]:
    """Frame AUC of each cell on each forgery method against all real faces, mean over seeds.

    Returns:
      The methods, and one row per cell: `cell`, the AUC by method, and `seeds`; None where a run
      has no such fakes.
    """
    methods = sorted({method for result in results for method in result.metrics["by_method"]})
    rows = []
    for name in dict.fromkeys(result.name for result in results):
        runs = [result.metrics["by_method"] for result in results if result.name == name]
        row: dict[str, Any] = {"cell": name, "seeds": len(runs)}
        for method in methods:
            row[method] = _mean([run.get(method, {}).get("frame_auc") for run in runs])
        rows.append(row)
    return methods, rows


def write_methods(methods: Sequence[str], rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write `summarize_methods` as CSV."""
    with written_whole(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["cell", "seeds", *methods], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write(rows: Sequence[dict[str, Any]], stem: Path) -> None:
    """Write STEM.csv with full precision, and STEM.md and STEM.tex (booktabs) with rounding."""
    with written_whole(stem.with_suffix(".csv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    titles = [title for title, _ in COLUMNS.values()]
    cells = [[_show(key, row[key]) for key in COLUMNS] for row in rows]
    marked = [[cell.replace("|", r"\|") for cell in row] for row in cells]
    lines = [f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *marked)]
    with written_whole(stem.with_suffix(".md"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    ends = [" & ".join(map(escape, line)) + r" \\" for line in (titles, *cells)]
    table = [
        rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}", r"\toprule", ends[0], r"\midrule",
        *ends[1:], r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip
    with written_whole(stem.with_suffix(".tex"), "w", encoding="utf-8") as file:
        file.write("\n".join(table) + "\n")


def describe(rows: Sequence[dict[str, Any]]) -> str:
    """The table as lines of text."""
    lines = [f"frame and video AUC on the test split, mean of {rows[0]['seeds']} seeds:"]
    for row in rows:
        parts = []
        for level in ("frame", "video"):
            auc_shown = _show(f"{level}_auc", row[f"{level}_auc"])
            part = f"{level}_auc {auc_shown}"
            if row[f"{level}_diff"] is not None and row[f"{level}_low"] is not None:
                keys = (f"{level}_{key}" for key in ("diff", "low", "high", "p"))
                part += " ({} [{}, {}], p {})".format(*(_show(key, row[key]) for key in keys))
            parts.append(part)
        lines.append(f"  {row['cell']}: {'  '.join(parts)}")
    return "\n".join(lines)


def _show(key: str, value: Any) -> str:
    return NONE if value is None else COLUMNS[key][1].format(value)


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else float(np.mean(np.array(values, float)))


def _same_faces(base: Predictions, other: Predictions) -> bool:
    return len(base) == len(other) and all(
        np.array_equal(getattr(base, name), getattr(other, name)) for name in SAME
    )
