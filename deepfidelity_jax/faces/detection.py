"""Find faces in a picture: `detect`, by the face detector that FaceSettings names.

`mtcnn` is three small networks that come with a package. `yunet` is one network, which is faster;
the user supplies its ONNX file. `cascade` is OpenCV's own: one cascade proposes squares, others
vote on them. With `none` the pictures are already face crops.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces import mtcnn
from deepfidelity_jax.faces.geometry import cut_patch
from deepfidelity_jax.images import pictures

DETECTORS = ("mtcnn", "yunet", "cascade", "none")
LONG_SIDE = 640  # pixels of the frame searched
LEAST = 0.03  # side of the smallest face found in it, as a share of it; MTCNN's is a little larger
CLOSER = 4  # how many times LONG_SIDE is searched for small faces
CONFIDENT = 0.5  # least score that makes a track a person
EYES_APART = 0.22  # share of the face's size; closer eyes mean a profile and give no axis
BORDER = 0.25  # put around a picture by `search_bordered`, as a share of its longer side


@dataclass(frozen=True)
class FaceSettings:
    """How faces are found and cut; kept in records and checkpoints, as `to_dict`.

    detector: one of DETECTORS. yunet: path of YuNet's ONNX file. margin: side of the square crop
    over the longer side of the face. size: side of the crop in pixels. frames: how many frames are
    taken from a video, evenly spaced. Raises InputError for impossible values.
    """

    detector: str = "mtcnn"
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
        """The settings as JSON values; `FaceSettings(**values)` is the inverse."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one image.

    box: x, y, width, height in pixels of the image. landmarks: x, y of the eye at image left, the
    eye at image right, the nose, the mouth corners at image left and right, in pixels of the image,
    0 the centre of the first; rows of NaN where unknown. score: in [0, 1].
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


def search_bordered(image: UInt8[np.ndarray, "h w 3"], settings: FaceSettings) -> list[Face]:
    """Find faces in the picture with a border around it: for pictures cut tight to the face."""
    match settings.detector:
        case "mtcnn":
            return _keep_best(_mtcnn(image, BORDER))
        case "yunet":
            return _keep_best(_yunet(image, settings.yunet, BORDER))
        case "cascade":
            return _keep_best(_frontal(image, BORDER))
    raise ValueError(f"{settings.detector!r} is not a face detector")


def detect(
    image: UInt8[np.ndarray, "h w 3"], settings: FaceSettings, closer: int = 1
) -> list[Face]:
    """Find the faces in an image, without overlaps, the best first.

    At most `closer` times LONG_SIDE is searched. Faces below CONFIDENT count only with better ones
    of the same person: see `tracking.track`. Not thread safe: the threads of a process share the
    loaded detectors.
    """
    match settings.detector:
        case "mtcnn":
            return _keep_best(_mtcnn(image, closer=closer))
        case "yunet":
            return _keep_best(_yunet(image, settings.yunet, closer=closer))
        case "cascade":
            return _keep_best(_cascade(image, closer))
        case "none":
            height, width = image.shape[:2]
            return [Face((0.0, 0.0, float(width), float(height)), _unknown(), 1.0)]
    raise ValueError(f"{settings.detector!r} is not a face detector")


