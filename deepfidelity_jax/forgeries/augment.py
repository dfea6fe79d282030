"""Training augmentations on the host: uint8 RGB face crops in, uint8 RGB squares out.

`lose_quality` comes first, then `augment`; evaluation uses `center_crop`. All are pure functions
of their arguments and a `np.random.Generator`. Draws never depend on the pixels, so one seed gives
a face and its forgery the same draws, and only the forgery tells them apart. A mask [h, w] in
[0, 1], the forged share of each pixel, follows every geometric transform.
"""

from dataclasses import dataclass, fields

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.forgeries.degrade import DEGRADATIONS, degrade
from deepfidelity_jax.forgeries.operations import Image, Mask, color_jitter, rand_augment
from deepfidelity_jax.images import pictures


@dataclass(frozen=True)
class AugmentSettings:
    """Probabilities (names ending in _p) and (low, high) ranges of every transform.

    The defaults suit small aligned faces: most of the face stays in view, and the traces of a
    forgery survive. `paper()` is the paper's recipe, `off()` only resizes.
    Raises InputError for a probability outside [0, 1] or a range out of order.
    """

    crop_scale: tuple[float, float] = (0.6, 1.0)  # share of the image's area
    crop_ratio: tuple[float, float] = (0.85, 1.18)  # width / height
    flip_p: float = 0.5
    rand_layers: int = 0
    rand_magnitude: float = 9.0
    rand_std: float = 0.5
    jitter: float = 0.2  # strength for brightness, contrast and saturation; 0 is off
    degrade_p: float = 0.2  # one of degrade.DEGRADATIONS
    degrade_strength: float = 0.4  # the highest drawn
    recompress_p: float = 0.3
    recompress_quality: tuple[int, int] = (40, 100)
    erase_p: float = 0.1
    erase_area: tuple[float, float] = (0.02, 0.2)

    def __post_init__(self):
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name.endswith(("_p", "degrade_strength")) and not 0 <= value <= 1:
                raise InputError(f"augment.{f.name} must lie in [0, 1], not be {value}")
            if isinstance(f.default, tuple) and not (len(value) == 2 and 0 < value[0] <= value[1]):
                raise InputError(f"augment.{f.name} is a range 0 < low <= high, not {value}")
        for name in ("rand_layers", "rand_magnitude", "rand_std", "jitter"):
            if getattr(self, name) < 0:
                raise InputError(f"augment.{name} cannot be negative: {getattr(self, name)}")
        if self.crop_scale[1] > 1 or self.erase_area[1] > 1 or self.recompress_quality[1] > 100:
            raise InputError(
                "augment.crop_scale and augment.erase_area are shares up to 1, "
                "augment.recompress_quality is at most 100"
            )

    @classmethod
    def paper(cls) -> "AugmentSettings":
        """The official training recipe: wide crops, RandAugment m9 mstd0.5 inc1, random erasing.

        Its colour jitter of 0.4 is not applied, because timm drops it if RandAugment is on.
        """
        return cls(
            crop_scale=(0.08, 1.0),
            crop_ratio=(3 / 4, 4 / 3),
            rand_layers=2,
            jitter=0.0,
            degrade_p=0.0,
            recompress_p=0.0,
            erase_p=0.25,
            erase_area=(0.02, 1 / 3),
        )

    @classmethod
    def off(cls) -> "AugmentSettings":
        """Only the central square, resized."""
        return cls(
            crop_scale=(1.0, 1.0),
            crop_ratio=(1.0, 1.0),
            flip_p=0.0,
            jitter=0.0,
            degrade_p=0.0,
            recompress_p=0.0,
            erase_p=0.0,
        )


def lose_quality(image: Image, settings: AugmentSettings, rng: np.random.Generator) -> Image:
    """The face with the quality loss of a worse camera or an upload.

    Call before taking any view, so that blocks and grain are resized with the face.
    """
    s = settings
    if rng.random() < s.degrade_p:
        kind = str(rng.choice(list(DEGRADATIONS)))
        image = degrade(image, kind, rng.uniform(0, s.degrade_strength), rng)
    if rng.random() < s.recompress_p:
        image = recompress(image, rng, s.recompress_quality)
    return image


def augment(
    image: Image,
    mask: Mask | None,
    settings: AugmentSettings,
    size: int,
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "{size} {size} 3"], Float[np.ndarray, "{size} {size}"] | None]:
    """One training view [size, size, 3] of a face, and its mask (None if `mask` is None).

    Geometry first, then colour, then erasing. An erased box keeps its mask: erasing hides a forgery
    but does not undo it.
    """
    s = settings
    image, mask = random_resized_crop(image, mask, size, rng, s.crop_scale, s.crop_ratio)
    if rng.random() < s.flip_p:
        image, mask = flip(image, mask)
    if s.rand_layers:
        image, mask = rand_augment(
            image, mask, rng, s.rand_magnitude, s.rand_std, layers=s.rand_layers
        )
    if s.jitter:
        image = color_jitter(image, rng, s.jitter)
    image = random_erasing(image, rng, s.erase_p, s.erase_area)
    return image, mask


