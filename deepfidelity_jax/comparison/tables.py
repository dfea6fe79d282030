"""A comparison as Markdown, LaTeX or CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from deepfidelity_jax.comparison.compare import REPLICATES, SEED, Comparison
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.statistics.paired import SURE

FORMATS = (".csv", ".md", ".tex")
COUNTS = ("rows", "used", "only_here", "lacking", "unscored")
CSV_COLUMNS = (
    "table", "level", "file", "other", "group", "figure", "value", "low", "high", "from", "n",
)  # fmt: skip
SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    # Other glyphs in the font that LaTeX takes unless told otherwise.
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
}


class Table(NamedTuple):
    """A table of text: what it shows, its header and its rows."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def require_format(path: str) -> None:
    """InputError if a comparison cannot be written to a file of this name."""
    if Path(path).suffix not in FORMATS:
        raise InputError(f"--output={path}: give a name that ends in {', '.join(FORMATS)}")


def write(comparison: Comparison, path: str | Path) -> None:
    """Write a comparison in the format that the name ends in."""
    text = {".csv": to_csv, ".md": to_markdown, ".tex": to_latex}[Path(path).suffix](comparison)
    with written_whole(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)


def tables(comparison: Comparison) -> Iterator[Table]:
    """The rows used, then for each level files, pairs, wins and groups."""
    yield Table(
        f"Rows, matched by {', '.join(comparison.keys)}. All figures use only rows "
        "present in every file.",
        ("file", "rows", "used", "not in every file", "lacking", "without a score", "for example"),
        [
            (entry["file"], *(str(entry[key]) for key in COUNTS), "; ".join(entry["examples"]))
            for entry in comparison.matching
        ],
    )
    for name, level in comparison.levels.items():
        scope = (
            f"Per {name}: {level['n']} {name}s ({level['n_real']} real, {level['n_fake']} fake), "
            f"{level['clusters']} videos, pictures or people"
        )
        yield Table(
            f"{scope}. Accuracy at each file's own threshold. 95% intervals, from a bootstrap over "
            f"videos unless noted, {REPLICATES} replicates, seed {SEED}.",
            ("file", "AUC", "95%", "interval from", "threshold", "from", "accuracy", "95%"),
            [
                (
                    entry["file"], _number(entry["auc"]), _range(entry["auc_ci"]),
                    entry["auc_ci_from"], _number(entry["threshold"]), entry["threshold_from"],
                    _number(entry["accuracy"]), _range(entry["accuracy_ci"]),
                )
                for entry in level["files"]
            ],
        )  # fmt: skip
        why = "" if level["independent"] else (
            " DeLong's and McNemar's test need independent units and are left out: frames of one "
            "video, a picture and its forgeries, and pictures of one person are alike."
        )  # fmt: skip
        yield Table(
            f"Pairs, per {name}. Difference of AUC, a minus b; p-values are two-sided, in brackets "
            "corrected by Holm's method for the pairs that have the test. The bootstrap has "
            f"{level['replicates']} replicates.{why}",
            ("a", "b", "AUC a - b", "95%", "DeLong", "paired bootstrap", "only a right",
             "only b right", "McNemar"),
            [
                (
                    pair["a"], pair["b"], _number(pair["auc_difference"], "+.4f"),
                    "; ".join(filter(None, (_range(pair["ci"]), pair["ci_note"]))),
                    pair["delong_note"] or _p(pair, "delong"), _p(pair, "bootstrap"),
                    _count(pair["only_a_right"]), _count(pair["only_b_right"]),
                    _p(pair, "mcnemar") + (", exact" if pair["mcnemar_exact"] else ""),
                )
                for pair in level["pairs"]
            ],
        )  # fmt: skip
        test = {"delong": "DeLong's test", "bootstrap": "the paired bootstrap"}[level["test"]]
        yield Table(
            f"Wins, per {name}: a higher AUC with a corrected p below {SURE} by {test}.",
            ("file", "wins", "ties", "losses"),
            [
                (entry["file"], *(str(entry[key]) for key in ("wins", "ties", "losses")))
                for entry in level["files"]
            ],
        )
        for column, by_file in level["groups"].items():
            yield from _group_tables(name, column, by_file)


def _group_tables(level: str, column: str, by_file: dict) -> Iterator[Table]:
    rows, gaps = [], []
    for file, entry in by_file.items():
        for group, figures in entry["groups"].items():
            rows.append((
                file, group, str(figures["n_real"]), str(figures["n_fake"]),
                _number(figures["auc"]), _range(figures["ci"]["auc"]),
                _number(figures.get("fpr")), _range(figures["ci"].get("fpr")),
            ))  # fmt: skip
        for figure, gap in entry["largest_gap"].items():
            between = " and ".join(gap["between"] or ())
            gaps.append(
                (file, figure, _number(gap["value"]), _range(gap["ci"]), between, gap["note"])
            )
    yield Table(
        f"By {column}, per {level}. FPR at each file's own threshold, the same for all groups.",
        ("file", "group", "real", "fake", "AUC", "95%", "FPR", "95%"),
        rows,
    )
    yield Table(
        f"Largest gap between two groups of {column}, per {level}.",
        ("file", "figure", "gap", "95%", "between", "note"),
        gaps,
    )


