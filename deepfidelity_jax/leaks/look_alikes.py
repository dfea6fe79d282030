"""Find pictures that look alike, mirrored copies included, by perceptual hash and thumbnail."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int, UInt8, UInt64

# Thresholds chosen on 400 aligned photographs of different people, as crops of 160 pixels. Of their
# 79,800 pairs none differs in 8 bits or fewer, and the highest correlation is 0.87. A copy at JPEG
# quality 30 or 60 pixels differs in at most 4 bits and correlates above 0.99; a copy 15% brighter,
# in at most 8 bits and above 0.97. A copy moved or enlarged by 3% may differ in 12 bits and is
# missed.
BITS = 8  # of 63: most in which look-alikes differ
ALIKE = 0.95  # least correlation of their thumbnails
SIDE = 32  # pixels of the picture that is hashed
THUMBNAIL = 16


@dataclass(frozen=True)
class Resemblance:
    """Two videos in two splits. frames: how many of the second look like a frame of the first."""

    splits: tuple[str, str]
    videos: tuple[str, str]
    frames: int


class Looks(NamedTuple):
    """The frames of a split: hashes, hashes of their mirror images, thumbnails, and videos."""

    hashes: UInt64[np.ndarray, "n"]
    mirrored: UInt64[np.ndarray, "n"]
    thumbnails: UInt8[np.ndarray, "n t t"]
    videos: list[str]


def look(pictures: UInt8[np.ndarray, "n 32 32"], videos: list[str]) -> Looks:
    """The looks of pictures that `shrink` made, and the video of each."""
    hashes, mirrored = hash_pictures(pictures), hash_pictures(pictures[:, :, ::-1])
    return Looks(hashes, mirrored, thumbnails(pictures), videos)


def join(parts: Sequence[Looks]) -> Looks:
    """All parts, one after another."""
    hashes, mirrored, pictures, videos = zip(*parts, strict=True)
    arrays = map(np.concatenate, (hashes, mirrored, pictures))
    return Looks(*arrays, videos=[*chain(*videos)])


def shrink(image: bytes) -> UInt8[np.ndarray, "32 32"]:
    """The grey picture to hash; a JPEG is decoded at the smallest scale that suffices."""
    coded = np.frombuffer(image, np.uint8)
    for scale in (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_GRAYSCALE_2):
        grey = cv2.imdecode(coded, scale)
        if min(grey.shape) >= SIDE:
            break
    else:
        grey = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def hash_pictures(pictures: UInt8[np.ndarray, "n 32 32"]) -> UInt64[np.ndarray, "n"]:
    """Perceptual hashes (pHash): which of the 63 lowest DCT coefficients are above their median."""
    k, i = np.arange(8)[:, None], np.arange(SIDE)[None]
    cosines = np.cos(np.pi * k * (2 * i + 1) / (2 * SIDE)).astype(np.float32)
    waves = (cosines @ pictures.astype(np.float32) @ cosines.T).reshape(-1, 64)[:, 1:]
    bits = waves > np.median(waves, axis=1, keepdims=True)
    return bits @ (np.uint64(1) << np.arange(63, dtype=np.uint64))


def thumbnails(pictures: UInt8[np.ndarray, "n 32 32"]) -> UInt8[np.ndarray, "n t t"]:
    """Thumbnails: the means of 2 by 2 pixels."""
    blocks = pictures.reshape(-1, THUMBNAIL, 2, THUMBNAIL, 2).astype(np.uint16)
    return ((blocks.sum((2, 4)) + 2) // 4).astype(np.uint8)


def find_alike(looks: dict[str, Looks]) -> list[Resemblance]:
    """Pairs of videos in two splits with frames that look alike, most such frames first."""
    frames: Counter[tuple] = Counter()
    for a, b in combinations(looks, 2):
        for row, video in enumerate(looks[b].videos):
            thumbnail = looks[b].thumbnails[row]
            others = {
                looks[a].videos[other]
                for hashed, picture in (
                    (looks[b].hashes[row], thumbnail),
                    (looks[b].mirrored[row], thumbnail[:, ::-1]),
                )
                for other in _alike(looks[a], hashed, picture)
            }
            frames.update(((a, b), (other, video)) for other in others)
    ordered = sorted(frames.items(), key=lambda item: (-item[1], item[0]))
    return [Resemblance(splits, videos, count) for (splits, videos), count in ordered]


def _alike(
    looks: Looks, hashed: np.uint64, thumbnail: UInt8[np.ndarray, "t t"]
) -> Int[np.ndarray, "_"]:
    """The rows of the frames that look like a picture."""
    # Brute force: comparing hashes is fast enough for any of the benchmarks.
    near = np.flatnonzero(np.bitwise_count(looks.hashes ^ hashed) <= BITS)
    return near[correlate(looks.thumbnails[near], thumbnail) >= ALIKE] if near.size else near


def correlate(
    pictures: UInt8[np.ndarray, "n t t"], picture: UInt8[np.ndarray, "t t"]
) -> Float32[np.ndarray, "n"]:
    """Pixel correlation of each picture with `picture`; 0 if either is flat."""

    def centred(pictures):
        flat = pictures.reshape(-1, THUMBNAIL**2).astype(np.float32)
        return flat - flat.mean(1, keepdims=True)

    a, b = centred(pictures), centred(picture)[0]
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b)
    return np.divide(a @ b, norm, out=np.zeros(len(a), np.float32), where=norm > 256)
