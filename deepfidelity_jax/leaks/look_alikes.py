"""Pictures that look alike, by perceptual hash and thumbnail."""

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8, UInt64

# Measured on 400 aligned photographs, no two of one person, as crops of 160 pixels: of the 79,800
# pairs none is within 8 bits, and the highest correlation is 0.87. A copy coded as JPEG of quality
# 30 or shrunk to 60 pixels is within 4 bits and above 0.99, one brightened by 15 % within 8 and
# above 0.97; one moved or enlarged by 3 % may be 12 bits away.
BITS = 8  # of 63 in which near-duplicates differ at most
ALIKE = 0.95  # and the correlation of their thumbnails, at least
SIDE = 32  # of the picture that is hashed
THUMBNAIL = 16


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
