"""Three kinds of forgery from other code, for testing only: no detector is trained on them here.

They came before `deepfidelity_jax/forgeries/families` and share nothing with it:

- `self_blend`: the face is blended with an altered copy of itself inside a face-shaped mask.
  Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022.
- `swap`: another person's face, aligned by the landmarks and matched in colour, is blended in.
- `resynthesis`: the face passes through a low-resolution bottleneck and back, as in the
  autoencoders and generators of face swapping and reenactment.

`forge` is a pure function of a face, its landmarks and a random generator. Faces are aligned crops,
uint8 RGB; a mask holds the forged share of each pixel.
"""

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from deepfidelity_jax.faces.geometry import complete_landmarks, fit_similarity
from deepfidelity_jax.images.pictures import recompress

KINDS = ("self_blend", "swap", "resynthesis")

Face = UInt8[np.ndarray, "h w 3"]
Donor = UInt8[np.ndarray, "a b 3"]  # of any size
Mask = Float32[np.ndarray, "h w"]
Points = Float32[np.ndarray, "5 2"]


def forge(
    kind: str,
    image: Face,
    landmarks: Points,
    rng: np.random.Generator,
    donor: tuple[Donor, Points] | None = None,
) -> tuple[Face, Mask]:
    """Forge `image` by one of `KINDS`.

    Args:
      kind: one of `KINDS`.
      image: an aligned face crop.
      landmarks: as in `faces.geometry`, in pixels of `image`; NaN where unknown.
      rng: the only source of randomness.
      donor: another face and its landmarks; only `swap` needs it.

    Returns:
      The forged face, and the share in [0, 1] of each pixel that is forged.
    """
    points = complete_landmarks(landmarks, image.shape[:2])
    if kind == "self_blend":
        return _self_blend(image, points, rng)
    if kind == "resynthesis":
        return _resynthesis(image, points, rng)
    if kind == "swap":
        donor_image, donor_landmarks = donor
        donor_points = complete_landmarks(donor_landmarks, donor_image.shape[:2])
        return _swap(image, points, donor_image, donor_points, rng)
    raise ValueError(f"unknown forgery {kind!r}: one of {', '.join(KINDS)}")


def _self_blend(image: Face, points: Points, rng: np.random.Generator) -> tuple[Face, Mask]:
    # Only the inside is altered. If the surroundings were, too, their colour or blur would tell the
    # classes apart.
    inner = _displace(_alter(image, rng), rng)
    # As in the paper: the whole face, blended by opacity. Gradient and pyramid blending would
    # remove the differences that were introduced.
    mask = face_mask(points, image.shape[:2], rng, whole=True)
    return _blend(inner, image, mask, rng, "opacity")


def _swap(
    image: Face, points: Points, donor: Donor, donor_points: Points, rng: np.random.Generator
) -> tuple[Face, Mask]:
    height, width = image.shape[:2]
    matrix = fit_similarity(donor_points, points)
    inner = cv2.warpAffine(
        donor, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    mask = face_mask(points, image.shape[:2], rng, whole=True)
    if rng.random() < 0.75:
        inner = _match_colour(inner, image, mask, share=rng.uniform(0.6, 1.0))
    if rng.random() < 0.5:
        inner = _lose_detail(inner, rng)
    return _blend(inner, image, mask, rng)


def _resynthesis(image: Face, points: Points, rng: np.random.Generator) -> tuple[Face, Mask]:
    height, width = image.shape[:2]
    inner_width = int(width * rng.uniform(0.22, 0.5))
    inner_height = round(inner_width * height / width)
    small = cv2.resize(image, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:  # generators smooth skin and keep edges
        small = cv2.bilateralFilter(small, 5, rng.uniform(10, 40), 2)
    interpolation = int(
        rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_NEAREST])
    )
    inner = cv2.resize(small, (width, height), interpolation=interpolation)
    if interpolation == cv2.INTER_NEAREST:  # transposed convolutions leave a grid rather than steps
        inner = cv2.GaussianBlur(inner, (0, 0), 0.35 * width / inner_width)
    if rng.random() < 0.6:
        inner = _sharpen(inner, rng.uniform(0.3, 1.2), width)
    if rng.random() < 0.5:
        inner = _shift_colour(inner, rng, 0.5)
    if rng.random() < 0.5:
        inner = _displace(inner, rng)
    mask = face_mask(points, image.shape[:2], rng)
    return _blend(inner, image, mask, rng)


# ---------------------------------------------------------------------------------- the mask


