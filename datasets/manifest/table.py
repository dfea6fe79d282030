"""A table of files with their labels: CSV, Parquet or JSON lines. Labels are never guessed."""

import csv
import difflib
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from deepfidelity_datasets.face_folder.labels import CLASSES, SPLIT_FOLDERS
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.quality.table import parse_number
from deepfidelity_jax.records.schema import FAKE, LABELS, ORIGINAL, REAL

NEEDED = ("path", "label")
COLUMNS = (*NEEDED, "method", "video_id", "person", "split", "quality")
GROUP = re.compile(r"group_\w+")
UNUSABLE = re.compile("[\0\ud800-\udfff]")  # no file name has these, no file can hold them
KINDS = (".csv", ".parquet", ".jsonl")


@dataclass(frozen=True)
class Row:
    """One file. number: its line number, or its row number in Parquet. path: as written.

    All other text is in Unicode's form NFC, because the same name may be encoded in two ways.
    quality: NaN if there is none. groups: the values of `group_*` columns. The other fields are
    empty if the table has no value.
    """

    number: int
    path: str
    label: int
    method: str = ""
    video_id: str = ""
    person: str = ""
    split: str = ""
    quality: float = math.nan
    groups: Mapping[str, str] = field(default_factory=dict)


class Table(NamedTuple):
    """The rows of a table, and the names of its columns in lower case.

    unused: the columns that are ignored.
    """

    rows: list[Row]
    columns: tuple[str, ...]
    unused: tuple[str, ...]


def read_table(path: Path, real_label: str = "") -> Table:
    """Read a table with the columns `path` and `label`, and others of COLUMNS and GROUP.

    Args:
      path: a file whose name ends in one of KINDS.
      real_label: `0` or `1`, the number that means real; empty if labels are words.

    Raises:
      InputError: the file cannot be read, or a row is wrong; the message gives its line.
    """
    if real_label not in ("", "0", "1"):
        raise InputError(f"config.data.real_label is {real_label!r}: give 0 or 1")
    kind = path.suffix.lower()
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a table, a file that ends in {_or(KINDS)}")
    if kind not in KINDS:
        raise InputError(f"{path} is not a table: its name must end in {_or(KINDS)}")
    try:
        read = {".csv": _read_csv, ".jsonl": _read_json_lines, ".parquet": _read_parquet}[kind]
        cells = list(read(path))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from None
    columns = tuple(dict.fromkeys(name for _, row in cells for name in row))
    _require_columns(path, columns)
    rows = [_row(f"{path}, line {number}", number, row, real_label) for number, row in cells]
    _require_one_form(path, cells)
    unused = tuple(name for name in columns if name not in COLUMNS and not GROUP.fullmatch(name))
    return Table(rows, columns, unused)


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        # strict, because an open quotation mark would swallow the rows after it.
        lines = csv.reader(file, strict=True)
        try:
            header = _header(path, next(filter(None, lines), []))
            _require_columns(path, header)
            for cells in lines:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise InputError(
                        f"{path}, line {lines.line_num}: {len(cells)} values, but the header has "
                        f"{len(header)} columns"
                    )
                yield lines.line_num, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise InputError(f"{path}, line {lines.line_num}: {error}") from None


