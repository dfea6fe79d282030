"""Sources to staged faces, in parallel and resumable.

The faces of each source are kept in one file until the records are written. A killed preparation
continues with the sources that have no file yet, or one that lacks what could not be read, and ends
with the same records, whatever other sources there are by then. A source that crashes its process
(a decoder on a damaged file, say) is staged without faces and with a note.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import LOCK, lock, written_whole
from deepfidelity_jax.processes.machine import count_cores
from deepfidelity_jax.processes.workers import CRASHED, NEVER_BEGAN, submit, worker_pool
from deepfidelity_jax.progress import Progress
from deepfidelity_jax.records.source import Face, Produced, Source

# Parts that the sources are sent to workers in. Each part brings `produce` along, which may hold a
# list of all files: with a part for every source, that would be quadratic.
PARTS = 1000
FACES_AT_ONCE = 64  # least number of faces given to a measure that runs on batches


def stage(
    sources: Sequence[Source],
    produce: Callable[[Any], Produced],
    folder: Path,
    *,
    unit: str,
    workers: int | None = None,
    beam: str = "",
) -> list[tuple[Source, Produced]]:
    """Produce the faces of every source not yet staged in `folder`, on all cores or on a cluster.

    Args:
      sources: what to turn into faces.
      produce: a picklable function of one source.
      folder: where staged faces are kept.
      unit: what a source is called in the progress line.
      workers: number of processes; None for one per core.
      beam: options of an Apache Beam pipeline to run instead; empty for this machine.

    Returns:
      Each source with its note and its tally, without its faces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    crashed = _forget_failed(sources, folder)
    todo = [source for source in sources if not staged_path(folder, source).exists()]
    # What was begun when an earlier run died may have killed it, and would kill this process.
    crashed |= any(_begun_path(folder, source).exists() for source in todo)
    workers = min(workers or count_cores(), len(todo)) or 1
    progress = Progress(len(sources), len(sources) - len(todo), unit)
    if todo and beam:
        from deepfidelity_jax.records.beam import stage_on_cluster  # needs the extra [beam]

        stage_on_cluster(todo, produce, folder, beam)
        progress.done = len(sources)
    elif (workers == 1 or len(todo) <= 2) and not crashed:
        for source in todo:
            produce_one(produce, source, folder)
            progress.advance()
    else:
        _stage_in_processes(todo, produce, folder, workers, progress)
    progress.end()
    return [(source, _read_staged(folder, source, faces=False)) for source in sources]