def center_crop(
    image: Image, size: int, share: float = 1.0
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """The evaluation view [size, size, 3]: the central square, `share` of the shorter side.

    Resized by `pictures.resize`. The official code's share is 0.9.
    """
    h, w = image.shape[:2]
    side = max(1, round(min(h, w) * share))
    top, left = (h - side) // 2, (w - side) // 2
    return pictures.resize(image[top : top + side, left : left + side], size, size)


# ------------------------------------------------------------------ geometry


def random_resized_crop(
    image: Image,
    mask: Mask | None,
    size: int,
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[UInt8[np.ndarray, "{size} {size} 3"], Float[np.ndarray, "{size} {size}"] | None]:
    """A random box resized to size x size: bilinear or bicubic; area averaging beyond 1.5 to 1.

    `scale` is the range of the box's share of the area, `ratio` the range of width / height, drawn
    log-uniformly. Takes the first of ten drawn boxes that fits, otherwise the largest central box
    of an allowed ratio. Szegedy et al., "Going deeper with convolutions", 2015.
    """
    h, w = image.shape[:2]
    areas = rng.uniform(*scale, 10) * (h * w)
    ratios = np.exp(rng.uniform(*np.log(ratio), 10))
    u, v, cubic = rng.random(3)
    widths, heights = np.rint(np.sqrt(areas * ratios)), np.rint(np.sqrt(areas / ratios))
    fits = (widths >= 1) & (widths <= w) & (heights >= 1) & (heights <= h)
    if fits.any():
        first = int(np.argmax(fits))
        box_w, box_h = int(widths[first]), int(heights[first])
        left, top = int(u * (w - box_w + 1)), int(v * (h - box_h + 1))
    else:
        shape = min(max(w / h, ratio[0]), ratio[1])
        box_w, box_h = min(w, max(1, round(h * shape))), min(h, max(1, round(w / shape)))
        left, top = (w - box_w) // 2, (h - box_h) // 2

    if max(box_w, box_h) > 1.5 * size:
        interpolation = cv2.INTER_AREA
    else:
        interpolation = cv2.INTER_CUBIC if cubic < 0.5 else cv2.INTER_LINEAR
    rows, columns = slice(top, top + box_h), slice(left, left + box_w)
    image = _resize(image[rows, columns], size, interpolation)
    if mask is not None:
        mask = np.clip(_resize(mask[rows, columns], size, interpolation), 0, 1)
    return image, mask


def flip(image: Image, mask: Mask | None) -> tuple[Image, Mask | None]:
    """Mirror left and right."""
    return cv2.flip(image, 1), None if mask is None else cv2.flip(mask, 1)


def _resize(array: np.ndarray, size: int, interpolation: int) -> np.ndarray:
    if array.shape[:2] == (size, size):
        return array.copy()
    return cv2.resize(array, (size, size), interpolation=interpolation)


# ------------------------------------------------------------------ what cameras and networks do


def recompress(
    image: Image, rng: np.random.Generator, quality: tuple[int, int] = (30, 100)
) -> Image:
    """The image after JPEG at a quality drawn from the range, both ends included."""
    return pictures.recompress(image, int(rng.integers(quality[0], quality[1], endpoint=True)))


def random_erasing(
    image: Image,
    rng: np.random.Generator,
    p: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
) -> Image:
    """With probability p, replace a box by noise; `area` is the range of its share of the image.

    The box's ratio is drawn log-uniformly from [0.3, 1 / 0.3]; the first of ten drawn boxes that
    fits is taken. The noise is normal around mid-grey, with a standard deviation of one after the
    usual scaling to [-1, 1]. Zhong et al., "Random erasing data augmentation", 2020.
    """
    if rng.random() >= p:
        return image
    h, w = image.shape[:2]
    areas = rng.uniform(*area, 10) * (h * w)
    ratios = np.exp(rng.uniform(np.log(0.3), -np.log(0.3), 10))
    u, v = rng.random(2)
    heights, widths = np.rint(np.sqrt(areas * ratios)), np.rint(np.sqrt(areas / ratios))
    fits = (heights >= 1) & (heights < h) & (widths >= 1) & (widths < w)
    if not fits.any():
        return image
    first = int(np.argmax(fits))
    box_h, box_w = int(heights[first]), int(widths[first])
    top, left = int(v * (h - box_h + 1)), int(u * (w - box_w + 1))
    noise = rng.standard_normal((box_h, box_w, 3), dtype=np.float32) * 127.5 + 127.5
    image = image.copy()
    image[top : top + box_h, left : left + box_w] = np.clip(noise, 0, 255).astype(np.uint8)
    return image
