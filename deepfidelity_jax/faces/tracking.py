"""Find the people in a photograph or video, follow each through the frames, and crop them.

`extract` takes a file. Preparation and prediction both use it, so that a detector gets the same
kind of crops in both.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, UInt8

from deepfidelity_jax.faces.cropping import Crop, cut_crop
from deepfidelity_jax.faces.detection import (
    CLOSER,
    CONFIDENT,
    LEAST,
    LONG_SIDE,
    Face,
    FaceSettings,
    detect,
    search_bordered,
)
from deepfidelity_jax.images import formats, media, pictures, videos

# Scores that hardly anything but an upright face reaches.
SURE = {"mtcnn": 0.98, "yunet": 0.9, "cascade": 0.6}
PERSISTENCE = 0.1  # least share of a video's frames in which a person is found confidently
FEWEST_FRAMES = 2  # least number of such frames
PROBES = 4  # frames of a video that are searched in every way
TURNS = (0, 1, 2, 3)  # quarters, counterclockwise
LARGE = 0.075  # share of a photograph's longer side; smaller faces ask for a closer look


@dataclass(frozen=True)
class Person:
    """One person's crops in the order of the frames."""

    crops: tuple[Crop, ...]


@dataclass(frozen=True)
class Extraction:
    """The people in one photograph or video, the most prominent first.

    frames: how many were read. unreadable: how many could not be read. note: what the user should
    know, such as why there is nobody; empty if all is well. video: of a video file, else None.
    """

    people: tuple[Person, ...]
    frames: int
    unreadable: int
    note: str
    video: videos.VideoInfo | None = None


def extract(path: str | os.PathLike, settings: FaceSettings) -> Extraction:
    """Find, follow and crop the people in a photograph or in evenly spaced frames of a video.

    Raises formats.MediaError if the file cannot be read.
    """
    if media.identify(path) == "video":
        info = videos.video_info(path)
        indices = videos.spread_indices(info.frames, settings.frames)
        extraction = follow(
            lambda: videos.read_frames_at(path, indices, info.constant), len(indices), settings
        )
        odd = [info.note]
    else:
        info, odd = None, []
        frame = videos.Frame(0, 0.0, pictures.read_image(path, odd))
        extraction = follow(lambda: [frame], 1, settings)
    return replace(extraction, note=", ".join(filter(None, [extraction.note, *odd])), video=info)


def follow(
    read: Callable[[], Iterable[videos.Frame]],
    expected: int,
    settings: FaceSettings,
    landmarks: Mapping[int, Float32[np.ndarray, "5 2"]] | None = None,
) -> Extraction:
    """Find, follow and crop the people in frames of one video.

    If nobody is found with high confidence, some frames are searched again, with a border and
    turned by quarters. If that finds somebody with high confidence, all frames are read again and
    searched that way. The crops are then upright, and each `bbox` is still in pixels of the
    original frame. A single frame is a photograph, which is looked at more closely if it shows only
    small faces, or none.

    Args:
      read: gives the frames that can be read, in their order; called once or twice.
      expected: how many frames there should be.
      settings: how faces are found and cut.
      landmarks: known landmarks of ready crops (the detector `none`), by index of the frame.

    Raises formats.MediaError if no frame can be read.
    """
    turn = brief = 0
    nobody = "no face"
    if settings.detector == "none":
        known = {} if landmarks is None else landmarks  # filled while frames are read

        def whole(frame):
            (face,) = detect(frame.image, settings)
            return [replace(face, landmarks=known.get(frame.index, face.landmarks))]

        detections, crops = _cut_all(read(), whole, settings)
        # Ready crops show one person, even if their sizes differ.
        tracks = [[(n, 0) for n in range(len(detections))]] if detections else []
    else:
        probe = _Probe(expected, settings)
        detections, crops = _cut_all(read(), probe, settings)
        sure = SURE[settings.detector]
        tracks = track(detections, sure)
        better = probe.better_turn()
        if better is not None and (better or not tracks):
            reread = _cut_all(read(), lambda frame: _look(frame.image, settings), settings, better)
            again = track(reread[0], sure)
            if again or (not tracks and count_brief(reread[0], again, sure)):
                (detections, crops), tracks, turn = reread, again, better
        brief = count_brief(detections, tracks, sure)
        nobody = probe.describe_nobody()
    if not detections:
        raise formats.MediaError("a video without a readable frame")

    people = tuple(Person(tuple(crops[frame][face] for frame, face in track)) for track in tracks)
    unreadable = expected - len(detections)
    notes = [] if people or brief else [nobody]
    if brief:
        who = "1 person was" if brief == 1 else f"{brief} people were"
        notes.append(f"{who} seen in too few frames to be scored")
    if turn:
        notes.append("turned upside down" if turn == 2 else "turned sideways")
    if unreadable:
        notes.append(f"{unreadable} of {expected} frames unreadable")
    return Extraction(people, len(detections), unreadable, ", ".join(notes))


