"""Removes pixels from a face, to test whether a heat map shows what the score is based on.

A removed pixel becomes the mean of its eight neighbours, removed ones included, plus a little
noise, so that neither its value nor an edge remains. This is the noisy linear imputation of Rong et
al., "A consistent and efficient evaluation strategy for attribution methods", ICML 2022 (ROAD).
"""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from scipy import sparse
from scipy.sparse.linalg import splu

BESIDE, ACROSS = 1 / 6, 1 / 12  # weights of neighbours
NOISE = 2.55  # standard deviation; the paper's 0.01 of the range of values
SHARES = (0.1, 0.2, 0.4)  # shares of the pixels that are removed


def remove(
    face: UInt8[np.ndarray, "h w 3"], gone: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """The face without the pixels in `gone`; the others are unchanged. At least one must stay."""
    removed = np.flatnonzero(gone)
    if not removed.size:
        return face
    rows = _neighbours(*gone.shape)[removed]
    kept = np.flatnonzero(~gone.ravel())
    pixels = face.reshape(-1, 3).astype(np.float64)
    system = sparse.diags_array(rows.sum(axis=1)) - rows[:, removed]
    filled = splu(system.tocsc()).solve(rows[:, kept] @ pixels[kept])
    pixels[removed] = filled + rng.normal(0, NOISE, filled.shape)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8).reshape(face.shape)


@cache
def _neighbours(height: int, width: int) -> sparse.csr_array:
    """The weight of each pixel for each other pixel."""
    index = np.arange(height * width).reshape(height, width)
    pairs = []
    for down, right, weight in ((0, 1, BESIDE), (1, 0, BESIDE), (1, 1, ACROSS), (1, -1, ACROSS)):
        a = index[: height - down, max(0, -right) : width - max(0, right)].ravel()
        b = index[down:, max(0, right) : width - max(0, -right)].ravel()
        pairs += [(a, b, weight), (b, a, weight)]
    rows, columns = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    weights = np.concatenate([np.full(len(a), weight) for a, _, weight in pairs])
    return sparse.csr_array((weights, (rows, columns)), shape=(index.size, index.size))


def hottest(heat: Float[np.ndarray, "h w"], share: float) -> Bool[np.ndarray, "h w"]:
    """The given share of the pixels, those with the highest heat."""
    order = np.argsort(-heat, axis=None, kind="stable")
    chosen = np.zeros(heat.size, bool)
    chosen[order[: round(share * heat.size)]] = True
    return chosen.reshape(heat.shape)


def random_map(
    shape: tuple[int, int], rng: np.random.Generator, grain: float
) -> Float32[np.ndarray, "h w"]:
    """A random map, as smooth as a real one: noise blurred over `grain` pixels."""
    return cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), grain)


def scores_after_removal(
    detector,
    face: UInt8[np.ndarray, "s s 3"],
    heat: Float[np.ndarray, "s s"],
    rng: np.random.Generator,
    shares: Sequence[float] = SHARES,
) -> Float32[np.ndarray, "k"]:
    """Fidelity after the hottest share of a prepared face is removed, for each share.

    Args:
      detector: a `Detector`.
      face: a crop as `Detector.prepare` returns it.
      heat: the heat map of the face.
      rng: draws the noise.
      shares: shares of the pixels to remove.
    """
    without = [remove(face, hottest(heat, share), rng) for share in shares]
    return detector.fidelity_of_prepared(np.stack(without))
