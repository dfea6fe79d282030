"""Videos and animated pictures, a frame at a time."""

import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from deepfidelity_jax.images.formats import (
    PICTURES,
    MediaError,
    kind_of,
    open_file,
)
from deepfidelity_jax.images.pictures import decode, guarded, load_pixels, open_picture

# Two ways to a frame, measured on 10 s clips of 1920x1080 H.264 at 30 frames/s, 2 cores: stepping
# over a frame with grab() takes 3-4 ms (it decodes without converting), a seek 300-370 ms, for it
# decodes from the key frame before (up to 250 frames away in common encodings). 32 of 300 frames
# took 1.1 s stepping and 11.5 s seeking. Seeking pays from a step of about 100 frames on.
SEEK_FROM = 100
LONG = 10_000  # frames: to count packets is to read the whole file

FRAME_DURATION = 100  # milliseconds, of an animated picture that tells none


@dataclass(frozen=True)
class VideoInfo:
    """What a video holds: how many frames can be reached, and how many go by in a second."""

    frames: int
    rate: float


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video: its index, its time in seconds, its pixels (RGB)."""

    index: int
    time: float
    image: UInt8[np.ndarray, "h w 3"]


def video_info(path: str | os.PathLike) -> VideoInfo:
    """Count a video's frames; raises MediaError where there is none to read.

    A header may lie or be silent, so it is trusted only when as many packets follow it, counted
    without decoding, or in a LONG video when its last frame is there and none follows; else the
    frames are decoded and counted.
    """
    with open_file(path) as file:
        kind = kind_of(file, path)
        if kind in PICTURES:
            with guarded():
                animation = open_picture(file, kind)
                try:
                    load_pixels(animation, kind)  # some know only then how long a frame lasts
                    frames = getattr(animation, "n_frames", 1)
                except Exception:
                    raise MediaError(f"truncated or damaged {kind}") from None
            return VideoInfo(frames, 1000 / _duration(animation))
        with _captured(file, kind) as video:
            frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
            rate = float(video.get(cv2.CAP_PROP_FPS))
            codec = int(video.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
            told = frames > LONG and _ends_after(video, frames)
        if not told:
            with _captured(file, kind) as video:
                packed = video.set(cv2.CAP_PROP_FORMAT, -1)
                told = packed and frames == _count(video)
        if not told:
            with _captured(file, kind) as video:
                frames = _count(video)
    if frames <= 0:
        name = codec.decode("ascii", "replace") if codec.isalnum() else "unknown"
        raise MediaError(
            f"a {kind} video (codec {name}) without a frame that can be decoded here: "
            "convert it to H.264"
        )
    return VideoInfo(frames, rate if math.isfinite(rate) and rate > 0 else 25.0)


def spread_indices(frames: int, count: int) -> list[int]:
    """Choose `count` indices evenly over `frames`, each in the middle of its share; all if fewer.

    i -> floor((i + 1/2) * frames / count)
    """
    count = min(frames, count)
    return [(2 * i + 1) * frames // (2 * count) for i in range(count)]


def read_frames(path: str | os.PathLike, count: int) -> Iterator[Frame]:
    """Read `count` frames spread evenly over the whole video, all if it has fewer.

    A frame that cannot be decoded is left out. Raises MediaError as `video_info` does.
    """
    yield from read_frames_at(path, spread_indices(video_info(path).frames, count))


def read_frames_at(
    path: str | os.PathLike, indices: Sequence[int], seek_from: int = SEEK_FROM
) -> Iterator[Frame]:
    """Read the frames at rising indices, upright; those that cannot be decoded are left out.

    Where the mean step is `seek_from` frames or more it seeks, else it steps over the frames in
    between: the same frames either way.
    """
    seeks = bool(indices) and indices[-1] + 1 >= seek_from * len(indices)
    with open_file(path) as file:
        kind = kind_of(file, path)
        if kind in PICTURES:
            yield from _read_animation(file, kind, indices)
            return
        with _captured(file, kind) as video:
            rate, at = video.get(cv2.CAP_PROP_FPS), 0
            for index in indices:
                if seeks:
                    video.set(cv2.CAP_PROP_POS_FRAMES, index)
                    at = int(video.get(cv2.CAP_PROP_POS_FRAMES))
                while at < index and video.grab():
                    at += 1
                if at != index or not video.grab():
                    continue
                at += 1
                time = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
                decoded, image = video.retrieve()
                if decoded and image is not None:
                    if time <= 0 and rate > 0:
                        time = index / rate
                    yield Frame(index, float(time), cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _read_animation(file: io.BufferedIOBase, kind: str, indices: Sequence[int]) -> Iterator[Frame]:
    """Frames of an animated picture, each composed of those before it."""
    with guarded():
        image = open_picture(file, kind)
    milliseconds = 0.0
    for index in range(max(indices, default=-1) + 1):
        try:
            with guarded():
                image.seek(index)
                load_pixels(image, kind)
                pixels = decode(image, kind) if index in indices else None
        except Exception:  # parsers meet arbitrary bytes; what follows builds on this frame
            return
        if pixels is not None:
            yield Frame(index, milliseconds / 1000, pixels)
        milliseconds += _duration(image)


def _duration(image: Image.Image) -> float:
    """Milliseconds that the frame lasts that was read last."""
    return float(image.info.get("duration") or FRAME_DURATION)


@contextmanager
def _captured(file: io.BufferedIOBase, kind: str) -> Iterator[cv2.VideoCapture]:
    """A video opened by OpenCV's FFmpeg. Raises MediaError where that is not possible.

    FFmpeg takes parts of a name for patterns, protocols and formats, so it gets the open file
    where the system has names for these.
    """
    name = f"/proc/self/fd/{file.fileno()}"
    if not os.path.exists(name):
        name = os.path.abspath(file.name)
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        video = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
    finally:
        cv2.utils.logging.setLogLevel(level)
    try:
        if not video.isOpened():
            raise MediaError(f"a damaged {kind} video, or one that can't be decoded here")
        yield video
    finally:
        video.release()


def _ends_after(video: cv2.VideoCapture, frames: int) -> bool:
    """Whether the last of so many frames can be read, and is the last."""
    video.set(cv2.CAP_PROP_POS_FRAMES, frames - 1)
    there = int(video.get(cv2.CAP_PROP_POS_FRAMES)) == frames - 1 and video.grab()
    return there and not video.grab()


def _count(video: cv2.VideoCapture) -> int:
    count = 0
    while video.grab():
        count += 1
    return count