def _cut_all(
    frames: Iterable[videos.Frame],
    find: Callable[[videos.Frame], list[Face]],
    settings: FaceSettings,
    turn: int = 0,
) -> tuple[list[list[Face]], list[list[Crop]]]:
    """Faces and their crops in each frame, which is turned by `turn` quarters first.

    Every candidate is cut while its frame is in memory; only the crops are kept.
    """
    detections, crops = [], []
    for frame in frames:
        turned = replace(frame, image=_turned(frame.image, turn))
        detections.append(find(turned))
        crops.append([cut_crop(turned, face, settings, turn) for face in detections[-1]])
    return detections, crops


def _turned(image: UInt8[np.ndarray, "h w 3"], turn: int) -> UInt8[np.ndarray, "a b 3"]:
    """The image turned counterclockwise by `turn` quarters."""
    return np.ascontiguousarray(np.rot90(image, turn)) if turn else image


# --- faces cut tight, pictures that lie sideways ---------------------------------------------


class _Probe:
    """Find the faces in unturned frames, and check whether another way of searching is better.

    A frame is searched in every way only while in fewer than half of the frames before it most
    faces are sure, which is very rare in a good video. One sure face is not enough: a group that
    lies sideways often shows one.
    """

    def __init__(self, expected: int, settings: FaceSettings):
        self.settings, self.sure = settings, SURE[settings.detector]
        self.alone, self.every = expected == 1, math.ceil(expected / PROBES)
        self.seen = self.surely = self.side = 0
        self.probed: list[list[float]] = []  # scores of a frame unturned, and after each turn

    def __call__(self, frame: videos.Frame) -> list[Face]:
        faces = detect(frame.image, self.settings)
        score = self._surely(faces)
        self.surely += _is_mostly_sure(faces, self.sure)
        if self.seen % self.every == 0 and 2 * self.surely <= self.seen:
            views = (search_bordered(_turned(frame.image, turn), self.settings) for turn in TURNS)
            self.probed.append([score, *map(self._surely, views)])
        self.seen += 1
        self.side = max(self.side, *frame.image.shape[:2])
        # A face cut tight, or one that lies sideways, is not to be taken for something small.
        if self.alone and not any(any(scores[1:]) for scores in self.probed):
            faces = _look_closer(frame.image, faces, self.settings)
        return faces

    def _surely(self, faces: Sequence[Face]) -> float:
        """The sum of the scores that are sure."""
        return sum((face.score for face in faces if face.score >= self.sure), 0.0)

    def better_turn(self) -> int | None:
        """The turn with the highest scores, if half of the probed frames are sure of it.

        None if the unturned frames without a border do as well.
        """
        if not self.probed:
            return None
        scores = np.array(self.probed)
        best = int(scores.sum(0).argmax())
        return best - 1 if best and 2 * (scores[:, best] > 0).sum() >= len(scores) else None

    def describe_nobody(self) -> str:
        """That there is no face; and where frames were shrunk, which ones are not looked for."""
        closer = CLOSER if self.alone else 1
        if self.side <= closer * LONG_SIDE:
            return "no face"
        return f"no face (below about {LEAST * self.side / closer:.0f} pixels none is looked for)"


