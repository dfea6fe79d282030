"""Photographs and videos from anywhere, read safely; our own crops, coded and decoded."""

import errno
import io
import logging
import math
import os
import stat
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, features

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.formats import HEAD, NO_MEDIA, PICTURES, UNREADABLE, VIDEOS, tell

# The decoders of damaged files talk on stderr; what matters is raised as MediaError instead.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET, read at the first capture
logging.getLogger("PIL").setLevel(logging.CRITICAL)

ANIMATED = ("AVIF", "GIF", "PNG", "WEBP")  # pictures that may hold a clip
# Names decide nothing but whether a file that is no photograph or video is worth a line.
IMAGE_SUFFIXES = (
    ".arw", ".avif", ".bmp", ".cr2", ".cr3", ".dng", ".gif", ".heic", ".heif", ".hif", ".j2k",
    ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jxl", ".nef", ".orf", ".png", ".psd", ".raf",
    ".rw2", ".svg", ".tif", ".tiff", ".webp",
)  # fmt: skip
VIDEO_SUFFIXES = (
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".ogv", ".webm", ".wmv",
)  # fmt: skip

RAW = "camera RAW"  # some are TIFF files that begin with a thumbnail
DNG_VERSION, SUBFILE, THUMBNAIL = 50706, 254, 1

MAX_PIXELS = 178_000_000  # half a gigabyte of RGB; also where Pillow by itself refuses
HUNGRY = {"JPEG2000": 4}  # formats whose decoders need so many times the memory of others
MIN_SIDE = 16
STRIP = 256  # rows
ORIENTATION = 0x0112  # EXIF's tag

# Two ways to a frame, measured on 10 s clips of 1920x1080 H.264 at 30 frames/s, 2 cores: stepping
# over a frame with grab() takes 3-4 ms (it decodes without converting), a seek 300-370 ms, for it
# decodes from the key frame before (up to 250 frames away in common encodings). 32 of 300 frames
# took 1.1 s stepping and 11.5 s seeking. Seeking pays from a step of about 100 frames on.
SEEK_FROM = 100
LONG = 10_000  # frames: to count packets is to read the whole file

FRAME_DURATION = 100  # milliseconds, of an animated picture that tells none

_one_at_a_time = threading.Lock()


class MediaError(ValueError):
    """A file cannot be read as an image or a video; the message is the reason, in a few words."""


class NotMedia(MediaError):
    """A file that is no photograph or video, and whose name does not claim that it is one."""


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


@dataclass(frozen=True)
class Listing:
    """What lies below a folder: `files` in a stable order, and why the rest was left out."""

    files: list[Path]
    left_out: dict[Path, str]


