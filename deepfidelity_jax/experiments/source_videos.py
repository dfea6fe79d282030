"""H.264 recompression of the video files that test faces come from.

A whole file is encoded again at a constant rate factor, and its faces are found again as they were
for the records. A face is identified by its frame and its position there. Faces that are not found
again are counted, not scored.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from deepfidelity_jax.faces import tracking
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.forgeries.graded import DEGRADATIONS
from deepfidelity_jax.images import formats, h264, media
from deepfidelity_jax.progress import say
from deepfidelity_jax.records.source import Face, Produced, count_reasons
from deepfidelity_jax.records.staging import stage, staged, staged_path

KIND = "H.264 of the video"
STRENGTHS, WORDS = DEGRADATIONS["H.264"].strengths, DEGRADATIONS["H.264"].words
SAME = 0.3  # least overlap (intersection over union) of the same face when found again


@dataclass(frozen=True)
class Clip:
    """A video file, and the test faces in it: their video_id, frame and box."""

    name: str
    path: str
    faces: tuple[tuple[str, int, tuple[float, ...]], ...]
    split: str = "test"


def list_clips(sources: Sequence[Any], records: Sequence[dict[str, Any]]) -> list[Clip]:
    """The sources that are video files, with the faces from `records` that are in them.

    Faces that were forged after cropping are left out, as no video contains them.
    """
    files = {source.name: source for source in sources if not getattr(source, "frames", ())}
    faces_of: dict[str, list[tuple]] = {}
    for record in records:
        source = files.get(record["path"])
        if source is not None and getattr(source, "label", None) == record["label"]:
            face = record["video_id"], int(record["frame"]), tuple(map(float, record["bbox"]))
            faces_of.setdefault(source.name, []).append(face)
    return [
        Clip(name, files[name].path, tuple(faces))
        for name, faces in faces_of.items()
        if _is_video(files[name].path)
    ]


def as_recorded(
    clips: Sequence[Clip], records: Sequence[dict[str, Any]]
) -> dict[tuple[str, int], bytes]:
    """The encoded faces of the clips as they were recorded, by video_id and frame."""
    clip_faces = {face[:2] for clip in clips for face in clip.faces}
    faces = {(record["video_id"], record["frame"]): record["image"] for record in records}
    return {key: image for key, image in faces.items() if key in clip_faces}


def _is_video(path: str) -> bool:
    try:
        return media.identify(path) == "video"
    except (formats.MediaError, OSError):
        return False


@dataclass(frozen=True)
class Recompression:
    """Turns a clip into its faces after recompression; picklable, for worker processes.

    settings: how faces are found and cut. crf: the constant rate factor. folder: holds the
    recompressed video while it is needed.
    """

    settings: FaceSettings
    crf: float | int
    folder: Path

    def __call__(self, clip: Clip) -> Produced:
        """The faces that are found again; no faces, and the reason, if the file is damaged."""
        video = staged_path(self.folder, clip).with_suffix(".mp4")
        try:
            h264.recompress_video(clip.path, video, self.crf)
            people = tracking.extract(video, self.settings).people
        except formats.MediaError as error:
            return Produced([], str(error))
        finally:
            video.unlink(missing_ok=True)
        faces = []
        for video_id, frame, box in clip.faces:
            crops = [crop for person in people for crop in person.crops if crop.frame == frame]
            overlaps = [overlap(np.array(box), crop.bbox) for crop in crops]
            if max(overlaps, default=0.0) >= SAME:
                image = crops[int(np.argmax(overlaps))].image
                faces.append(Face("test", image, 0, "", video_id, frame, clip.name, np.nan))
        return Produced(faces)


def overlap(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes: x, y, width, height."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    return both / float(np.prod(a[2:]) + np.prod(b[2:]) - both)


def recompress(
    clips: Sequence[Clip], settings: FaceSettings, grade: int, folder: Path
) -> dict[tuple[str, int], bytes]:
    """The encoded face of each (video_id, frame) that is found again, at one grade.

    Each video's faces are kept in `folder`, so that a killed run can resume; `forget` removes them.
    """
    produce = Recompression(settings, STRENGTHS[grade - 1], folder)
    seen = stage(clips, produce, folder, unit=f"videos at {WORDS.format(STRENGTHS[grade - 1])}")
    notes = {clip.name: produced.note for clip, produced in seen if produced.note}
    if notes:
        say(f"videos that could not be recompressed: {count_reasons(notes)}")
    return {(face.video_id, face.frame): face.image for face in staged(clips, folder)}


def forget(folder: Path) -> None:
    """Remove the faces kept for a grade."""
    shutil.rmtree(folder, ignore_errors=True)
