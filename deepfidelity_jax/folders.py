"""A folder wherever it lies: on disk, in a bucket, in an archive."""

import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import fsspec

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.progress import say


def fetch(place: str, mark: str, into: Path) -> Path:
    """The folder at `place` that holds `mark`, on this machine.

    A folder on disk is taken as it lies. Of a bucket or an archive there is a copy in `into`, and
    the folder may lie deeper in it.

    Args:
      place: a path or a URL (`gs://bucket/runs/one`), of a folder or of a .zip, .tar or .tar.gz.
      mark: a file or folder that tells it, such as `config.json`.
      into: an empty folder for copies.

    Raises:
      InputError: there is nothing, it cannot be read, or it holds no such folder.
    """
    path = _download(place, into / "downloaded") if "://" in place else Path(place).expanduser()
    if path.is_file():
        path = _unpack(path, into / "unpacked")
    elif not path.is_dir():
        raise InputError(f"{place}: no such file or folder")
    found = sorted(path.rglob(mark), key=lambda inner: len(inner.parts))
    if not found:
        raise InputError(f"{place} holds no {mark}, at any depth")
    return found[0].parent


def _download(url: str, into: Path) -> Path:
    try:
        files, root = fsspec.core.url_to_fs(url)
        found = files.find(root)  # of a file: itself
        say(f"copying {len(found)} files from {url}")
        for name in found:
            inner = PurePosixPath(name).relative_to(root)
            target = into / inner if name != root else into / PurePosixPath(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(name, str(target))
    # Whatever a client of a bucket may raise: no access, no network, no such client.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{url} cannot be read: {reason}") from error
    if not found:
        raise InputError(f"{url}: no such file or folder")
    return target if found == [root] else into


def _unpack(path: Path, into: Path) -> Path:
    # Nothing outside of `into`; a .zip is unpacked so anyway, and takes no such option.
    safe = {} if path.suffix == ".zip" else {"filter": "data"}
    try:
        shutil.unpack_archive(path, into, **safe)
    except (shutil.ReadError, tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise InputError(f"{path} is no .zip, .tar or .tar.gz that can be read: {error}") from None
    return into
