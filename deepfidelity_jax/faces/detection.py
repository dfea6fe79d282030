"""Find faces in a picture."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces.geometry import cut_patch
from deepfidelity_jax.images import pictures

DETECTORS = ("cascade", "yunet", "none")
LONG_SIDE = 640  # of the frame searched: faces down to 3 % of the long side are found
CONFIDENT = 0.5  # a lower score alone makes no person
EYES_APART = 0.22  # of the face's size; eyes closer together are a profile's and give no axis


@dataclass(frozen=True)
class FaceSettings:
    """How faces are found and cut; travels in records and checkpoints, as `to_dict`.

    detector: `cascade` (OpenCV's own, offline), `yunet` (better and faster, with the ONNX file
    named by `yunet`), or `none`: the images are face crops already. margin: side of the square
    crop over the longer side of the face. size: side of the crop in pixels. frames: how many are
    taken from a video, evenly. Raises InputError for values that make no sense.
    """

    detector: str = "cascade"
    yunet: str = ""
    margin: float = 1.3
    size: int = 160
    frames: int = 32

    def __post_init__(self):
        if self.detector not in DETECTORS:
            raise InputError(
                f"face detector {self.detector!r} is unknown: choose {', '.join(DETECTORS)}"
            )
        if self.detector == "yunet" and not self.yunet:
            raise InputError("the face detector yunet needs its ONNX file: give its path")
        if not 0.5 <= self.margin <= 4:
            raise InputError(f"a face margin of {self.margin} is not between 0.5 and 4")
        if self.size < pictures.MIN_SIDE:
            raise InputError(f"a face size of {self.size} is less than {pictures.MIN_SIDE} pixels")
        if self.frames < 1:
            raise InputError(f"{self.frames} frames per video: take at least 1")

    def to_dict(self) -> dict:
        """The settings as JSON-able values; `FaceSettings(**values)` is the way back."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one image.

    box: x, y, width, height in pixels of the image. landmarks: x, y of the eye at image left, the
    eye at image right, nose, mouth corner left, mouth corner right; rows of NaN where unknown.
    score: in [0, 1].
    """

    box: tuple[float, float, float, float]
    landmarks: Float32[np.ndarray, "5 2"]
    score: float

    @property
    def size(self) -> float:
        """The longer side of the box."""
        return max(self.box[2:])

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2


BORDER = 0.25  # around a picture, as a share of its longer side


def search_bordered(image: UInt8[np.ndarray, "h w 3"], settings: FaceSettings) -> list[Face]:
    """Find faces after a border is put around the picture, for those cut tight."""
    if settings.detector == "yunet":
        return _keep_best(_yunet(image, settings.yunet, BORDER))
    return _keep_best(_frontal(image, BORDER))


def detect(image: UInt8[np.ndarray, "h w 3"], settings: FaceSettings) -> list[Face]:
    """Find the faces in an image, the best first, none over another.

    Not for several threads at once, as the loaded detectors are shared; processes have their own.
    Those that score below CONFIDENT count only where they continue a person: see `track`.
    """
    if settings.detector == "none":
        height, width = image.shape[:2]
        return [Face((0.0, 0.0, float(width), float(height)), _unknown(), 1.0)]
    if settings.detector == "yunet":
        return _keep_best(_yunet(image, settings.yunet))
    return _keep_best(_cascade(image))


def _keep_best(found: Sequence[Face]) -> list[Face]:
    """The best first, without those that lie over a better one."""
    kept: list[Face] = []
    for face in sorted(found, key=lambda face: (-face.score, -face.size, face.box)):
        if not any(_overlap(face, other) for other in kept):
            kept.append(face)
    return kept


def _overlap(a: Face, b: Face) -> bool:
    """Whether either holds the middle of the other."""

    def holds(a, b):
        x, y, width, height = a.box
        return x < b.centre[0] < x + width and y < b.centre[1] < y + height

    return holds(a, b) or holds(b, a)


def _unknown() -> Float32[np.ndarray, "5 2"]:
    return np.full((5, 2), np.nan, np.float32)


def _reduce(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Shrink to LONG_SIDE, never enlarge; also the factor."""
    scale = min(1.0, LONG_SIDE / max(image.shape[:2]))
    if scale < 1:
        height, width = (max(1, round(length * scale)) for length in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image, scale


def _surround(reduced: np.ndarray, border: float, kind: int) -> tuple[np.ndarray, int]:
    """Add a border, given as a share of the longer side; also its width in pixels."""
    added = int(border * max(reduced.shape[:2]))
    return cv2.copyMakeBorder(reduced, added, added, added, added, kind), added


# --- YuNet -------------------------------------------------------------------------------------


def _yunet(image: np.ndarray, path: str, border: float = 0.0) -> list[Face]:
    reduced, scale = _reduce(image)
    reduced, added = _surround(reduced, border, cv2.BORDER_REPLICATE)
    # On a side of 32 pixels or fewer OpenCV's network answers with garbage: fill up to 64.
    missing = [max(0, 64 - length) for length in reduced.shape[:2]]
    reduced = cv2.copyMakeBorder(reduced, 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT)
    network = _network(path)
    network.setInputSize((reduced.shape[1], reduced.shape[0]))
    rows = network.detect(cv2.cvtColor(reduced, cv2.COLOR_RGB2BGR))[1]
    rows = np.zeros((0, 15), np.float32) if rows is None else rows
    rows[:, [0, 1, *range(4, 14)]] -= added
    # Its eye and mouth corner first are the person's right ones: those at image left.
    return [
        Face(
            tuple(float(value) for value in row[:4] / scale),
            ((row[4:14].reshape(5, 2) + 0.5) / scale - 0.5).astype(np.float32),
            float(row[14]),
        )
        for row in rows
    ]


@lru_cache(maxsize=4)
def _network(path: str) -> cv2.FaceDetectorYN:
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file; give the ONNX file of the face detector yunet")
    try:
        return cv2.FaceDetectorYN.create(path, "", (LONG_SIDE, LONG_SIDE), score_threshold=0.7)
    except cv2.error:
        raise InputError(f"{path}: not a YuNet ONNX file that this OpenCV can load") from None


# --- cascades ----------------------------------------------------------------------------------
#
# The frontal cascade proposes, others look closely and vote: that the proposal was seen many times
# over, that each of two more frontal cascades, the profile one and each of two eye cascades agrees.
# Half of the six votes make a face.
#
# Measured with YuNet's faces as the truth. 400 portraits of 320 pixels: one face and the right one
# in 392, none in 8 (sunglasses, hair over the eyes, profiles); eyes in 324, off by 2.3 % of the
# square in the median, their line by 2.3 degrees (9 at the 97th percentile). 128 frames of four
# clips of 1920x1080, faces 130 to 250 pixels high: found in 125, one person a clip; proposals
# beside the face got two votes at most. No alarm in 27 pictures without a face, two in 72 of
# noise. A frame of 1920x1080 takes 190 ms of one core, half of it the first search; YuNet 16 ms.

STEP = 1.15  # of the pyramid in which the whole frame is searched
CLOSE_STEP = 1.1  # of the one in which a proposal is judged
REPEATS = 2  # raw detections that make a proposal
MANY = 10  # raw detections that earn a vote: the false alarms seen had up to 7, half the faces 20
SMALLEST = 0.03  # side of the smallest face over the long side of the frame
CLOSE = 96  # side of a proposal as it is judged, in pixels
ROOM = 29  # pixels left around it
UPPER = slice(10, 58)  # rows of it in which eyes may lie
EYES = np.array([[0.31, 0.40], [0.69, 0.40]])  # where they lie on average, in sides
ASTRAY = 0.17  # how far from there an eye is believed, in sides
GROW = 1.15  # the cascades' squares are smaller than YuNet's boxes are high, by this in the median


@lru_cache(maxsize=8)
def _trained(name: str) -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")


def _search(
    name: str, grey: np.ndarray, step: float, smallest: int, largest: int = 0
) -> list[tuple[int, int, int, int]]:
    """Squares (x, y, side) in which a cascade sees its object, and how often it saw each."""
    boxes, counts = _trained(name).detectMultiScale2(
        grey, step, REPEATS, minSize=(smallest, smallest), maxSize=(largest, largest)
    )
    return [(int(x), int(y), int(w), int(n)) for (x, y, w, _), n in zip(boxes, counts, strict=True)]


def _search_profiles(
    grey: np.ndarray, step: float, smallest: int
) -> list[tuple[int, int, int, int]]:
    """The same for profiles: the cascade knows those of one side, a mirror shows the others."""
    mirrored = _search("profileface", np.ascontiguousarray(grey[:, ::-1]), step, smallest)
    width = grey.shape[1]
    return _search("profileface", grey, step, smallest) + [
        (width - x - side, y, side, count) for x, y, side, count in mirrored
    ]


def _cascade(image: np.ndarray) -> list[Face]:
    found = _frontal(image)
    if any(face.score >= CONFIDENT for face in found):
        return found
    # Faces that fill the image want room around them, profiles a cascade of their own: four times
    # the work, so only where there seems to be nobody.
    grey, scale, smallest = _grey(image)
    grey, added = _surround(grey, 1 / 16, cv2.BORDER_REFLECT_101)
    squares = _search("frontalface_alt2", grey, STEP, smallest)
    squares += _search_profiles(grey, STEP, smallest)
    return found + [_judge(image, square, added, scale) for square in squares]


def _frontal(image: np.ndarray, border: float = 0.0) -> list[Face]:
    """What the frontal cascade proposes, judged."""
    grey, scale, smallest = _grey(image)
    grey, added = _surround(grey, border, cv2.BORDER_REPLICATE)
    squares = _search("frontalface_alt2", grey, STEP, smallest)
    return [_judge(image, square, added, scale) for square in squares]


def _grey(image: np.ndarray) -> tuple[np.ndarray, float, int]:
    """The reduced image in grey, the factor, and the side of the smallest face looked for."""
    reduced, scale = _reduce(image)
    grey = cv2.equalizeHist(cv2.cvtColor(reduced, cv2.COLOR_RGB2GRAY))
    return grey, scale, max(20, round(SMALLEST * max(grey.shape)))


def _judge(image: np.ndarray, square: tuple[int, int, int, int], border: int, scale: float) -> Face:
    """Look at a square of the reduced image closely: gather votes, and eyes if both are seen."""
    *place, count = square
    x, y, side = (place[0] - border) / scale, (place[1] - border) / scale, place[2] / scale
    room = side * ROOM / CLOSE
    patch = cut_patch(image, round(x - room), round(y - room), max(round(side + 2 * room), 1))
    seen = CLOSE + 2 * ROOM
    grey = cv2.resize(
        cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY), (seen, seen), interpolation=cv2.INTER_AREA
    )
    grey = cv2.equalizeHist(grey)

    smallest = round(0.6 * CLOSE)
    votes = [count >= MANY, bool(_search_profiles(grey, CLOSE_STEP, smallest))]
    for name in ("frontalface_default", "frontalface_alt"):
        votes.append(bool(_search(name, grey, CLOSE_STEP, smallest)))

    # Twice enlarged, for the eye cascades know no eye of less than 20 pixels.
    upper = grey[ROOM : ROOM + CLOSE, ROOM : ROOM + CLOSE][UPPER]
    upper = cv2.resize(upper, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    eyes = []
    for name in ("eye", "eye_tree_eyeglasses"):
        seen_here = _search(name, upper, CLOSE_STEP, round(0.28 * CLOSE), round(0.8 * CLOSE))
        votes.append(bool(seen_here))
        eyes += [((u + w / 2) / 2, (v + w / 2) / 2 + UPPER.start) for u, v, w, _ in seen_here]

    landmarks = _unknown()
    places = np.array(eyes).reshape(-1, 2) / CLOSE
    near = np.hypot(*(places[:, None] - EYES).transpose(2, 0, 1)) < ASTRAY
    if near.any(0).all():
        pair = np.array([places[chosen].mean(0) for chosen in near.T])
        if np.hypot(*(pair[1] - pair[0])) > EYES_APART * GROW:
            landmarks[:2] = pair * side + [x, y] - 0.5

    edge = (GROW - 1) / 2 * side
    box = (x - edge, y - edge, GROW * side, GROW * side)
    return Face(box, landmarks, sum(votes) / len(votes))
