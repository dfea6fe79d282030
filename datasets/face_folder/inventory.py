"""Kinds and digests of files from earlier runs, so that no file is read twice."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deepfidelity_jax.files import digest, written_whole
from deepfidelity_jax.images import formats, media
from deepfidelity_jax.processes import hosts
from deepfidelity_jax.processes.machine import count_cores
from deepfidelity_jax.progress import Progress

# A file changed more recently than this may change again without a visible change of its times.
SETTLED = 2_000_000_000  # nanoseconds


class Inventory:
    """The kind and SHA-256 of files, looked up by path, size, times and inode.

    Kept in the file `place` between runs; without a place, only in memory.
    """

    def __init__(self, place: Path | None = None):
        self.place, self._known, self._changed = place, {}, False
        if place and place.is_file():
            # A damaged inventory only costs time.
            with contextlib.suppress(ValueError, OSError):
                self._known = dict(json.loads(place.read_text(encoding="utf-8")))

    def kind(self, path: Path) -> str:
        """`image` or `video`; MediaError for anything else, as in `media.identify`."""
        known = self._find(path)
        return known["kind"] if known else media.identify(path)

    def digests(self, kinds: dict[Path, str]) -> Iterator[tuple[Path, str | formats.MediaError]]:
        """SHA-256 of each file, in the order of `kinds`; for an unreadable file, the error."""
        known = {path: remembered["digest"] for path in kinds if (remembered := self._find(path))}
        progress = Progress(len(kinds), len(known), "files", did="read")
        with ThreadPoolExecutor(count_cores()) as pool:
            try:
                todo = [path for path in kinds if path not in known]
                for path, (stamp, digest_or_error) in zip(todo, pool.map(_read, todo), strict=True):
                    known[path] = digest_or_error
                    if stamp and kinds[path]:
                        entry = {"stamp": stamp, "kind": kinds[path], "digest": digest_or_error}
                        self._known[str(path)], self._changed = entry, True
                    progress.advance()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                self.save()
        progress.end()
        yield from ((path, known[path]) for path in kinds)

    def save(self) -> None:
        """Save new entries if the place is writable; records may belong to someone else."""
        if self.place and self._changed and hosts.is_first():
            with (
                contextlib.suppress(OSError),
                written_whole(self.place, "w", encoding="ascii") as file,
            ):
                json.dump(self._known, file)
            self._changed = False

    def _find(self, path: Path) -> dict | None:
        known = self._known.get(str(path))
        with contextlib.suppress(OSError):
            return known if known and known["stamp"] == _stamp(os.stat(path)) else None
        return None


def _read(path: Path) -> tuple[list[int] | None, str | formats.MediaError]:
    """Stamp and digest of a file; no stamp if it may still change unnoticed."""
    try:
        with formats.open_file(path) as file:
            status = os.fstat(file.fileno())
            settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED
            return _stamp(status) if settled else None, digest(path)
    except formats.MediaError as error:
        return None, error
    except OSError as error:
        return None, formats.MediaError((error.strerror or str(error)).lower())


def _stamp(status: os.stat_result) -> list[int]:
    # ctime as well as mtime, because programs can set mtime back but not ctime.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
