"""Fetch a folder from wherever it is: on disk, in a bucket, in an archive."""

import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import fsspec

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.progress import say


def fetch(place: str, mark: str | tuple[str, ...], into: Path) -> Path:
    """A local copy of the folder at `place` that contains `mark`, at the least depth.

    A folder on disk is used in place. A bucket or an archive is copied to `into`.

    Args:
      place: path or URL (`gs://bucket/runs/one`) of a folder, a .zip, a .tar or a .tar.gz.
      mark: a file or folder that identifies the folder, such as `config.json`, in upper or lower
        case; or several, one of which does.
      into: an empty folder for copies.

    Raises:
      InputError: there is nothing at `place`, it cannot be read, it does not contain `mark`, or
        several of its folders do at that depth.
    """
    path = _download(place, into / "downloaded") if "://" in place else Path(place).expanduser()
    if path.is_file():
        path = _unpack(path, into / "unpacked")
    elif not path.is_dir():
        raise InputError(f"{place}: no such file or folder")
    marks = (mark,) if isinstance(mark, str) else mark
    matches = [inner for inner in path.rglob("*") if inner.name.casefold() in marks]
    if not matches:
        raise InputError(f"{place} holds no {' or '.join(marks)} at any depth")
    least = min(len(inner.parts) for inner in matches)
    places = sorted({inner.parent for inner in matches if len(inner.parts) == least})
    if len(places) > 1:
        named = ", ".join(str(inner.relative_to(path)) for inner in places[:3])
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        raise InputError(f"{place} holds {len(places)} such folders, {named}{more}: give one")
    return places[0]


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
