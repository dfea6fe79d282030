"""Ordinary processing of real and forged pictures, the same for both classes.

A detector must not take this for a forgery, so it must not distinguish the classes. Each treatment
is a function of an RGB picture and a generator. The draws never depend on the pixels, so one seed
treats a picture and its forgery alike.
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from jaxtyping import Int

from deepfidelity_jax.forgeries.families import joins
from deepfidelity_jax.forgeries.families.video_coding import code_frame
from deepfidelity_jax.forgeries.families.warps import KERNELS, NUDGE, Mask, Pixels, warp_affine
from deepfidelity_jax.images.pictures import recompress


def resample(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Shrunk and enlarged, moved by less than a pixel, or turned by 1 degree, by any kernel."""
    height, width = image.shape[:2]
    down, up = int(rng.choice([*KERNELS, cv2.INTER_AREA])), int(rng.choice(KERNELS))
    change, scale = (
        rng.choice(["resize", "move", "turn"], p=[0.5, 0.25, 0.25]),
        rng.uniform(0.45, 1.5),
    )
    # No more than a pixel at the edge of a face: what is forged stays where its mask says.
    shift, angle = rng.uniform(-NUDGE, NUDGE, 2), rng.uniform(-1, 1)
    if change == "resize":
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=down)
        return cv2.resize(small, (width, height), interpolation=up)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle * (change == "turn"), 1.0)
    matrix[:, 2] += shift
    return warp_affine(image, matrix, (height, width), up)


def blur(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Out of focus by 0.4 to 3.2 pixels, small ones more often; or moved while exposed."""
    sigma, length = float(np.exp(rng.uniform(np.log(0.4), np.log(3.2)))), int(rng.integers(2, 6))
    if rng.random() < 0.85:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    return cv2.blur(image, (length, 1) if rng.random() < 0.5 else (1, length))


def grain(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Sensor noise of 1 to 12 levels, in colour or grey, fine or coarse."""
    sigma = np.exp(rng.uniform(np.log(1), np.log(12)))
    channels = 3 if rng.random() < 0.6 else 1
    noise = rng.standard_normal((*image.shape[:2], channels), dtype=np.float32)
    if rng.random() < 0.3:
        noise = cv2.GaussianBlur(noise, (0, 0), 0.8).reshape(noise.shape) * 2.5
    return np.clip(np.rint(image + np.float32(sigma) * noise), 0, 255).astype(np.uint8)


def compress(image: Pixels, rng: np.random.Generator) -> Pixels:
    """JPEG of quality 30 to 98, once or twice, on any grid."""
    corner = rng.integers(0, 8, 2)
    first, second = rng.integers(30, 99, 2)
    image = _off_grid(image, corner, lambda moved: recompress(moved, int(first)))
    return recompress(image, int(second)) if rng.random() < 0.3 else image


def compress_video(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A frame of a video, from hardly compressed to poor, on any grid of blocks."""
    step = float(np.exp(rng.uniform(np.log(2), np.log(100))))
    block = int(rng.choice([4, 8, 16]))
    deblocks, smooth_colour = rng.random() < 0.7, rng.random() < 0.3
    code = partial(
        code_frame, step=step, block=block, deblocks=deblocks, smooth_colour=smooth_colour
    )
    return _off_grid(image, rng.integers(0, block, 2), code)


def _off_grid(
    image: Pixels, corner: Int[np.ndarray, "2"], code: Callable[[Pixels], Pixels]
) -> Pixels:
    """`code` of the picture, with its blocks starting `corner` rows and columns before it."""
    (height, width), (top, left) = image.shape[:2], corner
    moved = cv2.copyMakeBorder(image, int(top), 0, int(left), 0, cv2.BORDER_REPLICATE)
    return code(moved)[top : top + height, left : left + width]


def sharpen(image: Pixels, rng: np.random.Generator) -> Pixels:
    """An unsharp mask, as cameras and editors apply it."""
    amount, radius = rng.uniform(0.2, 1.2), rng.uniform(0.6, 1.6)
    soft = cv2.GaussianBlur(image, (0, 0), radius)
    return cv2.addWeighted(image, 1 + amount, soft, -amount, 0)


def smooth_skin(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Noise and fine texture removed, edges kept: denoisers and beauty filters."""
    return cv2.bilateralFilter(image, 5, rng.uniform(8, 40), rng.uniform(1, 3))


def expose(image: Pixels, rng: np.random.Generator) -> Pixels:
    """More or less light, another gamma, another white balance; some with a curve per channel.

    Curves turn fine detail into fine colour, as `colours.match_histogram` does.
    """
    gain, gamma = np.exp(rng.uniform(np.log(0.4), np.log(1.4))), rng.uniform(0.75, 1.35)
    gamma = gamma * (1 + rng.uniform(-0.2, 0.2, 3) * (rng.random() < 0.3))
    tint = 1 + rng.uniform(-0.08, 0.08, 3) * (rng.random() < 0.5)
    table = (np.arange(256)[:, None] / 255) ** gamma * gain * tint * 255
    return cv2.LUT(image, np.rint(table).clip(0, 255).astype(np.uint8)[None])


def lose_detail(image: Pixels, rng: np.random.Generator, most: float = 1.6) -> Pixels:
    """Softer, by one of blur (of 0.4 to `most` pixels), resampling, smoothing."""
    sigma, share, how = rng.uniform(0.4, most), rng.uniform(0.64 / most, 0.8), rng.integers(3)
    if how == 0:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    if how == 1:
        return smooth_skin(image, rng)
    small = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def change_detail(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Unchanged, softer or sharper: how an inner face may differ without being forged."""
    draw = rng.random()
    if draw < 0.4:
        return image
    return lose_detail(image, rng) if draw < 0.75 else sharpen(image, rng)


def touch_inside(image: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
    """The inner face softer, sharper, smoother, grainier or moved by half a pixel.

    Like depth of field, a smoothed background and retouching: no content is foreign, and the mask's
    edge is soft. Up to clearly out of focus, or training never shows that a soft inside can be
    real.
    """
    softer = partial(lose_detail, most=2.4)
    treatment = rng.choice([softer, softer, softer, smooth_skin, sharpen, resample, grain])
    return joins.opacity(treatment(image, rng), image, mask)


def wear(image: Pixels, rng: np.random.Generator) -> Pixels:
    """One loss of quality in the whole picture: grain, compression, blur, resampling, darkness."""
    steps = (grain, compress, compress_video, blur, lose_detail, resample, expose)
    step = steps[rng.choice(len(steps), p=[0.22, 0.2, 0.2, 0.1, 0.1, 0.08, 0.1])]
    return step(image, np.random.default_rng(rng.integers(2**63)))


def live(image: Pixels, rng: np.random.Generator) -> Pixels:
    """What happens to a picture after it was taken or forged: none, few or many treatments."""
    often = rng.choice([0.0, 0.15, 0.35], p=[0.35, 0.4, 0.25])
    steps = (
        (resample, 1), (smooth_skin, 0.4), (blur, 0.8), (expose, 1), (grain, 0.8), (sharpen, 0.5),
        (compress_video, 1), (resample, 1), (compress, 2),
    )  # fmt: skip
    for step, weight in steps:
        seed = rng.integers(2**63)  # so that no step's draws depend on the previous step
        if rng.random() < often * weight:
            image = step(image, np.random.default_rng(seed))
    return image
