"""Which files to predict, and the people in them. Needs no neural network of the detector.

`list_inputs` lists the files, `find` opens one, `find_all` opens many, in separate processes.
"""

import contextlib
import shutil
import stat
import sys
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces import tracking
from deepfidelity_jax.faces.cropping import Crop
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.files import STDIN
from deepfidelity_jax.images import formats, media, videos
from deepfidelity_jax.processes.machine import count_cores
from deepfidelity_jax.processes.workers import CRASHED, require_workers, submit, worker_pool
from deepfidelity_jax.quality.measure import Measure

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MANY = 64  # number of files from which separate processes are worth starting
NO_PIXELS = np.zeros((0, 0, 3), np.uint8)  # scores are those of the encoded crop
AHEAD = 4  # files per process that are found before they are scored


@dataclass(frozen=True)
class Input:
    """A file to predict.

    Attributes:
      path: the file.
      named: the user named it; otherwise it was found in a folder.
      reason: why it cannot be read, if that is known without opening it.
      shown: its name in the output, if not its path.
    """

    path: Path
    named: bool = False
    reason: str = ""
    shown: str = ""

    @property
    def name(self) -> str:
        """Its name in the output."""
        return self.shown or str(self.path)


def list_inputs(
    given: Sequence[str], stack: contextlib.ExitStack | None = None
) -> tuple[list[Input], int]:
    """The files to predict: named files, and all files below named folders. None is opened.

    Args:
      given: paths; STDIN stands for the content of standard input.
      stack: closes the copy of standard input, which outlives this call.

    Returns:
      Each file once; and how many hidden files were left out.

    Raises:
      InputError: a path does not exist, a folder has no image or video, or standard input is
        closed.
    """
    inputs, hidden = {}, 0
    for name in given:
        if name == STDIN and stack is not None:
            if Path(name) not in inputs:
                inputs[Path(name)] = Input(_copy_stdin(stack), named=True, shown=name)
            continue
        path = Path(name)
        if not path.is_dir():
            if not path.exists() and not path.is_symlink():
                raise InputError(f"--input={name}: no such file or folder")
            inputs[path] = Input(path, named=True)
            continue
        listing = media.list_files(path)
        reasons = {file: why for file, why in listing.left_out.items() if why != "hidden"}
        hidden += len(listing.left_out) - len(reasons)
        if not listing.files and not reasons:
            raise InputError(f"--input={name}: no photograph or video in this folder")
        for file in sorted([*listing.files, *reasons]):
            inputs.setdefault(file, Input(file, reason=reasons.get(file, "")))
    return list(inputs.values()), hidden


def _copy_stdin(stack: contextlib.ExitStack) -> Path:
    if sys.stdin is None:
        raise InputError(f"--input={STDIN}: standard input is closed")
    copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "stdin"
    with copy.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return copy


@dataclass(frozen=True)
class Found:
    """What was found in a file, before the network has scored it.

    Attributes:
      stamp: `stamp` of the file.
      people: their crops, the most prominent person first.
      frames: how many frames were read.
      note: what the user should know, or why there are no people.
      status: the verdict if there are no people.
      qualities: quality of each person's crops; None if only the detector can measure it.
      is_no_media: the file is neither a photograph nor a video.
      video: what is known of a video file; None for a photograph.
    """

    stamp: dict[str, int | str | None]
    people: tuple[tracking.Person, ...] = ()
    frames: int = 0
    note: str = ""
    status: str = "unreadable"
    qualities: list[list[float]] | None = None
    is_no_media: bool = False
    video: videos.VideoInfo | None = None

    @property
    def crops(self) -> list[Crop]:
        """The crops of all people."""
        return [crop for person in self.people for crop in person.crops]


def find(given: Input, settings: FaceSettings, measure: Measure | None = None) -> Found:
    """Find the people in one photograph or video.

    Args:
      given: the file.
      settings: how faces are found and cut.
      measure: the quality measure, where it needs no network.
    """
    path, file_stamp = given.path, stamp(given.path)
    if given.reason:
        return Found(file_stamp, note=given.reason)
    try:
        extraction = tracking.extract(path, settings)
    except (formats.MediaError, OSError) as error:
        return Found(file_stamp, note=str(error), is_no_media=isinstance(error, formats.NotMedia))
    people = tuple(
        tracking.Person(tuple(replace(crop, pixels=NO_PIXELS) for crop in person.crops))
        for person in extraction.people
    )
    qualities = None
    if measure is not None:
        qualities = [
            [measure(crop.image, crop.landmarks) for crop in person.crops] for person in people
        ]
    read, note, video = extraction.frames, extraction.note, extraction.video
    return Found(file_stamp, people, read, note, "no face", qualities, video=video)


def count_workers(files: int) -> int:
    """How many processes `find_all` should use; starting one takes a second.

    Many files get two even on one core, because one would be this process, which a file may crash.
    """
    return max(2, count_cores()) if files >= MANY else 1


def find_all(
    inputs: Sequence[Input], settings: FaceSettings, measure: Measure | None, workers: int
) -> Generator[Found, None, None]:
    """`find` for many files, in order; only the file itself is lost if it crashes its process.

    Raises:
      InputError: worker processes cannot be started.
    """
    if workers == 1:
        yield from (find(given, settings, measure) for given in inputs)
        return
    done = 0
    while done < len(inputs):
        try:
            for found in _in_pool(inputs[done:], settings, measure, workers):
                yield found
                done += 1
        except BrokenProcessPool:
            require_workers()
            # Any file in progress may have crashed the pool. Try each again alone.
            for given in inputs[done : done + AHEAD * workers]:
                try:
                    (found,) = _in_pool([given], settings, measure, 1)
                except BrokenProcessPool:
                    found = Found(stamp(given.path), note=CRASHED)
                yield found
                done += 1


def _in_pool(
    inputs: Sequence[Input], settings: FaceSettings, measure: Measure | None, workers: int
) -> Iterator[Found]:
    waiting: deque[Future] = deque()
    with worker_pool(workers) as pool:
        try:
            for given in inputs:
                waiting.append(submit(pool, find, given, settings, measure))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def stamp(path: Path) -> dict[str, int | str | None]:
    """Size of a file, and when it was last written; None if it is not a regular file."""
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            since = EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
            return {"bytes": status.st_size, "modified": since.isoformat(timespec="microseconds")}
    except (OSError, OverflowError):
        pass
    return {"bytes": None, "modified": None}
