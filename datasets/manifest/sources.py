"""The photographs and videos that a table lists, with their labels and splits."""

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from deepfidelity_datasets.face_folder import splits
from deepfidelity_datasets.face_folder.inventory import Inventory
from deepfidelity_datasets.face_folder.sources import FEWEST, escaped, number_frames
from deepfidelity_datasets.manifest.table import Row, Table
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.images import formats
from deepfidelity_jax.leaks.shared_sources import option_for
from deepfidelity_jax.quality import table as quality_table
from deepfidelity_jax.records.own_files import Source
from deepfidelity_jax.records.schema import LABELS, SPLITS
from deepfidelity_jax.records.source import person_origin

NO_FILE = "no such file"


class Listed(NamedTuple):
    """What a table lists.

    notes: why rows were left out, by name. groups: `{column: {name: value}}`. quality: by name.
    """

    sources: list[Source]
    notes: dict[str, str]
    groups: dict[str, dict[str, str]]
    quality: dict[str, float]


@dataclass
class Files:
    """The rows of a table whose files are there, by name.

    notes: why the others are left out. numbers: the line of every row.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def where(self, *names: str) -> str:
        """The lines of some of them, for a message."""
        return " and ".join(f"line {self.rows[name].number} ({name})" for name in names)


def find_files(given: Path, table: Table, folder: Path, *, test_only: bool = False) -> Files:
    """Find the file of each row.

    Args:
      given: the table, for messages.
      table: what it holds.
      folder: what relative paths are relative to.
      test_only: if the table gives splits, use only the test split.

    Raises:
      InputError: a path leaves the folder, two rows have the same file, or only some have a split.
    """
    files = Files()
    divided = any(row.split for row in table.rows)
    for row in table.rows:
        where = f"{given}, line {row.number}"
        path = _find(where, row.path, folder)
        name = escaped(
            path.relative_to(folder).as_posix() if folder in path.parents else path.as_posix()
        )
        if name in files.numbers:
            raise InputError(f"{where}: {name} is in line {files.numbers[name]} already, keep one")
        files.numbers[name] = row.number
        if test_only and row.split not in ("", "test"):
            files.notes[name] = f"in the split {row.split}"
        elif not os.path.exists(path):  # false for a name that is too long, too
            files.notes[name] = NO_FILE
        elif divided and not row.split:
            raise InputError(f"{where} ({name}): no split, but other rows have one")
        else:
            files.rows[name], files.paths[name] = row, path
    return files


def _find(where: str, text: str, folder: Path) -> Path:
    """The path that a row means, whether or not it exists."""
    if os.path.isabs(text):
        forms = [Path(os.path.normpath(text))]
    else:
        # As written first: a backslash may be part of a name here.
        plain = quality_table.normal(text)
        decomposed = unicodedata.normalize("NFD", plain)
        forms = [folder / part for part in (text, plain, text.replace("\\", "/"), decomposed)]
        forms = [Path(os.path.normpath(form)) for form in forms]
        if any(folder not in (form, *form.parents) for form in forms):
            raise InputError(
                f"{where}: the path {text[:80]!r} leads out of {folder}: write it absolute, or "
                "give the folder that paths are relative to with --config.data.dir=FOLDER"
            )
    there = (form for form in forms if os.path.exists(form))
    return next(there, forms[min(1, len(forms) - 1)])


def list_sources(
    given: Path,
    files: Files,
    shares: Sequence[float],
    seed: int,
    *,
    allow: Collection[str] = (),
    test_only: bool = False,
    inventory: Inventory | None = None,
) -> Listed:
    """The sources of a table, each with its split: the one given, or else drawn.

    A split is drawn by the person, else by the video, else by what the file holds. Other rows do
    not move it.

    Args:
      given: the table, for messages.
      files: what it lists.
      shares: of training, validation and test.
      seed: for drawing the splits.
      allow: `config.leaks.allow`; the pairs of splits that may share a person.
      test_only: put everything in the test split.
      inventory: the files read in earlier runs.

    Raises:
      InputError: rows contradict each other, something is in two splits, or there are too few.
    """
    inventory = inventory or Inventory()
    rows, notes = files.rows, dict(files.notes)
    kinds = {}
    for name, path in files.paths.items():
        try:
            kinds[path] = inventory.kind(path)
        except formats.MediaError as error:
            notes[name] = str(error)
    present = [name for name in rows if files.paths[name] in kinds]
    _require_same(given, files, present, kinds)
    if not test_only:
        _require_apart(given, files, {name: rows[name].split for name in present}, allow)
    _require_some(given, rows, present, test_only=test_only)

    read = dict(inventory.digests(kinds))
    digests: dict[str, str] = {}
    first: dict[str, str] = {}
    for name in present:
        digest = read[files.paths[name]]
        if isinstance(digest, formats.MediaError):
            notes[name] = str(digest)
        elif digest in first:
            _require_copy(given, files, first[digest], name)
            notes[name] = f"the same bytes as {first[digest]}"
        else:
            first[digest], digests[name] = name, digest

    _require_some(given, rows, digests, test_only=test_only)  # less the copies, too
    keys = {name: _key(rows[name], digests[name]) for name in digests}
    split_of = dict.fromkeys(keys, "test")
    if not test_only:
        split_of = splits.divide(
            keys,
            {name: rows[name].split for name in keys},
            {name: rows[name].label for name in rows},
            shares,
            seed,
        )
        _require_apart(given, files, split_of, allow)  # validation may be drawn from training
    sources = [
        Source(
            name=name,
            path=str(files.paths[name]),
            label=rows[name].label,
            method=escaped(rows[name].method),
            split=split,
            digest=digests[name],
            video=escaped(rows[name].video_id),
            origins=person_origin(rows[name].person),
        )
        for name, split in split_of.items()
    ]
    pictures = [source for source in sources if kinds[Path(source.path)] == "image"]
    videos = [source for source in sources if kinds[Path(source.path)] == "video"]
    groups: dict[str, dict[str, str]] = {}
    for name in split_of:
        for column, value in rows[name].groups.items():
            if value:
                groups.setdefault(column, {})[name] = value
    return Listed(
        sorted([*number_frames(pictures), *videos], key=lambda source: source.name),
        notes,
        groups,
        {name: rows[name].quality for name in split_of if rows[name].quality == rows[name].quality},
    )


def _key(row: Row, digest: str) -> str:
    """What a row's split is drawn by."""
    if row.person:
        return f"person/{row.person}"
    return f"video/{row.video_id}" if row.video_id else digest


