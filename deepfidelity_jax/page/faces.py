"""The pictures of a face: as the network sees it, heat map, mirror image, symmetry map."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from deepfidelity_jax.explanation.heat import heat_maps
from deepfidelity_jax.explanation.removal import (
    hottest,
    random_map,
    scores_after_removal,
)
from deepfidelity_jax.explanation.symmetry import symmetry_maps
from deepfidelity_jax.faces.cropping import Crop
from deepfidelity_jax.faces.geometry import complete_landmarks
from deepfidelity_jax.images.pictures import decode_image, encode_image, to_data_uri
from deepfidelity_jax.page.wording import number, signed

SIDE = 208  # pixels of a picture on the page
BYTES = 14_000  # most bytes of its JPEG
QUALITIES = (85, 75, 60, 45, 30, 20, 10, 5)  # tried until a picture is small enough
OUTLINED = 0.1  # share of the face that is outlined: the strongest evidence for a forgery
TAKEN = 0.2  # share that is removed to test the map
RANDOM = 4  # random maps that the map is compared with
GRAIN = 1 / 16  # smoothness of the random maps, as a share of the side
FORGED, REAL = np.array([214, 90, 24]), np.array([24, 110, 190])  # orange, blue

# Places on a face, in eye distances from the point between the eyes and eye-mouth distances down.
PLACES = {
    "the eye at image left": (-0.5, 0.0),
    "the eye at image right": (0.5, 0.0),
    "the nose": (0.0, 0.5),
    "the mouth": (0.0, 1.0),
    "the chin": (0.0, 1.5),
    "the cheek at image left": (-0.75, 0.65),
    "the cheek at image right": (0.75, 0.65),
    "the jaw at image left": (-0.75, 1.25),
    "the jaw at image right": (0.75, 1.25),
    "the forehead": (0.0, -0.7),
}
FAR = 0.75  # eye distances from the nearest place: the edge of the picture


@dataclass(frozen=True)
class Shown:
    """A face as the page shows it: data URLs of pictures, and what they show in words.

    Attributes:
      face: as the network sees it.
      heat: the evidence for a forgery or a real face.
      words: where that evidence is strongest.
      test: how fidelity changes if the hottest part is removed.
      mirror, symmetry: the mirror image, and where it differs from the face; or None.
      differs: where that difference is strongest.
    """

    face: str
    heat: str
    words: str
    test: str
    mirror: str | None
    symmetry: str | None
    differs: str


def show_faces(
    detector, crops: Sequence[Crop], advance: Callable[[float], None]
) -> tuple[list[Shown], float, float]:
    """The pictures of some faces, in their order.

    Args:
      detector: a `Detector`.
      crops: the faces.
      advance: called with the share that is done, from 0 to 1.

    Returns:
      The faces; the change of fidelity at full colour in the heat maps; the difference at the
      lightest colour in the symmetry maps.
    """
    prepared = np.concatenate([detector.prepare(decode_image(crop.image)[None]) for crop in crops])
    heats = []
    for i, face in enumerate(prepared):
        heats.append(heat_maps(detector, face[None])[0])
        advance((i + 1) / len(prepared))
    halves = symmetry_maps(detector, prepared)
    most = max(float(np.abs(heats).max()), 1e-6)
    apart = 1.0 if halves is None else max(float(halves.max()), 1e-6)
    shown = []
    for i, (crop, face, heat) in enumerate(zip(crops, prepared, heats, strict=True)):
        points = _prepared_landmarks(detector, crop)
        half = None if halves is None else halves[i]
        shown.append(
            Shown(
                face=_encode(face),
                heat=_encode(_draw_heat(face, heat / most)),
                words=_describe_heat(heat, points),
                test=_test(detector, face, heat),
                mirror=None if half is None else _encode(face[:, ::-1]),
                symmetry=None if half is None else _encode(_draw_symmetry(face, half / apart)),
                differs="" if half is None else _describe_symmetry(half, face, points),
            )
        )
    return shown, most, apart


def _prepared_landmarks(detector, crop: Crop) -> Float[np.ndarray, "5 2"]:
    """Landmarks in pixels of the face as the network sees it (`Detector.prepare`)."""
    h, w = decode_image(crop.image).shape[:2]
    points = complete_landmarks(crop.landmarks, (h, w)).astype(float)
    side = max(1, round(min(h, w) * detector.config.model.eval_crop))
    corner = np.array([(w - side) // 2, (h - side) // 2])
    return (points - corner + 0.5) * detector.config.model.image_size / side - 0.5


def encode_within(picture: UInt8[np.ndarray, "h w 3"], most: int) -> str:
    """The data URL of a picture as JPEG, at the best of QUALITIES within `most` bytes."""
    for quality in QUALITIES:
        encoded = encode_image(picture, quality, halved=True)
        if len(encoded) <= most:
            break
    return to_data_uri(encoded)


def _encode(picture: UInt8[np.ndarray, "s s 3"]) -> str:
    large = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return encode_within(large, BYTES)


def _grey(face: UInt8[np.ndarray, "s s 3"]) -> Float32[np.ndarray, "S S 3"]:
    """The face in grey, light enough for colours, at the size of the page."""
    large = cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    grey = cv2.cvtColor(large, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.repeat((70 + 0.7 * grey)[..., None], 3, axis=2)


def _draw_heat(face, heat: Float[np.ndarray, "s s"]) -> UInt8[np.ndarray, "S S 3"]:
    """Orange for a forgery, blue for a real face; the strongest evidence is outlined."""
    large = cv2.resize(heat, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    colour = np.where(large[..., None] > 0, FORGED, REAL).astype(np.float32)
    opacity = np.clip(np.abs(large), 0, 1)[..., None] * 0.85
    drawn = _grey(face) * (1 - opacity) + colour * opacity
    drawn = np.clip(drawn, 0, 255).astype(np.uint8)
    hot = (hottest(large, OUTLINED) & (large > 0)).astype(np.uint8)
    lines, _ = cv2.findContours(hot, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, lines, -1, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.drawContours(drawn, lines, -1, (60, 20, 0), 1, cv2.LINE_AA)
    return drawn


def _draw_symmetry(face, differs: Float[np.ndarray, "p p"]) -> UInt8[np.ndarray, "S S 3"]:
    """The face overlaid dark where it is like its mirror image, light where they differ."""
    large = cv2.resize(differs, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    levels = np.uint8(np.clip(large, 0, 1) * 255)
    colour = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    return np.uint8(0.35 * _grey(face) + 0.65 * colour)


def _describe_heat(heat: Float[np.ndarray, "s s"], points) -> str:
    sentences = []
    for sign, what in ((1, "a forgery"), (-1, "a real face")):
        signed_heat = sign * heat
        row, column = np.unravel_index(signed_heat.argmax(), heat.shape)
        if signed_heat[row, column] <= 0:
            sentences.append(f"No part is evidence for {what}.")
            continue
        where = name_place(np.array([column, row], float), points)
        sentences.append(
            f"Strongest evidence for {what}: {where} (blurring it changes fidelity by "
            f"{signed(float(heat[row, column]))})."
        )
    return " ".join(sentences)


def _describe_symmetry(differs: Float[np.ndarray, "p p"], face, points) -> str:
    row, column = np.unravel_index(differs.argmax(), differs.shape)
    spot = (np.array([column, row]) + 0.5) * len(face) / len(differs) - 0.5
    mirrored = np.array([len(face) - 1 - spot[0], spot[1]])
    places = sorted({name_place(spot, points), name_place(mirrored, points)})
    return f"Face and mirror image differ most at {' and '.join(places)}."


def name_place(spot: Float[np.ndarray, "2"], points: Float[np.ndarray, "5 2"]) -> str:
    """The name of the part of the face at a pixel.

    Args:
      spot: x, y.
      points: the landmarks, all known.
    """
    middle = points[:2].mean(axis=0)
    along = points[1] - points[0]
    down = points[3:].mean(axis=0) - middle
    distance = max(float(np.hypot(*along)), 1e-6)
    names = list(PLACES)
    places = np.array([middle + x * along + y * down for x, y in PLACES.values()])
    apart = np.hypot(*(places - spot).T)
    nearest = int(apart.argmin())
    return names[nearest] if apart[nearest] <= FAR * distance else "the edge of the picture"


def _test(detector, face, heat) -> str:
    """The fidelity without the hottest part, and without a random part of the same size."""
    rng, side = np.random.default_rng(0), len(face)
    (before,) = detector.fidelity_of_prepared(face[None])
    (after,) = scores_after_removal(detector, face, heat, rng, (TAKEN,))
    maps = [random_map(heat.shape, rng, GRAIN * side) for _ in range(RANDOM)]
    random = [scores_after_removal(detector, face, heat_map, rng, (TAKEN,))[0] for heat_map in maps]
    return (
        f"Fidelity is {number(float(before))}; without the {TAKEN:.0%} with the strongest "
        f"evidence for a forgery {number(float(after))}; without a random {TAKEN:.0%} "
        f"{number(float(np.mean(random)))} (mean of {RANDOM})."
    )
