"""The quality of a face picture, computed without weights.

    measure = product over the components of ((scalar + FLOOR) / (100 + FLOOR)) ** weight

A component is a pure function that returns its native value and a scalar in 0..100, high is good.
Seven come from ISO/IEC 29794-5, as its reference implementation OFIQ computes them; sharpness,
noise, texture, compression and clipping are defined here, so that every degradation lowers the
measure. It is a product so that one bad component lowers it.
"""

import math
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

# Crops are shrunk to this side in pixels, so that the value does not depend on their size. Smaller
# crops, down to the least, keep their size, as enlarging hides noise. Only sharpness enlarges them.
SIDE = 128
LEAST_SIDE = 32
# Where eyes lie in a crop with a margin of 1.3, in sides; for crops whose landmarks are unknown.
# Rounded from `geometry.AVERAGE_FACE`; recorded qualities depend on it.
USUAL_EYES = ((0.35, 0.41), (0.65, 0.41))

# Exponents of the product, from a least-squares fit of the logarithms to known strengths of all
# degradations, on photographs and rendered faces, real and forged. Uniformity and colour weigh
# little: they depend on skin and scene as much as on quality.
WEIGHTS = {
    "luminance_mean": 0.06,
    "luminance_variance": 0.15,
    "under_exposure": 0.06,
    "over_exposure": 0.06,
    "dynamic_range": 0.10,
    "illumination_uniformity": 0.01,
    "natural_colour": 0.02,
    "sharpness": 0.65,
    "noise": 1.00,
    "texture": 0.45,
    "compression": 1.05,
    "clipping": 0.40,
}
# Added to every scalar; otherwise a single zero would hide all differences.
FLOOR = 2.0


class Component(NamedTuple):
    """A component's native value and its scalar in 0..100."""

    native: float
    scalar: float


def measure(
    image: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "5 2"] | None = None
) -> float:
    """Quality in [0, 1] of a face crop; arguments as for `components`.

    It falls with blur, shrinking, JPEG, noise, darkness and overexposure.
    """
    scalars = components(image, landmarks)
    return math.prod(
        ((scalars[name] + FLOOR) / (100 + FLOOR)) ** weight for name, weight in WEIGHTS.items()
    )


