"""Faces found, followed, cropped and aligned: one path for preparing data and for predicting."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from deepfidelity_jax import media
from deepfidelity_jax.errors import InputError

DETECTORS = ("cascade", "yunet", "none")
LONG_SIDE = 640  # of the frame searched: faces down to 3 % of the long side are found
CONFIDENT = 0.5  # a lower score alone makes no person
SURE = {"cascade": 0.6, "yunet": 0.9}  # what upright faces score and hardly anything else
PERSISTENCE = 0.1  # share of a video's frames in which a person is found confidently
FEWEST_FRAMES = 2  # and this many at least
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
        if self.size < media.MIN_SIDE:
            raise InputError(f"a face size of {self.size} is less than {media.MIN_SIDE} pixels")
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


@dataclass(frozen=True, eq=False)
class Crop:
    """A face cut out of one frame.

    frame, time: index in the video and seconds, 0 for a photograph. image: the crop as coded by
    `media.encode_image`, what is stored and scored. pixels: the crop before coding, for those who
    alter it and code the result, so that altered or not it is coded once. bbox: x, y, width,
    height of the face in pixels of the source, as it lies there. landmarks: as in `Face`, in
    pixels of the crop.
    """

    frame: int
    time: float
    image: bytes
    pixels: UInt8[np.ndarray, "s s 3"]
    bbox: Float32[np.ndarray, "4"]
    landmarks: Float32[np.ndarray, "5 2"]
    score: float


@dataclass(frozen=True)
class Person:
    """One person's crops in the order of the frames."""

    crops: tuple[Crop, ...]


@dataclass(frozen=True)
class Extraction:
    """The people in one photograph or video, the one seen most and largest first.

    frames: how many were read; unreadable: how many could not be; note: what the user should
    know, empty where all is well, starting with "no face" where nobody was found.
    """

    people: tuple[Person, ...]
    frames: int
    unreadable: int
    note: str


def extract(path: str | os.PathLike, settings: FaceSettings) -> Extraction:
    """Find, follow and crop the people in a photograph or in evenly spaced frames of a video.

    Raises media.MediaError where the file cannot be read.
    """
    if media.identify(path) == "video":
        indices = media.spread_indices(media.video_info(path).frames, settings.frames)
        return follow(lambda: media.read_frames_at(path, indices), len(indices), settings)
    odd: list[str] = []
    frame = media.Frame(0, 0.0, media.read_image(path, odd))
    found = follow(lambda: [frame], 1, settings)
    return replace(found, note=", ".join(filter(None, [found.note, *odd])))


def follow(
    read: Callable[[], Iterable[media.Frame]],
    expected: int,
    settings: FaceSettings,
    landmarks: Mapping[int, Float32[np.ndarray, "5 2"]] | None = None,
) -> Extraction:
    """Find, follow and crop the people in frames of one video.

    Where nobody is found surely, some frames are searched with a border around them and turned by
    quarters as well; if that finds somebody surely, all frames are read again and taken so. The
    crops then stand upright, and each `bbox` is still in pixels of the frame as given.

    Args:
      read: gives the frames that can be read, in their order; called once or twice.
      expected: how many there should be.
      settings: how faces are found and cut.
      landmarks: for ready crops (the detector `none`), those known, by index of the frame.

    Raises media.MediaError where no frame can be read.
    """
    turn = 0
    if settings.detector == "none":
        known = {} if landmarks is None else landmarks  # filled while frames are read

        def whole(frame):
            (face,) = detect(frame.image, settings)
            return [replace(face, landmarks=known.get(frame.index, face.landmarks))]

        detections, crops = _cut_all(read(), whole, settings)
        # Ready crops show one person, whatever their sizes.
        tracks = [[(n, 0) for n in range(len(detections))]] if detections else []
    else:
        probe = _Probe(expected, settings)
        detections, crops = _cut_all(read(), probe, settings)
        sure = SURE[settings.detector]
        tracks = track(detections, sure)
        better = probe.better_turn()
        if better is not None and (better or not tracks):
            found = _cut_all(read(), lambda frame: _look(frame.image, settings), settings, better)
            if again := track(found[0], sure):
                (detections, crops), tracks, turn = found, again, better
    if not detections:
        raise media.MediaError("a video without a readable frame")

    people = tuple(Person(tuple(crops[frame][face] for frame, face in track)) for track in tracks)
    unreadable = expected - len(detections)
    notes = [] if people else ["no face"]
    if turn:
        notes.append("lies upside down" if turn == 2 else "lies sideways")
    if unreadable:
        notes.append(f"{unreadable} of {expected} frames unreadable")
    return Extraction(people, len(detections), unreadable, ", ".join(notes))


