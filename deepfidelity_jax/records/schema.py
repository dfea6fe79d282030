"""What every dataset's records look like, whoever built them, and how they are opened.

A record is one aligned face crop with its label, its quality and its fidelity target. Records are
TFDS datasets in the array_record format, written and read without TensorFlow.
"""

import contextlib
import importlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import tensorflow_datasets as tfds

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import scale

FAKE, REAL, LABELS = scale.FAKE, scale.REAL, scale.LABELS
ORIGINAL = "original"  # the method of a real face
SPLITS = ("train", "validation", "test")
# Clean real faces of the training split, where a dataset makes its own forgeries: training draws
# new ones from them each epoch, while the other splits hold fixed ones.
SOURCES = "sources"
CHECKSUM = "checksum"  # of the other metadata


def features() -> tfds.features.FeaturesDict:
    """The schema of a record.

    image: JPEG bytes of the aligned crop, kept as they are. label: 0 fake, 1 real. method: how it
    was forged, `original` for a real face. video_id: unique in the dataset; frames of one share
    it. frame: index in the video. quality: raw value of the measure named in the metadata.
    fidelity: target in [0, 1]. bbox: x, y, width, height in pixels of the source, NaN where
    unknown. landmarks: eyes, nose, mouth corners (x, y in pixels of the crop), NaN where unknown.
    path: the source file. known_quality: quality by construction where the dataset knows it, NaN
    elsewhere. origins: what must not be in two splits, as `kind/name` with spaces between: the
    people in it, the videos it was made of; empty where unknown.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=list(LABELS)),
            "method": tfds.features.Text(),
            "video_id": tfds.features.Text(),
            "frame": np.int32,
            "quality": np.float32,
            "fidelity": np.float32,
            "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "landmarks": tfds.features.Tensor(shape=(5, 2), dtype=np.float32),
            "path": tfds.features.Text(),
            "known_quality": np.float32,
            "origins": tfds.features.Text(),
        }
    )


def builder_class(dataset: str) -> type[tfds.core.GeneratorBasedBuilder]:
    """The TFDS builder of `datasets/<dataset>`; an unknown name raises InputError."""
    module = f"deepfidelity_datasets.{dataset}.{dataset}_dataset_builder"
    try:
        return importlib.import_module(module).Builder
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise InputError(
            f"config.data.dataset is {dataset!r}, but datasets/ holds {', '.join(datasets())}"
        ) from None


def datasets() -> list[str]:
    """The names of all datasets there is a builder of."""
    folder = Path(importlib.import_module("deepfidelity_datasets").__path__[0])
    return sorted(path.parent.name for path in folder.glob("*/*_dataset_builder.py"))


class Records:
    """One split as a random-access sequence of records with encoded images.

    Opened per process on first use, so that it travels to input workers.
    """

    def __init__(self, folder: str | Path, split: str):
        self.folder, self.split = str(folder), split
        self._source = None

    def __len__(self) -> int:
        with _read_whole(self.folder):
            return len(self._open())

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        with _read_whole(self.folder):
            record = dict(self._open()[int(index)])
            for key in ("method", "video_id", "path", "origins"):
                record[key] = record[key].decode()
            return record

    def _open(self):
        if self._source is None:
            builder = tfds.builder_from_directory(self.folder)
            skip = {"image": tfds.decode.SkipDecoding()}
            self._source = builder.as_data_source(split=self.split, decoders=skip)
        return self._source

    def __getstate__(self):
        return {"folder": self.folder, "split": self.split, "_source": None}


def splits_of(folder: str | Path) -> dict[str, int]:
    """How many records each split in `folder` holds. InputError if they are damaged."""
    with _read_whole(folder):
        info = tfds.builder_from_directory(str(folder)).info
        return {name: split.num_examples for name, split in info.splits.items()}


def metadata_of(folder: str | Path) -> Mapping[str, Any]:
    """What the builder noted: quality range, faces' settings, skipped inputs.

    InputError if the file is damaged, or is not what the builder wrote.
    """
    path = Path(folder) / "metadata.json"
    with _read_whole(folder):
        metadata = json.loads(path.read_text(encoding="utf-8"))
        # Records of earlier versions have none.
        if metadata.get(CHECKSUM, checksum(metadata)) != checksum(metadata):
            raise ValueError(f"{path.name} has changed")
    return metadata


def checksum(metadata: Mapping[str, Any]) -> int:
    """CRC-32 of a dataset's metadata, which is kept in it: a changed digit would go unnoticed."""
    values = {name: value for name, value in metadata.items() if name != CHECKSUM}
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


@contextlib.contextmanager
def _read_whole(folder: str | Path) -> Iterator[None]:
    """What TFDS and ArrayRecord say of damaged files, as an InputError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (InputError, IndexError)):
            raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(
            f"the records in {folder} are damaged or incomplete ({reason}): delete that folder, "
            "and the same command prepares them anew"
        ) from None
