"""From what a dataset is made of to faces on disk: in parallel, resumable, nothing lost.

A dataset is a list of sources: a photograph, a video, a rendered clip. `produce` turns one source
into faces; each source's faces are staged in one file, so that a killed preparation goes on where
it stopped and ends with the same records. The builders in datasets/ turn staged faces to records.
"""

import json
import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float32
from ml_collections import ConfigDict

from deepfidelity_jax import media, processes, quality
from deepfidelity_jax.cores import count_cores
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces import FaceSettings
from deepfidelity_jax.fidelity import FidelityScale, fit_scale, outside, scale
from deepfidelity_jax.files import digest, written_whole
from deepfidelity_jax.progress import Progress
from deepfidelity_jax.records import CHECKSUM, LABELS, ORIGINAL, SOURCES, SPLITS, checksum
from deepfidelity_jax.workdir import fingerprint, say


@dataclass(frozen=True)
class Measure:
    """The quality measure a configuration names, as a picklable function of an encoded face.

    name: one of `quality.MEASURES`. scores: for `csv`, quality by path or file name. weights: for
    `ser_fiq`, the path of the ArcFace checkpoint; digest: of that file.
    """

    name: str
    scores: dict[str, float] = field(default_factory=dict)
    weights: str = ""
    digest: str = ""

    @classmethod
    def from_config(cls, own: ConfigDict) -> "Measure":
        """The measure of `config.quality`; InputError for values that cannot be."""
        if own.measure not in quality.MEASURES:
            choices = ", ".join(quality.MEASURES)
            raise InputError(f"config.quality.measure is {own.measure!r}: one of {choices}")
        if own.measure == "csv":
            return cls("csv", scores=quality.read_scores(own.csv))
        if own.measure != "ser_fiq":
            return cls(own.measure)
        if not Path(own.weights).is_file():
            raise InputError(
                f"config.quality.weights is {own.weights!r}, which is no file: ser_fiq needs your "
                "ArcFace checkpoint, an iResNet-50 or -100 of insightface's PyTorch code"
            )
        return cls("ser_fiq", weights=own.weights, digest=digest(own.weights))

    def to_json(self) -> dict[str, str]:
        """Plain values, for metadata and fingerprints: which measure, by what it was given."""
        values = {"measure": self.name, "scores": fingerprint(self.scores)}
        return values | ({"weights": self.digest} if self.weights else {})

    def __call__(self, image: bytes, path: str) -> float:
        """Raw quality of a face; NaN where `csv` has no row for its source.

        NaN for `ser_fiq` too: `rate` measures staged faces, since a network wants many at once.
        """
        if self.name == "ser_fiq":
            return float("nan")
        if self.name == "iso":
            return quality.measure(media.decode_image(image))
        if self.name == "csv":
            return self.scores.get(path, float("nan"))
        return 0.0