def _read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}, line {number}: not JSON ({error})") from None
            if not isinstance(values, dict):
                raise InputError(f"{path}, line {number}: not a JSON object with {_and(NEEDED)}")
            yield number, _texts(path, number, values)


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError(
            f"{path} needs pyarrow: pip install 'deepfidelity_jax[table]', or give a CSV file"
        ) from None
    if not path.is_file():
        raise InputError(f"{path} cannot be read: no such file")
    try:
        rows = parquet.ParquetFile(path).read().to_pylist()
    except (ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable Parquet file: {error}") from None
    for number, values in enumerate(rows, 1):
        yield number, _texts(path, number, values)


def _texts(path: Path, number: int, values: Mapping[str, object]) -> dict[str, str]:
    """Cells as text, as in a CSV file; empty if there is no value."""
    cells = {}
    for name, value in zip(_header(path, list(values)), values.values(), strict=True):
        if value is None or (isinstance(value, float) and math.isnan(value)):
            value = ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            known = name in COLUMNS or GROUP.fullmatch(name)
            if known:
                raise InputError(
                    f"{path}, line {number}: {name} is {value!r}, neither text nor a number"
                )
        cells[name] = str(value)
    return cells


def _header(path: Path, names: Sequence[str]) -> list[str]:
    header = [name.strip().casefold() for name in names]
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice:
        raise InputError(f"{path} has two columns {twice!r}: keep one")
    return header


def _require_columns(path: Path, columns: Sequence[str]) -> None:
    lacking = [name for name in NEEDED if name not in columns]
    if not lacking:
        return
    if not columns:
        raise InputError(f"{path} is empty: give rows with {_and(NEEDED)}")
    shown = ", ".join(repr(name[:40]) for name in columns[:6])
    hint = "name the columns in the first line"
    mark = next((mark for mark in ";\t|" if len(columns) == 1 and mark in columns[0]), "")
    if mark:
        hint = f"separate values by commas, not by {'tabs' if mark == chr(9) else mark}"
    elif near := difflib.get_close_matches(lacking[0], columns, 1, 0.75):
        hint = f"rename {near[0]!r} if that is meant"
    raise InputError(f"{path} has no column {_and(lacking)} but {shown}: {hint}")


def _row(where: str, number: int, cells: Mapping[str, str], real_label: str) -> Row:
    path = cells.get("path", "")
    text = {name: _normal(cells.get(name, "")) for name in COLUMNS[1:]}
    if not path.strip():
        raise InputError(f"{where}: no path")
    for name, value in cells.items():
        if UNUSABLE.search(value) and (name in COLUMNS or GROUP.fullmatch(name)):
            raise InputError(f"{where}: {name} contains an unusable character")
    label = _label(where, text["label"], real_label)
    split = SPLIT_FOLDERS.get(text["split"].casefold(), "")
    if text["split"] and not split:
        raise InputError(f"{where}: the split is {text['split']!r}: give {_or(SPLIT_FOLDERS)}")
    quality = text["quality"]
    return Row(
        number,
        path,
        label,
        _method(where, text["method"], label),
        text["video_id"],
        text["person"],
        split,
        parse_number(quality, f"{where}: the quality") if quality else math.nan,
        {name: _normal(cells[name]) for name in cells if GROUP.fullmatch(name)},
    )


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _label(where: str, text: str, real_label: str) -> int:
    if not text:
        raise InputError(f"{where}: no label")
    if text in ("0", "1"):
        if not real_label:
            raise InputError(
                f"{where}: the label is {text}, and labels are never guessed: say which number is "
                "real, --config.data.real_label=0 or --config.data.real_label=1"
            )
        return REAL if text == real_label else FAKE
    if text.casefold() not in CLASSES:
        raise InputError(f"{where}: the label is {text[:40]!r}: give real or fake, or 0 or 1")
    return CLASSES[text.casefold()]


def _require_one_form(path: Path, cells: Iterable[tuple[int, Mapping[str, str]]]) -> None:
    """InputError if some labels are numbers and some are words."""
    first: dict[bool, tuple[int, str]] = {}
    for number, row in cells:
        text = row["label"].strip()
        first.setdefault(text in ("0", "1"), (number, text))
    if len(first) == 2:
        (a, one), (b, other) = first[False], first[True]
        raise InputError(
            f"{path} has the label {one!r} in line {a} and {other!r} in line {b}: give words or "
            "numbers, not both"
        )


def _method(where: str, text: str, label: int) -> str:
    if label == FAKE:
        if text.casefold() in ("real", ORIGINAL):
            raise InputError(f"{where}: a fake with the method {text!r}: which of the two is it?")
        return text or LABELS[FAKE]
    if text.casefold() not in ("", "real", ORIGINAL):
        raise InputError(
            f"{where}: a real face with the method {text!r}: leave its method empty, or put the "
            "word into a column group_NAME"
        )
    return ORIGINAL


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)


def _or(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"
