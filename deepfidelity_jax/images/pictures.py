"""Photographs: any file decoded safely to RGB, and the one JPEG encoder.

`read_image` is for files of unknown origin. `encode_image` and `decode_image` are for our own
crops: all crops that are recorded, trained on or scored go through them.
"""

import base64
import io
import itertools
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

from deepfidelity_jax.images.formats import (
    RAW,
    VIDEOS,
    MediaError,
    format_of,
    open_file,
    unreadable,
)

MAX_PIXELS = 178_000_000  # half a gigabyte of RGB; also Pillow's own limit
HUNGRY = {"JPEG2000": 4}  # formats whose decoders need this many times as much memory
MIN_SIDE = 16  # pixels
STRIP = 256  # rows converted at once
# Bits that the grey in an integer type may have. A TIFF has no type for what many cameras give.
DEPTHS = (8, 10, 12, 14, 16)
ORIENTATION = 0x0112  # an EXIF tag
UPRIGHT = {  # what turns a picture upright, by the value of that tag
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PROFILED = ("RGB", "CMYK", "L")  # modes of Pillow in which a colour profile is applied
# Some camera RAW files are TIFF files that begin with a thumbnail.
DNG_VERSION, SUBFILE, THUMBNAIL = 50706, 254, 1

# Pillow's warnings and its limit on pixels apply to the whole process.
_pillow_lock = threading.Lock()

# Decoders log what is wrong with a damaged file; it is raised as MediaError instead.
logging.getLogger("PIL").setLevel(logging.CRITICAL)


def read_image(
    path: str | os.PathLike | io.BufferedIOBase, notes: list[str] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Read a photograph, or an open file of one, as upright RGB, whatever its format and mode.

    Colours are sRGB, by the file's colour profile if it has one; a damaged profile is ignored.
    Transparent parts become white. Grey in an integer type is taken to be as deep as its brightest
    pixel needs: 8 or 16 bits, in a TIFF any of DEPTHS. Harmless defects, such as damaged metadata,
    are added to `notes`, and that only the first of several pages was read. Raises MediaError for a
    file that is not an image or is damaged, for a side below MIN_SIDE and for more than MAX_PIXELS;
    the size is taken from the header, before memory is allocated.
    """
    if not isinstance(path, (str, os.PathLike)):
        return _read_image(path, "", notes)
    with open_file(path) as file:
        return _read_image(file, path, notes)


def _read_image(
    file: io.BufferedIOBase, name: str | os.PathLike, notes: list[str] | None
) -> UInt8[np.ndarray, "h w 3"]:
    kind = format_of(file, name)
    if kind in VIDEOS:
        raise MediaError(f"a video ({kind}), not a photograph")
    with safe_pillow(notes):
        picture = open_picture(file, kind)
        pixels = decode(picture, kind)
        if kind == "TIFF" and notes is not None:
            with suppress(Exception):  # a damaged page that is not read does no harm
                if (pages := getattr(picture, "n_frames", 1)) > 1:
                    notes.append(f"the first of {pages} pages")
        return pixels


def resize(
    image: UInt8[np.ndarray, "h w 3"], width: int, height: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Shrink by area averaging, or enlarge by bicubic interpolation, as the shorter sides tell."""
    shrinks = min(image.shape[:2]) >= min(width, height)  # averaging would enlarge in blocks
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=interpolation)


# ------------------------------------------------------------------ the JPEG encoder


def encode_image(
    image: UInt8[np.ndarray, "h w 3"], quality: int = 95, *, halved: bool = False
) -> bytes:
    """Encode a picture as JPEG of a quality in 1..100.

    Colour is kept at full resolution (4:4:4), or with `halved` at half of it (4:2:0), as most
    cameras and websites store it.
    """
    factor = "420" if halved else "444"
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
    options.append(getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{factor}"))
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done
    return encoded.tobytes()


def recompress(image: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    """The picture after JPEG as most cameras and websites store it (4:2:0)."""
    return decode_image(encode_image(image, quality, halved=True))


def decode_image(encoded: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decode what `encode_image` encoded; fast, but not for untrusted files. Raises MediaError."""
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR) if encoded else None
    if image is None:
        raise MediaError("not a photograph")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def to_data_uri(encoded: bytes) -> str:
    """A JPEG or PNG as a data URI for a page."""
    kind = "png" if encoded.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


# ------------------------------------------------------------------ Pillow


@contextmanager
def safe_pillow(notes: list[str] | None = None) -> Iterator[None]:
    """Use Pillow in one thread at a time, with warnings as notes and our limit on pixels."""
    with _pillow_lock, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # where it warns; it raises at twice as many
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    for warning in caught:
        if Path(warning.filename).parent.name not in ("PIL", "pillow_heif"):  # from another thread
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        elif notes is not None and warning.category is not Image.DecompressionBombWarning:
            note = " ".join(str(warning.message).split())
            if note not in notes:
                notes.append(note)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what a C library, such as libtiff, writes straight to the process's stderr."""
    if sys.stderr is None:  # the process was started without it, and 2 may be any file
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


def open_picture(file: io.BufferedIOBase, kind: str) -> Image.Image:
    """Parse the header and check the size; inside `safe_pillow`. Raises MediaError."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # checked here, with our message
    raw = False
    try:
        image = Image.open(file, formats=(kind,))
        if kind == "TIFF":  # tags are parsed on access
            raw = DNG_VERSION in image.tag_v2 or image.tag_v2.get(SUBFILE) == THUMBNAIL
    except Exception as error:  # on arbitrary bytes parsers may raise anything
        raise MediaError(f"truncated or damaged {kind}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if raw:
        raise unreadable(RAW)
    width, height = image.size
    require_fit(width, height, HUNGRY.get(kind, 1))
    if min(width, height) < MIN_SIDE:
        raise MediaError(f"{width}x{height} pixels, fewer than {MIN_SIDE} on a side")
    return image


def require_fit(width: int, height: int, hunger: int = 1) -> None:
    """MediaError for a picture of more than MAX_PIXELS / `hunger` pixels."""
    most = MAX_PIXELS // hunger
    if width * height > most:
        raise MediaError(f"{width}x{height} pixels, more than {most // 10**6} million")


def load_pixels(image: Image.Image, kind: str) -> None:
    """Decode an opened picture in place; inside `safe_pillow`."""
    with _silent_stderr() if kind == "TIFF" else nullcontext():
        image.load()


def decode(image: Image.Image, kind: str) -> UInt8[np.ndarray, "h w 3"]:
    """Decode an opened picture to upright RGB; inside `safe_pillow`. Raises MediaError."""
    try:
        return _to_rgb(image, kind)
    except MemoryError:
        width, height = image.size
        raise MediaError(f"{width}x{height} pixels, too many for the memory here") from None


def _to_rgb(image: Image.Image, kind: str) -> UInt8[np.ndarray, "h w 3"]:
    try:
        load_pixels(image, kind)
    except MemoryError:
        raise
    except Exception as error:
        cut = "truncated" in str(error) or isinstance(error, EOFError)
        raise MediaError(f"{'truncated' if cut else 'damaged'} {kind}") from error
    profile = image.info.get("icc_profile")
    with suppress(Exception):  # a damaged EXIF block must not make an intact picture unreadable
        # Not `ImageOps.exif_transpose`, which fails at any other tag that it cannot write again.
        if (orientation := image.getexif().get(ORIENTATION)) in UPRIGHT:
            image = image.transpose(UPRIGHT[orientation])
    if image.mode.startswith("I"):
        deep = np.asarray(image)
        top = int(deep.max())
        if deep.min() < 0 or top > 65535:
            raise MediaError("pixels of more than 16 bits")
        depths = DEPTHS if kind == "TIFF" else (8, 16)
        bits = next(depth for depth in depths if top < 1 << depth)
        pixels = np.empty((*deep.shape, 3), np.uint8)
        for rows in range(0, len(deep), STRIP):
            # Take the highest 8 bits, as Pillow does for RGB48.
            pixels[rows : rows + STRIP] = (deep[rows : rows + STRIP] >> bits - 8)[..., None]
        return pixels
    if image.mode == "F":
        raise MediaError("floating-point pixels")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = image.mode if image.mode in PROFILED else "RGB"
    to_srgb = None
    with suppress(Exception):  # a damaged profile, or one for other colours than the picture's
        to_srgb = _to_srgb(profile, mode)
    # In strips: Pillow passes pixels as bytes, and all at once would double the memory.
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    try:
        for top in range(0, height, STRIP):
            bottom = min(top + STRIP, height)
            strip = image.crop((0, top, width, bottom))
            if to_srgb:
                strip = ImageCms.applyTransform(strip.convert(mode), to_srgb)
            pixels[top:bottom] = np.asarray(strip.convert("RGB"))
    except ValueError:
        raise MediaError(f"pixels of mode {image.mode}") from None
    return pixels


def _to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from the colours of a profile to sRGB; None if it would change hardly any."""
    if not profile:
        return None
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    colours = list(itertools.product(range(0, 256, 51), repeat=len(mode)))
    sample = Image.frombytes(mode, (len(colours), 1), bytes(itertools.chain(*colours)))
    changed = np.asarray(ImageCms.applyTransform(sample, transform)).astype(int)
    return transform if np.abs(changed - np.asarray(sample.convert("RGB"))).max() > 2 else None