def _cut_all(
    frames: Iterable[media.Frame],
    find: Callable[[media.Frame], list[Face]],
    settings: FaceSettings,
    turn: int = 0,
) -> tuple[list[list[Face]], list[list[Crop]]]:
    """The faces found in each frame, turned by so many quarters, and their crops.

    Every candidate is cut while its frame is at hand: only crops outlive a frame.
    """
    detections, crops = [], []
    for frame in frames:
        turned = replace(frame, image=_turned(frame.image, turn))
        detections.append(find(turned))
        crops.append([_cut(turned, face, settings, turn) for face in detections[-1]])
    return detections, crops


def _cut(frame: media.Frame, face: Face, settings: FaceSettings, turn: int) -> Crop:
    pixels, landmarks = crop_face(frame.image, face, settings)
    (x, y, width, height), (rows, columns) = face.box, frame.image.shape[:2]
    for _ in range(turn):  # back by a quarter
        x, y, width, height = rows - y - height, x, height, width
        rows, columns = columns, rows
    image, bbox = media.encode_image(pixels), np.array([x, y, width, height], np.float32)
    return Crop(frame.index, frame.time, image, pixels, bbox, landmarks, face.score)


def _turned(image: UInt8[np.ndarray, "h w 3"], turn: int) -> UInt8[np.ndarray, "a b 3"]:
    """The image turned counterclockwise by so many quarters."""
    return np.ascontiguousarray(np.rot90(image, turn)) if turn else image


# --- faces cut tight, pictures that lie sideways ---------------------------------------------
#
# Measured before and after. Of 67 portraits cut to YuNet's box a face is found in place in 67 and
# 67 with YuNet, in 42 and 55 with the cascade, in 46 and 56 halved in size; cut so and turned in 35
# and 66, 1 and 52; whole and turned in 48 (upright to YuNet, wrongly) and 67, 0 and 59. The crops
# of the upright portraits are the same to the byte. 54 pictures without a face: one person with
# YuNet before and after, none with the cascade. YuNet scores upright portraits 0.91 and more,
# turned ones up to 0.92, but each of them less than when it is upright.
#
# Videos without a face (painted over in real clips, in all directions; scenes, textures, noise): a
# person in 0 and 0 of 63 with YuNet (then with a border inside the reduced frame and 6 probes), in
# 2 and 1 of 21 with the cascade. Two real clips, each turned three ways: all six found in place
# with the cascade, none upright before. Four upright clips with YuNet: the same to the byte.


PROBES = 4  # frames of a video that are searched in every way
BORDER = 0.25  # around a picture, as a share of its longer side
TURNS = (0, 1, 2, 3)  # quarters, counterclockwise


class _Probe:
    """Finds the faces in frames as they are, and learns meanwhile whether another way is better.

    Frames are probed only while less than half of those before show somebody surely: in a good
    video next to none.
    """

    def __init__(self, expected: int, settings: FaceSettings):
        self.settings, self.sure = settings, SURE[settings.detector]
        self.every = math.ceil(expected / PROBES)
        self.seen = self.surely = 0
        self.probed: list[list[float]] = []  # of a frame the score as it is, and after each turn

    def __call__(self, frame: media.Frame) -> list[Face]:
        faces = detect(frame.image, self.settings)
        score = self._surely(faces)
        self.surely += score > 0
        if self.seen % self.every == 0 and 2 * self.surely <= self.seen:
            views = (_search_bordered(_turned(frame.image, turn), self.settings) for turn in TURNS)
            self.probed.append([score, *map(self._surely, views)])
        self.seen += 1
        return faces

    def _surely(self, faces: Sequence[Face]) -> float:
        """The best score, if it is sure."""
        return max((face.score for face in faces if face.score >= self.sure), default=0.0)

    def better_turn(self) -> int | None:
        """The quarter turns after which most is found, if half of the frames show it surely."""
        if not self.probed:
            return None
        scores = np.array(self.probed)
        best = int(scores.sum(0).argmax())
        return best - 1 if best and 2 * (scores[:, best] > 0).sum() >= len(scores) else None


def _look(image: UInt8[np.ndarray, "h w 3"], settings: FaceSettings) -> list[Face]:
    """Find the faces in an image, with a border around it where there seems to be nobody."""
    found = detect(image, settings)
    if any(face.score >= CONFIDENT for face in found):
        return found
    return _search_bordered(image, settings)


def _search_bordered(image: UInt8[np.ndarray, "h w 3"], settings: FaceSettings) -> list[Face]:
    if settings.detector == "yunet":
        return _keep_best(_yunet(image, settings.yunet, BORDER))
    return _keep_best(_frontal(image, BORDER))


