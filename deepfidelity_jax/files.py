"""Files written whole or not at all, for one process alone, and their digests."""

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from deepfidelity_jax.errors import InputError


@contextlib.contextmanager
def written_whole(path: str | os.PathLike, mode: str = "wb", **options) -> Iterator[IO]:
    """Open a file that takes the place of `path` only when all of it is on disk.

    `mode` and `options` are those of `open`. Missing folders are made. An error inside leaves
    `path` as it was, and nothing beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open(mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def expand(name: str, path: str) -> str:
    """A path with `~` and `~user` spelt out. `name`: of the option, for an InputError."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise InputError(
            f"{name} is {path}: there is no such user; a file of that name is ./{path}"
        )
    return expanded


def require_writable(path: str | os.PathLike, name: str) -> None:
    """InputError, in which the path is called `name`, where `written_whole` could not write it."""
    place = next(parent for parent in Path(path).absolute().parents if parent.exists())
    for where, wrong, why in (
        (path, Path(path).is_dir(), "is a folder"),
        (place, not place.is_dir(), "is no folder"),
        (place, not os.access(place, os.W_OK), "may not be written to"),
    ):
        if wrong:
            raise InputError(f"{name}={path} cannot be written: {where} {why}")


def remove_partial(folder: Path) -> None:
    """Remove what `written_whole` had begun in a folder when its process was killed."""
    for path in folder.rglob(".*.*"):
        if re.fullmatch(r"\..+\.\d+", path.name) and path.is_file():
            path.unlink(missing_ok=True)


def lock(file: IO | int) -> bool:
    """Whether an open file is now this process's alone, as long as it lives and keeps it open.

    True as well on a file system that knows no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has none
        return True
    return True


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
