"""What the network sees of a crop, in arithmetic that every runtime supports.

`augment.center_crop` cuts out the central square and lets OpenCV resize it. Here the resizing is a
matrix product for the rows and one for the columns, rounded to grey levels as OpenCV rounds.

Area averaging gives OpenCV's pixels exactly. So does bicubic interpolation, except where the exact
value lies half way between two grey levels: about one pixel in 50,000 is then one level off. (Two
builds of OpenCV, with and without Intel's library, differ in 3% of the pixels.)
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, UInt8

SHARPNESS = -0.75  # of OpenCV's bicubic interpolation


@dataclass(frozen=True, eq=False)
class View:
    """How a crop becomes the network's input.

    Attributes:
      crop: side of the crops.
      side: side of the central square.
      size: side of the network's input.
      weights: share of each row of the square in each row of the input; None if the square is not
        resized.
    """

    crop: int
    side: int
    size: int
    weights: Float32[np.ndarray, "size side"] | None

    @property
    def start(self) -> int:
        """The first row and column of the square."""
        return (self.crop - self.side) // 2

    @property
    def rounds_up(self) -> bool:
        """Whether halves are rounded up, as OpenCV does when it halves a side; else to even."""
        return self.side == 2 * self.size


def make_view(crop: int, size: int, share: float) -> View:
    """The view that `augment.center_crop` takes of crops of `crop` x `crop` pixels."""
    side = max(1, round(crop * share))
    if side == size:
        return View(crop, side, size, None)
    weigh = _area_weights if side > size else _cubic_weights
    return View(crop, side, size, weigh(side, size).astype(np.float32))


def take(view: View, crops: UInt8[Array, "n h w 3"]) -> UInt8[Array, "n s s 3"]:
    """The network's input from crops; pure and jittable."""
    inner = slice(view.start, view.start + view.side)
    square = crops[:, inner, inner]
    if view.weights is None:
        return square
    exact = jax.lax.Precision.HIGHEST
    rows = jnp.einsum("sh,nhwc->nswc", view.weights, square.astype(jnp.float32), precision=exact)
    both = jnp.einsum("sw,nhwc->nhsc", view.weights, rows, precision=exact)
    levels = jnp.floor(both + 0.5) if view.rounds_up else jnp.round(both)
    return jnp.clip(levels, 0, 255).astype(jnp.uint8)


def _area_weights(side: int, size: int) -> np.ndarray:
    """Weights that make each output pixel the mean of the input pixels that it covers."""
    scale = side / size
    ends = np.arange(size + 1) * scale
    pixels = np.arange(side)
    covered = np.minimum(ends[1:, None], pixels + 1) - np.maximum(ends[:-1, None], pixels)
    return np.where(covered > 1e-3, covered, 0) / scale  # OpenCV leaves out less than 1e-3


def _cubic_weights(side: int, size: int) -> np.ndarray:
    """Keys' kernel over the four nearest pixels; pixels outside are replaced by the outermost.

    Keys, "Cubic convolution interpolation for digital image processing", 1981.
    """
    centre = (np.arange(size) + 0.5) * side / size - 0.5
    first = np.floor(centre).astype(int) - 1
    weights = np.zeros((size, side))
    for tap in range(4):
        pixel, a = first + tap, SHARPNESS
        d = np.abs(centre - pixel)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        share = np.where(d <= 1, near, far)
        np.add.at(weights, (np.arange(size), np.clip(pixel, 0, side - 1)), share)
    return weights