def track(
    detections: Sequence[Sequence[Face]], sure: float = CONFIDENT
) -> list[list[tuple[int, int]]]:
    """Link the faces of successive frames into people.

    A face continues the nearest person whose last face it resembles in place and size. Whoever is
    not found confidently in a share of the frames is dropped: false alarms rarely repeat. So is
    whoever is found surely in none and confidently in less than half of them. With one frame every
    confident face is a person.

    Args:
      detections: the faces of each frame.
      sure: the score from which a face is sure.

    Returns:
      For each person (frame number, face number) pairs in the order of the frames; first the
      person whose faces have the largest sizes in sum.
    """
    tracks: list[list[tuple[int, int]]] = []
    for number, faces in enumerate(detections):
        last = [detections[frame][face] for frame, face in (track[-1] for track in tracks)]
        pairs = sorted(
            (distance, t, f)
            for t, before in enumerate(last)
            for f, face in enumerate(faces)
            if (distance := _distance(before, face)) < 1
        )
        free_tracks, free_faces = set(range(len(last))), set(range(len(faces)))
        for _, t, f in pairs:
            if t in free_tracks and f in free_faces:
                free_tracks.remove(t)
                free_faces.remove(f)
                tracks[t].append((number, f))
        tracks += [[(number, f)] for f in sorted(free_faces)]

    share = math.ceil(PERSISTENCE * len(detections))
    needed = 1 if len(detections) == 1 else max(FEWEST_FRAMES, share)

    def persists(track):
        scores = np.array([detections[frame][face].score for frame, face in track])
        confident = (scores >= CONFIDENT).sum()
        return confident >= needed and (scores.max() >= sure or 2 * confident >= len(detections))

    def weight(track):
        return sum(detections[frame][face].size for frame, face in track)

    people = [track for track in tracks if persists(track)]
    return sorted(people, key=weight, reverse=True)


def _distance(a: Face, b: Face) -> float:
    """How far two faces are apart, in faces: between the centres, and in octaves of size."""
    return math.dist(a.centre, b.centre) * 2 / (a.size + b.size) + abs(math.log2(a.size / b.size))


def crop_face(
    image: UInt8[np.ndarray, "h w 3"], face: Face, settings: FaceSettings
) -> tuple[UInt8[np.ndarray, "s s 3"], Float32[np.ndarray, "5 2"]]:
    """Cut a square around a face, turned so that its eyes are level and its axis in the middle.

    The side is margin times the longer side of the box. Where both eyes are known, and far enough
    apart not to be a profile's, the square is turned to their line and centred on their midpoint
    horizontally; else it stands upright on the box's centre. Beyond the border the image is
    mirrored. With the detector `none` the whole image is resized instead.

    Returns:
      The crop, side `settings.size`, and the landmarks in its pixels.
    """
    size = settings.size
    if settings.detector == "none":
        height, width = image.shape[:2]
        scale = np.float32([size / width, size / height])
        crop = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        return crop, ((face.landmarks + 0.5) * scale - 0.5).astype(np.float32)

    centre = np.array(face.centre) - 0.5  # from edges of pixels to their centres
    along = np.array([1.0, 0.0])
    left, right = face.landmarks[:2].astype(float)
    if np.hypot(*(right - left)) > EYES_APART * face.size:  # false where NaN
        along = (right - left) / np.hypot(*(right - left))
        down = np.array([-along[1], along[0]])
        middle = (left + right) / 2
        centre = middle + down * (down @ (centre - middle))
    side = settings.margin * face.size

    # First only the neighbourhood, shrunk by averaging: what follows then never skips a pixel.
    corner = np.floor(centre - 0.75 * side).astype(int) - 2  # half a diagonal is 0.71 of the side
    reach = math.ceil(1.5 * side) + 5
    patch = _patch(image, int(corner[0]), int(corner[1]), reach)
    shrunk = min(reach, round(reach * size / side))
    if shrunk < reach:
        patch = cv2.resize(patch, (shrunk, shrunk), interpolation=cv2.INTER_AREA)

    def affine(centre, scale):
        """Rows that take a pixel to the crop."""
        turn = np.array([along, [-along[1], along[0]]]) * scale
        return np.column_stack([turn, (size - 1) / 2 - turn @ centre])

    zoom = shrunk / reach
    matrix = affine((centre - corner + 0.5) * zoom - 0.5, size / side / zoom)
    crop = cv2.warpAffine(
        patch, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    matrix = affine(centre, size / side)
    return crop, (face.landmarks @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def _patch(image: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """A square of the image, mirrored at the borders (the border itself not repeated)."""
    height, width = image.shape[:2]
    if 0 <= left <= width - side and 0 <= top <= height - side:
        return image[top : top + side, left : left + side]  # no copy: ten times as fast

    def indices(start, length):
        index = np.abs(np.arange(start, start + side)) % (2 * length - 2)
        return np.minimum(index, 2 * length - 2 - index)

    return image[np.ix_(indices(top, image.shape[0]), indices(left, image.shape[1]))]


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
    patch = _patch(image, round(x - room), round(y - room), max(round(side + 2 * room), 1))
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
