"""Videos and animated pictures, one frame at a time: counted, chosen, read."""

import io
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from deepfidelity_jax.images import containers
from deepfidelity_jax.images.formats import PICTURES, MediaError, format_of, open_file
from deepfidelity_jax.images.pictures import (
    decode,
    load_pixels,
    open_picture,
    require_fit,
    safe_pillow,
)

# Skipping a frame with grab() decodes it without converting; a seek decodes from the previous key
# frame, up to 250 frames away in common encodings. Seeking is faster from about this mean step on.
SEEK_FROM = 100  # frames

# Pixels are made square if the ratio of their sides is in this range. A smaller ratio comes from
# rounded sizes and distorts nothing visibly; a larger one is an error, or meant to fill the memory.
ODD, ODDEST = 1.02, 4.0

HDR = {16: "PQ", 18: "HLG"}  # transfer functions by ITU-T H.273

FRAME_DURATION = 100.0  # milliseconds, in an animated picture that does not say

# FFmpeg reports damaged files on stderr; what matters is raised as MediaError instead.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET, read at the first capture


@dataclass(frozen=True)
class VideoInfo:
    """How many frames of a video can be read, and their times.

    rate: mean frames per second, so that the video lasts `frames / rate` seconds. constant: whether
    every frame is proven to be where its index and the rate say, so that a seek finds it. note:
    what the user should know; empty if all is well.
    """

    frames: int
    rate: float
    constant: bool = False
    note: str = ""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video: its index, its time in seconds, its pixels (RGB)."""

    index: int
    time: float
    image: UInt8[np.ndarray, "h w 3"]


def video_info(path: str | os.PathLike) -> VideoInfo:
    """Count a video's frames; raises MediaError if none can be read.

    A header may be wrong or give no count, and an edit list may hide packets. Packets are counted
    without decoding. Their number is trusted if it equals the header's or their rate is constant,
    and if the last frame exists and none follows; otherwise the frames are decoded and counted.
    """
    with open_file(path) as file:
        kind = format_of(file, path)
        if kind in PICTURES:
            with safe_pillow():
                animation = open_picture(file, kind)
                try:
                    load_pixels(animation, kind)
                    frames = getattr(animation, "n_frames", 1)
                except MemoryError:
                    raise MediaError(f"a {kind} file too large for the memory here") from None
                except Exception:
                    raise MediaError(f"truncated or damaged {kind}") from None
            durations = list(_show_frames(animation, kind)) or [FRAME_DURATION]
            return VideoInfo(frames, 1000 * len(durations) / sum(durations))
        with _captured(file, kind) as video:
            header = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
            rate = float(video.get(cv2.CAP_PROP_FPS))
            rate = rate if math.isfinite(rate) and rate > 0 else 25.0
            codec = int(video.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
            times = _times(video) if video.set(cv2.CAP_PROP_FORMAT, -1) else []
        trusted = len(times) == header or _is_even(times, rate)
        with _captured(file, kind) as video:
            trusted = trusted and bool(times) and _ends_after(video, len(times))
        if not trusted:
            with _captured(file, kind) as video:
                times = _times(video)
        note = _describe_odd(file, kind, len(times), header)
    if not times:
        name = codec.decode("ascii", "replace") if codec.isalnum() else "unknown"
        raise MediaError(
            f"a {kind} video (codec {name}) without a frame that can be decoded here: "
            "convert it to H.264"
        )
    even = _is_even(times, rate)
    if not even and max(times) > min(times):
        rate = 1000 * (len(times) - 1) / (max(times) - min(times))
    # A seek in an MPEG stream misses by a frame or two, because it has no index.
    return VideoInfo(len(times), rate, even and trusted and kind != "MPEG", note)


def _describe_odd(file: io.BufferedIOBase, kind: str, frames: int, header: int) -> str:
    """Notes on missing frames, further video streams and HDR."""
    notes = []
    # A header alone proves nothing: it may be wrong, and an edit list hides frames.
    if frames < header and containers.is_cut(file, kind):
        notes.append(f"the file is cut off: {frames} of at least {header} frames")
    tracks = containers.list_tracks(file, kind)
    films = [track for track in tracks if track.content == containers.VIDEO]
    if len(films) > 1:
        notes.append(f"the first of {len(films)} video streams")
    if films and films[0].transfer in HDR:
        notes.append(f"HDR ({HDR[films[0].transfer]}), read without tone mapping")
    return ", ".join(notes)


def spread_indices(frames: int, count: int) -> list[int]:
    """Spread `count` indices evenly over `frames`, each in the middle of its share; all if fewer.

    i -> floor((i + 1/2) * frames / count)
    """
    count = min(frames, count)
    return [(2 * i + 1) * frames // (2 * count) for i in range(count)]


def read_frames(path: str | os.PathLike, count: int) -> Iterator[Frame]:
    """Read `count` frames spread evenly over the whole video, all if it has fewer.

    Frames that cannot be decoded are left out. Raises MediaError as `video_info` does.
    """
    info = video_info(path)
    yield from read_frames_at(path, spread_indices(info.frames, count), info.constant)


def read_frames_at(
    path: str | os.PathLike, indices: Sequence[int], constant: bool = False
) -> Iterator[Frame]:
    """Read the frames at rising indices; frames that cannot be decoded are left out.

    Frames are upright with square pixels, however they are stored. If the rate is `constant`, as
    `video_info` says, and the mean step is SEEK_FROM frames or more, it seeks; otherwise it skips
    the frames in between. Both give the same frames.
    """
    seeks = constant and bool(indices) and indices[-1] + 1 >= SEEK_FROM * len(indices)
    with open_file(path) as file:
        kind = format_of(file, path)
        if kind in PICTURES:
            yield from _read_animation(file, kind, indices)
            return
        with _captured(file, kind) as video:
            rate, at = video.get(cv2.CAP_PROP_FPS), 0
            shape = _pixel_shape(video)
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
                    if shape != 1:
                        longer = max(1, shape), max(1, 1 / shape)  # enlarge, to keep all detail
                        image = cv2.resize(image, None, fx=longer[0], fy=longer[1])
                    yield Frame(index, float(time), cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _read_animation(file: io.BufferedIOBase, kind: str, indices: Sequence[int]) -> Iterator[Frame]:
    """Frames of an animated picture, each drawn over the ones before it."""
    with safe_pillow():
        image = open_picture(file, kind)
    milliseconds = 0.0
    stop = max(indices, default=-1) + 1
    for index, duration in enumerate(itertools.islice(_show_frames(image, kind), stop)):
        if index in indices:
            try:
                with safe_pillow():
                    pixels = decode(image, kind)
            except Exception:
                return
            yield Frame(index, milliseconds / 1000, pixels)
        milliseconds += duration


def _show_frames(image: Image.Image, kind: str) -> Iterator[float]:
    """Load each frame of an animated picture in turn; yields its duration in milliseconds."""
    for index in itertools.count():
        try:
            with safe_pillow():
                image.seek(index)
                load_pixels(image, kind)  # some formats give the duration only after this
        except Exception:  # the end, or arbitrary bytes; later frames depend on this one
            return
        yield float(image.info.get("duration") or FRAME_DURATION)


@contextmanager
def _captured(file: io.BufferedIOBase, kind: str) -> Iterator[cv2.VideoCapture]:
    """A video opened by OpenCV's FFmpeg. MediaError if that is not possible, or it is too large.

    FFmpeg interprets patterns, protocols and formats in file names, so it gets the open file by its
    descriptor if the system has names for descriptors.
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
            raise MediaError(
                f"a {kind} file that is damaged, has no video, or can't be decoded here"
            )
        shape = _pixel_shape(video)
        width = video.get(cv2.CAP_PROP_FRAME_WIDTH) * max(1, shape)
        height = video.get(cv2.CAP_PROP_FRAME_HEIGHT) * max(1, 1 / shape)
        require_fit(round(width), round(height))
        yield video
    finally:
        video.release()