def face_mask(
    points: Points, shape: tuple[int, int], rng: np.random.Generator, whole: bool = False
) -> Mask:
    """Draw a soft mask over a face, or over a part of it, with a random outline.

    Args:
      points: complete landmarks in pixels.
      shape: height and width of the mask.
      rng: draws the part, outline, softness and opacity.
      whole: always most of the face, never a small part of it.

    Returns:
      Opacity in [0, 1].
    """
    eyes = points[:2].mean(axis=0)
    mouth = points[3:].mean(axis=0)
    down = mouth - eyes
    length = float(np.linalg.norm(down)) + 1e-3
    down = down / length
    right = np.array([down[1], -down[0]])
    across = max(float(np.linalg.norm(points[1] - points[0])), 0.6 * length)

    shares = [0.6, 0.4, 0, 0, 0] if whole else [0.46, 0.2, 0.16, 0.08, 0.10]
    part = rng.choice(["face", "inner", "lower", "eyes", "mouth"], p=shares)
    # Centre and half height in units of the line from eyes to mouth, half width in units of the
    # distance between the eyes.
    centre, half_height, half_width = {
        "face": (0.50, rng.uniform(1.00, 1.35), rng.uniform(0.85, 1.08)),
        "inner": (0.48, rng.uniform(0.75, 0.95), rng.uniform(0.75, 0.95)),
        "lower": (0.95, rng.uniform(0.55, 0.75), rng.uniform(0.75, 1.05)),
        "eyes": (0.00, rng.uniform(0.28, 0.45), rng.uniform(0.85, 1.05)),
        "mouth": (1.00, rng.uniform(0.28, 0.42), rng.uniform(0.45, 0.70)),
    }[str(part)]
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    # A superellipse, between an oval and a rounded box, with low harmonics added to its outline.
    power = rng.uniform(2.0, 3.2)
    radius = (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (-1 / power)
    for harmonic in range(2, 7):
        radius += rng.normal(0, 0.06 / harmonic) * np.cos(harmonic * angle + rng.uniform(0, 6.3))
    x = np.cos(angle) * radius * half_width * across
    y = np.sin(angle) * radius * half_height * length
    if part == "face":  # the jaw is narrower than the brow
        x *= 1 - rng.uniform(0.05, 0.22) * np.clip(y / (half_height * length), 0, 1)
    outline = eyes + centre * length * down + x[:, None] * right + y[:, None] * down

    # Drawn in quarter pixels, by fillPoly's shift.
    mask = np.zeros(shape, np.float32)
    cv2.fillPoly(mask, [np.round(outline * 4).astype(np.int32)], 1.0, cv2.LINE_AA, shift=2)
    mask = np.clip(mask, 0, 1)
    softness = shape[1] * rng.choice([rng.uniform(0.003, 0.012), rng.uniform(0.012, 0.04)])
    mask = cv2.GaussianBlur(mask, (0, 0), max(softness, 0.3))
    if rng.random() < 0.4:  # pull the soft edge inwards, as matting and erosion do
        mask = np.clip(mask * 2 - 1, 0, 1)
        mask = cv2.GaussianBlur(mask, (0, 0), max(softness, 0.3))
    opacity = np.float32(rng.choice([0.5, 0.75, 1.0, 1.0, 1.0, 1.0]))
    return np.minimum(mask, 1) * opacity  # blurring may round to above 1


# -------------------------------------------------------------------------------- the blend


def _blend(
    inner: Face, outer: Face, mask: Mask, rng: np.random.Generator, how: str | None = None
) -> tuple[Face, Mask]:
    """Blend `inner` over `outer` by opacity, a pyramid or gradients: as `how` says, else drawn."""
    how = how or rng.choice(["opacity", "pyramid", "poisson"], p=[0.6, 0.2, 0.2])
    if how == "poisson":
        blended = _blend_poisson(inner, outer, mask)
    elif how == "pyramid":
        blended = _blend_pyramid(inner, outer, mask, levels=int(rng.integers(2, 5)))
    else:
        weight = mask[..., None]
        blended = inner * weight + outer * (1 - weight)
    return np.clip(np.round(blended), 0, 255).astype(np.uint8), mask


def _blend_pyramid(inner: Face, outer: Face, mask: Mask, levels: int) -> Float[np.ndarray, "h w 3"]:
    """Multi-band blending (Burt and Adelson, 1983), with Gaussian bands at full size."""
    result = np.zeros(inner.shape, np.float32)
    a, b, weight = inner.astype(np.float32), outer.astype(np.float32), mask
    for level in range(levels):
        sigma = 1.5 * 2**level
        low_a, low_b = (cv2.GaussianBlur(v, (0, 0), sigma) for v in (a, b))
        result += (a - low_a) * weight[..., None] + (b - low_b) * (1 - weight[..., None])
        a, b, weight = low_a, low_b, cv2.GaussianBlur(weight, (0, 0), sigma)
    return result + a * weight[..., None] + b * (1 - weight[..., None])


def _blend_poisson(inner: Face, outer: Face, mask: Mask) -> Float[np.ndarray, "h w 3"]:
    """Gradient-domain cloning inside the mask (Perez et al., 2003), at the mask's opacity."""
    solid = (mask > 0.5 * mask.max()).astype(np.uint8) * 255
    # OpenCV needs the region to stay off the border, and places its bounding box by its centre.
    solid[:2], solid[-2:], solid[:, :2], solid[:, -2:] = 0, 0, 0, 0
    left, top, width, height = cv2.boundingRect(solid)
    if width < 8 or height < 8:
        return inner * mask[..., None] + outer * (1 - mask[..., None])
    centre = (left + width // 2, top + height // 2)
    cloned = cv2.seamlessClone(inner, outer, solid, centre, cv2.NORMAL_CLONE).astype(np.float32)
    opacity = float(mask.max())
    return cloned * opacity + outer * (1 - opacity)


# --------------------------------------------------------------------------- the alterations


def _alter(image: Face, rng: np.random.Generator) -> Face:
    """A copy of the face with colour, light and detail changed a little."""
    if rng.random() < 0.85:
        image = _shift_colour(image, rng, 1.3)
    draw = rng.random()
    if draw < 0.4:
        image = _lose_detail(image, rng)
    elif draw < 0.7:
        image = _sharpen(image, rng.uniform(0.4, 1.5), image.shape[1])
    if rng.random() < 0.15:
        noise = rng.normal(0, rng.uniform(1.5, 6.0), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        image = recompress(image, int(rng.integers(35, 85)))
    return image


def _shift_colour(image: Face, rng: np.random.Generator, strength: float) -> Face:
    """Change colour balance, saturation, brightness and contrast."""
    shift = rng.uniform(-18, 18, 3) * strength * (rng.random() < 0.7)
    gain = 1 + rng.uniform(-0.16, 0.16) * strength
    offset = rng.uniform(-18, 18) * strength
    pixels = image.astype(np.float32)
    pixels = (pixels - 128) * gain + 128 + offset + shift.astype(np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * (1 + rng.uniform(-0.3, 0.3) * strength)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _lose_detail(image: Face, rng: np.random.Generator) -> Face:
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), width / 160 * rng.uniform(0.5, 1.8))
    share = rng.uniform(0.3, 0.75)
    small = cv2.resize(
        image, (int(width * share), int(height * share)), interpolation=cv2.INTER_AREA
    )
    interpolation = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
    return cv2.resize(small, (width, height), interpolation=interpolation)


def _sharpen(image: Face, amount: float, width: int) -> Face:
    soft = cv2.GaussianBlur(image, (0, 0), max(width / 160, 0.6))
    return cv2.addWeighted(image, 1 + amount, soft, -amount, 0)


def _displace(image: Face, rng: np.random.Generator) -> Face:
    """Move, scale and bend the face by a few pixels: no two faces line up exactly."""
    height, width = image.shape[:2]
    scale = rng.uniform(0.96, 1.05)
    shift = rng.uniform(-0.025, 0.025, 2) * width
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-2, 2), scale)
    matrix[:, 2] += shift
    moved = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    if rng.random() < 0.5:
        return moved
    coarse = rng.normal(0, 0.012 * width, (4, 4, 2)).astype(np.float32)
    bend = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(
        moved,
        columns + bend[..., 0],
        rows + bend[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _match_colour(inner: Face, outer: Face, mask: Mask, share: float) -> Face:
    """Move mean and spread of Lab inside the mask towards `outer`'s (Reinhard et al., 2001)."""
    source, target = (cv2.cvtColor(v, cv2.COLOR_RGB2LAB).astype(np.float32) for v in (inner, outer))
    inside = mask > 0.5 * mask.max()
    if inside.sum() < 16:
        return inner
    mean, spread = source[inside].mean(0), source[inside].std(0) + 1e-3
    wanted_mean, wanted_spread = target[inside].mean(0), target[inside].std(0) + 1e-3
    # Bounded; otherwise the noise of a donor in flat light would be amplified.
    gain = np.clip(wanted_spread / spread, 0.6, 1.6)
    matched = (source - mean) * gain + wanted_mean
    mixed = np.clip(source + share * (matched - source), 0, 255).astype(np.uint8)
    return cv2.cvtColor(mixed, cv2.COLOR_LAB2RGB)
