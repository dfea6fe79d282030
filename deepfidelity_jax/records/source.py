"""What a dataset is made of: a source, and the faces it gives."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records.schema import ORIGINAL, SPLITS

EXPECTED = {"videos", "frames"}  # in a tally, beside what went wrong
CRASHED = "the process that read it crashed"
NO_BOX = np.full(4, np.nan, np.float32)
NO_LANDMARKS = np.full((5, 2), np.nan, np.float32)


@dataclass(frozen=True)
class Face:
    """One face as it will be recorded, before its fidelity is known.

    split: the split it belongs to. image: encoded crop. The rest as in `records.features`.
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
    """The faces of one source, and in `note` what kept it from giving (more of) them.

    tally: for each of its videos what was counted, as `{"a/b.mp4": {"frames": 32, ...}}`; see
    `videos.tally`.
    """

    faces: list[Face]
    note: str = ""
    tally: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@runtime_checkable
class Source(Protocol):
    """Anything with a name that stays the same from run to run."""

    @property
    def name(self) -> str:
        """Unique in the dataset."""

    @property
    def split(self) -> str:
        """Where all of its faces go."""


def sum_tallies(
    seen: Iterable[tuple[Source, Produced]],
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, dict[str, int]]]]:
    """What was counted in each split, and of what is not well, in which videos.

    Returns:
      `{split: {what: how many}}` and `{split: {what: {video: how many}}}`; the second without what
      videos are supposed to have, see EXPECTED.
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
    """InputError unless each of the splits has a real and a fake face."""
    for split in splits:
        methods = found.get(split, {})
        real = methods.get(ORIGINAL, 0)
        for name, count in (("real", real), ("fake", sum(methods.values()) - real)):
            if count == 0:
                raise InputError(
                    f"no {name} face was found for the {split} split: more input is needed, or "
                    "another config.faces.detector, other shares in config.data.splits, or another "
                    "config.seed"
                )


def count_reasons(notes: dict[str, str], limit: int = 6) -> str:
    """How often each note was made, in one line, the most frequent first."""
    counted = Counter(notes.values()).most_common()
    parts = [f"{count} {note}" for note, count in counted[:limit]]
    if len(counted) > limit:
        parts.append(f"{sum(count for _, count in counted[limit:])} for other reasons")
    return ", ".join(parts)


def describe(notes: dict[str, str], limit: int = 10) -> str:
    """Notes as lines for a person, `limit` of them, the rarest first."""
    often = Counter(notes.values())
    ordered = sorted(notes.items(), key=lambda item: (often[item[1]], item))
    lines = [f"  {name}: {note}" for name, note in ordered[:limit]]
    if len(notes) > limit:
        lines.append(f"  and {len(notes) - limit} more, listed in the dataset's metadata.json")
    return "\n".join(lines)