def _pixel_shape(video: cv2.VideoCapture) -> float:
    """Width of a pixel over its height in the upright frame; 1 if frames are not to be resized."""
    wide, high = video.get(cv2.CAP_PROP_SAR_NUM), video.get(cv2.CAP_PROP_SAR_DEN)
    if min(wide, high) <= 0 or not ODD <= max(wide, high) / min(wide, high) <= ODDEST:
        return 1.0
    return high / wide if video.get(cv2.CAP_PROP_ORIENTATION_META) % 180 else wide / high


def _ends_after(video: cv2.VideoCapture, frames: int) -> bool:
    """Whether the last of this many frames can be read and none follows."""
    video.set(cv2.CAP_PROP_POS_FRAMES, frames - 1)
    there = int(video.get(cv2.CAP_PROP_POS_FRAMES)) == frames - 1 and video.grab()
    return there and not video.grab()


def _times(video: cv2.VideoCapture) -> list[float]:
    """Milliseconds of each frame, or packet, that follows."""
    times = []
    while video.grab():
        times.append(video.get(cv2.CAP_PROP_POS_MSEC))
    return times


def _is_even(times: Sequence[float], rate: float) -> bool:
    """Whether every time is within half a frame of its time at a constant rate."""
    frames = np.sort(times) * rate / 1000  # packets come in the order of decoding
    return bool((np.abs(frames - frames[:1] - np.arange(len(frames))) <= 0.5).all())
