"""Records to batches, through Grain: decoded, forged, encoded and augmented on the host.

Training draws forgeries afresh from clean real faces where a dataset offers them, each with its
real face in the same batch and under the same augmentation, so that nothing but the forgery tells
the two apart. Evaluation reads records in order, as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import grain
import numpy as np
from jaxtyping import Float32, UInt8

from deepfidelity_jax import hosts
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import FidelityScale, scale
from deepfidelity_jax.forgeries import augment, forge
from deepfidelity_jax.images.pictures import decode_image, encode_image
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records.schema import FAKE, REAL, Records

Example = dict[str, Any]

# How often each of forge.KINDS is drawn: the self-blended are the hardest and carry over the best.
KIND_SHARES = (0.5, 0.25, 0.25)

# Side of the patch of the picture behind one token of the last stage.
TOKEN = 32


@dataclass(frozen=True)
class TrainingInput:
    """How a training example is made of a record.

    size: side of the image in pixels. settings: the augmentation. quality_scale: maps the quality
    of the face to its fidelity target. measure: how the faces in the records were measured; by it
    they are measured again after losing quality, where it can be.
    """

    size: int
    settings: augment.AugmentSettings
    quality_scale: FidelityScale
    measure: Measure


def training_batches(
    records: Records,
    made_from: TrainingInput,
    *,
    batch_size: int,
    seed: int,
    forged: bool,
    workers: int = 0,
    process: tuple[int, int] = (0, 1),
    start: int = 0,
) -> grain.DatasetIterator:
    """Endless, shuffled, augmented batches.

    Args:
      records: the training split, or clean real faces if `forged`.
      made_from: how an example is made.
      batch_size: examples over all processes; even if `forged`.
      seed: of the order and of every draw. Each batch of the stream is the same for any number of
        workers and processes: the first process has its first rows.
      forged: draw a forgery of each record and give both.
      workers: input processes; 0 reads in a thread of this process.
      process: this process's index and their number.
      start: the first batch's number in the stream. To go on by it and not by the iterator's state
        leaves the number of workers free: the state is of one number of them alone.

    Returns:
      An iterator of dicts: `image` uint8 [n, size, size, 3], `label` int32 [n], `fidelity`
      float32 [n], `forged` float32 [n, tokens], the forged share of the picture behind each token.

    Raises:
      InputError: the batch cannot be divided among the processes, or not into pairs.
    """
    index, count = process
    shares = count * (2 if forged else 1)
    if batch_size % shares:
        raise InputError(
            f"config.train.batch_size is {batch_size}: give a multiple of {shares}, for {count} "
            f"processes{' and faces beside their forgeries' if forged else ''}"
        )
    per_process = batch_size // shares
    dataset = grain.MapDataset.source(records).seed(seed).shuffle().repeat()
    make = ForgedPair(records, made_from) if forged else LabelledFace(made_from)
    # Drawn by the index in the whole stream, so before the processes divide it.
    dataset = dataset.random_map(make).batch(per_process, drop_remainder=True)[
        index + start * count :: count
    ]
    if forged:
        dataset = dataset.map(_flatten_pairs)
    # One thread: Python's lock lets more of them add little but waiting. On two cores an image
    # takes 3.8 ms of CPU with one and 6.3 with four.
    stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=8))
    if workers:
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4),
            worker_init_fn=_begin_worker,
        )
    return iter(stream)


def _begin_worker(index: int, count: int) -> None:
    hosts.begin_worker()


def evaluation_batches(
    records: Records,
    size: int,
    crop: float,
    batch_size: int,
    process: tuple[int, int] = (0, 1),
) -> Iterator[Example]:
    """The records of a split in its order, `batch_size` at a time, the last batch shorter.

    `size` is the side in pixels, `crop` the central share of the recorded crop that is seen.
    `process` is this process's index and their number: each reads one stretch, in their order.
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
    """A record, augmented; where a recorded forgery is unknown, all of it counts as forged."""

    made_from: TrainingInput

    def random_map(self, record: Example, rng: np.random.Generator) -> Example:
        """Make one training example."""
        image = decode_image(record["image"])
        mask = np.full(image.shape[:2], float(record["label"] == FAKE), np.float32)
        image = augment.lose_quality(image, self.made_from.settings, rng)
        return _finish(image, mask, record["label"], record, self.made_from, rng)


@dataclass(frozen=True)
class ForgedPair(grain.transforms.RandomMap):
    """A real face and a forgery of it, under one draw of the augmentation."""

    records: Records
    made_from: TrainingInput

    def random_map(self, record: Example, rng: np.random.Generator) -> Example:
        """Make the two examples, stacked: real first."""
        real = decode_image(record["image"])
        donor = None
        kind = rng.choice(forge.KINDS, p=KIND_SHARES)
        if kind == "swap":
            donor = self._find_donor(record["video_id"], rng)
            kind = kind if donor else "self_blend"
        fake, mask = forge.forge(kind, real, record["landmarks"], rng, donor)
        seed = rng.integers(2**63)

        def make_example(image, forged_share, label):
            rng = np.random.default_rng(seed)
            image = augment.lose_quality(image, self.made_from.settings, rng)
            # Encoded alike: the real face must not be the one that was never compressed again.
            image = decode_image(encode_image(image))
            return _finish(image, forged_share, label, record, self.made_from, rng)

        pair = make_example(real, np.zeros_like(mask), REAL), make_example(fake, mask, FAKE)
        return {key: np.stack([example[key] for example in pair]) for key in pair[0]}

    def _find_donor(self, video_id: str, rng: np.random.Generator):
        """A face of another video, its own would forge nothing; None where a few draws fail."""
        for index in rng.integers(len(self.records), size=5):
            other = self.records[index]
            if other["video_id"] != video_id:
                return decode_image(other["image"]), other["landmarks"]
        return None


def _finish(
    image: UInt8[np.ndarray, "h w 3"],
    mask: Float32[np.ndarray, "h w"],
    label: int,
    record: Example,
    made_from: TrainingInput,
    rng: np.random.Generator,
) -> Example:
    size = made_from.size
    # Of the whole face, as it is measured in the records: a view of it, resized, is another matter.
    measured = record["quality"]
    if made_from.measure.can_remeasure:
        measured = made_from.measure.of_pixels(image, record["landmarks"])
    image, mask = augment.augment(image, mask, made_from.settings, size, rng)
    target = scale(
        made_from.quality_scale, np.array([measured], np.float64), np.array([label], np.int32)
    )
    tokens = cv2.resize(mask, (size // TOKEN, size // TOKEN), interpolation=cv2.INTER_AREA)
    return {
        "image": image,
        "label": np.int32(label),
        "fidelity": np.float32(target[0]),
        "forged": tokens.reshape(-1).astype(np.float32),
    }


def _flatten_pairs(batch: Example) -> Example:
    return {key: value.reshape(-1, *value.shape[2:]) for key, value in batch.items()}
