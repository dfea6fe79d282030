"""Videos, people and pictures that stand in two splits."""

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt64

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.hosts import count_cores
from deepfidelity_jax.leaks.look_alikes import Looks, find_alike, hash_pictures, shrink, thumbnails
from deepfidelity_jax.leaks.training_pictures import digests_of
from deepfidelity_jax.progress import say
from deepfidelity_jax.records.schema import SOURCES, SPLITS, Records, splits_of
from deepfidelity_jax.workdir import Stages, fingerprint, write_json

CHUNK = 4096  # frames a process reads at a time


@dataclass(frozen=True)
class Leak:
    """Something in two splits. kind: `video`, or that of the origin; paths: a record of each."""

    kind: str
    name: str
    splits: tuple[str, str]
    paths: tuple[str, str]

    @property
    def title(self) -> str:
        """The name by which `config.leaks.allow` knows it, with all of its kind."""
        return f"{self.kind}:{'-'.join(self.splits)}"


def require_none(folder: Path, allow: Sequence[str], workdir: Path, *, undecided: str = "") -> None:
    """Check the records in `folder`, once, and write `leaks.json` to the workdir.

    Args:
      folder: of the records.
      allow: titles of leaks to go on with.
      workdir: of the run.
      undecided: what to do where videos look alike across splits, which stops the run then; empty
        where it is told and the figures are marked.

    Raises:
      InputError: something is in two splits, and its title is not in `allow`.
    """
    path, stages = workdir / "leaks.json", Stages(workdir)
    inputs = fingerprint(folder.parent.name, folder.name, sorted(allow), bool(undecided))
    if stages.done("leaks", inputs, path):
        return
    leaks, looks = read(folder)
    refused = [leak for leak in leaks if leak.title not in allow]
    if refused:
        first = refused[0]
        raise InputError(
            f"the {first.kind} {first.name} is in two splits: in {first.splits[0]} by "
            f"{first.paths[0]}, in {first.splits[1]} by {first.paths[1]} ({len(refused)} such "
            "leaks in all); divide the data otherwise, or go on all the same with "
            f"--config.leaks.allow=\"('{first.title}',)\""
        )
    alike = find_alike(looks)
    for title, count in sorted(Counter(leak.title for leak in leaks).items()):
        say(f"leaks allowed: {count} of {title}")
    if alike:
        most = alike[0]
        told = (
            f"{len(alike)} pairs of videos or photographs look alike across splits, such as "
            f"{most.videos[0]} of {most.splits[0]} and {most.videos[1]} of {most.splits[1]} "
            f"({most.frames} frames)"
        )
        if undecided:
            raise InputError(f"{told}: {undecided}")
        say(f"{told}: see {path}")
    found = {"allowed": leaks, "alike": alike}
    write_json(path, {name: [asdict(one) for one in ones] for name, ones in found.items()})
    stages.finish("leaks", inputs)


def count_alike(workdir: Path) -> int:
    """How many videos of the test split look like one of another split, by `leaks.json`."""
    path = workdir / "leaks.json"
    alike = json.loads(path.read_text(encoding="utf-8"))["alike"] if path.exists() else []
    return len(
        {
            video
            for pair in alike
            for split, video in zip(pair["splits"], pair["videos"], strict=True)
            if split == "test"
        }
    )


def read(folder: Path) -> tuple[list[Leak], dict[str, Looks]]:
    """What is in two splits, by identifiers; and the looks of every frame of each split."""
    counts = splits_of(folder)
    owners: dict[str, dict[tuple[str, str], str]] = {}
    looks, pictures = {}, {}
    for split in (*SPLITS, SOURCES):
        parts = _in_chunks(folder, split, counts.get(split, 0))
        # Clean copies of training's faces: training by another name.
        own = owners.setdefault("train" if split == SOURCES else split, {})
        for part in parts:
            for key, path in part.names.items():
                own.setdefault(key, path)
            pictures.setdefault("train" if split == SOURCES else split, []).append(part.pictures)
        if split != SOURCES and parts:
            looks[split] = Looks(
                np.concatenate([part.looks.hashes for part in parts]),
                np.concatenate([part.looks.thumbnails for part in parts]),
                [video for part in parts for video in part.looks.videos],
            )
    for a, b in combinations(pictures, 2):
        both = np.intersect1d(np.concatenate(pictures[a]), np.concatenate(pictures[b]))
        if both.size:
            for split in (a, b):
                owners[split] |= _find_pictures(folder, split, set(both.tolist()))
    return compare(owners), looks


def _find_pictures(folder: Path, split: str, wanted: set[int]) -> dict[tuple[str, str], str]:
    """The crops of a split with such digests, as `{("picture", digest): path}`."""
    parts = (split, SOURCES) if split == "train" and splits_of(folder).get(SOURCES) else (split,)
    return {
        ("picture", digest[:16]): path
        for part in parts
        for digest, path in digests_of(folder, part).items()
        if int(digest[:16], 16) in wanted
    }


def compare(owners: dict[str, dict[tuple[str, str], str]]) -> list[Leak]:
    """Leaks between splits, from `{split: {(kind, name): a record's path}}`."""
    return [
        Leak(kind, name, (a, b), (owners[a][kind, name], owners[b][kind, name]))
        for a, b in combinations(owners, 2)
        for kind, name in sorted(owners[a].keys() & owners[b].keys())
    ]


class _Part(NamedTuple):
    names: dict[tuple[str, str], str]
    looks: Looks
    pictures: UInt64[np.ndarray, "n"]  # the first eight bytes of their SHA-256


def _in_chunks(folder: Path, split: str, count: int) -> list[_Part]:
    """All of a split; on all cores where that is worth starting processes for."""
    starts = list(range(0, count, CHUNK))
    if len(starts) <= 2:
        return [_read_chunk(folder, split, start) for start in starts]
    workers = min(count_cores(), len(starts))
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return list(pool.map(_read_chunk, [folder] * len(starts), [split] * len(starts), starts))


def _read_chunk(folder: Path, split: str, start: int) -> _Part:
    records = Records(folder, split)
    names, pictures, videos, digests = {}, [], [], []
    for index in range(start, min(start + CHUNK, len(records))):
        record = records[index]
        video = record["video_id"]
        names.setdefault(("video", video), record["path"])
        for origin in record["origins"].split():
            kind, _, name = origin.partition("/")
            names.setdefault((kind, name), record["path"])
        pictures.append(shrink(record["image"]))
        digests.append(int(sha256(record["image"]).hexdigest()[:16], 16))
        videos.append(video)
    pictures = np.stack(pictures)
    looks = Looks(hash_pictures(pictures), thumbnails(pictures), videos)
    return _Part(names, looks, np.array(digests, np.uint64))