def take_over(sources: Sequence[Source], folder: Path) -> None:
    """Move to `folder` what killed preparations of other records have staged of these sources.

    These are the folders of the same name beside other records. One that is under way keeps its.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stems = {staged_path(folder, source).stem for source in sources}
    for other in {*folder.parents[1].glob(f"*/{folder.name}")} - {folder}:
        # It may belong to someone else.
        with contextlib.suppress(OSError), (other.parent / LOCK).open("wb") as file:
            if not lock(file):
                continue
            for path in list(other.iterdir()):
                if path.name.split(".")[0] in stems and not (folder / path.name).exists():
                    path.replace(folder / path.name)
            if not any(other.glob("*.npz")):
                shutil.rmtree(other)


def _forget_failed(sources: Sequence[Source], folder: Path) -> bool:
    """Drop sources that lack faces or frames, to retry them. Returns whether any crashed."""
    crashed = False
    for source in sources:
        path = staged_path(folder, source)
        if not path.exists():
            continue
        with np.load(path, allow_pickle=False) as file:
            note, empty = str(file["note"]), not file["image_sizes"].size
            tally = json.loads(str(file["tally"]))
        if (note and empty) or any(counts.get("unreadable frames") for counts in tally.values()):
            crashed |= note == CRASHED
            path.unlink()
            _quality_path(folder, source).unlink(missing_ok=True)
    return crashed


def _stage_in_processes(todo, produce, folder: Path, workers: int, progress: Progress) -> None:
    """Produce in worker processes; a source that crashes its process gets the note CRASHED.

    InputError if the processes end before they begin with a source.
    """
    while todo:
        try:
            return _in_pool(todo, produce, folder, workers, progress)
        except BrokenProcessPool:
            # Any of the sources in progress may be to blame. Each is tried again alone, and is to
            # blame if its process begins with it and crashes.
            for source in todo:
                path = staged_path(folder, source)
                begun = _begun_path(folder, source)
                if begun.exists() and not path.exists():
                    begun.unlink()
                    try:
                        _in_pool([source], produce, folder, 1, progress)
                    except BrokenProcessPool:
                        if begun.exists():
                            _write_staged(path, Produced([], CRASHED))
        left = [source for source in todo if not staged_path(folder, source).exists()]
        if len(left) == len(todo):
            raise InputError(NEVER_BEGAN)
        todo = left


def _in_pool(todo, produce, folder: Path, workers: int, progress: Progress) -> None:
    size = -(-len(todo) // PARTS)
    with worker_pool(workers) as pool:
        futures = [
            submit(pool, _produce_part, produce, todo[start : start + size], folder)
            for start in range(0, len(todo), size)
        ]
        try:
            for future in as_completed(futures):
                progress.advance(future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def rate(
    sources: Sequence[Source],
    folder: Path,
    measure: Callable[[list[bytes], list[np.ndarray]], np.ndarray],
    *,
    unit: str,
) -> None:
    """Measure the quality of all staged faces, for a measure that runs on batches; resumable.

    Args:
      sources: all of them staged in `folder`.
      folder: of the staged faces; the qualities are kept beside them, one file per source.
      measure: the qualities of many faces, from their encoded images and landmarks.
      unit: what a source is called in the progress line.
    """
    todo = [source for source in sources if not _quality_path(folder, source).exists()]
    progress = Progress(len(sources), len(sources) - len(todo), unit, did="measured")
    waiting: list[tuple[Source, list[Face]]] = []
    for number, source in enumerate(todo, start=1):
        waiting.append((source, _read_staged(folder, source).faces))
        if sum(len(faces) for _, faces in waiting) < FACES_AT_ONCE and number < len(todo):
            continue
        # The same picture, as in a video of a photograph, is measured once.
        landmarks = {face.image: face.landmarks for _, faces in waiting for face in faces}
        values = measure(list(landmarks), list(landmarks.values()))
        qualities = dict(zip(landmarks, values, strict=True))
        for measured, faces in waiting:
            with written_whole(_quality_path(folder, measured)) as file:
                np.save(file, np.array([qualities[face.image] for face in faces], np.float32))
            progress.advance()
        waiting = []
    progress.end()


def staged(sources: Iterable[Source], folder: Path) -> Iterator[Face]:
    """All staged faces, in the order of the sources."""
    for source in sources:
        yield from _read_staged(folder, source).faces


def _produce_part(produce, part: Sequence[Source], folder: Path) -> int:
    """`produce_one` for each source of a part; returns how many there are."""
    for source in part:
        produce_one(produce, source, folder)
    return len(part)


def produce_one(produce: Callable[[Any], Produced], source: Source, folder: Path) -> None:
    """Stage the faces of one source in `folder`, unless they are staged already."""
    path = staged_path(folder, source)
    if path.exists():
        return
    begun = _begun_path(folder, source)
    begun.touch()  # remains only if this process dies
    try:
        _write_staged(path, produce(source))
    finally:
        begun.unlink(missing_ok=True)


def staged_path(folder: Path, source: Source) -> Path:
    """The file of a source's staged faces, named by a hash of every field except its path."""
    fields = repr(sorted((name, value) for name, value in vars(source).items() if name != "path"))
    return folder / f"{sha256(fields.encode()).hexdigest()[:24]}.npz"


def _begun_path(folder: Path, source: Source) -> Path:
    """The file that marks a source as in progress."""
    return staged_path(folder, source).with_suffix(".begun")


def _write_staged(path: Path, produced: Produced) -> None:
    columns = {
        name: np.array([getattr(face, name) for face in produced.faces])
        for name in Face.__dataclass_fields__
        if name != "image"
    }
    # All images in one array of bytes: an array of objects would need pickle.
    images = [face.image for face in produced.faces]
    columns["image_bytes"] = np.frombuffer(b"".join(images), np.uint8)
    columns["image_sizes"] = np.array([len(image) for image in images], np.int64)
    columns["note"] = np.array(produced.note)
    columns["tally"] = np.array(json.dumps(produced.tally))
    with written_whole(path) as file:
        np.savez(file, **columns)


def _read_staged(folder: Path, source: Source, *, faces: bool = True) -> Produced:
    """What was staged; with faces=False only the note and the tally, which are quick to read."""
    with np.load(staged_path(folder, source), allow_pickle=False) as file:
        note, tally = str(file["note"]), json.loads(str(file["tally"]))
        if not faces:
            return Produced([], note, tally)
        columns = {name: file[name] for name in Face.__dataclass_fields__ if name != "image"}
        data, ends = file["image_bytes"].tobytes(), np.cumsum(file["image_sizes"])
    measured = _quality_path(folder, source)
    if measured.exists():
        columns["quality"] = np.load(measured, allow_pickle=False)
    loaded = []
    for row, end in enumerate(ends):
        values = {
            name: value[row] if value.ndim > 1 else value[row].item()
            for name, value in columns.items()
        }
        start = int(ends[row - 1]) if row else 0
        loaded.append(Face(image=data[start : int(end)], **values))
    return Produced(loaded, note, tally)


def _quality_path(folder: Path, source: Source) -> Path:
    return staged_path(folder, source).with_suffix(".quality.npy")
