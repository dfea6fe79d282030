"""Staged faces to TFDS records: splits, fidelity targets, metadata."""

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.fidelity.scale import FidelityScale, fit_scale, outside, scale
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality.measure import NO_EYES, Measure
from deepfidelity_jax.records.schema import CHECKSUM, LABELS, SOURCES, SPLITS, checksum
from deepfidelity_jax.records.source import (
    Face,
    Produced,
    Source,
    count_reasons,
    describe,
    require_both_classes,
    sum_tallies,
)
from deepfidelity_jax.records.staging import rate, stage, staged


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
        from deepfidelity_jax.quality.ser_fiq import load

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
            unscored[face.path] = NO_EYES if ser_fiq else "no quality score for it"
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
        recipe.to_json() | {"quality": recipe.measure.note()},
        faces_found=found,
        notes=notes,
        tally=tally,
        listed=listed,
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


def records_dir(config: ConfigDict, workdir: Path) -> Path:
    """Where TFDS records are: `config.data.records_dir`, or inside the workdir."""
    given = config.data.records_dir
    return Path(given).expanduser().absolute() if given else workdir.absolute() / "records"


def prepare(config: ConfigDict, builder: tfds.core.DatasetBuilder, workdir: Path) -> None:
    """Write the records, unless they are there."""
    if config.faces.detector == "yunet" and not (workdir / "yunet.onnx").exists():
        # The workdir must score faces wherever it is taken.
        with open(config.faces.yunet, "rb") as file, written_whole(workdir / "yunet.onnx") as copy:
            shutil.copyfileobj(file, copy)
    there = (Path(builder.data_path) / "dataset_info.json").exists()
    if not there:
        tfds.disable_progress_bar()
        # TFDS speaks of downloads, and to stdout, which is for results.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
        say(f"records in {builder.data_path}")
    shutil.rmtree(staging_folder(builder), ignore_errors=True)
    # What TFDS had begun when an earlier run was killed.
    for left in Path(builder.data_path).parent.glob(f"incomplete.*_{builder.version}"):
        shutil.rmtree(left, ignore_errors=True)
