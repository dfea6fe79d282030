"""One labelled video of a benchmark to the faces of the person followed through it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float, Float32

from deepfidelity_jax.faces import detection, tracking
from deepfidelity_jax.images import formats, pictures, videos
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records.source import Face, Produced

# Of the 81 points of a DeepfakeBench face, those of an eye at image left, of the one at image
# right, of the nose's tip and of the mouth's corners.
EYES, NOSE, MOUTH = (slice(36, 42), slice(42, 48)), 30, (48, 54)


@dataclass(frozen=True)
class Video:
    """A video of a benchmark.

    name: its path inside the dataset, with forward slashes. path: the file, or for a video that is
    held as frames the folder that `frames` start from. label, method, video_id, split: as in
    `records.features`, the same for all of its frames. origins: `kind/name` of the people in it
    and of the videos it was made of. frames: files of ready face crops, in their order.
    """

    name: str
    path: str
    label: int
    method: str
    video_id: str
    split: str
    origins: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The paths its faces are recorded with."""
        return self.frames or (self.name,)


def list_folder(
    root: Path, folder: str, suffixes: tuple[str, ...]
) -> tuple[list[str], dict[str, str]]:
    """Names in a folder of a dataset that end so, sorted.

    Also, by their path inside the dataset, why all others in this folder are left out.
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
    """Turns one video into faces; picklable, as it runs in many processes."""

    settings: detection.FaceSettings
    measure: Measure

    def __call__(self, video: Video) -> Produced:
        """The faces of the person seen most; none, and why, where the video cannot be read."""
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
    """The person in evenly spaced ready crops, and the file of each frame."""
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
        raise formats.MediaError(f"{name} has no frame number for a name")
    return int(digits)


def read_landmarks(frame: Path) -> Float32[np.ndarray, "5 2"] | None:
    """The five landmarks of `frames/VIDEO/N.png`, from `landmarks/VIDEO/N.npy` if that is there."""
    path = frame.parents[2] / "landmarks" / frame.parent.name / f"{frame.stem}.npy"
    try:
        points = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # missing or damaged: the crop is as good without
        return None
    return five_points(points) if points.shape == (81, 2) else None


def five_points(points: Float[np.ndarray, "81 2"] | np.ndarray) -> Float32[np.ndarray, "5 2"]:
    """Eyes, nose and mouth corners of 81 landmarks, in pixels as they are."""
    eyes = [points[eye].mean(0) for eye in EYES]
    return np.array([*eyes, points[NOSE], *points[list(MOUTH)]], np.float32)


def recorded(
    extraction: tracking.Extraction,
    video: Video,
    measure: Measure,
    paths: Mapping[int, str],
) -> Produced:
    """The faces of the person seen most, largest in sum, with what was counted on the way.

    paths: the file of each frame, where it is not the video's.
    """
    counted = tally(extraction)
    if not extraction.people:
        return Produced([], extraction.note, {video.video_id: counted})
    found = [
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
    return Produced(found, extraction.note, {video.video_id: counted})


def tally(extraction: tracking.Extraction) -> dict[str, int]:
    """What was seen: frames with nobody where a face was looked for, and with several people."""
    frames = [{crop.frame for crop in person.crops} for person in extraction.people]
    followed = frames[0] if frames else set()
    several = {frame for own in frames[1:] for frame in own} & followed
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
    """Nothing of a video that cannot be read, and why."""
    return Produced([], reason, {video_id: {"videos": 1, "unreadable videos": 1}})
