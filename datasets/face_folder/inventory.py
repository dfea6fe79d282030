"""What is known of files that were read before, so that none is read through again."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deepfidelity_jax import hosts
from deepfidelity_jax.files import digest, written_whole
from deepfidelity_jax.hosts import count_cores
from deepfidelity_jax.images import formats, media
from deepfidelity_jax.progress import Progress

# A file that was changed less than this ago may change again without its times telling.
SETTLED = 2_000_000_000  # nanoseconds


class Inventory:
    """The kind and the SHA-256 of files, by their paths, sizes, times and inodes.

    Kept in the file `place` from run to run; without a place, not at all.
    """

    def __init__(self, place: Path | None = None):
        self.place, self._known, self._changed = place, {}, False
        if place and place.is_file():
            # A damaged one is only slow.
            with contextlib.suppress(ValueError, OSError):
                self._known = dict(json.loads(place.read_text(encoding="utf-8")))

    def kind(self, path: Path) -> str:
        """`image` or `video`; MediaError as `media.identify` raises it."""
        known = self._find(path)
        return known["kind"] if known else media.identify(path)

    def digests(self, kinds: dict[Path, str]) -> Iterator[tuple[Path, str | formats.MediaError]]:
        """SHA-256 of each file, by path and kind, in order; for what cannot be read, why."""
        known = {path: found["digest"] for path in kinds if (found := self._find(path))}
        progress = Progress(len(kinds), len(known), "files", did="read through")
        with ThreadPoolExecutor(count_cores()) as pool:
            try:
                todo = [path for path in kinds if path not in known]
                for path, (stamp, found) in zip(todo, pool.map(_read, todo), strict=True):
                    known[path] = found
                    if stamp and kinds[path]:
                        entry = {"stamp": stamp, "kind": kinds[path], "digest": found}
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
        """Keep what is known, where anything is new; records may be another's, and read only."""
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
    """Stamp and digest of a file; no stamp where it may yet change unseen."""
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
    # The time of the last change of all, which nobody sets back, beside that of the content.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