def list_files(folder: str | os.PathLike) -> Listing:
    """Every file below a folder, sorted; none is opened.

    Links to folders are followed and each folder is listed once, where it really lies if that is
    below `folder`, too. Hidden and special files, dangling links and folders that cannot be read
    are left out. Raises InputError if there is no such folder.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: not a folder; give one that holds photographs or videos")
    files: list[Path] = []
    left_out: dict[Path, str] = {}
    listed: dict[tuple[int, int], Path] = {}
    folders, links = deque([Path(folder)]), deque()
    while folders or links:
        place = folders.popleft() if folders else links.popleft()
        try:
            status = place.stat()
            first = listed.setdefault((status.st_dev, status.st_ino), place)
            if first is not place:
                left_out[place] = f"a link to {first}, which is listed"
                continue
            with os.scandir(place) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if place == Path(folder):
                raise InputError(f"{folder}: {explain(error)}") from None
            left_out[place] = explain(error)
            continue
        for entry in inside:
            path = place / entry.name
            try:
                if entry.name.startswith("."):
                    left_out[path] = "hidden"
                elif entry.is_file():
                    files.append(path)
                elif entry.is_dir():
                    (links if entry.is_symlink() else folders).append(path)
                else:
                    left_out[path] = _special(os.stat(path).st_mode)
            except FileNotFoundError:
                left_out[path] = "a link to nothing"
            except OSError as error:
                left_out[path] = explain(error)
    return Listing(sorted(files), left_out)


def identify(path: str | os.PathLike) -> Literal["image", "video"]:
    """What a file is, by its content and never by its name.

    Animated pictures are videos. Raises MediaError, with the reason, for what is neither or cannot
    be decoded here, and NotMedia where the name does not claim to be a photograph or video.
    """
    with open_file(path) as file:
        kind = _kind(file, path)
        return "video" if kind in VIDEOS or _is_animated(file, kind) else "image"


def open_file(path: str | os.PathLike) -> io.BufferedReader:
    """Open a regular file for reading; MediaError for all else: what is special is not opened."""

    def opener(name, flags):  # should a FIFO take its place meanwhile, this does not wait for ever
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            file = open(path, "rb", opener=opener)  # noqa: SIM115
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode):
                return file
            file.close()
    except FileNotFoundError:
        missing = "a link to nothing" if os.path.islink(path) else "no such file"
        raise MediaError(missing) from None
    except OSError as error:
        raise MediaError(explain(error)) from None
    raise MediaError(_special(mode))


def _special(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device") + ", not a file"


def explain(error: OSError) -> str:
    """Why a file cannot be read, in a few words."""
    if error.errno == errno.ELOOP:
        return "links that lead in a circle"
    return (error.strerror or str(error)).lower()


def _kind(file: io.BufferedIOBase, name: str | os.PathLike = "") -> str:
    """One of PICTURES or VIDEOS that can be decoded here; raises as `identify` does."""
    try:
        head = file.read(HEAD)
        file.seek(0)
    except OSError as error:
        raise MediaError(explain(error)) from None
    kind = tell(head)
    if kind in VIDEOS or (kind in PICTURES and _decodes(kind)):
        return kind
    if kind == "HEIF":
        raise MediaError(
            "a HEIC photograph, which this Pillow can't decode: "
            "pip install pillow-heif, or save it as JPEG"
        )
    if kind in PICTURES:
        raise MediaError(
            f"a {kind} picture, which this Pillow can't decode: pip install -U pillow, "
            "or save it as JPEG"
        )
    if kind in UNREADABLE:
        raise MediaError(f"a {kind} file, which can't be decoded here: {UNREADABLE[kind]}")
    claims = Path(name).suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    reason = NO_MEDIA.get(kind, "not a photograph or video" if head else "empty file")
    raise (MediaError if claims else NotMedia)(reason)


@cache
def _decodes(kind: str) -> bool:
    """Whether the Pillow installed here has the decoder of a format."""
    if kind == "HEIF":
        try:
            import pillow_heif
        except ImportError:
            return False
        pillow_heif.register_heif_opener()
        return True
    feature = {"AVIF": "avif", "JPEG": "jpg", "JPEG2000": "jpg_2000", "WEBP": "webp"}.get(kind)
    if feature is None:
        return True
    with warnings.catch_warnings():  # of a feature that an older Pillow does not know
        warnings.simplefilter("ignore")
        return bool(features.check(feature))


def _is_animated(file: io.BufferedIOBase, kind: str) -> bool:
    if kind not in ANIMATED:
        return False
    try:
        with _pillow():
            return bool(getattr(_open(file, kind), "is_animated", False))
    except Exception:
        return False  # whoever reads it says what is wrong
    finally:
        file.seek(0)


def list_media(folder: str | os.PathLike) -> list[Path]:
    """The files of `list_files` but for those that are NotMedia."""
    found = []
    for path in list_files(folder).files:
        try:
            identify(path)
        except NotMedia:
            continue
        except MediaError:
            pass
        found.append(path)
    return found


def read_image(
    path: str | os.PathLike | io.BufferedIOBase, notes: list[str] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Read a photograph, or an open file of one, as RGB, upright, whatever its format and mode.

    Transparent parts become white. What is odd about it and costs nothing, such as damaged
    metadata, is added to `notes`. Raises MediaError for what is no image, is damaged, is shorter
    than MIN_SIDE on a side, or has more than MAX_PIXELS; the size is judged by the header, before
    any memory is taken.
    """
    if not isinstance(path, (str, os.PathLike)):
        return _read_image(path, "", notes)
    with open_file(path) as file:
        return _read_image(file, path, notes)


def _read_image(
    file: io.BufferedIOBase, name: str | os.PathLike, notes: list[str] | None
) -> UInt8[np.ndarray, "h w 3"]:
    kind = _kind(file, name)
    if kind in VIDEOS:
        raise MediaError(f"a video ({kind}), not a photograph")
    with _pillow(notes):
        return _decode(_open(file, kind), kind)


