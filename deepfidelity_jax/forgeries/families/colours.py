"""Colour of the inner face: matched to its surroundings, or under another light."""

import cv2
import numpy as np

from deepfidelity_jax.forgeries.families.warps import Mask, Pixels


def match(inner: Pixels, outer: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
    """`inner` with the colours of `outer` inside the mask: by statistics, by histogram, or not."""
    method, share = rng.choice(["statistics", "histogram", "none"], p=[0.5, 0.3, 0.2]), rng.random()
    inside = mask > 0.5 * mask.max()
    if method == "none" or inside.sum() < 64:
        return inner
    matched = {"statistics": match_statistics, "histogram": match_histogram}[str(method)]
    matched = matched(inner, outer, inside).astype(np.float32)
    mixed = cv2.addWeighted(inner.astype(np.float32), 0.4 * share, matched, 1 - 0.4 * share, 0)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def match_statistics(inner: Pixels, outer: Pixels, inside: np.ndarray) -> Pixels:
    """Mean and spread of each Lab channel moved to `outer`'s (Reinhard et al., 2001)."""
    # In floats: rounded Lab values would leave gaps in the colours.
    source, target = (
        cv2.cvtColor(v.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for v in (inner, outer)
    )
    mean, spread = source[inside].mean(0), source[inside].std(0) + 1e-3
    wanted_mean, wanted_spread = target[inside].mean(0), target[inside].std(0) + 1e-3
    # The noise of a donor in flat light must not be amplified.
    gain = np.clip(wanted_spread / spread, 0.6, 1.6)
    matched = cv2.cvtColor((source - mean) * gain + wanted_mean, cv2.COLOR_LAB2RGB)
    return np.clip(np.rint(255 * matched), 0, 255).astype(np.uint8)


def match_histogram(inner: Pixels, outer: Pixels, inside: np.ndarray) -> Pixels:
    """The distribution of each RGB channel matched to `outer`'s, as in faceswap programs."""
    levels, tables = np.arange(256), []
    for channel in range(3):
        counts = [np.bincount(v[inside][:, channel], minlength=256) for v in (inner, outer)]
        have, want = (np.cumsum(c) / c.sum() for c in counts)
        tables.append(np.interp(have, want, levels))
    return cv2.LUT(inner, np.rint(np.stack(tables, -1)).astype(np.uint8)[None])


def relight(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Another light: channel gains, contrast, saturation, and a slope of brightness across it.

    `strength` 0 returns the image unchanged, 1 is clearly visible.
    """
    shift = rng.uniform(-16, 16, 3) * (rng.random() < 0.7) + rng.uniform(-16, 16)
    gain, saturation = 1 + rng.uniform(-0.15, 0.15) * strength, rng.uniform(-0.3, 0.3) * strength
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35) * (rng.random() < 0.4)
    if not strength:
        return image
    height, width = image.shape[:2]
    pixels = (image.astype(np.float32) - 128) * np.float32(gain) + 128
    pixels += (shift * strength).astype(np.float32)
    pixels += (pixels - pixels.mean(axis=2, keepdims=True)) * np.float32(saturation)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    ramp = np.cos(angle) * (columns / width - 0.5) + np.sin(angle) * (rows / height - 0.5)
    pixels *= (1 + np.float32(slope * strength) * ramp)[..., None]
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
