"""Curves of robustness: AUC and real faces called fake over the severities of a degradation."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from deepfidelity_jax.scoring.charts import ACCENT, COLOURS, GRID, INK, MUTED, chart_style

COLUMNS = 5


def draw(rows: Sequence[dict[str, Any]]) -> Figure:
    """A small chart for each degradation. Bands are 95% intervals.

    Grade 0 is untouched: all faces, or those that have a grade 0 of their own.
    """
    untouched, *degraded = rows
    kinds = list(dict.fromkeys(row["degradation"] for row in degraded))
    lines = -(-len(kinds) // COLUMNS)
    figure = Figure(figsize=(2 * COLUMNS, 1.9 * lines), layout="constrained")
    axes = figure.subplots(lines, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axis, kind in zip(axes.flat, kinds, strict=False):
        of_kind = [row for row in degraded if row["degradation"] == kind]
        if of_kind[0]["grade"]:
            of_kind = [untouched, *of_kind]
        for name, colour in (("frame_auc", ACCENT), ("false_alarms", COLOURS["fake"])):
            known = [row for row in of_kind if row[name] is not None]
            grades = [row["grade"] for row in known]
            axis.plot(grades, [row[name] for row in known], color=colour, marker=".")
            bounded = [row for row in known if row[f"{name}_low"] is not None]
            axis.fill_between(
                [row["grade"] for row in bounded],
                [row[f"{name}_low"] for row in bounded],
                [row[f"{name}_high"] for row in bounded],
                color=colour, alpha=0.2, linewidth=0,
            )  # fmt: skip
        axis.axhline(0.5, color=GRID, linewidth=0.8, zorder=0)
        axis.set_title(kind, fontsize=9, color=INK, loc="left")
        axis.set(xticks=range(6), ylim=(0, 1))
        axis.tick_params(colors=MUTED, labelsize=7)
    for axis in axes.flat[len(kinds) :]:
        axis.set_visible(False)
    return figure


def draw_svg(rows: Sequence[dict[str, Any]]) -> str:
    """The drawing as SVG."""
    file = io.StringIO()
    with chart_style():
        figure = draw(rows)
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # saving would lay it out twice more
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()
