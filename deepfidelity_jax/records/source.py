"""A source of faces, the faces produced from it, and summaries of them for messages.

A source is what a dataset reads as one unit: a video, a photograph, an archive. A damaged source
produces no faces and a note that says why.
"""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import quote

import numpy as np
from jaxtyping import Float32

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.records.schema import ORIGINAL, SPLITS

LEFT_OUT = "left_out.csv"  # beside the metadata
REASONS, LINES = 6, 10  # most that are printed
EXPECTED = {"videos", "frames"}  # all other keys of a tally count what went wrong
NO_BOX = np.full(4, np.nan, np.float32)
NO_LANDMARKS = np.full((5, 2), np.nan, np.float32)


@dataclass(frozen=True, eq=False)
class Face:
    """One face as it will be recorded, but without its fidelity target.

    split: the split it goes to. image: encoded crop. The other fields are as in `schema.features`.
    """

    split: str
    image: bytes
    label: int
    method: str
    video_id: str
    frame: int
    path: str
    quality: float
    known_quality: float = float("nan")
    bbox: Float32[np.ndarray, "4"] = field(default_factory=NO_BOX.copy)
    landmarks: Float32[np.ndarray, "5 2"] = field(default_factory=NO_LANDMARKS.copy)
    origins: str = ""


@dataclass(frozen=True)
class Produced:
    """The faces of one source.

    note: why there are none, or fewer than there should be; empty if all went well. tally: counts
    for each of its videos, `{"a/b.mp4": {"frames": 32, ...}}`; see `benchmark_video.tally`.
    """

    faces: list[Face]
    note: str = ""
    tally: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@runtime_checkable
class Source(Protocol):
    """What a dataset reads as one unit, with a name that is the same in every run."""

    @property
    def name(self) -> str:
        """Unique in the dataset."""

    @property
    def split(self) -> str:
        """The split that all of its faces go to."""


class Labelled(Source, Protocol):
    """A source with one label and method, as in `schema.features`."""

    @property
    def label(self) -> int:
        """The label of all of its faces."""

    @property
    def method(self) -> str:
        """The method of all of its faces."""


def sum_tallies(
    seen: Iterable[tuple[Source, Produced]],
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, dict[str, int]]]]:
    """Sum the tallies in each split, and list the videos in which something went wrong.

    Returns:
      `{split: {what: count}}`, and `{split: {what: {video: count}}}` without the EXPECTED counts.
    """
    total, listed = {}, {}
    for source, produced in seen:
        for video, counted in produced.tally.items():
            total.setdefault(source.split, Counter()).update(counted)
            for what in counted.keys() - EXPECTED:
                if counted[what]:
                    listed.setdefault(source.split, {}).setdefault(what, {})[video] = counted[what]
    return {split: dict(counts) for split, counts in total.items()}, listed


def require_both_classes(found: dict[str, dict[str, int]], splits: Sequence[str] = SPLITS) -> None:
    """InputError unless each split has a real and a fake face, by `{split: {method: count}}`."""
    for split in splits:
        methods = found.get(split, {})
        real = methods.get(ORIGINAL, 0)
        for name, count in (("real", real), ("fake", sum(methods.values()) - real)):
            if count == 0:
                others = "" if set(splits) == {"test"} else ", config.data.splits or config.seed"
                raise InputError(
                    f"no {name} face was found for the {split} split: add data, or change "
                    f"config.faces.detector{others}"
                )


def person_origin(name: str) -> str:
    """A person as one of a record's origins, which white space separates; empty without a name.

    The same name in two forms of Unicode is one person.
    """
    name = unicodedata.normalize("NFC", name.strip())
    return name and "person/" + re.sub(r"[\s%]", lambda match: quote(match[0]), name)


def count_reasons(notes: dict[str, str]) -> str:
    """The most frequent notes with their counts, in one line."""
    counted = Counter(notes.values()).most_common()
    parts = [f"{count} {note}" for note, count in counted[:REASONS]]
    if others := sum(count for _, count in counted[REASONS:]):
        parts.append(f"{others} for other reasons")
    return ", ".join(parts)


def describe(notes: dict[str, str], place: str = "") -> str:
    """The rarest notes as lines of text, rarest first. place: where all of them are listed."""
    often = Counter(notes.values())
    ordered = sorted(notes.items(), key=lambda item: (often[item[1]], item))
    lines = [f"  {name}: {note}" for name, note in ordered[:LINES]]
    if len(notes) > LINES:
        lines.append(f"  and {len(notes) - LINES} more{place and f', listed in {place}'}")
    return "\n".join(lines)


def write_left_out(path: Path, reasons: Mapping[str, str], lines: Mapping[str, int]) -> None:
    """Write a table of the inputs without a record: path, reason and, of a table, the line.

    Args:
      path: of the table; written even if it has no rows.
      reasons: why each was left out, by name.
      lines: the line of each in the table that lists the inputs; empty if none does.
    """
    # A name may hold bytes that are not text.
    form = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    with written_whole(path, "w", **form) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "reason", "line") if lines else ("path", "reason"))
        for name, reason in sorted(reasons.items()):
            writer.writerow((name, reason, lines.get(name, "")) if lines else (name, reason))
