"""RandAugment and colour jitter: the colour and geometry operations of augmentation."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Image = UInt8[np.ndarray, "h w 3"]
Mask = Float[np.ndarray, "h w"]

GREY = np.array([0.299, 0.587, 0.114])
FILL = 128


def _warp(image: Image, mask: Mask | None, inverse: np.ndarray, interpolation: int, fill: int):
    """Affine warp; `inverse` [2, 3] maps output to input pixels. Pixels from outside get mask 0."""
    h, w = image.shape[:2]
    flags = interpolation | cv2.WARP_INVERSE_MAP
    image = cv2.warpAffine(image, inverse, (w, h), flags=flags, borderValue=(fill,) * 3)
    if mask is not None:
        mask = np.clip(cv2.warpAffine(mask, inverse, (w, h), flags=flags, borderValue=0), 0, 1)
    return image, mask


# ------------------------------------------------------------------ RandAugment

OPERATIONS = (
    "auto_contrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "solarize_add",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)


def rand_augment(
    image: Image,
    mask: Mask | None,
    rng: np.random.Generator,
    magnitude: float,
    std: float,
    *,
    layers: int,
    increasing: bool = True,
    fill: int = FILL,
) -> tuple[Image, Mask | None]:
    """Draw `layers` operations from OPERATIONS and apply each with probability one half.

    The magnitude of each is drawn from normal(magnitude, std) and clipped to [0, 10]; with
    `increasing`, a higher magnitude always means a stronger change; timm's 'rand-m9-mstd0.5-inc1'
    has magnitude 9 and std 0.5. `fill` is the grey outside the image. Cubuk et al.,
    "RandAugment", 2020.
    """
    for _ in range(layers):
        name = OPERATIONS[rng.integers(len(OPERATIONS))]
        level = min(max(rng.normal(magnitude, std), 0.0), 10.0) / 10
        apply, sign, cubic = rng.random(3) < 0.5
        if apply:
            image, mask = operate(
                name,
                image,
                mask,
                level,
                sign=-1 if sign else 1,
                increasing=increasing,
                interpolation=cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR,
                fill=fill,
            )
    return image, mask


def operate(
    name: str,
    image: Image,
    mask: Mask | None,
    level: float,
    *,
    sign: int = 1,
    increasing: bool = True,
    interpolation: int = cv2.INTER_LINEAR,
    fill: int = FILL,
) -> tuple[Image, Mask | None]:
    """One operation of OPERATIONS at `level` in [0, 1], in the direction `sign` if it has two.

    At level 1: rotate by 30 degrees, shear by 0.3, translate by 0.45 of the side, change colours by
    0.9, posterize from 4 bits to 0, solarize from 0, solarize_add 110. The others have no level.
    """
    h, w = image.shape[:2]
    factor = max(0.1, 1 + 0.9 * level * sign) if increasing else 0.1 + 1.8 * level
    shear = 0.3 * level * sign
    match name:
        case "rotate":
            inverse = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), 30 * level * sign, 1)
        case "shear_x":
            inverse = np.array([[1, shear, 0], [0, 1, 0]])
        case "shear_y":
            inverse = np.array([[1, 0, 0], [shear, 1, 0]])
        case "translate_x":
            inverse = np.array([[1, 0, 0.45 * level * sign * w], [0, 1, 0]])
        case "translate_y":
            inverse = np.array([[1, 0, 0], [0, 1, 0.45 * level * sign * h]])
        case _:
            return _recolor(name, image, level, factor, increasing), mask
    return _warp(image, mask, inverse, interpolation, fill)


def _recolor(name: str, image: Image, level: float, factor: float, increasing: bool) -> Image:
    values = np.arange(256)
    match name:
        case "auto_contrast":
            low, high = np.array([cv2.minMaxLoc(c)[:2] for c in cv2.split(image)]).T
            gain = 255 / np.maximum(high - low, 1)
            table = np.where(high > low, (values[:, None] - low) * gain, values[:, None])
        case "equalize":
            return np.stack([cv2.equalizeHist(c) for c in cv2.split(image)], axis=-1)
        case "invert":
            return 255 - image
        case "posterize":
            bits = 4 - int(4 * level) if increasing else int(4 * level)
            table = values & (256 - (1 << (8 - bits)))
        case "solarize":
            threshold = 256 - int(256 * level) if increasing else int(256 * level)
            table = np.where(values < threshold, values, 255 - values)
        case "solarize_add":
            table = np.where(values < 128, values + int(110 * level), values)
        case "color":
            return _mix_colors(image, factor * np.eye(3) + (1 - factor) * GREY)
        case "contrast":
            return _mix_colors(image, factor * np.eye(3), (1 - factor) * _mean_grey(image))
        case "brightness":
            return _mix_colors(image, factor * np.eye(3))
        case "sharpness":
            smooth = image.copy()
            kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
            # The outermost pixels have no full neighbourhood and are not changed.
            smooth[1:-1, 1:-1] = cv2.filter2D(image, -1, kernel)[1:-1, 1:-1]
            return cv2.addWeighted(image, factor, smooth, 1 - factor, 0)
        case _:
            raise ValueError(f"no operation {name!r}")
    table = np.clip(np.rint(table), 0, 255).astype(np.uint8).reshape(1, 256, -1)
    return cv2.LUT(image, table if table.shape[-1] == 3 else table[..., 0])


# ------------------------------------------------------------------ colour


def color_jitter(image: Image, rng: np.random.Generator, strength: float = 0.4) -> Image:
    """Change brightness, contrast and saturation, in random order.

    The factors are drawn from [1 - strength, 1 + strength]. All three are affine in the colour, so
    they are combined into one matrix and rounded once.
    """
    factors = rng.uniform(max(0.0, 1 - strength), 1 + strength, 3)
    matrix, offset = np.eye(3), np.zeros(3)
    mean = np.array(cv2.mean(image)[:3])
    for which in rng.permutation(3):
        f = factors[which]
        if which == 0:
            step, shift = f * np.eye(3), 0.0
        elif which == 1:
            step, shift = f * np.eye(3), (1 - f) * (GREY @ (matrix @ mean + offset))
        else:
            step, shift = f * np.eye(3) + (1 - f) * GREY, 0.0
        matrix, offset = step @ matrix, step @ offset + shift
    return _mix_colors(image, matrix, offset)


def _mix_colors(image: Image, matrix: np.ndarray, offset: np.ndarray | float = 0.0) -> Image:
    """matrix [3, 3] @ colour + offset, rounded and clipped."""
    offset = np.broadcast_to(offset, 3)[:, None]
    return cv2.transform(image, np.hstack([matrix, offset]).astype(np.float32))


def _mean_grey(image: Image) -> float:
    return float(GREY @ np.array(cv2.mean(image)[:3]))
