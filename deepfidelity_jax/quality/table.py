"""Quality measured elsewhere: a CSV table of scores, and the file that each row refers to."""

import csv
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from deepfidelity_jax.errors import InputError


def read_scores(csv_path: str | Path) -> dict[str, float]:
    """Scores by path from a CSV file with the columns path and score, high is good.

    Raises InputError for a missing file or header, and, with its line number, for a row without a
    path, with a score that is not a finite number, or with a path seen before.
    """
    try:
        with open(csv_path, newline="", encoding="utf-8-sig") as file:
            return _parse_scores(csv_path, csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"quality scores {csv_path}: cannot be read ({error})") from error


def match_scores(
    scores: Mapping[str, float], names: Sequence[str], folder: str | Path
) -> dict[str, float]:
    """The score of each file that has one, by the file's name.

    A path in the table may be absolute, on this machine or another. It may begin with `./` or with
    the last folders of `folder`, have backslashes, or be the end of a name, down to the bare file
    name.

    Args:
      scores: the scores by the paths in the table.
      names: the files, relative to `folder`.
      folder: the folder of the files.

    Raises:
      InputError: a path fits several files, several paths fit one file, or no path fits any.
    """
    exact, ends, known = set(names), {}, {}
    for name in names:
        known.setdefault(normal(name), []).append(name)
        for end in _ends(normal(name)):
            ends.setdefault(end, []).append(name)
    root = normal(str(folder))

    def find(row: str) -> list[str]:
        if row in exact:
            return [row]
        path = normal(row)
        # An end of the path that is a whole name; the rest must be the folders above.
        for end in _ends(path):
            before = path.removesuffix(end).rstrip("/")
            absolute = row.startswith(("/", "\\")) or row[1:2] == ":"
            if end in known and (absolute or f"/{root}".endswith(f"/{before}") or not before):
                return known[end]
        return ends.get(path, [])

    rows: dict[str, str] = {}
    for row in scores:
        fitting = find(row)
        if len(fitting) > 1:
            raise InputError(
                f"the quality table's path {row!r} may be {len(fitting)} files in {folder}, such "
                f"as {fitting[0]} and {fitting[1]}: write their folders as well"
            )
        for name in fitting:
            if name in rows:
                raise InputError(
                    f"the quality table's paths {rows[name]!r} and {row!r} are one file, {name} in "
                    f"{folder}: keep one"
                )
            rows[name] = row
    if not rows:
        raise InputError(
            f"no path of the quality table is a file in {folder}: the table has "
            f"{', '.join(list(scores)[:3]) or 'no rows'}; the folder has "
            f"{', '.join(list(names)[:3]) or 'no files'}"
        )
    return {name: scores[row] for name, row in rows.items()}


def normal(path: str) -> str:
    """A path with forward slashes and without `./`, in Unicode's composed form (NFC)."""
    path = unicodedata.normalize("NFC", path).replace("\\", "/")
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def parse_number(text: str, what: str) -> float:
    """The finite number in a cell of a table; the InputError begins with `what`."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{what} {text[:40]!r} is not a finite number")
    return number


def _ends(path: str) -> list[str]:
    """The path, and what remains as its leading folders are removed, down to the file name."""
    parts = path.split("/")
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _parse_scores(csv_path, rows):
    if not {"path", "score"} <= set(rows.fieldnames or ()):
        raise InputError(f"quality scores {csv_path}, line 1: the header must be path,score")
    scores = {}
    for row in rows:
        where = f"quality scores {csv_path}, line {rows.line_num}"
        path, text = row["path"], row["score"]
        if not path or text is None or None in row:
            raise InputError(f"{where}: expected path,score")
        if path in scores:
            raise InputError(f"{where}: {path} has a score already, keep one")
        scores[path] = parse_number(text, f"{where}: the score")
    return scores