@contextmanager
def _pillow(notes: list[str] | None = None) -> Iterator[None]:
    """Pillow by our rules: its warnings become notes and its bound on pixels gives way to ours."""
    with _one_at_a_time, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # where it warns; it raises at twice as many
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    for warning in caught:
        if Path(warning.filename).parent.name not in ("PIL", "pillow_heif"):  # another thread's
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        elif notes is not None and warning.category is not Image.DecompressionBombWarning:
            note = " ".join(str(warning.message).split())
            if note not in notes:
                notes.append(note)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what a library writes to the stderr of the process, past Python.

    So does libtiff, and Pillow does not keep it from that.
    """
    if sys.stderr is None:  # the process was begun without, and 2 may be any file
        yield
        return
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _open(file: io.BufferedIOBase, kind: str) -> Image.Image:
    """Parse the header only; inside `_pillow`."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # judged here, in our words
    raw = False
    try:
        image = Image.open(file, formats=(kind,))
        if kind == "TIFF":  # tags are parsed when asked for
            raw = DNG_VERSION in image.tag_v2 or image.tag_v2.get(SUBFILE) == THUMBNAIL
    except Exception as error:  # parsers meet arbitrary bytes: any exception is their verdict
        raise MediaError(f"truncated or damaged {kind}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if raw:
        raise MediaError(f"a camera RAW file, which can't be decoded here: {UNREADABLE[RAW]}")
    width, height = image.size
    most = MAX_PIXELS // HUNGRY.get(kind, 1)
    if width * height > most:
        raise MediaError(f"{width}x{height} pixels, more than {most // 10**6} million")
    if min(width, height) < MIN_SIDE:
        raise MediaError(f"{width}x{height} pixels, fewer than {MIN_SIDE} on a side")
    return image


def _load(image: Image.Image, kind: str) -> None:
    with _silent_stderr() if kind == "TIFF" else nullcontext():
        image.load()


def _decode(image: Image.Image, kind: str) -> UInt8[np.ndarray, "h w 3"]:
    """Pixels of an open picture; inside `_pillow`."""
    try:
        _load(image, kind)
    except Exception as error:
        cut = "truncated" in str(error) or isinstance(error, EOFError)
        raise MediaError(f"{'truncated' if cut else 'damaged'} {kind}") from error
    with suppress(Exception):  # a damaged EXIF block is no reason to lose an intact picture
        if image.getexif().get(ORIENTATION, 1) != 1:  # else it would be copied
            image = ImageOps.exif_transpose(image)
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
    # By strips: Pillow hands over pixels as bytes, and all at once would double the memory.
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    try:
        for top in range(0, height, STRIP):
            bottom = min(top + STRIP, height)
            pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)).convert("RGB"))
    except ValueError:
        raise MediaError(f"pixels of kind {image.mode}") from None
    return pixels


def encode_image(
    image: UInt8[np.ndarray, "h w 3"], quality: int = 95, *, halved: bool = False
) -> bytes:
    """Code a picture as JPEG of a quality in 1 ... 100.

    Its colour keeps all pixels (4:4:4), or with `halved` every other one (4:2:0), as it does in
    most cameras and networks.
    """
    factor = "420" if halved else "444"
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
    options.append(getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{factor}"))
    done, coded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done
    return coded.tobytes()


def recompress(image: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    """A picture after JPEG as most cameras and networks store it."""
    return decode_image(encode_image(image, quality, halved=True))


def decode_image(coded: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decode what `encode_image` coded, fast: for our own, not for files. Raises MediaError."""
    image = cv2.imdecode(np.frombuffer(coded, np.uint8), cv2.IMREAD_COLOR) if coded else None
    if image is None:
        raise MediaError("not a photograph")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def video_info(path: str | os.PathLike) -> VideoInfo:
    """Count a video's frames; raises MediaError where there is none to read.

    A header may lie or be silent, so it is trusted only when as many packets follow it, counted
    without decoding, or in a LONG video when its last frame is there and none follows; else the
    frames are decoded and counted.
    """
    with open_file(path) as file:
        kind = _kind(file, path)
        if kind in PICTURES:
            with _pillow():
                animation = _open(file, kind)
                try:
                    _load(animation, kind)  # some know only then how long a frame lasts
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
        kind = _kind(file, path)
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
    with _pillow():
        image = _open(file, kind)
    milliseconds = 0.0
    for index in range(max(indices, default=-1) + 1):
        try:
            with _pillow():
                image.seek(index)
                _load(image, kind)
                pixels = _decode(image, kind) if index in indices else None
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
