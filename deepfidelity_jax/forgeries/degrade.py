"""Degradations of known strength, for testing quality measures and for training.

Every function takes an RGB face crop of any size and a strength in [0, 1]: 0 returns the image
unchanged, 1 is severe with the face still discernible. Lengths are relative to the image's side, so
that a strength means the same at every size, except for JPEG, whose blocks are always 8 pixels.
"""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import UInt8

from deepfidelity_jax.images.pictures import recompress

Image = UInt8[np.ndarray, "h w 3"]

# At strength 1:
BLUR_SIGMA = 0.03  # of the side
SMALLEST_SIDE = 20  # pixels
JPEG_QUALITY = (95.0, 6.0)  # from strength 0 to 1
NOISE_SIGMA = 40.0  # grey levels
DARK_STOPS = 4.0
BURNT_SHARE = 0.8  # of the face

NOISE_GRID = 128  # grains along the side


def blur(image: Image, strength: float) -> Image:
    """Gaussian blur, like lack of focus; sigma grows linearly to 3% of the side."""
    if strength == 0:
        return image.copy()
    sigma = BLUR_SIGMA * strength * _side(image)
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def downscale(image: Image, strength: float) -> Image:
    """Shrink and enlarge again, like a small face; the side falls geometrically to 20 pixels."""
    if strength == 0:
        return image.copy()
    height, width = image.shape[:2]
    factor = max(1, _side(image) / SMALLEST_SIDE) ** strength
    small = (round(width / factor), round(height / factor))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR)


def jpeg(image: Image, strength: float) -> Image:
    """Recompress as JPEG; the quality falls geometrically from 95 to 6."""
    if strength == 0:
        return image.copy()
    best, worst = JPEG_QUALITY
    return recompress(image, round(best * (worst / best) ** strength))


def noise(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Gaussian noise in every channel; its standard deviation grows linearly to 40 grey levels.

    Drawn on a grid of 128 x 128 grains and resized to the image: noise of single pixels would
    almost vanish in a large face and dominate a small one.
    """
    if strength == 0:
        return image.copy()
    height, width = image.shape[:2]
    grains = rng.standard_normal((NOISE_GRID, NOISE_GRID, 3), dtype=np.float32)
    method = cv2.INTER_AREA if min(height, width) < NOISE_GRID else cv2.INTER_CUBIC
    grains = cv2.resize(grains, (width, height), interpolation=method)
    noisy = image + NOISE_SIGMA * strength * grains
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def darkness(image: Image, strength: float) -> Image:
    """Less light: the exposure falls linearly by 4 stops, and dark tones merge."""
    if strength == 0:
        return image.copy()
    return _expose(image, 2 ** (-DARK_STOPS * strength))


def overexposure(image: Image, strength: float) -> Image:
    """Too much light: the burnt-out share of the face grows linearly to 80%.

    The gain depends on the middle of the crop, since light that degrades a bright face improves a
    dark one.
    """
    if strength == 0:
        return image.copy()
    height, width = image.shape[:2]
    top, left = height // 4, width // 4
    middle = image[top : height - top, left : width - left]
    brightest = _linear(np.quantile(middle.max(axis=2), 1 - BURNT_SHARE * strength))
    return _expose(image, 1 / max(brightest, 1 / 255))


DEGRADATIONS: dict[str, Callable[..., Image]] = {
    "blur": blur,
    "downscale": downscale,
    "jpeg": jpeg,
    "noise": noise,
    "darkness": darkness,
    "overexposure": overexposure,
}


def degrade(image: Image, kind: str, strength: float, rng: np.random.Generator) -> Image:
    """Degrade an image by one of DEGRADATIONS; only noise draws from `rng`.

    Raises ValueError for a strength outside [0, 1], KeyError for an unknown kind.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength {strength} outside [0, 1]")
    if kind == "noise":
        return noise(image, strength, rng)
    return DEGRADATIONS[kind](image, strength)


def _side(image: Image) -> int:
    return min(image.shape[:2])


def _expose(image: Image, gain: float) -> Image:
    """Multiply linear light, not the sRGB values, by a gain."""
    light = (_linear(np.arange(256)) * gain).clip(0, 1)
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return cv2.LUT(image, np.rint(255 * code).astype(np.uint8))


def _linear(code):
    code = np.asarray(code) / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
