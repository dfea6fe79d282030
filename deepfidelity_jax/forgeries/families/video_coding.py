"""A picture as a frame of a compressed video: the blocks of H.264 and its relatives, no encoder.

Video coding leaves other traces than JPEG: smaller blocks, detail that is lost rather than
distorted, and block edges smoothed away. An encoder such as x264 would be an extra dependency, and
its output differs from version to version.
"""

import functools

import cv2
import numpy as np
from jaxtyping import Float32

from deepfidelity_jax.forgeries.families.warps import Pixels

Plane = Float32[np.ndarray, "h w"]

COARSEST_COLOUR = 30.0  # levels: about here H.264 stops coding colour as coarsely as light


def code_frame(
    image: Pixels,
    step: float,
    block: int,
    *,
    deblocks: bool,
    smooth_colour: bool = False,
) -> Pixels:
    """The picture after coding and decoding as one frame.

    Args:
      image: RGB, [h w 3].
      step: of the quantiser, in levels: in H.264 10 at a quantisation parameter of 24, 20 at 30,
        and so on (ITU-T H.264, 8.5).
      block: the side of luma's blocks in pixels; colour has half the pixels, in blocks of 4.
      deblocks: whether steps at block edges that quantisation can explain are smoothed, as by
        H.264's loop filter (List et al., "Adaptive deblocking filter", 2003).
      smooth_colour: whether colour is interpolated; players mostly repeat it for two pixels.
    """
    height, width = image.shape[:2]
    even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    size = even.shape[1::-1]
    kernel = cv2.INTER_LINEAR if smooth_colour else cv2.INTER_NEAREST
    luma, *colours = cv2.split(cv2.cvtColor(even, cv2.COLOR_RGB2YCrCb).astype(np.float32))
    planes = [_code(luma, step, block, deblocks)]
    for colour in colours:
        half = cv2.resize(colour, (size[0] // 2, size[1] // 2), interpolation=cv2.INTER_AREA)
        half = _code(half, min(step, COARSEST_COLOUR), 4, deblocks)
        planes.append(cv2.resize(half, size, interpolation=kernel))
    decoded = np.clip(np.rint(cv2.merge(planes)), 0, 255).astype(np.uint8)
    decoded = cv2.cvtColor(decoded, cv2.COLOR_YCrCb2RGB)
    return np.ascontiguousarray(decoded[:height, :width])


def _code(plane: Plane, step: float, block: int, deblocks: bool) -> Plane:
    """What remains of a plane after prediction, transform and quantisation."""
    height, width = plane.shape
    plane = cv2.copyMakeBorder(plane, 0, -height % block, 0, -width % block, cv2.BORDER_REPLICATE)
    rows, columns = plane.shape
    blocks = plane.reshape(rows // block, block, columns // block, block).swapaxes(1, 2)
    predicted = _predict(blocks)
    transform = _cosines(block)
    values = transform @ (blocks - predicted) @ transform.T
    # Encoders round towards zero up to two thirds of a step, which saves bits.
    values = np.copysign(np.floor(np.abs(values) / step + np.float32(1 / 3)) * step, values)
    blocks = predicted + transform.T @ values @ transform
    coded = blocks.swapaxes(1, 2).reshape(rows, columns)
    if deblocks:
        _smooth_edges(coded, step, block)
        _smooth_edges(coded.T, step, block)
    return coded[:height, :width]


def _predict(blocks: Float32[np.ndarray, "m n b b"]) -> Float32[np.ndarray, "m n b b"]:
    """Each block as its neighbours above and on the left continue, whichever comes nearest.

    The column on the left repeated, the row above repeated, or the mean of both; of the picture
    itself, where a decoder has only what was coded. At the border, the block's own.
    """
    above, left = blocks[..., :1, :].copy(), blocks[..., :1].copy()
    above[1:], left[:, 1:] = blocks[:-1, :, -1:, :], blocks[:, :-1, :, -1:]
    mean = (above.mean((-2, -1), keepdims=True) + left.mean((-2, -1), keepdims=True)) / 2
    guesses = [np.broadcast_to(guess, blocks.shape) for guess in (above, left, mean)]
    errors = [np.abs(blocks - guess).sum((-2, -1)) for guess in guesses]
    return np.choose(np.argmin(errors, axis=0)[..., None, None], guesses)


def _smooth_edges(plane: Plane, step: float, block: int) -> None:
    """Smooth two pixels on either side of each vertical block edge, in place.

    Only where the pixels beside the edge are flat, and the step is one that quantisation makes.
    """
    edges = np.arange(block, plane.shape[1], block)
    p2, p1, p0, q0, q1, q2 = (plane[:, edges + offset] for offset in range(-3, 3))
    flat = np.maximum(np.abs(p1 - p0), np.abs(q1 - q0)) < 0.4 * step
    made = flat & (np.abs(p0 - q0) < 1.2 * step)
    smooth = {
        -2: (p2 + p1 + p0 + q0) / 4,
        -1: (p2 + 2 * p1 + 2 * p0 + 2 * q0 + q1) / 8,
        0: (p1 + 2 * p0 + 2 * q0 + 2 * q1 + q2) / 8,
        1: (p0 + q0 + q1 + q2) / 4,
    }
    for offset, values in smooth.items():
        plane[:, edges + offset] = np.where(made, values, plane[:, edges + offset])


@functools.cache
def _cosines(side: int) -> Plane:
    """The orthonormal cosine transform of `side` samples (DCT-II), one row per frequency."""
    frequency, sample = np.mgrid[:side, :side]
    rows = np.sqrt(2 / side) * np.cos(np.pi * (sample + 0.5) * frequency / side)
    rows[0] /= np.sqrt(2)
    return rows.astype(np.float32)
