"""Whether detectors differ by more than chance: every pair of prediction files, on common rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from math import ceil, comb

import numpy as np
from jaxtyping import Float, Int

from deepfidelity_jax.comparison.prediction_files import Scores
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import FAKE, LABELS, REAL
from deepfidelity_jax.progress import Progress
from deepfidelity_jax.statistics import delong, groups, paired
from deepfidelity_jax.statistics.aggregation import cluster_sources, mean
from deepfidelity_jax.statistics.intervals import (
    MIN_CLUSTERS,
    Level,
    interval,
    kinds_of,
    resample,
)
from deepfidelity_jax.statistics.ranking import auc

REPLICATES, SEED = paired.BLOCK, 0
SHOWN = 5  # missing rows of a file that are shown


@dataclass(frozen=True, eq=False)
class Matched:
    """The rows that all files have.

    row: for each file, its row number of each common row. video: the video number of each common
    row; None if no file names videos. lacking: for each file, rows that others have and it lacks.
    keys: the columns by which rows were matched.
    """

    row: list[np.ndarray]
    label: Int[np.ndarray, "n"]
    video: Int[np.ndarray, "n"] | None
    lacking: list[list[str]]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The result. matching: one entry per file. levels: files, pairs and groups of each level."""

    matching: list[dict]
    keys: tuple[str, ...]
    levels: dict[str, dict]
    notes: list[str] = field(default_factory=list)


def match(files: Sequence[Scores]) -> Matched:
    """Match the rows of all files, by path and by video_id and frame where all files have them.

    Raises:
      InputError: rows of a file cannot be told apart, files disagree on a label or a video, no row
        is in all files, or the common rows have only one class.
    """
    keys = tuple(k for k in ("path", "video_id", "frame") if all(k in f.columns for f in files))
    numbers = []
    for file in files:
        rows = list(zip(*(file.columns[key] for key in keys), strict=True))
        number = {key: row for row, key in enumerate(rows)}
        if len(number) < len(rows):
            key = next(key for row, key in enumerate(rows) if number[key] != row)
            raise InputError(
                f"{file.name} has several rows of {_show(keys, key)}, which the other files cannot "
                "tell apart: every file needs the columns that do, such as frame"
            )
        numbers.append(number)
    every = {key: None for number in numbers for key in number}
    common = [key for key in every if all(key in number for number in numbers)]
    if not common:
        raise InputError(
            "the files have no row in common: "
            + "; ".join(
                f"{f.name} begins with {_first(keys, n)}"
                for f, n in zip(files, numbers, strict=True)
            )
        )
    row = [np.array([number[key] for key in common], np.int64) for number in numbers]
    label = files[0].label[row[0]]
    for file, indices in zip(files[1:], row[1:], strict=True):
        wrong = np.flatnonzero(file.label[indices] != label)
        if wrong.size:
            there, here = (LABELS[labels[wrong[0]]] for labels in (label, file.label[indices]))
            raise InputError(
                f"{files[0].name} and {file.name} disagree on {wrong.size} of {len(common)} "
                f"labels: {_show(keys, common[wrong[0]])} is {there} in the first and {here} in "
                "the second"
            )
    if len(set(label.tolist())) < 2:
        raise InputError(f"all {len(common)} common rows are {LABELS[label[0]]}: give both classes")
    lacking = [[_show(keys, key) for key in every if key not in number] for number in numbers]
    return Matched(row, label, _videos(files, row, label), lacking, keys)


def _show(keys, key) -> str:
    return ", ".join(
        value if name == "path" else f"{name} {value}"
        for name, value in zip(keys, key, strict=True)
    )


def _first(keys, number: dict) -> str:
    return _show(keys, next(iter(number))) if number else "nothing"


def _video_ids(files, row) -> list[tuple[str, np.ndarray]]:
    """Each file that names videos, and the video_id of each common row there."""
    return [
        (file.name, np.array(file.video, object)[indices])
        for file, indices in zip(files, row, strict=True)
        if file.video is not None
    ]


def _videos(files, row, label) -> np.ndarray | None:
    """The video of each common row, from the first file that names videos."""
    named = _video_ids(files, row)
    if not named:
        return None
    numbers = []
    for _, names in named:
        order = {name: i for i, name in enumerate(dict.fromkeys(names.tolist()))}
        numbers.append(np.array([order[name] for name in names], np.int64))
    first = numbers[0]
    for (name, _), number in zip(named[1:], numbers[1:], strict=True):
        if not np.array_equal(first, number):
            raise InputError(f"{named[0][0]} and {name} group the same rows into other videos")
    real = mean(label.astype(np.float64), first)
    mixed = np.flatnonzero((real > 0) & (real < 1))
    if mixed.size:
        video = named[0][1][np.flatnonzero(first == mixed[0])[0]]
        raise InputError(f"video_id {video!r} of {named[0][0]} has rows of both labels")
    return first