def components(
    image: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "5 2"] | None = None
) -> dict[str, float]:
    """Scalars in 0..100 of every component, by the names in WEIGHTS.

    The image is a square RGB face crop, with landmarks as in `faces.detection.Face` in its pixels.
    If an eye is NaN, or the eyes are as close as in a profile, USUAL_EYES are used.
    """
    compressed = compression(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    eyes = _eyes(image.shape, landmarks)
    side = min(SIDE, max(LEAST_SIDE, min(image.shape[:2])))
    if image.shape[:2] != (side, side):
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    region = _face(eyes, side)
    left, right = _cheeks(eyes, side)
    luminances = luminance(image)
    face = histogram(luminances[region])
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grains = grain(grey, region)
    measured = {
        "luminance_mean": luminance_mean(face),
        "luminance_variance": luminance_variance(face),
        "under_exposure": under_exposure(face),
        "over_exposure": over_exposure(face),
        "dynamic_range": dynamic_range(face),
        "illumination_uniformity": illumination_uniformity(
            histogram(luminances[left]), histogram(luminances[right])
        ),
        "natural_colour": natural_colour(np.concatenate([image[left], image[right]], axis=1)),
        "sharpness": sharpness(grey, region),
        "noise": noise(grains),
        "texture": texture(grains),
        "compression": compressed,
        "clipping": clipping(image, region),
    }
    return {name: component.scalar for name, component in measured.items()}


def luminance(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """Linear luminance of sRGB, rounded to 0..255 (IEC 61966-2-1; BT.709 weights)."""
    light = cv2.transform(cv2.LUT(image, _LINEAR), _LUMINANCE)
    return np.rint(255 * light).astype(np.uint8)


def histogram(values: UInt8[np.ndarray, "..."]) -> Float[np.ndarray, "256"]:
    """Shares of the 256 levels, summing to 1."""
    return np.bincount(values.ravel(), minlength=256) / values.size


def luminance_mean(face: Float[np.ndarray, "256"]) -> Component:
    """Mean luminance m of the face, in 0..1; best between 0.35 and 0.65."""
    mean = float(face @ _LEVELS)
    return _component(mean, 100 * _sigmoid(mean, 0.2, 0.05) * (1 - _sigmoid(mean, 0.8, 0.05)))


def luminance_variance(face: Float[np.ndarray, "256"]) -> Component:
    """Variance v of the face's luminance; best at 1/60: flat and harsh light are both worse."""
    variance = float(face @ (_LEVELS - face @ _LEVELS) ** 2)
    return _component(variance, 100 * math.sin(math.pi * 60 * variance / (60 * variance + 1)))


def under_exposure(face: Float[np.ndarray, "256"]) -> Component:
    """Share of the face with luminance 0..25; best is none."""
    share = float(face[:26].sum())
    return _component(share, 120 * (0.832 - _sigmoid(share, 0.92, 0.05)))


def over_exposure(face: Float[np.ndarray, "256"]) -> Component:
    """Share of the face with luminance 247..255; best is none."""
    share = float(face[247:].sum())
    return _component(share, 1 / (share + 0.01))


def dynamic_range(face: Float[np.ndarray, "256"]) -> Component:
    """Entropy of the face's luminance in bits, 0..8."""
    shares = face[face > 0]
    entropy = float(-(shares @ np.log2(shares)))
    return _component(entropy, 12.5 * entropy)


def illumination_uniformity(
    left: Float[np.ndarray, "256"], right: Float[np.ndarray, "256"]
) -> Component:
    """Overlap of the luminance histograms of the two cheeks, 0..1."""
    overlap = float(np.minimum(left, right).sum())
    return _component(overlap, 100 * overlap**0.3)


def natural_colour(cheeks: UInt8[np.ndarray, "h w 3"]) -> Component:
    """Distance in CIELAB of the mean cheek from skin: a in 5..25, b in 5..35."""
    lab = cv2.cvtColor(cheeks.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    _, a, b = lab.reshape(-1, 3).mean(axis=0).tolist()
    distance = math.hypot(a - min(max(a, 5), 25), b - min(max(b, 5), 35))
    return _component(distance, 200 * (1 - _sigmoid(distance, 0.0, 10.0)))


def sharpness(grey: Float32[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"]) -> Component:
    """Fine edges without the noise, over coarse edges and contrast; half of the scalar at 0.25.

    Edges are 95th percentiles, since blur weakens the strongest edges first: fine edges of
    |I - boxblur3(I)|, coarse edges of the same after a blur, as in re-blur measures. Fine edges are
    divided by the geometric mean of coarse edges and standard deviation, so that neither contrast
    nor glasses make a face sharper. Noise is what remains in the smoothest quarter of the face.
    """
    if len(grey) < SIDE:
        grey = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        region = cv2.resize(region.view(np.uint8), (SIDE, SIDE)).view(bool)
    smooth = cv2.blur(grey, (3, 3))
    detail = cv2.absdiff(grey, smooth)
    fine = _quantile(detail[region], 0.95)
    coarse = _quantile(cv2.absdiff(smooth, cv2.blur(smooth, (5, 5)))[region], 0.95)
    flat = _quantile(cv2.blur(detail, (5, 5))[region], 0.25)
    # In white noise of any grain size `fine` is at most 2.7 times `flat`.
    fine = math.sqrt(max(fine**2 - (2.7 * flat) ** 2, 0))
    ratio = fine / math.sqrt((coarse + 1) * (float(grey[region].std()) + 5))
    return _component(ratio, 100 * ratio / (ratio + 0.25))


def noise(grain: float) -> Component:
    """Too much grain; half of the scalar at 3."""
    return _component(grain, 100 / math.sqrt(1 + (grain / 1.75) ** 2))


def texture(grain: float) -> Component:
    """Too little grain, because a codec or blur smoothed the skin; full from 0.25 on.

    Rounding to 8 bits alone leaves that much grain in any photograph.
    """
    return _component(grain, 100 * grain / 0.25)


def grain(grey: Float32[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"]) -> float:
    """Grain of the face in grey levels: 0.55 times the deviation of white noise.

    The response of a mask that ignores edges and slopes, averaged over 5 x 5 pixels, at the 10th
    percentile: in smooth skin, not in hair. Immerkaer, "Fast noise variance estimation", 1996.
    """
    response = cv2.blur(np.abs(cv2.filter2D(grey, -1, _IMMERKAER)), (5, 5))
    return _quantile(response[region], 0.1)


def compression(grey: UInt8[np.ndarray, "h w"]) -> Component:
    """Steps at the borders of 8-pixel blocks over steps inside them; 1 if there are no blocks.

    Takes the image at its original size, the only size at which blocks can be found. Searches for
    their phase, as a face is seldom cropped on the photograph's grid.
    """
    ratio = math.sqrt(_blockiness(grey) * _blockiness(np.ascontiguousarray(grey.T)))
    return _component(ratio, 100 / max(ratio, 1))


def clipping(image: UInt8[np.ndarray, "h w 3"], region: Bool[np.ndarray, "h w"]) -> Component:
    """Share of the face stuck at the brightest level of the crop, in any channel.

    Unlike `over_exposure` it also detects burnt-out areas that were darkened afterwards.
    """
    red, green, blue = cv2.split(image)
    brightest = cv2.max(cv2.max(red, green), blue)
    share = float((brightest[region] >= 0.98 * _quantile(brightest.ravel(), 0.998)).mean())
    return _component(share, 100 / (1 + share / 0.3))


_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)
_LUMINANCE = np.array([[0.2126, 0.7152, 0.0722]], np.float32)
_IMMERKAER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6


def _component(native: float, scalar: float) -> Component:
    return Component(native, min(max(scalar, 0.0), 100.0))


def _quantile(values: np.ndarray, share: float) -> float:
    """A quantile without interpolation, faster than np.quantile."""
    rank = round(share * (values.size - 1))
    return float(np.partition(values, rank)[rank])


def _sigmoid(x: float, centre: float, width: float) -> float:
    return 1 / (1 + math.exp((centre - x) / width))


def _blockiness(grey: UInt8[np.ndarray, "h w"]) -> float:
    """Mean step between columns at the strongest of 8 phases, over that at the median phase."""
    if grey.shape[1] < 16:
        return 1.0
    # Clipped; otherwise true edges would hide the steps of blocks.
    steps = cv2.min(cv2.absdiff(grey[:, 1:], grey[:, :-1]), 24.0)
    columns = cv2.reduce(steps, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32F)[0] / len(grey)
    phase = np.arange(columns.size) % 8
    phases = np.bincount(phase, columns) / np.bincount(phase)
    return float((phases.max() + 0.1) / (np.median(phases) + 0.1))


def _eyes(shape, landmarks):
    """Eyes at image left and right as ((x, y), (x, y)), in sides of the crop."""
    if landmarks is None or not np.isfinite(landmarks[:2]).all():
        return USUAL_EYES
    left, right = ((landmarks[:2] + 0.5) / (shape[1], shape[0])).tolist()
    # In a profile the far eye is beside the near one, so their distance does not show the size.
    if math.dist(left, right) < 0.1:
        return USUAL_EYES
    return tuple(left), tuple(right)


def _axes(eyes):
    """Midpoint of the eyes, and the vectors of one eye distance along them and down the face."""
    (left_x, left_y), (right_x, right_y) = eyes
    middle = ((left_x + right_x) / 2, (left_y + right_y) / 2)
    across = (right_x - left_x, right_y - left_y)
    return middle, across, (-across[1], across[0])


@cache
def _grid(side):
    centres = (np.arange(side, dtype=np.float32) + 0.5) / side
    return centres[None, :], centres[:, None]


def _face(eyes, side) -> Bool[np.ndarray, "h w"]:
    """The face's ellipse: 2 eye distances wide, 2.6 high, its centre 0.35 below the eyes."""
    (x, y), across, down = _axes(eyes)
    distance = math.hypot(*across)
    xs, ys = _grid(side)
    xs, ys = xs - (x + 0.35 * down[0]), ys - (y + 0.35 * down[1])
    along = (xs * across[0] + ys * across[1]) / distance**2
    below = (xs * down[0] + ys * down[1]) / distance**2 / 1.3
    region = along**2 + below**2 < 1
    # Landmarks may lie outside the crop.
    return region if region.sum() >= side else _face(USUAL_EYES, side)


def _cheeks(eyes, side):
    """Slices of two squares beside the nose, with a side of 0.3 eye distances."""
    (x, y), across, down = _axes(eyes)
    half = 0.15 * math.hypot(*across)

    def square(sideways):
        centre_x = x + sideways * across[0] + 0.65 * down[0]
        centre_y = y + sideways * across[1] + 0.65 * down[1]
        return _span(centre_y, half, side), _span(centre_x, half, side)

    return square(-0.5), square(0.5)


def _span(centre, half, side):
    size = min(max(1, round(2 * half * side)), side)
    # Rounded about the middle, so that the two cheeks stay mirror images.
    first = min(max(round(centre * side - size / 2), 0), side - size)
    return slice(first, first + size)
