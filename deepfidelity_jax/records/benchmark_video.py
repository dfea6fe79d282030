"""From one labelled benchmark video to the faces of the person seen most often in it.

A video that cannot be read gives no faces and the reason (`Extractor`, `unreadable`).
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float, Float32

from deepfidelity_jax.faces import detection, tracking
from deepfidelity_jax.images import formats, pictures, videos
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records.source import Face, Produced

# Indices into DeepfakeBench's 81 landmarks: the eye on the left of the image, the eye on the right,
# the tip of the nose, the corners of the mouth.
EYES, NOSE, MOUTH = (slice(36, 42), slice(42, 48)), 30, (48, 54)


@dataclass(frozen=True)
class Video:
    """A video of a benchmark.

    name: its path inside the dataset, with forward slashes. path: the file, or the folder that
    `frames` are relative to. label, method, video_id, split: as in `schema.features`, the same for
    all frames. origins: `kind/name` of the people shown and of the videos it was made from. frames:
    files of ready face crops, in order; empty for a video file. size: of such a file, in bytes.
    """

    name: str
    path: str
    label: int
    method: str
    video_id: str
    split: str
    origins: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    size: int = 0

    @property
    def files(self) -> tuple[str, ...]:
        """The paths named in its records."""
        return self.frames or (self.name,)


def size_of(path: Path) -> int:
    """Size of a file in bytes, which grows while it is downloaded; 0 if there is none."""
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def list_folder(
    root: Path, folder: str, suffixes: tuple[str, ...]
) -> tuple[list[str], dict[str, str]]:
    """List a folder of a dataset.

    Returns:
      The names that end in one of `suffixes`, sorted; and for every other file the reason it is
      left out, by its path inside the dataset.
    """
    names, left_out = [], {}
    for name in sorted(path.name for path in (root / folder).iterdir()):
        if name.startswith("."):
            left_out[f"{folder}/{name}"] = "hidden"
        elif name.endswith(suffixes):
            names.append(name)
        else:
            left_out[f"{folder}/{name}"] = f"not named as the dataset's {suffixes[0]} files are"
    return names, left_out


@dataclass(frozen=True)
class Extractor:
    """Turns one video into faces; picklable, for worker processes."""

    settings: detection.FaceSettings
    measure: Measure

    def __call__(self, video: Video) -> Produced:
        """The faces of the person seen most often; no faces, and the reason, if unreadable."""
        try:
            if video.frames:
                extraction, paths = read_crops(video, self.settings)
            else:
                extraction, paths = tracking.extract(video.path, self.settings), {}
        except (formats.MediaError, OSError) as error:
            return unreadable(video.video_id, str(error))
        return recorded(extraction, video, self.measure, paths)


def read_crops(
    video: Video, settings: detection.FaceSettings
) -> tuple[tracking.Extraction, dict[int, str]]:
    """The person followed through evenly spaced ready crops, and the file of each frame number."""
    chosen = {}
    for index in videos.spread_indices(len(video.frames), settings.frames):
        chosen[frame_number(video.frames[index])] = video.frames[index]
    landmarks = {}

    def read():
        for number, name in chosen.items():
            path = Path(video.path, name)
            try:
                image = pictures.read_image(path)
            except (formats.MediaError, OSError):
                continue
            points = read_landmarks(path)
            if points is not None:
                landmarks[number] = points
            yield videos.Frame(number, 0.0, image)

    return tracking.follow(read, len(chosen), settings, landmarks), chosen


def frame_number(name: str) -> int:
    """The number at the end of a frame's file name: `0012.png` is frame 12."""
    digits = PurePosixPath(name).stem.rpartition("_")[2]
    if not digits.isdecimal():
        raise formats.MediaError(f"{name} has no frame number in its name")
    return int(digits)


def read_landmarks(frame: Path) -> Float32[np.ndarray, "5 2"] | None:
    """The five landmarks of `frames/VIDEO/N.png`, from `landmarks/VIDEO/N.npy` if it exists."""
    path = frame.parents[2] / "landmarks" / frame.parent.name / f"{frame.stem}.npy"
    try:
        points = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # missing or damaged: use the crop without landmarks
        return None
    return five_points(points) if points.shape == (81, 2) else None


def five_points(points: Float[np.ndarray, "81 2"] | np.ndarray) -> Float32[np.ndarray, "5 2"]:
    """Eyes, nose and mouth corners from 81 landmarks, in the same pixels."""
    eyes = [points[eye].mean(0) for eye in EYES]
    return np.array([*eyes, points[NOSE], *points[list(MOUTH)]], np.float32)


def recorded(
    extraction: tracking.Extraction,
    video: Video,
    measure: Measure,
    paths: Mapping[int, str],
) -> Produced:
    """The faces of the person seen most often, and the tally of the video.

    paths: the file of each frame number, if the frames are separate files.
    """
    counted = tally(extraction)
    if not extraction.people:
        return Produced([], extraction.note, {video.video_id: counted})
    faces = [
        Face(
            split=video.split,
            image=crop.image,
            label=video.label,
            method=video.method,
            video_id=video.video_id,
            frame=crop.frame,
            path=paths.get(crop.frame, video.name),
            quality=measure(crop.image, crop.landmarks, paths.get(crop.frame, video.name)),
            bbox=crop.bbox,
            landmarks=crop.landmarks,
            origins=" ".join(video.origins),
        )
        for crop in extraction.people[0].crops
    ]
    return Produced(faces, extraction.note, {video.video_id: counted})


def tally(extraction: tracking.Extraction) -> dict[str, int]:
    """Counts for one video: frames, frames without the face, frames with several faces, ..."""
    frames = [{crop.frame for crop in person.crops} for person in extraction.people]
    followed = frames[0] if frames else set()
    several = {frame for other in frames[1:] for frame in other} & followed
    return {
        "videos": 1,
        "videos without a face": int(not frames),
        "unreadable videos": 0,
        "frames": extraction.frames,
        "frames without the face": extraction.frames - len(followed),
        "frames with several faces": len(several),
        "unreadable frames": extraction.unreadable,
    }


def unreadable(video_id: str, reason: str) -> Produced:
    """No faces, and the reason, for a video that cannot be read."""
    return Produced([], reason, {video_id: {"videos": 1, "unreadable videos": 1}})