def _require_same(
    given: Path, files: Files, names: Iterable[str], kinds: Mapping[Path, str]
) -> None:
    """InputError unless the rows of a video agree, and are one video file or pictures."""
    first: dict[str, str] = {}
    for name in names:
        row = files.rows[name]
        if not row.video_id:
            continue
        video = escaped(row.video_id)
        other, same = first.setdefault(video, name), files.rows.get(video, row)
        if escaped(same.video_id) != video:
            raise InputError(
                f"{given}: the video_id {row.video_id!r} in {files.where(name)} is the path in "
                f"line {same.number} as well: give another"
            )
        for column in ("label", "method", "person", "split"):
            if getattr(files.rows[other], column) != getattr(row, column):
                raise InputError(
                    f"{given}: the video_id {row.video_id!r} has two values of {column}, in "
                    f"{files.where(other, name)}: a video_id stands for one video; give rows that "
                    "must stay in one split the same person"
                )
        if other != name and "video" in (kinds[files.paths[other]], kinds[files.paths[name]]):
            raise InputError(
                f"{given}: the video_id {row.video_id!r} is in {files.where(other, name)}, but a "
                "video file needs its own video_id; give files that must stay in one split the "
                "same person"
            )


def _require_copy(given: Path, files: Files, first: str, other: str) -> None:
    """InputError if a file and its copy have different labels or splits."""
    for column in ("label", "split"):
        if getattr(files.rows[first], column) != getattr(files.rows[other], column):
            raise InputError(
                f"{given}: {files.where(first, other)} have the same bytes, but not the same "
                f"{column}: keep one"
            )


def _require_apart(
    given: Path, files: Files, split_of: Mapping[str, str], allow: Collection[str]
) -> None:
    """InputError if a person is in two splits, by `{name: split}`; a video cannot be."""
    places: dict[str, dict[str, str]] = {}
    for name, split in split_of.items():
        if split and (person := files.rows[name].person):
            places.setdefault(person, {}).setdefault(split, name)
    refused: dict[str, tuple[str, str, str]] = {}
    for person, by_split in places.items():
        for a, b in combinations([split for split in SPLITS if split in by_split], 2):
            refused.setdefault(f"person:{a}-{b}", (person, a, b))
    refused = {title: leak for title, leak in refused.items() if title not in allow}
    if refused:
        person, a, b = next(iter(refused.values()))
        first, second = places[person][a], places[person][b]
        drawn = "" if files.rows[first].split == a else " (drawn)"
        raise InputError(
            f"{given}: the person {person!r} is in two splits, {a}{drawn} in "
            f"{files.where(first)} and {b} in {files.where(second)}: put all of them into one, or "
            f"accept it with {option_for(allow, refused)}"
        )


def _require_some(
    given: Path, rows: Mapping[str, Row], names: Iterable[str], *, test_only: bool
) -> None:
    """InputError if a class, or a class in a given split, has too few files."""
    counts = Counter((rows[name].label, rows[name].split) for name in names)
    there = {split for _, split in counts} - {""}
    needed = [""]
    if there and not test_only:
        needed = [split for split in SPLITS if split in there | {"train", "test"}]
    for split in needed:
        for label, title in enumerate(LABELS):
            count = sum(
                n
                for (of, row_split), n in counts.items()
                if of == label and split in ("", row_split)
            )
            fewest = 1 if test_only or split else FEWEST
            if count < fewest:
                where = f" for the split {split}" if split else ""
                raise InputError(
                    f"{given} lists {count} {title} photographs or videos that are there{where}; "
                    f"at least {fewest} are needed"
                )
