"""Mean and worst over all degradations and severities."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepfidelity_jax.files import written_whole

COLUMNS = ("figure", "mean", "worst", "degradation", "strength")
# A figure of the table, and which of two values is the worse.
FIGURES = {"frame_auc": min, "video_auc": min, "false_alarms": max, "caught": min}
WORDS = {"false_alarms": "real called fake", "caught": "fakes called fake"}  # of people who read


def overall(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per figure that is known: its mean, its worst value, and where that is.

    `rows`: of the table, including those of untouched faces (grade 0).
    """
    figures = []
    for name, worse in FIGURES.items():
        known = [row for row in rows if row["grade"] and row[name] is not None]
        if known:
            row = worse(known, key=lambda row: row[name])
            mean = float(np.mean([known_row[name] for known_row in known]))
            figures.append({
                "figure": name, "mean": mean, "worst": row[name],
                "degradation": row["degradation"], "strength": row["strength"],
            })  # fmt: skip
    return figures


def write(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write `overall` as CSV."""
    with written_whole(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(overall(rows))
