"""Find videos, people and pictures that are in two splits, and stop the run."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt64

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.leaks.look_alikes import (
    Looks,
    Resemblance,
    find_alike,
    join,
    look,
    shrink,
)
from deepfidelity_jax.leaks.training_pictures import digests_of
from deepfidelity_jax.processes.machine import count_cores
from deepfidelity_jax.processes.workers import submit, worker_pool
from deepfidelity_jax.progress import say
from deepfidelity_jax.records.schema import SOURCES, SPLITS, Records, splits_of
from deepfidelity_jax.workdir import write_json

CHUNK = 4096  # frames that a worker process reads at a time


@dataclass(frozen=True)
class Leak:
    """Something in two splits.

    kind: `video`, `picture`, or the kind of an origin, such as `person`. paths: the path of one
    such record in each split.
    """

    kind: str
    name: str
    splits: tuple[str, str]
    paths: tuple[str, str]

    @property
    def title(self) -> str:
        """The name in `config.leaks.allow` for all leaks of this kind between these splits."""
        return f"{self.kind}:{'-'.join(self.splits)}"


def require_none(folder: Path, allow: Sequence[str], report: Path, *, undecided: str = "") -> None:
    """Check the records in `folder` for leaks; write a report of those that do not stop the run.

    Args:
      folder: the folder of the records.
      allow: titles of leaks that do not stop the run.
      report: JSON file for the allowed leaks and the near-duplicates.
      undecided: what the user must decide if videos look alike across splits, which then stops the
        run; if empty, near-duplicates are only reported.

    Raises:
      InputError: something is in two splits, and its title is not in `allow`.
    """
    leaks, looks = read(folder)
    refused = [leak for leak in leaks if leak.title not in allow]
    if refused:
        first = refused[0]
        raise InputError(
            f"the {first.kind} {first.name} is in two splits, {first.splits[0]} "
            f"({first.paths[0]}) and {first.splits[1]} ({first.paths[1]}); {len(refused)} such "
            "leaks in all: split the data differently, or accept them with "
            f"{option_for(allow, [leak.title for leak in refused])}"
        )
    alike = find_alike(looks)
    for title, count in sorted(Counter(leak.title for leak in leaks).items()):
        say(f"allowed leaks: {count} {title}")
    if alike:
        message = _describe_look_alikes(alike)
        if undecided:
            raise InputError(f"{message}; {undecided}")
        say(f"{message}; all pairs are in {report}")
    sections = {"allowed": leaks, "alike": alike}
    write_json(
        report, {name: [asdict(entry) for entry in entries] for name, entries in sections.items()}
    )


def option_for(allow: Iterable[str], refused: Iterable[str]) -> str:
    """The option that accepts the titles refused, too."""
    return f'--config.leaks.allow="{tuple(sorted({*allow, *refused}))}"'


def _describe_look_alikes(alike: Sequence[Resemblance]) -> str:
    first = alike[0]
    a, b = (f"{video} ({split})" for video, split in zip(first.videos, first.splits, strict=True))
    pairs = "1 pair" if len(alike) == 1 else f"{len(alike)} pairs"
    frames = "" if first.frames == 1 else f", in {first.frames} frames"
    return f"near-duplicates in different splits: {pairs}, such as {a} and {b}{frames}"


def count_alike(report: Path) -> int:
    """The number of test videos that look like one in another split, from the file `report`."""
    alike = json.loads(report.read_text(encoding="utf-8"))["alike"] if report.exists() else []
    return len(
        {
            video
            for pair in alike
            for split, video in zip(pair["splits"], pair["videos"], strict=True)
            if split == "test"
        }
    )


def read(folder: Path) -> tuple[list[Leak], dict[str, Looks]]:
    """Read the records in `folder`: the leaks between splits, and the looks of each split."""
    counts = splits_of(folder)
    owners: dict[str, dict[tuple[str, str], str]] = {}
    looks, pictures = {}, {}
    for split in (*SPLITS, SOURCES):
        parts = _in_chunks(folder, split, counts.get(split, 0))
        # `sources` holds clean copies of the training faces, so it counts as training.
        names = owners.setdefault("train" if split == SOURCES else split, {})
        for part in parts:
            for key, path in part.names.items():
                names.setdefault(key, path)
            pictures.setdefault("train" if split == SOURCES else split, []).append(part.pictures)
        if split != SOURCES and parts:
            looks[split] = join([part.looks for part in parts])
    for a, b in combinations(pictures, 2):
        both = np.intersect1d(np.concatenate(pictures[a]), np.concatenate(pictures[b]))
        if both.size:
            for split in (a, b):
                owners[split] |= _find_pictures(folder, split, set(both.tolist()))
    return compare(owners), looks


def _find_pictures(folder: Path, split: str, wanted: set[int]) -> dict[tuple[str, str], str]:
    """The crops of a split whose digest is in `wanted`, as `{("picture", digest): path}`."""
    parts = (split, SOURCES) if split == "train" and splits_of(folder).get(SOURCES) else (split,)
    return {
        ("picture", digest[:16]): path
        for part in parts
        for digest, path in digests_of(folder, part).items()
        if int(digest[:16], 16) in wanted
    }


def compare(owners: dict[str, dict[tuple[str, str], str]]) -> list[Leak]:
    """The leaks between splits, from `{split: {(kind, name): path of a record}}`."""
    return [
        Leak(kind, name, (a, b), (owners[a][kind, name], owners[b][kind, name]))
        for a, b in combinations(owners, 2)
        for kind, name in sorted(owners[a].keys() & owners[b].keys())
    ]


class _Part(NamedTuple):
    names: dict[tuple[str, str], str]
    looks: Looks
    pictures: UInt64[np.ndarray, "n"]  # first eight bytes of each SHA-256


def _in_chunks(folder: Path, split: str, count: int) -> list[_Part]:
    """Read a whole split, on all cores if it is large enough to justify starting processes."""
    starts = list(range(0, count, CHUNK))
    if len(starts) <= 2:
        return [_read_chunk(folder, split, start) for start in starts]
    workers = min(count_cores(), len(starts))
    with worker_pool(workers) as pool:
        try:
            parts = [submit(pool, _read_chunk, folder, split, start) for start in starts]
            return [part.result() for part in parts]
        finally:
            pool.shutdown(cancel_futures=True)


def _read_chunk(folder: Path, split: str, start: int) -> _Part:
    records = Records(folder, split)
    names, pictures, videos, digests = {}, [], [], []
    for index in range(start, min(start + CHUNK, len(records))):
        record = records[index]
        video = record["video_id"]
        names.setdefault(("video", video), record["path"])
        for origin in record["origins"].split():
            kind, _, name = origin.partition("/")
            if kind != "group":  # which splits already keep together, unless the user gives them
                names.setdefault((kind, name), record["path"])
        pictures.append(shrink(record["image"]))
        digests.append(int(sha256(record["image"]).hexdigest()[:16], 16))
        videos.append(video)
    return _Part(names, look(np.stack(pictures), videos), np.array(digests, np.uint64))
