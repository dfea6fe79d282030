"""Records to batches, through Grain: decoded, forged, encoded and augmented on the host.

Where a dataset has clean real faces, training makes new forgeries from them. A forgery and a real
picture of the same face are in the same batch and degraded alike, so that only the forgery tells
them apart. Evaluation reads records in order, unchanged.
"""

import functools
import signal
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import grain
import numpy as np
from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import FidelityScale, scale
from deepfidelity_jax.forgeries import augment, families
from deepfidelity_jax.images.pictures import decode_image, encode_image
from deepfidelity_jax.processes.workers import begin_worker
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records.schema import FAKE, REAL, SOURCES, metadata_of, splits_of

Example = dict[str, Any]

# Side in pixels of a token of the last stage, and of a position of stage 2.
TOKEN, CELL = 32, 8


@dataclass(frozen=True)
class TrainingInput:
    """How a record becomes a training example.

    Attributes:
      size: side of the image in pixels.
      settings: the augmentation.
      quality_scale: maps the quality of the face to its fidelity target.
      measure: the quality measure of the records. A degraded face is measured again where the
        measure allows it; otherwise the record's quality is kept.
      masks: whether examples have a `mask`, the forged share of each cell of 8 x 8 pixels.
      leave_out: families of forgeries that are not drawn.
      evenly: draw every family equally often, instead of by `families.SHARES`.
    """

    size: int
    settings: augment.AugmentSettings
    quality_scale: FidelityScale
    measure: Measure
    masks: bool = False
    leave_out: Collection[str] = ()
    evenly: bool = False


def training_input(config: ConfigDict, folder: Path) -> TrainingInput:
    """How the records in `folder` become training examples."""
    metadata = metadata_of(folder)
    return TrainingInput(
        size=config.model.image_size,
        settings=augment.AugmentSettings(**config.augment),
        quality_scale=FidelityScale.from_dict(metadata["fidelity_scale"]),
        measure=Measure.from_note(metadata["quality"]),
        masks=config.train.get("mask_weight", 0) > 0,
        leave_out=tuple(config.train.get("leave_out", ())),
        evenly=config.train.get("balance", "none") == "method",
    )


def forges(config: ConfigDict, folder: Path) -> bool:
    """Whether training forges the records in `folder`, which have clean real faces for it."""
    return config.data.fresh_forgeries and splits_of(folder).get(SOURCES, 0) > 0


def require_divisible(batch_size: int, count: int, *, forged: bool) -> int:
    """The rows of each of `count` processes, pairs if `forged`; InputError if there is a rest."""
    shares = count * (2 if forged else 1)
    if batch_size % shares:
        raise InputError(
            f"config.train.batch_size is {batch_size}: give a multiple of {shares}, for {count} "
            f"process{'es' if count > 1 else ''}"
            f"{' and faces beside their forgeries' if forged else ''}"
        )
    return batch_size // shares


def training_batches(
    records: Sequence[Example],
    made_from: TrainingInput,
    *,
    batch_size: int,
    seed: int,
    forged: bool,
    workers: int = 0,
    process: tuple[int, int] = (0, 1),
    start: int = 0,
    drawn: Sequence[Example] | None = None,
) -> grain.DatasetIterator:
    """Endless, shuffled, augmented batches.

    Args:
      records: the training split, or clean real faces if `forged`.
      made_from: how a record becomes an example.
      batch_size: examples over all processes; even if `forged`.
      seed: for the order and every draw. Batches are the same for any number of workers and
        processes; the first process gets the first rows.
      forged: forge each record, and return the real face and the forgery.
      workers: input processes; 0 reads in a thread of this process.
      process: this process's index and the number of processes.
      start: number of the first batch in the stream. A run resumes from this number, not from the
        iterator's state, which would fix the number of workers.
      drawn: the records in the order in which they are used (`order.sampling`); by default each is
        used once an epoch, in a shuffled order.

    Returns:
      An iterator of dicts: `image` uint8 [n, size, size, 3], `label` int32 [n], `fidelity`
      float32 [n], `forged` float32 [n, tokens], the forged share of the pixels of each token, and
      `mask` float32 [n, size / 8, size / 8] if it is asked for.

    Raises:
      InputError: the batch cannot be divided among the processes, or into pairs.
    """
    index, count = process
    per_process = require_divisible(batch_size, count, forged=forged)
    if drawn is None:
        dataset = grain.MapDataset.source(records).seed(seed).shuffle().repeat()
    else:
        dataset = grain.MapDataset.source(drawn).seed(seed).repeat()
    make = ForgedPair(records, made_from) if forged else LabelledFace(made_from)
    # Before the processes divide the stream: draws depend on the index in the whole stream.
    dataset = dataset.random_map(make).batch(per_process, drop_remainder=True)[
        index + start * count :: count
    ]
    if forged:
        dataset = dataset.map(_flatten_pairs)
    # One thread: more would mostly wait for Python's lock.
    stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=8))
    if workers:
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4),
            worker_init_fn=_begin_worker,
        )
    return iter(stream)


def _begin_worker(index: int, count: int) -> None:
    # SIGTERM to a process group is left to the parent, which takes another batch before it stops.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begin_worker()


