"""Files: written whole or not at all, locked, hashed."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from deepfidelity_jax.errors import InputError

LOCK = ".lock"  # in a folder that one process holds at a time
STDIN = "-"  # given as a path, this is standard input


@contextlib.contextmanager
def written_whole(path: str | os.PathLike, mode: str = "wb", **options) -> Iterator[IO]:
    """Open a file that replaces `path` only once all of it is on disk.

    `mode` and `options` are those of `open`. Missing folders are created. After an error inside the
    block, `path` is unchanged and no partial file is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(_partial(path))
    try:
        with partial.open(mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> str:
    return f".{path.name}.{os.getpid()}.partial"


def expand(name: str, path: str) -> str:
    """A path with `~` and `~user` expanded; InputError, naming the option, for an unknown user."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise InputError(
            f"{name} is {path}: there is no such user; write ./{path} for a file of that name"
        )
    return expanded


def locate(path: str | os.PathLike) -> Path:
    """The absolute path, with `~` expanded and without `..`; links stay as they are."""
    return Path(os.path.abspath(Path(path).expanduser()))


def require_writable(path: str | os.PathLike, name: str) -> None:
    """InputError if `written_whole` could not write `path`. `name`: the flag that gave the path."""
    path = Path(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    why = f"{path} is a folder" if path.is_dir() else ""
    if not folder.is_dir():
        why = f"{folder} is not a folder"
    if not why:
        # Tried, because to root every folder looks writable, and a name may be too long.
        partial = folder / _partial(path)
        try:
            partial.touch()
            partial.unlink()
        except OSError as error:
            why = f"no file can be created in {folder}: {(error.strerror or str(error)).lower()}"
    if why:
        raise InputError(f"{name}={path} cannot be written: {why}")


def remove_partial(folder: Path) -> None:
    """Remove partial files that `written_whole` left in a folder when its process was killed.

    Folders inside that have a lock of their own are left to whoever holds it.
    """
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not Path(root, name, LOCK).exists()]
        for name in names:
            if re.fullmatch(r"\..+\.\d+\.partial", name):
                Path(root, name).unlink(missing_ok=True)


def lock(file: IO | int, *, wait: bool = False) -> bool:
    """Lock an open file; False if another process holds the lock, unless it is to `wait` for that.

    The lock lasts until the file is closed or the process ends. True also on a file system without
    locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        return True
    return True


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*inputs) -> str:
    """A short hash of JSON values."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
