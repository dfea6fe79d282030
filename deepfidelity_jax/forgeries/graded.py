"""Degradations of face pictures in five grades of stated strength.

Sizes in pixels and noise refer to a crop resized to SIDE pixels; JPEG and H.264 work on the crop at
its own size, as their blocks have a fixed size.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from deepfidelity_jax.images import h264, pictures

Face = UInt8[np.ndarray, "h w 3"]
SIDE = 256


@dataclass(frozen=True)
class Degradation:
    """A kind of degradation.

    apply: changes the faces of one video, in the order of its frames, with one strength.
    strengths: the strengths of grades 1 to 5. words: a `str.format` template for a strength.
    """

    apply: Callable[[Sequence[Face], float, np.random.Generator], list[Face]]
    strengths: tuple[float, float, float, float, float]
    words: str


def at_side(face: Face, change: Callable[[Face], Face]) -> Face:
    """The face after a change at SIDE x SIDE pixels, resized back to its own size."""
    height, width = face.shape[:2]
    return pictures.resize(change(pictures.resize(face, SIDE, SIDE)), width, height)


def _each(change: Callable[[Face, float, np.random.Generator], Face]):
    """The same change for every face, made at SIDE pixels."""

    def apply(faces, strength, rng):
        return [at_side(face, lambda large: change(large, strength, rng)) for face in faces]

    return apply


def blur(face: Face, sigma: float, rng: np.random.Generator) -> Face:
    """Gaussian blur."""
    return cv2.GaussianBlur(face, (0, 0), sigma)


def add_noise(face: Face, deviation: float, rng: np.random.Generator) -> Face:
    """Gaussian noise in every channel, in grey levels."""
    noisy = face + rng.normal(0, deviation, face.shape)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def resize(face: Face, factor: float, rng: np.random.Generator) -> Face:
    """Shrink by a factor, and enlarge again."""
    small = cv2.resize(face, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, face.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def scale_brightness(face: Face, factor: float, rng: np.random.Generator) -> Face:
    """Multiply every value by a factor."""
    return np.rint(face * factor).clip(0, 255).astype(np.uint8)


def scale_contrast(face: Face, factor: float, rng: np.random.Generator) -> Face:
    """Multiply differences from the mean grey by a factor."""
    mean = face.mean()
    return np.rint(mean + (face - mean) * factor).clip(0, 255).astype(np.uint8)


def crop(face: Face, share: float, rng: np.random.Generator) -> Face:
    """The middle of the crop, a `share` of its side, enlarged to the crop's size."""
    height, width = face.shape[:2]
    top, left = (round(side * (1 - share) / 2) for side in (height, width))
    middle = face[top : height - top, left : width - left]
    return cv2.resize(middle, (width, height), interpolation=cv2.INTER_CUBIC)


def occlude(face: Face, share: float, rng: np.random.Generator) -> Face:
    """A grey square over a share of the area, at a random place."""
    height, width = face.shape[:2]
    side = round((share * height * width) ** 0.5)
    top, left = (int(rng.integers(0, length - side + 1)) for length in (height, width))
    covered = face.copy()
    covered[top : top + side, left : left + side] = 128
    return covered


def _jpeg(faces: Sequence[Face], quality: float, rng: np.random.Generator) -> list[Face]:
    return [pictures.recompress(face, int(quality)) for face in faces]


def compress_h264(faces: Sequence[Face], crf: float, rng: np.random.Generator) -> list[Face]:
    """The faces as a video, compressed by x264 with a constant rate factor, and decoded again."""
    import av

    height, width = faces[0].shape[:2]
    file = io.BytesIO()
    with h264.write_mp4(file, 25, crf) as write:
        for number, face in enumerate(faces):
            write(face, number / 25)
    file.seek(0)
    with av.open(file) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [frame[:height, :width] for frame in decoded]


DEGRADATIONS = {
    "JPEG": Degradation(_jpeg, (90.0, 70.0, 50.0, 30.0, 15.0), "quality {:.0f}"),
    "H.264": Degradation(compress_h264, (23.0, 28.0, 33.0, 38.0, 43.0), "CRF {:.0f}"),
    "blur": Degradation(_each(blur), (1.0, 2.0, 3.0, 4.0, 6.0), "sigma {:.0f} px"),
    "noise": Degradation(_each(add_noise), (2.0, 5.0, 10.0, 20.0, 40.0), "deviation {:.0f}"),
    "resize": Degradation(_each(resize), (0.75, 0.5, 0.35, 0.25, 0.15), "to {:.0%} and back"),
    "darker": Degradation(_each(scale_brightness), (0.8, 0.6, 0.45, 0.3, 0.2), "times {:.2f}"),
    "brighter": Degradation(_each(scale_brightness), (1.2, 1.4, 1.7, 2.0, 2.5), "times {:.1f}"),
    "contrast": Degradation(_each(scale_contrast), (0.8, 0.6, 0.45, 0.3, 0.2), "times {:.2f}"),
    "crop": Degradation(_each(crop), (0.95, 0.9, 0.85, 0.8, 0.7), "middle {:.0%}"),
    "occlusion": Degradation(_each(occlude), (0.02, 0.05, 0.1, 0.2, 0.3), "{:.0%} of the area"),
}
