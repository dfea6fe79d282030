"""How much the figures differ between groups of faces, such as by age or by camera."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Float, Shaped

from deepfidelity_jax.fidelity.scale import FAKE, REAL
from deepfidelity_jax.statistics.intervals import (
    MIN_CLUSTERS,
    Level,
    add_statistics,
    interval,
    resample,
)
from deepfidelity_jax.statistics.ranking import accuracy, auc

UNNAMED = "(not given)"


def describe(
    level: Level,
    group: Shaped[np.ndarray, "n"] | Sequence[str],
    draws: Float[np.ndarray, "r c"],
    threshold: float | None,
) -> dict:
    """n, AUC and FPR of each group, and the largest gap in each between any two groups.

    Args:
      level: fidelity of each unit.
      group: the group of each unit; empty if unknown.
      draws: from `intervals.draw_clusters`.
      threshold: the same for all groups; None leaves the FPR out.

    Returns:
      `groups`, one entry per group, and `largest_gap`: for each figure its `value`, the two groups
      `between` which it is, the lower one first, and the interval of that difference, which extends
      below 0 if the order may be reversed. The pair was chosen for its gap, so the interval has
      Bonferroni's correction for all pairs; None if the replicates are too few for that. Units of
      unknown group, and groups with fewer than 5 clusters of a class that the figure needs, take no
      part. `note` tells of both.
    """
    names = np.array([value or UNNAMED for value in group], object)
    statistics = {"auc": auc}
    if threshold is not None:
        statistics["fpr"] = partial(_false_alarms, threshold=threshold)
    entries, drawn, clusters = {}, {}, {}
    for name in sorted(set(names)):
        members = level.take(names == name)
        entry = {
            "n": len(members.label),
            "n_real": int(np.sum(members.label == REAL)),
            "n_fake": int(np.sum(members.label == FAKE)),
            "ci": {},
            "note": {},
        }
        add_statistics(entry, members, draws, statistics)
        entries[name] = entry
        drawn[name] = resample(members, draws, statistics)
        clusters[name] = [
            len(np.unique(members.cluster[members.label == kind])) for kind in (FAKE, REAL)
        ]
    gaps = {
        figure: _largest_gap(
            clusters, {name: figures[figure] for name, figures in drawn.items()}, needed
        )
        for figure, needed in (("auc", (FAKE, REAL)), ("fpr", (REAL,)))
        if figure in statistics
    }
    return {"groups": entries, "largest_gap": gaps}


def _false_alarms(sample, threshold: float) -> Float[np.ndarray, "r"]:
    return 1 - accuracy(sample, threshold, label=REAL)


def _largest_gap(clusters: dict, drawn: dict, needed: Sequence[int]) -> dict:
    few = [
        name
        for name, counts in clusters.items()
        if name != UNNAMED and min(counts[kind] for kind in needed) < MIN_CLUSTERS
    ]
    kept = [name for name in drawn if name not in (UNNAMED, *few)]
    gap = {"value": None, "between": None, "ci": None, "note": ""}
    if few:
        gap["note"] = f"left out, too few: {', '.join(few)}"
    if len(kept) < 2:
        return gap | {"note": "; ".join(filter(None, ["fewer than two groups", gap["note"]]))}
    values = np.stack([drawn[name] for name in kept])
    low, *_, high = np.argsort(values[:, 0], kind="stable").tolist()  # differ even if all are equal
    between = values[high] - values[low]
    replicates = between[1:][np.isfinite(between[1:])]
    gap["value"], gap["between"] = float(between[0]), [kept[low], kept[high]]
    pairs = math.comb(len(kept), 2)
    needed = 40 * pairs  # one replicate beyond each end
    if replicates.size >= needed:
        gap["ci"] = interval(replicates, 1 - 0.05 / pairs)
    elif replicates.size:
        few = f"no interval: {pairs} pairs of groups need {needed} replicates"
        gap["note"] = "; ".join(filter(None, [gap["note"], few]))
    return gap
