"""The schema of a record, and how records are opened.

A record is one aligned face crop with its label, its quality and its fidelity target. All datasets
share the schema. Records are TFDS datasets in the array_record format, written and read without
TensorFlow.
"""

import contextlib
import importlib
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import tensorflow_datasets as tfds

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import scale
from deepfidelity_jax.files import fingerprint
from deepfidelity_jax.processes.faults import raise_unless_damaged

FAKE, REAL, LABELS = scale.FAKE, scale.REAL, scale.LABELS
ORIGINAL = "original"  # the method of a real face
SPLITS = ("train", "validation", "test")
# A further split of datasets that make their own forgeries: the clean real training faces, from
# which training draws new forgeries each epoch. The forgeries in the other splits are fixed.
SOURCES = "sources"
CHECKSUM = "checksum"  # metadata key; the checksum covers all other entries


def features() -> tfds.features.FeaturesDict:
    """The schema of a record.

    image: encoded aligned crop, never re-encoded. label: 0 fake, 1 real. method: how it was forged,
    `original` for a real face. video_id: unique in the dataset, shared by all frames of a video.
    frame: index in the video. quality: raw value of the measure named in the metadata. fidelity:
    target in [0, 1]. bbox: x, y, width, height in pixels of the source; NaN if unknown. landmarks:
    eyes, nose, mouth corners (x, y in pixels of the crop); NaN if unknown. path: the source file.
    known_quality: the true quality, of rendered faces; NaN otherwise. origins: the people shown and
    the videos it was made from, none of which may be in two splits; as `kind/name`, separated by
    spaces; empty if unknown.
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
    """The TFDS builder in `datasets/<dataset>`; InputError for an unknown name."""
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
    """The names of all datasets that have a builder in datasets/."""
    folder = Path(importlib.import_module("deepfidelity_datasets").__path__[0])
    return sorted(path.parent.name for path in folder.glob("*/*_dataset_builder.py"))


class Records(Sequence[dict[str, Any]]):
    """One split as a random-access sequence of records; images stay encoded.

    Picklable, for input workers: each process opens the files on first use.
    """

    def __init__(self, folder: str | Path, split: str):
        self.folder, self.split = str(folder), split
        self._source = None

    def __len__(self) -> int:
        with _read_whole(self.folder):
            return len(self._open())

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:  # type: ignore[override]
        with _read_whole(self.folder):
            source = self._open()
            if not 0 <= int(index) < len(source):
                raise IndexError(f"record {index} of {len(source)}")
            record = dict(source[int(index)])
            for key in ("method", "video_id", "path", "origins"):
                record[key] = record[key].decode()
            return record

    def without(self, methods: Collection[str]) -> "Records | Selection":
        """These records without the fakes of some methods; InputError if only one class is left."""
        if not methods:
            return self
        kinds = [(record["method"], record["label"]) for record in self]
        kept = [row for row, (method, _) in enumerate(kinds) if method not in methods]
        if len({kinds[row][1] for row in kept}) < 2 <= len({label for _, label in kinds}):
            there = ", ".join(sorted({method for method, _ in kinds}))
            raise InputError(
                f"config.train.leave_out is {tuple(methods)}, which leaves one class in the "
                f"{self.split} split: it holds {there}"
            )
        return Selection(self, kept)

    def _open(self):
        if self._source is None:
            builder = tfds.builder_from_directory(self.folder)
            skip = {"image": tfds.decode.SkipDecoding()}
            self._source = builder.as_data_source(split=self.split, decoders=skip)
        return self._source

    def __getstate__(self):
        return {"folder": self.folder, "split": self.split, "_source": None}


@dataclass(frozen=True)
class Selection(Sequence[dict[str, Any]]):
    """Some of the records of a split, in the order of the split."""

    records: Records
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:  # type: ignore[override]
        return self.records[self.rows[index]]


def splits_of(folder: str | Path) -> dict[str, int]:
    """The number of records in each split of `folder`; InputError if they are damaged."""
    with _read_whole(folder):
        info = tfds.builder_from_directory(str(folder)).info
        return {name: split.num_examples for name, split in info.splits.items()}


def identity(folder: Path) -> str:
    """Which records these are: `DATASET/NAME/VERSION`, a space, and a digest of what they hold.

    Records that were deleted and prepared again from other files have another digest under the same
    name. InputError if they are damaged.
    """
    metadata = metadata_of(folder)
    with _read_whole(folder):
        splits = tfds.builder_from_directory(str(folder)).info.splits
        sizes = {name: (split.num_examples, split.num_bytes) for name, split in splits.items()}
    held = fingerprint(metadata.get(CHECKSUM, checksum(metadata)), sizes)
    return f"{'/'.join(folder.parts[-3:])} {held}"


def metadata_of(folder: str | Path) -> Mapping[str, Any]:
    """The dataset's metadata: recipe, fidelity scale, inputs left out.

    InputError if the file is damaged or was changed after the builder wrote it.
    """
    path = Path(folder) / "metadata.json"
    with _read_whole(folder):
        metadata = json.loads(path.read_text(encoding="utf-8"))
        # Earlier versions wrote no checksum.
        if metadata.get(CHECKSUM, checksum(metadata)) != checksum(metadata):
            raise ValueError(f"{path.name} has changed")
    return metadata


def checksum(metadata: Mapping[str, Any]) -> int:
    """CRC-32 of a dataset's metadata without the checksum itself: detects a changed digit."""
    values = {name: value for name, value in metadata.items() if name != CHECKSUM}
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


@contextlib.contextmanager
def _read_whole(folder: str | Path) -> Iterator[None]:
    """Turn the errors of TFDS and ArrayRecord on damaged files into an InputError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, IndexError):
            raise
        raise_unless_damaged(f"the records in {folder}", error)
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(
            f"the records in {folder} are damaged or incomplete ({reason}): delete that folder, "
            "and the same command prepares them again"
        ) from None
