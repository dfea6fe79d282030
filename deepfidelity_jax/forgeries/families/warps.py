"""The geometry of a face's points, and warps that move them."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

Pixels = UInt8[np.ndarray, "h w 3"]
Mask = Float32[np.ndarray, "h w"]
Points = Float32[np.ndarray, "n 2"]
Source = UInt8[np.ndarray, "a b 3"]  # of any size

KERNELS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
NUDGE = 0.9  # pixels, along each axis: by how much a twin's face is moved


class Face(NamedTuple):
    """An RGB face crop and its eyes, nose and mouth corners, x and y in its pixels."""

    pixels: Pixels
    points: Points


class Axes(NamedTuple):
    """A face's coordinates: middle of the eyes, unit vectors, eye-mouth and eye-eye distance."""

    eyes: Float[np.ndarray, "2"]
    down: Float[np.ndarray, "2"]
    right: Float[np.ndarray, "2"]
    length: float
    across: float

    def place(self, x: float | np.ndarray, y: float | np.ndarray) -> Float[np.ndarray, "*n 2"]:
        """Points `x` eye distances right and `y` eye-mouth distances below the eyes."""
        x, y = np.asarray(x)[..., None], np.asarray(y)[..., None]
        return self.eyes + x * self.across * self.right + y * self.length * self.down


def axes(points: Points) -> Axes:
    """The coordinates of a face with complete points [5, 2]."""
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    length = float(np.linalg.norm(mouth - eyes)) + 1e-3
    down = (mouth - eyes) / length
    across = max(float(np.linalg.norm(points[1] - points[0])), 0.6 * length)
    return Axes(eyes, down, np.array([down[1], -down[0]]), length, across)


def draw_nudge(shape: tuple[int, int], rng: np.random.Generator) -> Float[np.ndarray, "2 3"]:
    """A small turn, scaling and shift, input to output pixels; a face moves by about a pixel.

    Not a shift alone: all pixels would move by the same fraction of a pixel, and half a pixel takes
    the finest detail from all of them. A forged face is turned and scaled, so its fractions vary.
    """
    height, width = shape
    turn, growth, *shift = rng.uniform(-1, 1, 4)
    reach = NUDGE / 2 / (width / 2)  # pixels at the edge of the face, per pixel from the middle
    matrix = cv2.getRotationMatrix2D(
        (width / 2, height / 2), np.rad2deg(reach * turn), 1 + reach * growth
    )
    matrix[:, 2] += np.multiply(shift, NUDGE / 2)
    return matrix


def warp_affine(
    image: Source, matrix: Float[np.ndarray, "2 3"], shape: tuple[int, int], kernel: int
) -> Pixels:
    """`image` moved by `matrix` (input to output pixels) into a picture of this shape."""
    size = shape[1], shape[0]
    return cv2.warpAffine(image, matrix, size, flags=kernel, borderMode=cv2.BORDER_REFLECT_101)


def warp_points(
    image: Source, source: Points, target: Points, shape: tuple[int, int], kernel: int
) -> Pixels:
    """`image` warped by a thin plate spline that moves `source` points to `target`.

    The spline is evaluated on every fourth pixel and interpolated between. Bookstein, "Principal
    warps", 1989.
    """
    height, width = shape
    grid_y, grid_x = np.mgrid[0 : height + 3 : 4, 0 : width + 3 : 4].astype(np.float32)
    where = np.stack([grid_x.ravel(), grid_y.ravel()], axis=1)
    field = _thin_plate(target, source, where).reshape(*grid_x.shape, 2)
    # From nodes to pixels: node k is pixel 4 k.
    rows, columns = np.mgrid[:height, :width].astype(np.float32) / 4
    field = cv2.remap(field.astype(np.float32), columns, rows, cv2.INTER_LINEAR)
    return cv2.remap(image, field[..., 0], field[..., 1], kernel, borderMode=cv2.BORDER_REFLECT_101)


def _thin_plate(
    source: Points, target: Points, where: Float32[np.ndarray, "m 2"]
) -> Float[np.ndarray, "m 2"]:
    """Values at `where` of the smoothest map that takes `source` to `target`."""

    def bend(a, b):
        squared = ((a[:, None] - b[None]) ** 2).sum(-1)
        return squared * np.log(squared + 1e-6)

    count = len(source)
    source, target = source.astype(np.float64), target.astype(np.float64)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = bend(source, source) + 1e-3 * np.eye(count)
    system[:count, count] = system[count, :count] = 1
    system[:count, count + 1 :], system[count + 1 :, :count] = source, source.T
    weights = np.linalg.solve(system, np.vstack([target, np.zeros((3, 2))]))
    bent = bend(where.astype(np.float64), source) @ weights[:count]
    return bent + weights[count] + where @ weights[count + 1 :]


def displace(image: Pixels, rng: np.random.Generator, *, twin: bool, reach: float = 0.025):
    """A face turned, scaled, shifted and warped by a few pixels; for a twin, by about one.

    `reach` is the largest shift, as a share of the width.
    """
    height, width = image.shape[:2]
    kernel = int(rng.choice(KERNELS))
    shift, angle = rng.uniform(-1, 1, 2), rng.uniform(-2.5, 2.5)
    scale, bends = rng.uniform(0.95, 1.06), rng.random() < 0.5
    coarse = rng.normal(0, 0.012 * width, (4, 4, 2)).astype(np.float32)
    nudge = draw_nudge((height, width), rng)
    if twin:
        return warp_affine(image, nudge, (height, width), kernel)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    matrix[:, 2] += shift * reach * width
    if not bends:
        return warp_affine(image, matrix, (height, width), kernel)
    inverse = cv2.invertAffineTransform(matrix)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    bend = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    x = inverse[0, 0] * columns + inverse[0, 1] * rows + inverse[0, 2] + bend[..., 0]
    y = inverse[1, 0] * columns + inverse[1, 1] * rows + inverse[1, 2] + bend[..., 1]
    x, y = x.astype(np.float32), y.astype(np.float32)
    return cv2.remap(image, x, y, kernel, borderMode=cv2.BORDER_REFLECT_101)


def anchors(shape: tuple[int, int]) -> Points:
    """Eight points on the border, which keep a warp from moving it."""
    h, w = shape[0] - 1, shape[1] - 1
    return np.array(
        [[0, 0], [w / 2, 0], [w, 0], [0, h / 2], [w, h / 2], [0, h], [w / 2, h], [w, h]],
        np.float32,
    )
