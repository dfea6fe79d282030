"""Photographs and videos from anywhere, read safely; our own crops, coded and decoded."""

import io
import math
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from deepfidelity_jax.errors import InputError

# The decoders of damaged videos talk on stderr; what matters is raised as MediaError instead.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET, read at the first capture

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
IMAGE_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
MARKS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WEBP"}  # first bytes of a file
MAX_PIXELS = 178_000_000  # half a gigabyte of RGB; also where Pillow by itself refuses
MIN_SIDE = 16

# Two ways to a frame, measured on 10 s clips of 1920x1080 H.264 at 30 frames/s, 2 cores: stepping
# over a frame with grab() takes 3-4 ms (it decodes without converting), a seek 300-370 ms, for it
# decodes from the key frame before (up to 250 frames away in common encodings). 32 of 300 frames
# took 1.1 s stepping and 11.5 s seeking. Seeking pays from a step of about 100 frames on.
SEEK_FROM = 100

_pillow_limit = threading.Lock()


class MediaError(ValueError):
    """A file cannot be read as an image or a video; the message is the reason, in a few words."""


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


def is_image(path: str | os.PathLike) -> bool:
    """Whether the suffix is an image's."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def is_video(path: str | os.PathLike) -> bool:
    """Whether the suffix is a video's."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def list_media(folder: str | os.PathLike) -> list[Path]:
    """All images and videos under a folder, sorted; hidden files and folders are left out.

    Links to folders are followed, each folder entered once. Raises InputError if there is no
    such folder.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: not a folder; give one that holds photographs or videos")
    found, entered = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        inside = os.path.realpath(parent)
        if inside in entered:
            folders.clear()
            continue
        entered.add(inside)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if is_image(path) or is_video(path))


def read_image(path: str | os.PathLike | io.BufferedIOBase) -> UInt8[np.ndarray, "h w 3"]:
    """Read a photograph, or an open file of one, as RGB, upright, whatever its format and mode.

    Transparent parts become white. Raises MediaError for what is no image, is damaged, is shorter
    than MIN_SIDE on a side, or has more than MAX_PIXELS; the size is judged by the header, before
    any memory is taken.
    """
    try:
        if not isinstance(path, (str, os.PathLike)):
            return _decode(_open(path))
        with open(path, "rb") as file:
            return _decode(_open(file))
    except OSError as error:
        raise MediaError((error.strerror or str(error)).lower()) from None


def _open(file) -> Image.Image:
    """Parse the header only. The bound is ours, so Pillow neither warns nor raises its own."""
    start = file.read(8)
    if not start:
        raise MediaError("empty file")
    file.seek(0)
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file, formats=IMAGE_FORMATS)
        except Exception as error:  # parsers meet arbitrary bytes: any exception is their verdict
            kind = next((kind for mark, kind in MARKS.items() if start.startswith(mark)), None)
            reason = f"truncated or damaged {kind}" if kind else "not an image"
            raise MediaError(reason) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise MediaError(f"{width}x{height} pixels, more than {MAX_PIXELS // 10**6} million")
    if min(width, height) < MIN_SIDE:
        raise MediaError(f"{width}x{height} pixels, fewer than {MIN_SIDE} on a side")
    return image


def _decode(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    try:
        image.load()
    except Exception as error:
        cut = "truncated" in str(error) or isinstance(error, EOFError)
        kind = "JPEG" if image.format == "MPO" else image.format
        raise MediaError(f"{'truncated' if cut else 'damaged'} {kind}") from error
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block is no reason to lose an intact picture
        image = image.copy()
    if image.mode.startswith("I"):  # 16 bits; the high byte, as Pillow itself takes from RGB48
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65535:
            raise MediaError("pixels of more than 16 bits")
        return np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise MediaError("floating-point pixels")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    try:
        return np.array(image.convert("RGB"))
    except ValueError:
        raise MediaError(f"pixels of kind {image.mode}") from None


def encode_image(image: UInt8[np.ndarray, "h w 3"], quality: int = 95) -> bytes:
    """Code a crop as JPEG of a quality in 1 ... 100, without subsampling its colour (4:4:4)."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, coded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done
    return coded.tobytes()


def decode_image(coded: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decode what `encode_image` coded, fast: for records of our own. Raises MediaError."""
    image = cv2.imdecode(np.frombuffer(coded, np.uint8), cv2.IMREAD_COLOR) if coded else None
    if image is None:
        raise MediaError("not an image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def video_info(path: str | os.PathLike) -> VideoInfo:
    """Count a video's frames; raises MediaError where there is none to read.

    A header may lie or be silent, so it is trusted only when as many packets follow it (counted
    without decoding, 20 ms for 300 frames of 1920x1080); else the frames are decoded and counted.
    """
    with _Capture(path) as video:
        frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = float(video.get(cv2.CAP_PROP_FPS))
    with _Capture(path) as video:
        packed = video.set(cv2.CAP_PROP_FORMAT, -1)
        if not packed or frames != _count(video):
            with _Capture(path) as decoded:
                frames = _count(decoded)
    if frames <= 0:
        raise MediaError("a video without a readable frame")
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
    with _Capture(path) as video:
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


class _Capture:
    """cv2.VideoCapture that raises where it cannot open, and closes."""

    def __init__(self, path: str | os.PathLike):
        if not os.path.isfile(path):
            raise MediaError("no such file")
        if not os.path.getsize(path):
            raise MediaError("empty file")
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self.video = cv2.VideoCapture(os.fspath(path), cv2.CAP_FFMPEG)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not self.video.isOpened():
            raise MediaError("not a video, or a damaged one")

    def __enter__(self) -> cv2.VideoCapture:
        return self.video

    def __exit__(self, *_):
        self.video.release()


def _count(video: cv2.VideoCapture) -> int:
    count = 0
    while video.grab():
        count += 1
    return count