def _look_closer(
    image: UInt8[np.ndarray, "h w 3"], faces: list[Face], settings: FaceSettings
) -> list[Face]:
    """The `faces` found in a photograph; if there is no large one, more where they are sure."""
    side, sure = max(image.shape[:2]), SURE[settings.detector]
    large = any(face.score >= CONFIDENT and face.size >= LARGE * side for face in faces)
    if large or side <= LONG_SIDE:
        return faces
    closer = detect(image, settings, CLOSER)
    more = sum(face.score >= sure for face in closer) > sum(face.score >= sure for face in faces)
    return closer if more and _is_mostly_sure(closer, sure) else faces


def _is_mostly_sure(faces: Sequence[Face], sure: float) -> bool:
    """Whether most of the people found confidently are found for sure."""
    confident = sum(face.score >= CONFIDENT for face in faces)
    return 2 * sum(face.score >= sure for face in faces) > confident


def _look(image: UInt8[np.ndarray, "h w 3"], settings: FaceSettings) -> list[Face]:
    """Find the faces in an image; with a border around it if there seems to be nobody."""
    faces = detect(image, settings)
    if any(face.score >= CONFIDENT for face in faces):
        return faces
    return search_bordered(image, settings)


def track(
    detections: Sequence[Sequence[Face]], sure: float = CONFIDENT
) -> list[list[tuple[int, int]]]:
    """Link the faces of successive frames into people.

    A face continues the nearest person whose last face is similar in position and size. A person
    must be found confidently in a share of the frames, since false alarms rarely repeat; and for
    sure in one frame, or confidently in half of them. In a single frame every confident face is a
    person, unless a sure one is more than twice as large: what is found beside a portrait, such as
    a lapel or a seal, is seldom a face.

    Args:
      detections: the faces of each frame.
      sure: the score from which a face is sure.

    Returns:
      (frame number, face number) pairs of each person, in the order of the frames; the person with
      the largest sum of face sizes comes first.
    """
    alone = len(detections) == 1
    sizes = (face.size for faces in detections for face in faces if face.score >= sure)
    least = max(sizes, default=0) / 2 if alone else 0  # size of a face that is not sure
    share = math.ceil(PERSISTENCE * len(detections))
    needed = 1 if alone else max(FEWEST_FRAMES, share)

    def persists(track):
        scores = np.array([detections[frame][face].score for frame, face in track])
        if scores.max() < sure and weight(track) < least:
            return False
        confident = (scores >= CONFIDENT).sum()
        return confident >= needed and (scores.max() >= sure or 2 * confident >= len(detections))

    def weight(track):
        return sum(detections[frame][face].size for frame, face in track)

    people = [track for track in _link(detections) if persists(track)]
    return sorted(people, key=weight, reverse=True)


def count_brief(
    detections: Sequence[Sequence[Face]], people: Sequence[list[tuple[int, int]]], sure: float
) -> int:
    """How many others than the `people` of `track` have a sure face, in too few frames."""
    others = [track for track in _link(detections) if track not in people]
    return sum(
        max(detections[frame][face].score for frame, face in brief) >= sure for brief in others
    )


def _link(detections: Sequence[Sequence[Face]]) -> list[list[tuple[int, int]]]:
    """The tracks of `track`, with those that are no people, in the order of their first faces."""
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
    return tracks


def _distance(a: Face, b: Face) -> float:
    """How different two faces are: centre distance in face sizes, plus octaves between sizes."""
    return math.dist(a.centre, b.centre) * 2 / (a.size + b.size) + abs(math.log2(a.size / b.size))
