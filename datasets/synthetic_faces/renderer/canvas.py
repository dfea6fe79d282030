"""Drawing tools: ramps over planes, textures and their noise, blending.

A picture is three planes of linear light, [3, h, w], at twice the output's size: "fine".
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

Plane = Float32[np.ndarray, "h w"]
Picture = Float32[np.ndarray, "3 fine fine"]


def step(low, high, x):
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def bell(x, width):
    """1 at 0, falling off over `width`."""
    return np.exp(-((x / width) ** 2))


def hill(x, y, width, height):
    """A bell in two directions."""
    return np.exp(-((x / width) ** 2) - (y / height) ** 2)


def cover(inside):
    """Share of a pixel that is covered; `inside` is the distance to the edge in pixels."""
    return np.clip(inside + 0.5, 0, 1)


def spread(colour) -> Float32[np.ndarray, "3 1 1"]:
    """A colour as an array that broadcasts over planes."""
    return np.array(colour, np.float32)[:, None, None]


def blend(under, over, alpha) -> None:
    """Lays `over` on `under` in place."""
    over = over - under
    over *= alpha
    under += over


def fine(low):
    """One or several planes at twice the size."""
    if low.ndim == 3:
        return np.stack([fine(plane) for plane in low])
    return cv2.resize(low, (2 * low.shape[1], 2 * low.shape[0]), interpolation=cv2.INTER_LINEAR)


def moved(plane: Plane, right: float, down: float, beyond: float | None = None) -> Plane:
    """A plane moved by some pixels; beyond its edge the edge is repeated, or filled by `beyond`."""
    move = np.array([[1, 0, right], [0, 1, down]])
    mode = cv2.BORDER_REPLICATE if beyond is None else cv2.BORDER_CONSTANT
    return cv2.warpAffine(plane, move, plane.shape[::-1], borderMode=mode, borderValue=beyond or 0)


def boxes(mask) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The smallest slices that hold a mask, with a margin; and the same at twice the size."""
    hits = [np.flatnonzero(mask.any(axis)) for axis in (1, 0)]
    spans = [(max(hit[0] - 2, 0), hit[-1] + 3) if len(hit) else (0, 1) for hit in hits]
    return tuple(slice(a, b) for a, b in spans), tuple(slice(2 * a, 2 * b) for a, b in spans)


def near(u, v, u0, v0, width, height) -> tuple[slice, slice]:
    """Slices of the pixels around a point of the face; empty where there are none."""
    rows = np.flatnonzero((np.abs(v - v0) < height).any(1))
    columns = np.flatnonzero((np.abs(u - u0) < width)[rows].any(0))
    if not len(columns):
        return slice(0), slice(0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


class Grid(NamedTuple):
    """The positions of a texture's texels on a surface."""

    left: float
    top: float
    per_unit: float

    def texels(self) -> Float32[np.ndarray, "2 h w"]:
        """v and x of every texel, from (left, top) to the mirrored right and below the chin."""
        pitch = 1 / self.per_unit
        return np.mgrid[self.top : 1.75 : pitch, self.left : -self.left : pitch].astype(np.float32)

    def sample(self, texture, x, v):
        """Bilinear samples of a texture."""
        x, v = (x - self.left) * self.per_unit, (v - self.top) * self.per_unit
        return cv2.remap(texture, x, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def noise(rng, shape: tuple[int, int], *octaves: tuple[float, float]) -> Plane:
    """Sum of smooth noises, each (texels per grain, strength)."""
    height, width = shape
    out = np.zeros(shape, np.float32)
    for grain, strength in octaves:
        cells = max(int(height / grain), 2), max(int(width / grain), 2)
        small = rng.standard_normal(cells, np.float32) * np.float32(strength)
        out += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return out


def streaks(rng, shape: tuple[int, int], thick: float, long: float) -> Plane:
    """Noise drawn out downwards."""
    grains = rng.standard_normal(shape, np.float32)
    return cv2.GaussianBlur(grains, (0, 0), sigmaX=thick, sigmaY=long)


def strands(rng, shape: tuple[int, int]) -> Plane:
    """Fine hairs that hang down, unit strength."""
    hairs = streaks(rng, shape, 0.8, 5)
    return hairs / hairs.std()