def to_markdown(comparison: Comparison) -> str:
    """All tables in Markdown."""
    lines = []
    for caption, header, rows in tables(comparison):
        lines += [caption, "", _line(header), _line(["---"] * len(header))]
        lines += [*(_line(row) for row in rows), ""]
    return "\n".join([*lines, *comparison.notes]).rstrip() + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def to_latex(comparison: Comparison) -> str:
    """All tables in LaTeX; they need the package booktabs."""
    lines = []
    for caption, header, rows in tables(comparison):
        lines += [
            "\\begin{table}", "\\centering", f"\\caption{{{escape(caption)}}}",
            f"\\begin{{tabular}}{{{'l' * len(header)}}}", "\\toprule", _row(header), "\\midrule",
            *(_row(row) for row in rows), "\\bottomrule", "\\end{tabular}", "\\end{table}", "",
        ]  # fmt: skip
    return "\n".join([*lines, *(f"% {note}" for note in comparison.notes)]).rstrip() + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(escape(cell) for cell in cells) + r" \\"


def escape(text: str) -> str:
    """Text for a cell of a LaTeX table."""
    return "".join(SPECIAL.get(c, c) for c in text.replace("\n", " "))


def to_csv(comparison: Comparison) -> str:
    """All tables as CSV, one figure per row, with all digits."""
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for entry in comparison.matching:
        for figure in COUNTS:
            writer.writerow(
                {"table": "rows", "file": entry["file"], "figure": figure, "value": entry[figure]}
            )
    for note in comparison.notes:
        writer.writerow({"table": "notes", "from": note})
    for name, level in comparison.levels.items():
        for row in _csv_rows(level):
            writer.writerow(
                {"level": name, "n": level["n"]} | {k: v for k, v in row.items() if v is not None}
            )
    return file.getvalue()


def _csv_rows(level: dict) -> Iterator[dict]:
    def bounds(ci):
        return dict(zip(("low", "high"), ci or (None, None), strict=True))

    for entry in level["files"]:
        common = {"table": "files", "file": entry["file"]}
        source = entry["auc_ci_from"]
        yield (
            common
            | {"figure": "auc", "value": entry["auc"], "from": source}
            | bounds(entry["auc_ci"])
        )
        where = entry["threshold_from"]
        yield common | {"figure": "threshold", "value": entry["threshold"], "from": where}
        yield (
            common
            | {"figure": "accuracy", "value": entry["accuracy"]}
            | bounds(entry["accuracy_ci"])
        )
        for figure in ("wins", "ties", "losses"):
            yield common | {
                "table": "wins",
                "figure": figure,
                "value": entry[figure],
                "from": level["test"],
            }
    for pair in level["pairs"]:
        common = {"table": "pairs", "file": pair["a"], "other": pair["b"]}
        difference = {"figure": "auc_difference", "value": pair["auc_difference"]}
        yield common | difference | bounds(pair["ci"]) | {"from": pair["ci_note"] or None}
        notes = {"mcnemar": pair["mcnemar_exact"] and "exact", "delong": pair["delong_note"]}
        for figure, value in pair.items():
            if figure.endswith(("_p", "_holm", "_right")):
                note = notes.get(figure.split("_")[0]) or None
                yield common | {"figure": figure, "value": value, "from": note}
    for column, by_file in level["groups"].items():
        for file, entry in by_file.items():
            for group, counted in entry["groups"].items():
                for figure, ci in counted["ci"].items():
                    yield {
                        "table": column, "file": file, "group": group, "figure": figure,
                        "value": counted[figure], "n": counted["n"], **bounds(ci),
                    }  # fmt: skip
            for figure, gap in entry["largest_gap"].items():
                yield {
                    "table": column, "file": file, "group": " and ".join(gap["between"] or ()),
                    "figure": f"largest gap of {figure}", "value": gap["value"],
                    **bounds(gap["ci"]),
                }  # fmt: skip


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _range(ci: Sequence[float] | None) -> str:
    return "-" if ci is None else f"{ci[0]:.4f} to {ci[1]:.4f}"


def _p(pair: dict, test: str) -> str:
    values = [pair[f"{test}_p"], pair[f"{test}_p_holm"]]
    if None in values:
        return "-"
    first, second = ("<0.0001" if value < 1e-4 else f"{value:.4f}" for value in values)
    return f"{first} ({second})"
