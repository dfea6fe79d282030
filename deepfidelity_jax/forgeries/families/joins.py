"""How the inner face is joined to its surroundings."""

import cv2
import numpy as np

from deepfidelity_jax.forgeries.families.warps import Mask, Pixels

JOINS = ("opacity", "hard", "pyramid", "gradient")


def join(how: str, inner: Pixels, outer: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
    """`inner` laid over `outer` inside `mask` by one of JOINS, and the replaced share of pixels."""
    if how == "hard":
        return hard(inner, outer, mask), _solid(mask).astype(np.float32)
    if how == "gradient" and (inside := _cloned(mask)) is not None:
        return gradient(inner, outer, mask), np.where(inside > 0, mask.max(), np.float32(0))
    functions = {"opacity": opacity, "pyramid": pyramid, "gradient": gradient}
    return functions[how](inner, outer, mask), mask


def opacity(inner: Pixels, outer: Pixels, mask: Mask) -> Pixels:
    """Each pixel mixed by the mask."""
    return _mix(inner.astype(np.float32), outer, mask)


def hard(inner: Pixels, outer: Pixels, mask: Mask) -> Pixels:
    """Cut out along the middle of the mask's edge, without a transition."""
    return np.where(_solid(mask)[..., None], inner, outer)


def pyramid(inner: Pixels, outer: Pixels, mask: Mask, levels: int = 3) -> Pixels:
    """Coarse bands mixed over a wide edge, fine bands over a narrow one.

    Burt and Adelson, "A multiresolution spline", 1983; here with Gaussian bands at full size, and
    unchanged where the mask is 0.
    """
    result = np.zeros(inner.shape, np.float32)
    a, b, weight = inner.astype(np.float32), outer.astype(np.float32), mask[..., None]
    for level in range(levels):
        sigma = 1.2 * 2**level
        low_a, low_b = (cv2.GaussianBlur(v, (0, 0), sigma) for v in (a, b))
        result += (a - low_a) * weight + (b - low_b) * (1 - weight)
        a, b = low_a, low_b
        weight = cv2.GaussianBlur(weight[..., 0], (0, 0), sigma)[..., None]
        weight = np.where(mask[..., None] > 0, weight, 0)
    return _rounded(result + a * weight + b * (1 - weight))


def gradient(inner: Pixels, outer: Pixels, mask: Mask) -> Pixels:
    """The gradients of `inner` with the border of `outer`; the mask's opacity is kept.

    OpenCV rounds down, which would darken the forged part by two thirds of a level. The negative is
    rounded the other way, so the mean of both is right. Perez, Gangnet and Blake, "Poisson image
    editing", 2003.
    """
    solid = _cloned(mask)
    if solid is None:
        return opacity(inner, outer, mask)
    left, top, width, height = cv2.boundingRect(solid)
    centre = (left + width // 2, top + height // 2)
    inside = np.where(solid > 0, mask.max(), np.float32(0))
    lower, upper = (  # each from a copy of the mask, which OpenCV overwrites
        cv2.seamlessClone(a, b, solid.copy(), centre, cv2.NORMAL_CLONE)
        for a, b in ((inner, outer), (255 - inner, 255 - outer))
    )
    cloned = (lower.astype(np.float32) + (255 - upper)) / 2
    return _mix(cloned, outer, inside)


def _solid(mask: Mask) -> np.ndarray:
    """The pixels inside the middle of the mask's edge."""
    return mask > 0.5 * mask.max()


def _cloned(mask: Mask) -> np.ndarray | None:
    """What OpenCV can clone of a mask, 0 or 255; None if that is next to nothing."""
    solid = _solid(mask).astype(np.uint8) * 255
    # OpenCV needs the region away from the border, and places its bounding box by the centre.
    solid[:2], solid[-2:], solid[:, :2], solid[:, -2:] = 0, 0, 0, 0
    _, _, width, height = cv2.boundingRect(solid)
    return solid if min(width, height) >= 8 else None


def _mix(inner: np.ndarray, outer: Pixels, mask: Mask) -> Pixels:
    return _rounded(outer + mask[..., None] * (inner - outer))


def _rounded(values) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
