"""Artificial texture, as generators, autoencoders and inpainting leave it.

Every function has a twin: the same loss of detail with nothing invented.
"""

import cv2
import numpy as np

from deepfidelity_jax.forgeries.families.warps import (
    KERNELS,
    Axes,
    Mask,
    Pixels,
    draw_nudge,
    warp_affine,
)


def upsampled(image: Pixels, rng: np.random.Generator, *, twin: bool) -> Pixels:
    """Shrunk, and enlarged by a transposed convolution or repeated pixels, as in a generator.

    Three taps at stride two overlap unevenly, which leaves a checkerboard (Odena et al., 2016;
    Frank et al., 2020, for the spectrum), in grey, in colour, or between the two. A share of the
    true detail is added back. The twin is enlarged by plain interpolation.
    """
    height, width = image.shape[:2]
    stride = int(rng.choice([2, 2, 3, 4]))
    grey, *colours = rng.normal(0, 1, (4, stride + 1, stride + 1)).astype(np.float32)
    angle, unevenness = rng.uniform(0, np.pi / 2), rng.uniform(0.04, 0.2)
    taps = np.cos(angle) * grey + np.sin(angle) * np.stack(colours)
    repeated, detail = rng.random() < 0.3, rng.uniform(0.3, 1.0)
    size = -(-width // stride), -(-height // stride)
    padded = cv2.copyMakeBorder(
        image, 0, size[1] * stride - height, 0, size[0] * stride - width, cv2.BORDER_REFLECT_101
    ).astype(np.float32)
    small = cv2.resize(padded, size, interpolation=cv2.INTER_AREA)
    full = size[0] * stride, size[1] * stride
    smooth = cv2.resize(small, full, interpolation=cv2.INTER_LINEAR)
    if twin:
        grown = smooth
    elif repeated:
        steps = cv2.resize(small, full, interpolation=cv2.INTER_NEAREST)
        grown = smooth + 0.6 * (cv2.GaussianBlur(steps, (0, 0), 0.25 * stride) - smooth)
    else:
        grown = _transposed(small, stride, taps * unevenness)
    result = grown + detail * (padded - smooth)
    return np.clip(np.rint(result[:height, :width]), 0, 255).astype(np.uint8)


def _transposed(small: np.ndarray, stride: int, taps: np.ndarray) -> np.ndarray:
    """A transposed convolution of `small` [h w 3] with bilinear taps too short to be even."""
    height, width = small.shape[0] * stride, small.shape[1] * stride
    # One sample more on each side, as the border has no other.
    small = cv2.copyMakeBorder(small, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    spread = np.zeros((height + 2 * stride, width + 2 * stride, 3), np.float32)
    spread[::stride, ::stride] = small
    # A sample lies in the middle of its block, as for `cv2.resize`.
    first, last = -(stride // 2), stride - 1 + stride // 2
    row = 1 - np.abs(np.arange(first, last + 1) - (stride - 1) / 2) / stride
    kernel = np.outer(row, row)
    side = stride + 1
    grown = []
    for channel in range(3):
        channel_kernel = kernel.copy()
        top = (len(kernel) - side) // 2
        channel_kernel[top : top + side, top : top + side] *= 1 + taps[channel]
        # The mean brightness is kept; it differs with the pixel's position in the stride.
        channel_kernel *= stride**2 / channel_kernel.sum()
        channel_kernel = channel_kernel[::-1, ::-1]
        grown.append(cv2.filter2D(spread[..., channel], -1, channel_kernel, anchor=(last, last)))
    return np.stack(grown, axis=-1)[stride : stride + height, stride : stride + width]


def scrambled(image: Pixels, rng: np.random.Generator, *, twin: bool) -> Pixels:
    """Fine detail replaced by noise of the same spectrum and the same local strength.

    A frequency bottleneck: detail coarser than a few pixels stays, and the phases of the rest are
    drawn. All channels get the same phases, so that detail keeps its colours: grey detail would
    look like JPEG's, which real pictures have too. The twin keeps its own detail, to the same
    extent.
    """
    sigma, share = rng.uniform(1.0, 2.5), rng.uniform(0.5, 1.1)
    phases = rng.standard_normal(image.shape[:2], dtype=np.float32)
    pixels = image.astype(np.float32)
    low = cv2.GaussianBlur(pixels, (0, 0), sigma)
    high = pixels - low
    if not twin:
        turns = np.exp(1j * np.angle(np.fft.rfft2(phases)))[..., None]
        drawn = np.fft.rfft2(high, axes=(0, 1)) * turns
        drawn = np.fft.irfft2(drawn, phases.shape, axes=(0, 1)).astype(np.float32)
        high = drawn * _local_deviation(high, 3.0) / (_local_deviation(drawn, 3.0) + 0.1)
    return np.clip(np.rint(low + share * high), 0, 255).astype(np.uint8)


def _local_deviation(values: np.ndarray, sigma: float) -> np.ndarray:
    return np.sqrt(cv2.GaussianBlur(values * values, (0, 0), sigma))


def stitched(image: Pixels, donor: Pixels, rng: np.random.Generator, *, twin: bool) -> Pixels:
    """Every patch with the detail of the donor's most similar patch nearby.

    Like an autoencoder with a codebook, this keeps the coarse picture and takes the detail from
    another face. `donor` is aligned. Patches are 5 to 11 pixels wide, on any grid, and fade into
    each other: edges on a fixed grid would look like JPEG's blocks, which real pictures have too.
    The twin is moved by about a pixel.
    """
    shifts = np.round(rng.normal(0, 4, (12, 2))).astype(int)
    nudge, kernel = draw_nudge(image.shape[:2], rng), int(rng.choice(KERNELS))
    side, softness = int(rng.integers(5, 12)), rng.uniform(0.6, 1.5)
    starts = rng.integers(0, side, 2)
    shape = image.shape[:2]
    if twin:
        return warp_affine(image, nudge, shape, kernel)
    pixels, detail = image.astype(np.float32), donor.astype(np.float32)
    coarse = cv2.GaussianBlur(pixels, (0, 0), side / 4)
    detail -= cv2.GaussianBlur(detail, (0, 0), side / 4)
    image_detail = pixels - coarse
    moved = [np.roll(detail, (dy, dx), (0, 1)) for dx, dy in shifts]
    # The patch that each row and column of pixels is in, and the middle of each patch.
    patches = [(np.arange(shape[axis]) + starts[axis]) // side for axis in (0, 1)]
    middles = [
        (np.arange(patches[axis][-1] + 1) * side - starts[axis] + side // 2).clip(
            0, shape[axis] - 1
        )
        for axis in (0, 1)
    ]
    errors = [
        cv2.boxFilter((one - image_detail) ** 2, -1, (side, side))[np.ix_(*middles)].sum(-1)
        for one in moved
    ]
    best = np.argmin(errors, axis=0)
    of_pixels = best[np.ix_(*patches)]
    for index in np.unique(best):
        share = cv2.GaussianBlur((of_pixels == index).astype(np.float32), (0, 0), softness)
        coarse += cv2.merge([share] * 3) * moved[index]
    return np.clip(np.rint(coarse), 0, 255).astype(np.uint8)


def filled(image: Pixels, hole: Mask, frame: Axes, rng: np.random.Generator, *, twin: bool):
    """The hole filled from its border, from the other half of the face, or from skin nearby.

    Telea, "An image inpainting technique", 2004. Some get grain as well, and so do their twins. The
    twin is halved, enlarged and softened where the hole is filled from its border, and moved by
    about a pixel where it is filled from elsewhere.
    """
    shape = image.shape[:2]
    method = rng.choice(["around", "mirrored", "nearby"], p=[0.45, 0.3, 0.25])
    radius, softness = rng.choice([3.0, 5.0]), rng.uniform(0.4, 1.5)
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.6) * frame.across
    grain = rng.uniform(0, 5) * (rng.random() < 0.6)
    noise = rng.standard_normal(shape, dtype=np.float32)[..., None] * grain
    matrix, kernel = draw_nudge(shape, rng), int(rng.choice(KERNELS))
    if method == "around":
        inner = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        if not twin:
            solid = (hole > 0.3 * hole.max()).astype(np.uint8)
            solid = cv2.resize(solid, inner.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            inner = cv2.inpaint(inner, solid, radius, cv2.INPAINT_TELEA)
        inner = cv2.resize(inner, shape[::-1], interpolation=cv2.INTER_CUBIC)
        if twin:
            inner = cv2.GaussianBlur(inner, (0, 0), softness)
    else:
        if not twin and method == "mirrored":
            flip = np.eye(2) - 2 * np.outer(frame.right, frame.right)
            matrix = np.hstack([flip, (frame.eyes - flip @ frame.eyes)[:, None]])
        elif not twin:
            matrix[:, 2] += reach * np.array([np.cos(angle), np.sin(angle)])
        inner = warp_affine(image, matrix, shape, kernel)
    return np.clip(np.rint(inner + noise), 0, 255).astype(np.uint8)
