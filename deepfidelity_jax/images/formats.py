"""What a file is, by its first bytes and never by its name.

`open_file` opens a regular file, `format_of` names its format or raises MediaError with the reason
why it cannot be read here. A decoder only gets files that begin with the mark of its own format.
"""

import errno
import io
import os
import stat
import warnings
from functools import cache
from pathlib import Path

from PIL import features

from deepfidelity_jax.images import containers

PICTURES = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
VIDEOS = ("ASF", "AVI", "FLV", "MP4", "MPEG", "Matroska", "Ogg", "RealMedia")

# Recognised only so that the message can name them and say what to do.
RAW = "camera RAW"
UNREADABLE = {
    RAW: "develop it to JPEG",
    "EPS": "export it as PNG",
    "EXR": "export it as PNG",
    "GIMP": "export it as PNG",
    "ICO": "save it as PNG",
    "JPEG XL": "save it as JPEG",
    "JPEG XR": "save it as JPEG",
    "PPM": "save it as PNG",
    "Photoshop": "export it as PNG",
    "Radiance HDR": "export it as PNG",
    "SVG": "export it as PNG",
}
NO_MEDIA = {
    "PDF": "a PDF document: save its pictures as JPEG or PNG",
    "audio": "an audio file",
    "archive": "an archive: unpack it",
}

# A file that is not a photograph or video is reported only if its name claims that it is.
IMAGE_SUFFIXES = (
    ".arw", ".avif", ".bmp", ".cr2", ".cr3", ".dng", ".gif", ".heic", ".heif", ".hif", ".j2k",
    ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jxl", ".nef", ".orf", ".png", ".psd", ".raf",
    ".rw2", ".svg", ".tif", ".tiff", ".webp",
)  # fmt: skip
VIDEO_SUFFIXES = (
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".ogv", ".webm", ".wmv",
)  # fmt: skip

HEAD = 1024  # bytes read to recognise a format
MARKS = [  # (offset, bytes, format); the first match counts
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (8, b"CR\2\0", RAW),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"II\xbc\1", "JPEG XR"),
    (0, b"IIU\0", RAW),
    (0, b"IIRO", RAW),
    (0, b"IIRS", RAW),
    (0, b"MMOR", RAW),
    (0, b"FUJIFILMCCD-RAW", RAW),
    (0, b"FOVb", RAW),
    (0, b"8BPS", "Photoshop"),
    (0, b"gimp xcf", "GIMP"),
    (0, b"v/1\1", "EXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"%!PS", "EPS"),
    (0, b"\0\0\1\0", "ICO"),
    *((0, b"P%d%c" % (number, end), "PPM") for number in range(1, 8) for end in b"\n \t"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\3\4", "archive"),
    (0, b"\x1f\x8b", "archive"),
    (0, b"7z\xbc\xaf", "archive"),
    (0, b"Rar!", "archive"),
    (257, b"ustar", "archive"),
    (0, b"ID3", "audio"),
    (0, b"fLaC", "audio"),
    (8, b"WAVE", "audio"),
    (8, b"WEBP", "WEBP"),
    (8, b"AVI ", "AVI"),
    (8, b"CDXA", "MPEG"),
    (0, b"\x1aE\xdf\xa3", "Matroska"),
    (0, b"\0\0\1\xba", "MPEG"),
    (0, b"\0\0\1\xb3", "MPEG"),
    (0, b"FLV\1", "FLV"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "ASF"),
    (0, b"OggS", "Ogg"),
    (0, b".RMF", "RealMedia"),
    *((4, box, "MP4") for box in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
]
# Many formats share the ISO container. The brand distinguishes them; without any of these, MP4.
BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIF",
    b"heix": "HEIF",
    b"heim": "HEIF",
    b"heis": "HEIF",
    b"hevc": "HEIF",
    b"hevx": "HEIF",
    b"crx ": RAW,
}
AUDIO_BRANDS = (b"M4A ", b"M4B ")  # only as the first brand: films name them as compatible


class MediaError(ValueError):
    """A file cannot be read as an image or a video; the message is the reason, in a few words."""


class NotMedia(MediaError):
    """A file that is not a photograph or video, and whose name does not claim that it is."""


def open_file(path: str | os.PathLike) -> io.BufferedReader:
    """Open a regular file for reading. Raises MediaError for anything else, without opening it."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            file = open(path, "rb", opener=_opener)  # noqa: SIM115
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode):
                return file
            file.close()
    except FileNotFoundError:
        missing = "a link to nothing" if os.path.islink(path) else "no such file"
        raise MediaError(missing) from None
    except OSError as error:
        raise MediaError(explain(error)) from None
    raise MediaError(describe_special(mode))


def _opener(name, flags):
    # Does not block if a FIFO has replaced the file meanwhile.
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def format_of(file: io.BufferedIOBase, name: str | os.PathLike = "") -> str:
    """The format of an open file, one of PICTURES or VIDEOS; the file is rewound.

    Raises MediaError, with the reason, if it cannot be decoded here, and NotMedia if it is not a
    photograph or video and `name` does not claim that it is.
    """
    try:
        head = file.read(HEAD)
        file.seek(0)
    except OSError as error:
        raise MediaError(explain(error)) from None
    kind = recognise(head)
    if kind in VIDEOS and containers.is_sound(file, kind):
        kind = "audio"
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
        raise unreadable(kind)
    claims = Path(name).suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    reason = NO_MEDIA.get(kind, "not a photograph or video" if head else "empty file")
    raise (MediaError if claims else NotMedia)(reason)


def recognise(head: bytes) -> str:
    """The format of a file that begins with these bytes; empty if unknown."""
    if head[4:8] == b"ftyp":
        size = min(int.from_bytes(head[:4], "big"), len(head))
        if head[8:12] in AUDIO_BRANDS:
            return "audio"
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]
        other = "HEIF" if {b"mif1", b"msf1"} & set(brands) else "MP4"
        return next((BRANDS[brand] for brand in brands if brand in BRANDS), other)
    for offset, mark, kind in MARKS:
        if head.startswith(mark, offset) and (offset != 8 or head[:4] in (b"RIFF", b"II*\0")):
            return kind
    # Two letters are a weak mark, so BMP is confirmed by the size of a known header.
    if head[:2] == b"BM" and head[14:18] in {bytes([size, 0, 0, 0]) for size in range(12, 125)}:
        return "BMP"
    for start, step in ((0, 188), (4, 192)):  # packets of a transport stream
        if head[start : start + 3 * step + 1 : step] == b"G" * 4:
            return "MPEG"
    if b"<svg" in head and head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return "SVG"
    return ""


def unreadable(kind: str) -> MediaError:
    """The error for a format in UNREADABLE, with what the user can do."""
    return MediaError(f"a {kind} file, which can't be decoded here: {UNREADABLE[kind]}")


def describe_special(mode: int) -> str:
    """The kind of a path that is not a regular file, from its `st_mode`."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device") + ", not a file"


def explain(error: OSError) -> str:
    """Why a file cannot be read, in a few words."""
    if error.errno == errno.ELOOP:
        return "links that lead in a circle"
    return (error.strerror or str(error)).lower()


@cache
def _decodes(kind: str) -> bool:
    """Whether the Pillow installed here decodes a format."""
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
    with warnings.catch_warnings():  # an older Pillow warns of a feature that it does not know
        warnings.simplefilter("ignore")
        return bool(features.check(feature))
