"""Fetch a folder from wherever it is: on disk, in a bucket, in an archive."""

import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import fsspec

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.progress import say


def fetch(place: str, mark: str, into: Path) -> Path:
    """A local copy of the folder at `place` that contains `mark`, at any depth.

    A folder on disk is used in place. A bucket or an archive is copied to `into`.

    Args:
      place: path or URL (`gs://bucket/runs/one`) of a folder, a .zip, a .tar or a .tar.gz.
      mark: a file or folder that identifies the folder, such as `config.json`.
      into: an empty folder for copies.

    Raises:
      InputError: there is nothing at `place`, it cannot be read, or it does not contain `mark`.
    """
    path = _download(place, into / "downloaded") if "://" in place else Path(place).expanduser()
    if path.is_file():
        path = _unpack(path, into / "unpacked")
    elif not path.is_dir():
        raise InputError(f"{place}: no such file or folder")
    matches = sorted(path.rglob(mark), key=lambda inner: len(inner.parts))
    if not matches:
        raise InputError(f"{place} holds no {mark} at any depth")
    return matches[0].parent


def _download(url: str, into: Path) -> Path:
    try:
        files, root = fsspec.core.url_to_fs(url)
        paths = files.find(root)  # for a file, the file itself
        say(f"copying {len(paths)} files from {url}")
        for name in paths:
            inner = PurePosixPath(name).relative_to(root)
            target = into / inner if name != root else into / PurePosixPath(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(name, str(target))
    # A client may raise anything: no access, no network, no such protocol.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{url} cannot be read: {reason}") from error
    if not paths:
        raise InputError(f"{url}: no such file or folder")
    return target if paths == [root] else into


def _unpack(path: Path, into: Path) -> Path:
    # Writes nothing outside `into`. A .zip never does, and takes no such option.
    safe = {} if path.suffix == ".zip" else {"filter": "data"}
    try:
        shutil.unpack_archive(path, into, **safe)
    except (shutil.ReadError, tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise InputError(f"{path} is not a readable .zip, .tar or .tar.gz: {error}") from None
    return into