def compare(files: Sequence[Scores]) -> Comparison:
    """Compare detectors on the rows that all files have, per frame and per video.

    Raises:
      InputError: see `match`.
    """
    matched = match(files)
    matching = [
        {
            "file": file.name, "rows": len(file.label) + len(file.unscored),
            "used": len(matched.label), "only_here": len(file.label) - len(matched.label),
            "lacking": len(lacking), "unscored": len(file.unscored),
            "examples": (lacking or file.unscored)[:SHOWN],
        }
        for file, lacking in zip(files, matched.lacking, strict=True)
    ]  # fmt: skip
    scores = [file.score[indices] for file, indices in zip(files, matched.row, strict=True)]
    video, label = matched.video, matched.label
    alone = np.arange(len(label))
    paths = np.array(files[0].columns["path"], object)[matched.row[0]]
    named = [
        np.array(file.sources, object)[indices]
        for file, indices in zip(files, matched.row, strict=True)
        if file.sources
    ]
    sources = map(" ".join, zip(*named, strict=True))
    source = cluster_sources(alone if video is None else video, paths.tolist(), sources)
    members = {
        name: np.array(column, object)[indices]
        for file, indices in reversed(list(zip(files, matched.row, strict=True)))
        for name, column in file.groups.items()
    }
    levels = {}
    unused = [f"{', '.join(file.unused)} of {file.name}" for file in files if file.unused]
    notes = [f"columns that are not used: {'; '.join(unused)}"] if unused else []
    if video is None or len(np.unique(video)) == len(label):
        levels["picture"] = _level(files, label, scores, source, members, "picture")
        if video is None:
            notes.append("no file has video_id: every row counts as a video")
        return Comparison(matching, matched.keys, levels, notes)
    levels["frame"] = _level(files, label, scores, source, members, "frame")
    first = np.unique(video, return_index=True)[1]
    means = [mean(score, video).astype(score.dtype) for score in scores]
    constant, names = {}, _video_ids(files, matched.row)[0][1]
    for column, values in members.items():
        (others,) = np.nonzero(values != values[first][video])
        if others.size:
            row = others[0]
            both = [repr(values[at] or groups.UNNAMED) for at in (first[video[row]], row)]
            notes.append(
                f"{column} is left out per video: video_id {names[row]!r} has {' and '.join(both)}"
            )
        else:
            constant[column] = values[first]
    levels["video"] = _level(files, label[first], means, source[first], constant, "video")
    return Comparison(matching, matched.keys, levels, notes)


