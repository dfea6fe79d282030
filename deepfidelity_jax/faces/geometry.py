"""The plane geometry of a face: its landmarks, the fit of a similarity, squares cut from an image.

Landmarks are the two eyes, the nose and the two mouth corners, image left before image right, as
x, y in pixels; 0 is the centre of the first pixel. A row of NaN is an unknown landmark.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

# An average aligned crop, in shares of its side.
AVERAGE_FACE = np.array(
    [[0.345, 0.41], [0.655, 0.41], [0.5, 0.585], [0.375, 0.735], [0.625, 0.735]], np.float32
)

# Shorter side of a face's box in pixels; smaller faces show no trace of a forgery.
SMALLEST_FACE = 32


def is_small(box: Float[np.ndarray, "*n 4"]) -> Bool[np.ndarray, "*n"] | np.bool_:
    """Whether faces are too small to judge, by boxes of x, y, width, height; not where unknown."""
    return np.asarray(box)[..., 2:].min(-1) < SMALLEST_FACE


def fit_similarity(
    source: Float[np.ndarray, "k 2"], target: Float[np.ndarray, "k 2"]
) -> Float[np.ndarray, "2 3"] | None:
    """The rotation, scale and shift that bring `source` nearest to `target`, without reflection.

    Least squares over the rows known in both. None if these are fewer than two, or all coincide.
    Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
    1991, in closed form for the plane.
    """
    known = np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1)
    if known.sum() < 2:
        return None
    a, b = source[known].astype(np.float64), target[known].astype(np.float64)
    mean_a, mean_b = a.mean(0), b.mean(0)
    a, b = a - mean_a, b - mean_b
    spread = (a**2).sum()
    if min(spread, (b**2).sum()) <= 1e-6:
        return None
    cosine = (a * b).sum() / spread
    sine = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / spread
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.hstack([linear, (mean_b - linear @ mean_a)[:, None]])


def move(
    matrix: Float[np.ndarray, "2 3"], points: Float[np.ndarray, "k 2"]
) -> Float[np.ndarray, "k 2"]:
    """The points after an affine map; NaN stays NaN."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def complete_landmarks(
    landmarks: Float32[np.ndarray, "5 2"], shape: tuple[int, int]
) -> Float32[np.ndarray, "5 2"]:
    """Fill in unknown landmarks from the average face aligned with the known ones.

    `shape` is the height and width of the crop. All five are the average face's if fewer than two
    are known, or all coincide.
    """
    known = np.isfinite(landmarks).all(axis=1)
    if known.all() and np.ptp(landmarks, axis=0).any():  # at once, because it is usual
        return landmarks
    average = AVERAGE_FACE * np.array([shape[1], shape[0]], np.float32)
    matrix = fit_similarity(average, landmarks)
    if matrix is None:
        return average
    return np.where(known[:, None], landmarks, move(matrix, average)).astype(np.float32)


def cut_patch(
    image: UInt8[np.ndarray, "h w 3"], left: int, top: int, side: int
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """A square of the image, mirrored at the borders (the border itself not repeated)."""
    height, width = image.shape[:2]
    if 0 <= left <= width - side and 0 <= top <= height - side:
        return image[top : top + side, left : left + side]  # a view: no copy
    rows, above, below = _within(top, side, height)
    columns, before, after = _within(left, side, width)
    padded = cv2.copyMakeBorder(
        image[rows, columns], above, below, before, after, cv2.BORDER_REFLECT_101
    )
    y, x = top + above - rows.start, left + before - columns.start
    return padded[y : y + side, x : x + side]


def _within(start: int, side: int, length: int) -> tuple[slice, int, int]:
    """The pixels that a span of `side` shows or mirrors; how many it lacks before and after."""
    before, after = max(0, -start), max(0, start + side - length)
    first = 0 if before else max(0, min(start, 2 * length - 1 - start - side))
    last = length if after else min(length, max(start + side, before + 1))
    return slice(first, last), before, after
