"""Which files are photographs and videos, told by what they hold."""

import io
import logging
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.images.formats import (
    VIDEOS,
    MediaError,
    NotMedia,
    explain,
    kind_of,
    open_file,
    special,
)
from deepfidelity_jax.images.pictures import guarded, open_picture

# The decoders of damaged files talk on stderr; what matters is raised as MediaError instead.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET, read at the first capture
logging.getLogger("PIL").setLevel(logging.CRITICAL)

ANIMATED = ("AVIF", "GIF", "PNG", "WEBP")  # pictures that may hold a clip


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
                    left_out[path] = special(os.stat(path).st_mode)
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
        kind = kind_of(file, path)
        return "video" if kind in VIDEOS or _is_animated(file, kind) else "image"


def _is_animated(file: io.BufferedIOBase, kind: str) -> bool:
    if kind not in ANIMATED:
        return False
    try:
        with guarded():
            return bool(getattr(open_picture(file, kind), "is_animated", False))
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