def _level(files, label, scores, cluster, members, name: str) -> dict:
    """Files, pairs and groups at one level."""
    independent = len(np.unique(cluster)) == len(label)
    replicates = paired.replicates_for(comb(len(files), 2), REPLICATES)
    blocks = paired.draw_blocks(kinds_of(label, cluster), SEED, replicates)
    draws = next(blocks)
    enough = all(len(np.unique(cluster[label == kind])) >= MIN_CLUSTERS for kind in (FAKE, REAL))
    verdicts = [
        None if file.threshold is None else file.calls_real(score) == (label == REAL)
        for file, score in zip(files, scores, strict=True)
    ]
    steps = len(files) * ceil(replicates / REPLICATES)
    progress = Progress(steps, 0, f"bootstraps, per {name}", "done")
    entries, areas = [], []
    for file, score, right in zip(files, scores, verdicts, strict=True):
        level = Level(label, score, cluster)
        areas.append(resample(level, draws, {"auc": auc})["auc"])
        entries.append(_file(file, level, areas[-1], right, draws, independent, enough))
        progress.advance()
    for more in blocks:  # for the pairs
        for i, score in enumerate(scores):
            drawn = resample(Level(label, score, cluster), more, {"auc": auc})["auc"]
            areas[i] = np.concatenate([areas[i], drawn])
            progress.advance()
    progress.end()
    pairs = [
        _pair(files, label, scores, areas, verdicts, i, j, independent, enough)
        for i, j in combinations(range(len(files)), 2)
    ]
    for test in ("delong", "bootstrap", "mcnemar"):
        known = [pair for pair in pairs if pair[f"{test}_p"] is not None]
        corrected = paired.holm(np.array([pair[f"{test}_p"] for pair in known], np.float64))
        for pair, value in zip(known, corrected.tolist(), strict=True):
            pair[f"{test}_p_holm"] = value
    untested = any(pair["delong_note"] for pair in pairs)
    test = "delong" if independent and not untested else "bootstrap"
    for pair in pairs:
        p = pair[f"{test}_p_holm"]
        won = p is not None and p < paired.SURE
        pair["better"] = None if not won else pair["a"] if pair["auc_difference"] > 0 else pair["b"]
    for entry in entries:
        its_pairs = [pair for pair in pairs if entry["file"] in (pair["a"], pair["b"])]
        entry["wins"] = sum(pair["better"] == entry["file"] for pair in its_pairs)
        entry["ties"] = sum(pair["better"] is None for pair in its_pairs)
        entry["losses"] = len(its_pairs) - entry["wins"] - entry["ties"]
    by_group = {}
    for column, group in members.items():
        for file, score in zip(files, scores, strict=True):
            level = Level(label, score, cluster)
            # Files with negated scores get a negated threshold; there, a score at it is fake.
            limit = file.threshold
            if limit is not None and file.high == "fake":
                limit = float(np.nextafter(-limit, np.inf))
            by_group.setdefault(column, {})[file.name] = groups.describe(level, group, draws, limit)
    return {
        "n": len(label), "n_real": int(np.sum(label == REAL)), "n_fake": int(np.sum(label == FAKE)),
        "clusters": draws.shape[1], "independent": independent, "test": test, "files": entries,
        "pairs": pairs, "replicates": replicates, "groups": by_group,
    }  # fmt: skip


def _right_share(sample, right) -> Float[np.ndarray, "r"]:
    return sample.weights @ right / sample.weights.sum(axis=1)


def _file(file, level, areas, right, draws, independent: bool, enough: bool) -> dict:
    """One detector: AUC and accuracy, each with its interval."""
    entry = {
        "file": file.name, "auc": float(areas[0]), "auc_ci": None, "auc_ci_from": "none: too few",
        "threshold": file.threshold, "threshold_from": file.threshold_from,
        "accuracy": None, "accuracy_ci": None,
    }  # fmt: skip
    if enough and independent:
        low, high = delong.auc_interval(level.label, level.score)[1:]
        entry["auc_ci"] = [low, high]
        entry["auc_ci_from"] = "DeLong" if low < high else "DeLong: too narrow, variance 0"
    elif enough:
        entry["auc_ci"] = interval(areas[1:])
        entry["auc_ci_from"] = "bootstrap over videos"
    if right is not None:
        shares = resample(level, draws, {"x": partial(_right_share, right=right)})["x"]
        entry["accuracy"] = float(shares[0])
        entry["accuracy_ci"] = interval(shares[1:]) if enough else None
    return entry


def _pair(files, label, scores, areas, verdicts, i: int, j: int, independent, enough) -> dict:
    """Two detectors: the difference of their AUCs, first minus second, and three tests."""
    entry = {
        "a": files[i].name, "b": files[j].name,
        "auc_difference": float(areas[i][0] - areas[j][0]), "ci": None, "ci_note": "",
        "delong_p": None, "delong_p_holm": None, "delong_note": "",
        "bootstrap_p": None, "bootstrap_p_holm": None,
        "only_a_right": None, "only_b_right": None, "mcnemar_p": None, "mcnemar_p_holm": None,
        "mcnemar_exact": None,
    }  # fmt: skip
    if enough:
        drawn = areas[i][1:] - areas[j][1:]
        low, high = entry["ci"] = interval(drawn)
        entry["ci_note"] = "" if low < high else "all replicates are equal"
        entry["bootstrap_p"] = paired.bootstrap_p(drawn)
        if independent:
            entry["delong_p"] = delong.compare(label, scores[i], scores[j]).p
            entry["delong_note"] = "none: variance 0" if entry["delong_p"] is None else ""
    if verdicts[i] is not None and verdicts[j] is not None:
        discordant = paired.mcnemar(verdicts[i], verdicts[j])
        entry |= {"only_a_right": discordant.first, "only_b_right": discordant.second}
        if independent:
            entry |= {"mcnemar_p": discordant.p, "mcnemar_exact": discordant.exact}
    return entry
