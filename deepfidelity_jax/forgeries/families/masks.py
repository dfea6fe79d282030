"""Which part of a face is forged: outlines of many shapes with edges of many widths."""

import cv2
import numpy as np

from deepfidelity_jax.forgeries.families.warps import Axes, Mask, Points, axes

# Ranges of centre x, y and half width, half height, in eye distances and eye-mouth distances.
SHAPES = {
    "face": ((0.0, 0.50), (0.85, 1.10), (1.00, 1.35)),
    "inner": ((0.0, 0.48), (0.70, 0.95), (0.72, 0.95)),
    "lower": ((0.0, 0.95), (0.70, 1.00), (0.50, 0.75)),
    "eyes": ((0.0, 0.00), (0.82, 1.05), (0.28, 0.45)),
    "eye": ((0.5, 0.00), (0.30, 0.42), (0.24, 0.36)),
    "nose": ((0.0, 0.52), (0.30, 0.45), (0.30, 0.45)),
    "mouth": ((0.0, 1.00), (0.42, 0.70), (0.25, 0.42)),
    "side": ((0.5, 0.50), (0.42, 0.60), (0.80, 1.25)),
}
WHOLE = ("face", "inner")
PARTS = ("lower", "eyes", "eye", "nose", "mouth", "side")


def draw(
    points: Points, shape: tuple[int, int], rng: np.random.Generator, names=tuple(SHAPES)
) -> Mask:
    """A mask in [0, 1] over the face or a part of it, one of `names` in SHAPES.

    `points` are complete, `shape` is height and width. The edge ranges from hard to blurred over a
    twenty-fifth of the width; some masks are partly transparent.
    """
    frame = axes(points)
    outline = _hull(points, frame, rng) if rng.random() < 0.2 and "face" in names else None
    if outline is None:
        outline = _rounded(str(rng.choice(names)), frame, rng)
    mask = np.zeros(shape, np.float32)
    cv2.fillPoly(mask, [np.round(outline * 4).astype(np.int32)], 1.0, cv2.LINE_AA, shift=2)
    mask = np.clip(mask, 0, 1)
    softness = shape[1] * rng.choice([0.002, rng.uniform(0.004, 0.015), rng.uniform(0.015, 0.04)])
    mask = soften(mask, softness)
    if rng.random() < 0.3:  # the soft edge moved inwards, as by matting and erosion
        mask = soften(np.clip(mask * 2 - 1, 0, 1), softness)
    opacity = rng.choice([rng.uniform(0.6, 1.0), 1.0], p=[0.2, 0.8])
    return mask * np.float32(opacity)


def soften(mask: Mask, sigma: float) -> Mask:
    """A mask with its edge blurred over `sigma` pixels; never above 1."""
    return np.clip(cv2.GaussianBlur(mask, (0, 0), max(sigma, 0.3)), 0, 1)


def _rounded(name: str, frame: Axes, rng: np.random.Generator):
    """A superellipse between an oval and a box around one of SHAPES, waved by low harmonics."""
    (x, y), widths, heights = SHAPES[name]
    x, y = x * rng.choice([-1, 1]) + rng.normal(0, 0.05), y + rng.normal(0, 0.05)
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    power = rng.choice([rng.uniform(1.8, 3.2), 12.0], p=[0.85, 0.15])  # 12: nearly a rectangle
    radius = (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (-1 / power)
    wave = rng.choice([0.0, 0.06, 0.15])
    for harmonic in range(2, 7):
        radius += rng.normal(0, wave / harmonic) * np.cos(harmonic * angle + rng.uniform(0, 6.3))
    columns = np.cos(angle) * radius * rng.uniform(*widths)
    rows = np.sin(angle) * radius
    if name == "face":  # the jaw is narrower than the brow
        columns = columns * (1 - rng.uniform(0.05, 0.22) * np.clip(rows, 0, 1))
    return frame.place(x + columns, y + rows * rng.uniform(*heights))


def _hull(points: Points, frame: Axes, rng: np.random.Generator):
    """The convex hull of the five points, moved outwards and jittered: a polygon with corners."""
    brow = frame.place(np.array([-0.75, 0.0, 0.75]), np.array([-0.35, -0.5, -0.35]))
    chin = frame.place(np.array([-0.6, 0.0, 0.6]), np.array([1.15, 1.5, 1.15]))
    spread = rng.uniform(0.8, 1.2)
    corners = np.vstack([points, brow, chin])
    centre = corners.mean(axis=0)
    corners = centre + (corners - centre) * spread + rng.normal(0, 0.05 * frame.across, (11, 2))
    return cv2.convexHull(corners.astype(np.float32))[:, 0]
