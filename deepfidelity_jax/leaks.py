"""What would make a test score a lie: a video, a person, or nearly a frame, in two splits.

Before training. A video, an origin of it (a person, a video it was made of), or the same picture in
two splits stops the run. Frames of two splits that look alike are reported: they may be one video
under two names. Before evaluation, no test picture may be one that the detector was trained on.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8, UInt64

from deepfidelity_jax.cores import count_cores
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records import SOURCES, SPLITS, Records, metadata_of, splits_of
from deepfidelity_jax.workdir import Stages, fingerprint, say, write_json

# Measured on 400 aligned photographs, no two of one person, as crops of 160 pixels: of the 79,800
# pairs none is within 8 bits, and the highest correlation is 0.87. A copy coded as JPEG of quality
# 30 or shrunk to 60 pixels is within 4 bits and above 0.99, one brightened by 15 % within 8 and
# above 0.97; one moved or enlarged by 3 % may be 12 bits away.
BITS = 8  # of 63 in which near-duplicates differ at most
ALIKE = 0.95  # and the correlation of their thumbnails, at least
SIDE = 32  # of the picture that is hashed
THUMBNAIL = 16
CHUNK = 4096  # frames a process reads at a time
SEEN = "training_pictures.json"  # in the workdir


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


@dataclass(frozen=True)
class Resemblance:
    """Two videos of two splits and how many frames of the second look like one of the first."""

    splits: tuple[str, str]
    videos: tuple[str, str]
    frames: int


class Looks(NamedTuple):
    """What is kept of each frame of a split, to be compared: its hash, its thumbnail, its video."""

    hashes: UInt64[np.ndarray, "n"]
    thumbnails: UInt8[np.ndarray, "n t t"]
    videos: list[str]


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


def remember(folder: Path, workdir: Path, init_from: str = "") -> None:
    """Keep the digests of what a detector is about to be trained on, beside those it was before.

    `init_from`: where its weights come from, a workdir with such digests or anything else.
    InputError where test pictures are among them.
    """
    stages, inputs = Stages(workdir), fingerprint(folder.parent.name, folder.name, init_from)
    path = workdir / SEEN
    if stages.done("seen", inputs, path):
        return
    before = seen_by(Path(init_from)) if init_from else {}
    if before:
        require_unseen(_digests_of_test(folder), before, folder)
    write_json(path, seen_by(workdir) | before | digests_of_training(folder))
    stages.finish("seen", inputs)


def seen_by(workdir: Path) -> dict[str, str]:
    """The files and crops a detector was trained on, as digest to path; none where not kept."""
    path = workdir / SEEN
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def digests_of_training(folder: Path) -> dict[str, str]:
    """The files and the crops in `folder` that chose anything of a detector: digest to path.

    Those of the training and validation splits, by SHA-256 of their bytes.
    """
    files = metadata_of(folder).get("digests", {})
    counts, seen = splits_of(folder), {}
    for split in ("train", "validation", SOURCES):
        seen |= {digest: path for path, digest in files.get(split, {}).items()}
        if counts.get(split):
            seen |= digests_of(folder, split)
    return seen


def require_test_unseen(folder: Path, workdir: Path, allow: Sequence[str]) -> str:
    """Check the test split of the records in `folder` against what the detector was trained on.

    Pictures that these records themselves have in training as well are `require_none`'s affair
    where `allow` names them.

    Returns:
      A digest of the test faces.

    Raises:
      InputError: some of the test pictures were pictures of training.
    """
    seen = seen_by(workdir) or digests_of_training(folder)
    if any(title.startswith("picture:") for title in allow):
        own = digests_of_training(folder)
        seen = {digest: path for digest, path in seen.items() if digest not in own}
    require_unseen(_digests_of_test(folder), seen, folder)
    return digest_of_faces(digests_of(folder, "test"))


def _digests_of_test(folder: Path) -> dict[str, str]:
    """The files and the crops of the test split, digest to path."""
    files = metadata_of(folder).get("digests", {}).get("test", {})
    return {digest: path for path, digest in files.items()} | digests_of(folder, "test")


def digest_of_faces(crops: Iterable[str]) -> str:
    """One digest of many faces, by theirs, whatever their order."""
    return sha256("".join(sorted(crops)).encode()).hexdigest()


def digests_of(folder: Path, split: str) -> dict[str, str]:
    """SHA-256 of each crop of a split, and the path it comes from."""
    rows = Records(folder, split)
    return {
        sha256(row["image"]).hexdigest(): row["path"]
        for row in map(rows.__getitem__, range(len(rows)))
    }


def require_unseen(test: Mapping[str, str], seen: Mapping[str, str], folder: Path) -> None:
    """Check the pictures of `folder` against those of training, both as digest to path.

    Raises:
      InputError: some were seen in training.
    """
    known = sorted({test[digest]: seen[digest] for digest in test.keys() & seen.keys()}.items())
    if known:
        named = ", ".join(
            path if path == there else f"{path} ({there})" for path, there in known[:5]
        )
        more = f" and {len(known) - 5} more" if len(known) > 5 else ""
        raise InputError(
            f"{folder} holds {len(known)} of the pictures this detector was trained or calibrated "
            f"on: {named}{more}; take them out, they prove nothing"
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


def shrink(image: bytes) -> UInt8[np.ndarray, "32 32"]:
    """The grey picture that is hashed; JPEG is decoded at the smallest scale that has as much."""
    coded = np.frombuffer(image, np.uint8)
    for scale in (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_GRAYSCALE_2):
        grey = cv2.imdecode(coded, scale)
        if min(grey.shape) >= SIDE:
            break
    else:
        grey = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def hash_pictures(pictures: UInt8[np.ndarray, "n 32 32"]) -> UInt64[np.ndarray, "n"]:
    """Perceptual hashes: which of the 63 lowest frequencies are above their median."""
    k, i = np.arange(8)[:, None], np.arange(SIDE)[None]
    cosines = np.cos(np.pi * k * (2 * i + 1) / (2 * SIDE)).astype(np.float32)
    waves = (cosines @ pictures.astype(np.float32) @ cosines.T).reshape(-1, 64)[:, 1:]
    bits = waves > np.median(waves, axis=1, keepdims=True)
    return bits @ (np.uint64(1) << np.arange(63, dtype=np.uint64))


def thumbnails(pictures: UInt8[np.ndarray, "n 32 32"]) -> UInt8[np.ndarray, "n t t"]:
    """The means of 2 by 2 pixels."""
    blocks = pictures.reshape(-1, THUMBNAIL, 2, THUMBNAIL, 2).astype(np.uint16)
    return ((blocks.sum((2, 4)) + 2) // 4).astype(np.uint8)


def find_alike(looks: dict[str, Looks]) -> list[Resemblance]:
    """Videos of two splits with frames that look alike, those with most such frames first."""
    frames: Counter[tuple] = Counter()
    for a, b in combinations(looks, 2):
        for row, hashed in enumerate(looks[b].hashes):
            # All against all: 10^9 pairs take two seconds of a core.
            near = np.flatnonzero(np.bitwise_count(looks[a].hashes ^ hashed) <= BITS)
            if near.size:
                sure = near[correlate(looks[a].thumbnails[near], looks[b].thumbnails[row]) >= ALIKE]
                others = {looks[a].videos[other] for other in sure}
                frames.update(((a, b), (other, looks[b].videos[row])) for other in others)
    ordered = sorted(frames.items(), key=lambda item: (-item[1], item[0]))
    return [Resemblance(splits, videos, count) for (splits, videos), count in ordered]


def correlate(
    pictures: UInt8[np.ndarray, "n t t"], picture: UInt8[np.ndarray, "t t"]
) -> Float32[np.ndarray, "n"]:
    """Correlation of the pixels of each with one; 0 where either is flat, which tells nothing."""

    def centred(pictures):
        flat = pictures.reshape(-1, THUMBNAIL**2).astype(np.float32)
        return flat - flat.mean(1, keepdims=True)

    a, b = centred(pictures), centred(picture)[0]
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b)
    return np.divide(a @ b, norm, out=np.zeros(len(a), np.float32), where=norm > 256)
