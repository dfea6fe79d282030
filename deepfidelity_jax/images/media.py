"""The files below a folder, and whether each is a photograph or a video."""

import io
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.images.formats import (
    VIDEOS,
    describe_special,
    explain,
    format_of,
    open_file,
)
from deepfidelity_jax.images.pictures import open_picture, safe_pillow

ANIMATED = ("AVIF", "GIF", "PNG", "WEBP")  # picture formats that may hold a clip


@dataclass(frozen=True)
class Listing:
    """What is below a folder: `files`, sorted, and why each other path was left out."""

    files: list[Path]
    left_out: dict[Path, str]


def list_files(folder: str | os.PathLike) -> Listing:
    """Every file below a folder, sorted; none is opened.

    Links to folders are followed. A folder that is reached twice is listed once: by its own path if
    that lies below `folder`, else by the first link. Hidden and special files, dangling links and
    folders that cannot be read are left out. Raises InputError if there is no such folder.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: not a folder; give one that holds photographs or videos")
    files: list[Path] = []
    left_out: dict[Path, str] = {}
    listed: dict[tuple[int, int], Path] = {}
    folders, links = deque([Path(folder)]), deque()
    while folders or links:
        directory = folders.popleft() if folders else links.popleft()
        try:
            status = directory.stat()
            first = listed.setdefault((status.st_dev, status.st_ino), directory)
            if first is not directory:
                left_out[directory] = f"a link to {first}, which is listed"
                continue
            with os.scandir(directory) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if directory == Path(folder):
                raise InputError(f"{folder}: {explain(error)}") from None
            left_out[directory] = explain(error)
            continue
        for entry in inside:
            path = directory / entry.name
            try:
                if entry.name.startswith("."):
                    left_out[path] = "hidden"
                elif entry.is_file():
                    files.append(path)
                elif entry.is_dir():
                    (links if entry.is_symlink() else folders).append(path)
                else:
                    left_out[path] = describe_special(os.stat(path).st_mode)
            except FileNotFoundError:
                left_out[path] = "a link to nothing"
            except OSError as error:
                left_out[path] = explain(error)
    return Listing(sorted(files), left_out)


def identify(path: str | os.PathLike) -> Literal["image", "video"]:
    """Whether a file is an image or a video, by its content; an animated picture is a video.

    Raises MediaError and NotMedia as `formats.format_of` does.
    """
    with open_file(path) as file:
        kind = format_of(file, path)
        return "video" if kind in VIDEOS or _is_animated(file, kind) else "image"


def _is_animated(file: io.BufferedIOBase, kind: str) -> bool:
    if kind not in ANIMATED:
        return False
    try:
        with safe_pillow():
            return bool(getattr(open_picture(file, kind), "is_animated", False))
    except Exception:
        return False  # the reader will report what is wrong
    finally:
        file.seek(0)