def _keep_best(faces: Sequence[Face]) -> list[Face]:
    """Sort the best first, and drop every face that overlaps a better one."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: (-face.score, -face.size, face.box)):
        if not any(_overlap(face, other) for other in kept):
            kept.append(face)
    return kept


def _overlap(a: Face, b: Face) -> bool:
    """Whether one of two faces contains the centre of the other."""

    def holds(a, b):
        x, y, width, height = a.box
        return x < b.centre[0] < x + width and y < b.centre[1] < y + height

    return holds(a, b) or holds(b, a)


def _unknown() -> Float32[np.ndarray, "5 2"]:
    return np.full((5, 2), np.nan, np.float32)


def _reduce(image: np.ndarray, closer: int) -> tuple[np.ndarray, float]:
    """The image shrunk to `closer` times LONG_SIDE, never enlarged, and the factor."""
    scale = min(1.0, closer * LONG_SIDE / max(image.shape[:2]))
    if scale < 1:
        height, width = (max(1, round(length * scale)) for length in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image, scale


def _surround(reduced: np.ndarray, border: float, kind: int) -> tuple[np.ndarray, int]:
    """The image with a border, given as a share of its longer side, and the border in pixels."""
    added = int(border * max(reduced.shape[:2]))
    return cv2.copyMakeBorder(reduced, added, added, added, added, kind), added


# --- MTCNN -------------------------------------------------------------------------------------

MTCNN_SMALLEST = 3 / 80  # side of the smallest face over the long side of the frame
# Longer side of YuNet's box over that of MTCNN's, and the offset from MTCNN's centre to YuNet's
# along x and y, in sides: medians over photographs. One margin then gives the same crop with both.
MTCNN_GROW = 1.045
MTCNN_SHIFT = 0.014


def _mtcnn(image: np.ndarray, border: float = 0.0, closer: int = 1) -> list[Face]:
    reduced, scale = _reduce(image, closer)
    reduced, added = _surround(reduced, border, cv2.BORDER_REPLICATE)
    detections = mtcnn.find(reduced, max(20.0, MTCNN_SMALLEST * max(reduced.shape[:2]) / closer))
    faces = []
    for (left, top, right, bottom), landmarks, score in zip(*detections, strict=True):
        width, height = right - left, bottom - top
        moved, edge = MTCNN_SHIFT * max(width, height), (MTCNN_GROW - 1) / 2
        corner = left - edge * width + moved - added, top - edge * height + moved - added
        box = (*corner, MTCNN_GROW * width, MTCNN_GROW * height)
        points = ((landmarks - added) / scale - 0.5).astype(np.float32)
        faces.append(Face(tuple(float(value / scale) for value in box), points, float(score)))
    return faces


# --- YuNet -------------------------------------------------------------------------------------


def _yunet(image: np.ndarray, path: str, border: float = 0.0, closer: int = 1) -> list[Face]:
    reduced, scale = _reduce(image, closer)
    reduced, added = _surround(reduced, border, cv2.BORDER_REPLICATE)
    # Below 33 pixels a side OpenCV's network returns garbage: pad to 64.
    missing = [max(0, 64 - length) for length in reduced.shape[:2]]
    reduced = cv2.copyMakeBorder(reduced, 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT)
    network = _network(path)
    network.setInputSize((reduced.shape[1], reduced.shape[0]))
    rows = network.detect(cv2.cvtColor(reduced, cv2.COLOR_RGB2BGR))[1]
    rows = np.zeros((0, 15), np.float32) if rows is None else rows
    rows[:, [0, 1, *range(4, 14)]] -= added
    # YuNet lists the person's right eye and mouth corner first: those at image left.
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
# The frontal cascade proposes squares, and others vote on each. There are six votes: the square was
# found many times, and each of two more frontal cascades, the profile cascade and two eye cascades
# agrees. Three votes make a face. With YuNet's faces as the truth, 392 of 400 portraits give the
# one right face, and 27 pictures without a face give none.

STEP = 1.15  # between the scales at which the whole frame is searched
CLOSE_STEP = 1.1  # between the scales at which a proposal is judged
REPEATS = 2  # raw detections that make a proposal
MANY = 10  # raw detections for a vote: false alarms had up to 7, half of the faces 20
CLOSE = 96  # side in pixels of a proposal as it is judged
ROOM = 29  # pixels around it
UPPER = slice(10, 58)  # rows of it in which eyes may lie
SQUARE_EYES = np.array([[0.31, 0.40], [0.69, 0.40]])  # the average eyes of a proposal, in sides
ASTRAY = 0.17  # how far from there an eye is accepted, in sides
GROW = 1.15  # height of YuNet's box over the side of the cascade's square, in the median


@lru_cache(maxsize=8)
def _trained(name: str) -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")


def _search(
    name: str, grey: np.ndarray, step: float, smallest: int, largest: int = 0
) -> list[tuple[int, int, int, int]]:
    """Squares in which a cascade sees its object, as x, y, side and how often it was seen."""
    boxes, counts = _trained(name).detectMultiScale2(
        grey, step, REPEATS, minSize=(smallest, smallest), maxSize=(largest, largest)
    )
    return [(int(x), int(y), int(w), int(n)) for (x, y, w, _), n in zip(boxes, counts, strict=True)]


def _search_profiles(
    grey: np.ndarray, step: float, smallest: int
) -> list[tuple[int, int, int, int]]:
    """`_search` for profiles: the cascade finds one side, and the other in the mirrored image."""
    mirrored = _search("profileface", np.ascontiguousarray(grey[:, ::-1]), step, smallest)
    width = grey.shape[1]
    return _search("profileface", grey, step, smallest) + [
        (width - x - side, y, side, count) for x, y, side, count in mirrored
    ]


def _cascade(image: np.ndarray, closer: int) -> list[Face]:
    faces = _frontal(image, closer=closer)
    if any(face.score >= CONFIDENT for face in faces):
        return faces
    # Faces that fill the image need space around them, and profiles need their own cascade. That is
    # four times the work, so it is done only if there seems to be nobody.
    grey, scale, smallest = _grey(image, closer)
    grey, added = _surround(grey, 1 / 16, cv2.BORDER_REFLECT_101)
    squares = _search("frontalface_alt2", grey, STEP, smallest)
    squares += _search_profiles(grey, STEP, smallest)
    return faces + [_judge(image, square, added, scale) for square in squares]


def _frontal(image: np.ndarray, border: float = 0.0, closer: int = 1) -> list[Face]:
    """Propose squares by the frontal cascade, and judge each."""
    grey, scale, smallest = _grey(image, closer)
    grey, added = _surround(grey, border, cv2.BORDER_REPLICATE)
    squares = _search("frontalface_alt2", grey, STEP, smallest)
    return [_judge(image, square, added, scale) for square in squares]


def _grey(image: np.ndarray, closer: int) -> tuple[np.ndarray, float, int]:
    """The shrunken image in grey, the factor, and the side of the smallest face looked for."""
    reduced, scale = _reduce(image, closer)
    grey = cv2.equalizeHist(cv2.cvtColor(reduced, cv2.COLOR_RGB2GRAY))
    return grey, scale, max(20, round(LEAST * max(grey.shape) / closer))


def _judge(image: np.ndarray, square: tuple[int, int, int, int], border: int, scale: float) -> Face:
    """Look closely at a square of the shrunken image: count votes, and find eyes if both show."""
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

    # Enlarged to twice the size, because the eye cascades find no eye below 20 pixels.
    upper = grey[ROOM : ROOM + CLOSE, ROOM : ROOM + CLOSE][UPPER]
    upper = cv2.resize(upper, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    eyes = []
    for name in ("eye", "eye_tree_eyeglasses"):
        seen_here = _search(name, upper, CLOSE_STEP, round(0.28 * CLOSE), round(0.8 * CLOSE))
        votes.append(bool(seen_here))
        eyes += [((u + w / 2) / 2, (v + w / 2) / 2 + UPPER.start) for u, v, w, _ in seen_here]

    landmarks = _unknown()
    places = np.array(eyes).reshape(-1, 2) / CLOSE
    near = np.hypot(*(places[:, None] - SQUARE_EYES).transpose(2, 0, 1)) < ASTRAY
    if near.any(0).all():
        pair = np.array([places[chosen].mean(0) for chosen in near.T])
        if np.hypot(*(pair[1] - pair[0])) > EYES_APART * GROW:
            landmarks[:2] = pair * side + [x, y] - 0.5

    edge = (GROW - 1) / 2 * side
    box = (x - edge, y - edge, GROW * side, GROW * side)
    return Face(box, landmarks, sum(votes) / len(votes))