def evaluation_batches(
    records: Sequence[Example],
    size: int,
    crop: float,
    batch_size: int,
    process: tuple[int, int] = (0, 1),
) -> Iterator[Example]:
    """The records of a split in order, `batch_size` at a time, the last batch shorter.

    `size` is the side of the image in pixels, `crop` the central share of the recorded crop to use.
    `process` is this process's index and the number of processes; each reads one contiguous part.
    Yields dicts of every field of a record as an array [n]; `image` is uint8 [n, size, size, 3].
    """
    index, count = process
    first, end = (len(records) * i // count for i in (index, index + 1))
    if first == end:
        return iter(())

    def view(record):
        image = augment.center_crop(decode_image(record["image"]), size, crop)
        return record | {"image": image}

    dataset = grain.MapDataset.source(records)[first:end].map(view)
    dataset = dataset.batch(batch_size, drop_remainder=False)
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)))


@dataclass(frozen=True)
class LabelledFace(grain.transforms.RandomMap):
    """An augmented record; all pixels of a recorded fake count as forged, as no mask is known."""

    made_from: TrainingInput

    def random_map(self, record: Example, rng: np.random.Generator) -> Example:
        """Make one training example."""
        image = decode_image(record["image"])
        mask = np.full(image.shape[:2], float(record["label"] == FAKE), np.float32)
        image = augment.lose_quality(image, self.made_from.settings, rng)
        return _finish(image, mask, record["label"], record, self.made_from, rng)


@dataclass(frozen=True)
class ForgedPair(grain.transforms.RandomMap):
    """A real face and a forgery of it, with the same augmentation."""

    records: Sequence[Example]
    made_from: TrainingInput

    def random_map(self, record: Example, rng: np.random.Generator) -> Example:
        """Make the two examples, stacked: real first."""
        face = families.retake(_face(record), rng)
        record = record | {"landmarks": face.points}
        donor = self._find_donor(record, rng)
        shares = self._shares(with_donor=donor is not None)
        weights = np.array(list(shares.values()))
        family = str(rng.choice(list(shares), p=weights / weights.sum()))
        other = families.retake(_face(donor), rng) if family in families.NEED_DONOR else face
        pair = families.make_pair(family, face, other, rng)
        seed = rng.integers(2**63)

        def make_example(image, mask, label):
            rng = np.random.default_rng(seed)
            image = augment.lose_quality(image, self.made_from.settings, rng)
            # Both are compressed again, so that compression does not give the forgery away.
            image = decode_image(encode_image(image))
            return _finish(image, mask, label, record, self.made_from, rng)

        made = (
            make_example(pair.real, np.zeros_like(pair.mask), REAL),
            make_example(pair.fake, pair.mask, FAKE),
        )
        return {key: np.stack([example[key] for example in made]) for key in made[0]}

    def require_families(self) -> None:
        """InputError if no family of forgeries can be drawn for one of the records."""
        if self._shares(with_donor=True).keys() <= {*families.NEED_DONOR}:
            for shown in self._videos:
                if not any(shown.isdisjoint(other) for other in self._videos):
                    self._shares(with_donor=False)

    def _shares(self, *, with_donor: bool) -> dict[str, float]:
        """How often each family is drawn, with a donor or without; InputError if none is left."""
        shares = {
            family: 1.0 if self.made_from.evenly else share
            for family, share in families.SHARES.items()
            if family not in self.made_from.leave_out
            and (with_donor or family not in families.NEED_DONOR)
        }
        if not shares:
            raise InputError(
                "config.train.leave_out leaves no family of forgeries to train on"
                f"{'' if with_donor else ' without the face of another person'}"
            )
        return shares

    def _find_donor(self, record: Example, rng: np.random.Generator) -> Example | None:
        """A record of another video and other people; None if there is none."""
        shown = _shown(record)
        for index in rng.integers(len(self.records), size=5):
            other = self.records[index]
            if shown.isdisjoint(_shown(other)):
                return other
        # Few others: all are listed, which has to read every record once.
        rows = [rows for others, rows in self._videos.items() if shown.isdisjoint(others)]
        return self.records[int(rng.choice(np.concatenate(rows)))] if rows else None

    @functools.cached_property
    def _videos(self) -> dict[frozenset[str], list[int]]:
        """The rows of the records that show the same video and people."""
        videos: dict[frozenset[str], list[int]] = {}
        for row in range(len(self.records)):
            videos.setdefault(_shown(self.records[row]), []).append(row)
        return videos


def _shown(record: Example) -> frozenset[str]:
    """The file, the video and the people of a record; with one in common, a donor forges nothing.

    Two faces of a file may be of one person, who was lost between two shots.
    """
    return frozenset((record["path"], record["video_id"], *record["origins"].split()))


def _face(record: Example) -> families.Face:
    return families.Face(decode_image(record["image"]), record["landmarks"])


def _finish(
    image: UInt8[np.ndarray, "h w 3"],
    mask: Float32[np.ndarray, "h w"],
    label: int,
    record: Example,
    made_from: TrainingInput,
    rng: np.random.Generator,
) -> Example:
    size = made_from.size
    # Measured on the whole face, as in the records, before it is cropped and resized.
    measured = record["quality"]
    if made_from.measure.can_remeasure:
        measured = made_from.measure.of_pixels(image, record["landmarks"])
    image, mask = augment.augment(image, mask, made_from.settings, size, rng)
    target = scale(
        made_from.quality_scale, np.array([measured], np.float64), np.array([label], np.int32)
    )

    def shares(cell):
        small = cv2.resize(mask, (size // cell, size // cell), interpolation=cv2.INTER_AREA)
        return small.astype(np.float32)

    example = {
        "image": image,
        "label": np.int32(label),
        "fidelity": np.float32(target[0]),
        "forged": shares(TOKEN).reshape(-1),
    }
    return example | {"mask": shares(CELL)} if made_from.masks else example


def _flatten_pairs(batch: Example) -> Example:
    return {key: value.reshape(-1, *value.shape[2:]) for key, value in batch.items()}
