"""Quality measured elsewhere: a table of scores, and which file each row means."""

import csv
import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from deepfidelity_jax.errors import InputError


def read_scores(csv_path: str | Path) -> dict[str, float]:
    """External scores from a CSV file with the columns path and score, high is good.

    Raises InputError for a missing file, a missing header, and, with its line number, for a row
    without path, with a score that is no finite number, or with a path seen before.
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

    A row's path may be absolute, here or where the table was made; it may begin with `./` or with
    the last folders of `folder`, have backslashes, or be the end of a name, down to the bare file
    name.

    Args:
      scores: by the paths of the table.
      names: of the files, relative to `folder`.
      folder: where they lie.

    Raises:
      InputError: a path may be several files, several paths are one file, or no path is any.
    """
    exact, ends, known = set(names), {}, {}
    for name in names:
        known.setdefault(normal(name), []).append(name)
        for end in _ends(normal(name)):
            ends.setdefault(end, []).append(name)
    place = normal(str(folder))

    def find(row: str) -> list[str]:
        if row in exact:
            return [row]
        path = normal(row)
        # An end of it that is a whole name; what stands before must be folders around `folder`.
        for end in _ends(path):
            before = path.removesuffix(end).rstrip("/")
            absolute = row.startswith(("/", "\\")) or row[1:2] == ":"
            if end in known and (absolute or f"/{place}".endswith(f"/{before}") or not before):
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
    """A path of a table, with forward slashes and without `./`, in Unicode's composed form."""
    path = unicodedata.normalize("NFC", path).replace("\\", "/")
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _ends(path: str) -> list[str]:
    """The path, and it without its first folders, down to the file name."""
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
        try:
            scores[path] = float(text)
        except ValueError:
            scores[path] = math.nan
        if not math.isfinite(scores[path]):
            raise InputError(f"{where}: {text!r} is not a finite number")
    return scores