@dataclass(frozen=True)
class Recipe:
    """How faces are found, measured and given their fidelity: what a dataset's metadata tells."""

    faces: FaceSettings
    measure: Measure
    fake: tuple[float, float]
    real: tuple[float, float]
    percentile: float
    seed: int

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Recipe":
        """The recipe of a configuration; InputError for values that cannot be."""
        return cls(
            faces=FaceSettings(**config.faces),
            measure=Measure.from_config(config.quality),
            fake=tuple(config.fidelity.fake),
            real=tuple(config.fidelity.real),
            percentile=config.fidelity.percentile,
            seed=config.seed,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for metadata and fingerprints."""
        return {
            "faces": self.faces.to_dict(),
            "quality": self.measure.to_json(),
            "fidelity": {"fake": self.fake, "real": self.real, "percentile": self.percentile},
            "seed": self.seed,
        }


FACES_AT_ONCE = 64  # given to a measure that wants many
EXPECTED = {"videos", "frames"}  # in a tally, beside what went wrong
CRASHED = "the process that read it crashed"
NO_BOX = np.full(4, np.nan, np.float32)
NO_LANDMARKS = np.full((5, 2), np.nan, np.float32)


@dataclass(frozen=True)
class Face:
    """One face as it will be recorded, before its fidelity is known.

    split: the split it belongs to. image: encoded crop. The rest as in `records.features`.
    """

    split: str
    image: bytes
    label: int
    method: str
    video_id: str
    frame: int
    path: str
    quality: float
    known_quality: float = float("nan")
    bbox: Float32[np.ndarray, "4"] = field(default_factory=NO_BOX.copy)
    landmarks: Float32[np.ndarray, "5 2"] = field(default_factory=NO_LANDMARKS.copy)
    origins: str = ""


@dataclass(frozen=True)
class Produced:
    """The faces of one source, and in `note` what kept it from giving (more of) them.

    tally: for each of its videos what was counted, as `{"a/b.mp4": {"frames": 32, ...}}`; see
    `videos.tally`.
    """

    faces: list[Face]
    note: str = ""
    tally: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@runtime_checkable
class Source(Protocol):
    """Anything with a name that stays the same from run to run."""

    @property
    def name(self) -> str:
        """Unique in the dataset."""

    @property
    def split(self) -> str:
        """Where all of its faces go."""


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
      folder: where staged faces are kept until the records are written.
      unit: what a source is called in the progress line.
      workers: processes; None for one per core.
      beam: options of an Apache Beam pipeline that does it; empty: this machine's cores.

    Returns:
      For each source what was noted and tallied: as produced, but without the faces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [source for source in sources if not staged_path(folder, source).exists()]
    workers = min(workers or count_cores(), len(todo)) or 1
    progress = Progress(len(sources), len(sources) - len(todo), unit)
    if todo and beam:
        from deepfidelity_jax import cluster  # its requirements are an extra

        cluster.stage(todo, produce, folder, beam)
        progress.done = len(sources)
    elif workers == 1 or len(todo) <= 2:
        for source in todo:
            produce_one(produce, source, folder)
            progress.advance()
    else:
        _stage_in_processes(todo, produce, folder, workers, progress)
    progress.end()
    return [(source, _read_staged(folder, source, faces=False)) for source in sources]


def _stage_in_processes(todo, produce, folder: Path, workers: int, progress: Progress) -> None:
    """Produce with a process a core; a source that kills its process is noted and left behind."""
    while todo:
        try:
            return _in_pool(todo, produce, folder, workers, progress)
        except BrokenProcessPool:
            # Say, a decoder has crashed on a damaged file. Those in hand are tried again one by
            # one, and whichever does it again is the one.
            for source in todo:
                path = staged_path(folder, source)
                if path.with_suffix(".begun").exists() and not path.exists():
                    try:
                        _in_pool([source], produce, folder, 1, progress)
                    except BrokenProcessPool:
                        _write_staged(path, Produced([], CRASHED))
        todo = [source for source in todo if not staged_path(folder, source).exists()]


def _in_pool(todo, produce, folder: Path, workers: int, progress: Progress) -> None:
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    with ProcessPoolExecutor(workers, context, _begin_worker) as pool:
        # Not while workers start, which they would complain of; they inherit it until they have.
        held_back = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, held_back)
        try:
            futures = [pool.submit(produce_one, produce, source, folder) for source in todo]
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, held_back)
        try:
            for future in as_completed(futures):
                future.result()
                progress.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _begin_worker() -> None:
    """One thread a worker, as there is a worker a core."""
    cv2.setNumThreads(1)
    processes.begin_worker()


def rate(
    sources: Sequence[Source],
    folder: Path,
    measure: Callable[[list[bytes], list[np.ndarray]], np.ndarray],
    *,
    unit: str,
) -> None:
    """Measure the staged faces of every source not yet measured, and keep the qualities by them.

    Args:
      sources: all of them staged in `folder`.
      folder: where the qualities are kept as well, a file a source.
      measure: quality of many faces, by their encoded images and landmarks.
      unit: what a source is called in the progress line.
    """
    todo = [source for source in sources if not _quality_path(folder, source).exists()]
    progress = Progress(len(sources), len(sources) - len(todo), unit, did="measured")
    waiting: list[tuple[Source, list[Face]]] = []
    for number, source in enumerate(todo, start=1):
        waiting.append((source, _read_staged(folder, source).faces))
        if sum(len(own) for _, own in waiting) < FACES_AT_ONCE and number < len(todo):
            continue
        # A face may stand in two splits: clean ones that training forges are training faces, too.
        landmarks = {face.image: face.landmarks for _, own in waiting for face in own}
        found = measure(list(landmarks), list(landmarks.values()))
        qualities = dict(zip(landmarks, found, strict=True))
        for measured, own in waiting:
            with written_whole(_quality_path(folder, measured)) as file:
                np.save(file, np.array([qualities[face.image] for face in own], np.float32))
            progress.advance()
        waiting = []
    progress.end()


def staged(sources: Iterable[Source], folder: Path) -> Iterator[Face]:
    """All staged faces, in the order of their sources."""
    for source in sources:
        yield from _read_staged(folder, source).faces


def split_generators(
    builder: tfds.core.GeneratorBasedBuilder,
    sources: Sequence[Source],
    produce: Callable[[Any], Produced],
    recipe: Recipe,
    *,
    unit: str,
    notes: dict[str, str],
    splits: Sequence[str] = SPLITS,
    beam: str = "",
) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    """Stage all sources, fit fidelity on the training split, and give TFDS its examples.

    What was found, left out and clipped goes to the builder's metadata and to the terminal.

    Args:
      builder: whose metadata is filled in.
      sources: of all splits.
      produce: as in `stage`.
      recipe: for the fidelity ranges, and for the metadata.
      unit: what a source is called.
      notes: on sources already left out.
      splits: those that must be there.
      beam: as in `stage`.

    Returns:
      For each split an iterator of (key, record).
    """
    folder = staging_folder(builder)
    ser_fiq = None
    if recipe.measure.name == "ser_fiq":
        # Here, since workers need no network; and first, lest bad weights be told hours later.
        from deepfidelity_jax.ser_fiq import load

        ser_fiq = load(recipe.measure.weights)
    seen = stage(sources, produce, folder, unit=unit, beam=beam)
    if ser_fiq:
        rate(sources, folder, ser_fiq, unit=unit)
    notes = notes | {source.name: produced.note for source, produced in seen if produced.note}
    tally, listed = sum_tallies(seen)
    unscored = {}
    rows, found = [], {}
    for face in staged(sources, folder):
        if not np.isfinite(face.quality):
            unscored[face.path] = quality.NO_EYES if ser_fiq else "no quality score for it"
            continue
        rows.append((face.split, face.quality, face.label))
        methods = found.setdefault(face.split, {})
        methods[face.method] = methods.get(face.method, 0) + 1
    notes = notes | unscored
    if notes:
        say(f"{len(notes)} left out or noted: {count_reasons(notes)}\n{describe(notes)}")
    if unscored and not rows:
        told = next(iter(unscored.values()))
        if scores := recipe.measure.scores:
            told += f"; the table has {', '.join([*scores][:3])}, and faces are of "
            told += ", ".join([*unscored][:3])
        raise InputError(
            f"no face got a quality ({told}): choose another config.faces.detector or another "
            "config.quality.measure"
        )
    for split, counted in tally.items():
        counts = (f"{count} {what}" for what, count in counted.items() if count)
        say(f"{split}: {', '.join(counts)}")
    require_both_classes(found, splits)

    split, raw, label = (np.array(column) for column in zip(*rows, strict=True))
    train, fitted = split == "train", None
    if train.any():
        fitted = fit_scale(
            raw[train],
            label[train],
            fake=recipe.fake,
            real=recipe.real,
            percentile=recipe.percentile,
        )
        clipped = {
            name: outside(fitted, raw[split == name], label[split == name]) for name in SPLITS
        }
        for name, count in clipped.items():
            if count:
                say(f"{name}: {count} faces are better or worse than any in training: clipped")
        builder.info.metadata.update(fidelity_scale=fitted.to_dict(), clipped=clipped)
    builder.info.metadata.update(
        recipe.to_json(), faces_found=found, notes=notes, tally=tally, listed=listed
    )
    builder.info.metadata[CHECKSUM] = checksum(builder.info.metadata)
    for name, methods in found.items():
        shown = ", ".join(f"{count} {method}" for method, count in sorted(methods.items()))
        say(f"{name}: {shown} faces")

    def examples(name):
        parent = "train" if name == SOURCES else name
        for face in staged((source for source in sources if source.split == parent), folder):
            if face.split == name and np.isfinite(face.quality):
                yield f"{face.video_id}/{face.frame}", record(face, fitted)

    return {name: examples(name) for name in found}


def staging_folder(builder: tfds.core.DatasetBuilder) -> Path:
    """Where faces wait until the records are written."""
    # Beside the records. While TFDS writes, `data_path` has another name, a new one each time.
    return Path(builder.data_path).with_name(f"{builder.version}.staging")


def record(face: Face, fitted: FidelityScale | None) -> dict[str, Any]:
    """A face as a record: with its fidelity target, NaN where no training split was fitted."""
    target = np.float32("nan")
    if fitted:
        target = scale(fitted, np.array([face.quality]), np.array([face.label]))[0]
    fields = {name: getattr(face, name) for name in face.__dataclass_fields__ if name != "split"}
    return fields | {"fidelity": target, "label": LABELS[face.label]}


def sum_tallies(
    seen: Iterable[tuple[Source, Produced]],
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, dict[str, int]]]]:
    """What was counted in each split, and of what is not well, in which videos.

    Returns:
      `{split: {what: how many}}` and `{split: {what: {video: how many}}}`; the second without what
      videos are supposed to have, see EXPECTED.
    """
    total, listed = {}, {}
    for source, produced in seen:
        for video, counted in produced.tally.items():
            total.setdefault(source.split, Counter()).update(counted)
            for what in counted.keys() - EXPECTED:
                if counted[what]:
                    listed.setdefault(source.split, {}).setdefault(what, {})[video] = counted[what]
    return {split: dict(counts) for split, counts in total.items()}, listed


def require_both_classes(found: dict[str, dict[str, int]], splits: Sequence[str] = SPLITS) -> None:
    """InputError unless each of the splits has a real and a fake face."""
    for split in splits:
        methods = found.get(split, {})
        real = methods.get(ORIGINAL, 0)
        for name, count in (("real", real), ("fake", sum(methods.values()) - real)):
            if count == 0:
                raise InputError(
                    f"no {name} face was found for the {split} split: more input is needed, or "
                    "another config.faces.detector, other shares in config.data.splits, or another "
                    "config.seed"
                )


def count_reasons(notes: dict[str, str], limit: int = 6) -> str:
    """How often each note was made, in one line, the most frequent first."""
    counted = Counter(notes.values()).most_common()
    parts = [f"{count} {note}" for note, count in counted[:limit]]
    if len(counted) > limit:
        parts.append(f"{sum(count for _, count in counted[limit:])} for other reasons")
    return ", ".join(parts)


def describe(notes: dict[str, str], limit: int = 10) -> str:
    """Notes as lines for a person, `limit` of them, the rarest first."""
    often = Counter(notes.values())
    ordered = sorted(notes.items(), key=lambda item: (often[item[1]], item))
    lines = [f"  {name}: {note}" for name, note in ordered[:limit]]
    if len(notes) > limit:
        lines.append(f"  and {len(notes) - limit} more, listed in the dataset's metadata.json")
    return "\n".join(lines)


def produce_one(produce: Callable[[Any], Produced], source: Source, folder: Path) -> None:
    """Stage one source's faces in `folder`, unless they are there."""
    path = staged_path(folder, source)
    if path.exists():
        return
    begun = path.with_suffix(".begun")
    begun.touch()  # who was in hand, should this process die
    _write_staged(path, produce(source))
    begun.unlink(missing_ok=True)


def staged_path(folder: Path, source: Source) -> Path:
    """The file in which a source's faces wait."""
    return folder / f"{sha256(source.name.encode()).hexdigest()[:24]}.npz"


def _write_staged(path: Path, produced: Produced) -> None:
    columns = {
        name: np.array([getattr(face, name) for face in produced.faces])
        for name in Face.__dataclass_fields__
        if name != "image"
    }
    # Encoded images as one run of bytes: object arrays would need pickle.
    images = [face.image for face in produced.faces]
    columns["image_bytes"] = np.frombuffer(b"".join(images), np.uint8)
    columns["image_sizes"] = np.array([len(image) for image in images], np.int64)
    columns["note"] = np.array(produced.note)
    columns["tally"] = np.array(json.dumps(produced.tally))
    with written_whole(path) as file:
        np.savez(file, **columns)


def _read_staged(folder: Path, source: Source, *, faces: bool = True) -> Produced:
    """What was staged; without `faces`, which are most of it, only the note and the tally."""
    with np.load(staged_path(folder, source), allow_pickle=False) as file:
        note, tally = str(file["note"]), json.loads(str(file["tally"]))
        if not faces:
            return Produced([], note, tally)
        columns = {name: file[name] for name in Face.__dataclass_fields__ if name != "image"}
        data, ends = file["image_bytes"].tobytes(), np.cumsum(file["image_sizes"])
    measured = _quality_path(folder, source)
    if measured.exists():
        columns["quality"] = np.load(measured, allow_pickle=False)
    found = []
    for row, end in enumerate(ends):
        values = {
            name: value[row] if value.ndim > 1 else value[row].item()
            for name, value in columns.items()
        }
        start = int(ends[row - 1]) if row else 0
        found.append(Face(image=data[start : int(end)], **values))
    return Produced(found, note, tally)


def _quality_path(folder: Path, source: Source) -> Path:
    return staged_path(folder, source).with_suffix(".quality.npy")
