"""Staged faces to TFDS records: splits, fidelity targets, metadata.

A face gets its fidelity target in `record`: its quality, scaled to the range of its class by the
scale that `fit_targets` fits to the training split. Fakes end in
`config.fidelity.fake` (0 to 0.4), real faces in `config.fidelity.real` (0.6 to 1).
"""

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.fidelity.scale import FidelityScale, fit_scale, outside, scale
from deepfidelity_jax.files import LOCK, lock
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality.measure import NO_EYES, Measure
from deepfidelity_jax.records.schema import CHECKSUM, LABELS, SOURCES, SPLITS, checksum
from deepfidelity_jax.records.source import (
    LEFT_OUT,
    Face,
    Produced,
    Source,
    count_reasons,
    describe,
    require_both_classes,
    sum_tallies,
    write_left_out,
)
from deepfidelity_jax.records.staging import rate, stage, staged, take_over

NO_SCORE = "no quality score for it"


def is_prepared(folder: Path) -> bool:
    """Whether the records in `folder` are finished."""
    return (folder / "dataset_info.json").exists()


def prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Write the records unless they exist. One process writes; others wait for it."""
    written = Path(builder.data_path) / "dataset_info.json"
    parent = written.parents[1]
    if written.exists() and not (_unfinished(builder) and os.access(parent, os.W_OK)):
        return
    with _alone(parent):
        if not written.exists():
            tfds.disable_progress_bar()
            # TFDS prints messages about downloads to stdout, which is reserved for results.
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare()
            say(f"records in {builder.data_path}")
        for folder in _unfinished(builder):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock the folder of some records, and of what is staged for them, for this process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("wb") as file:
        if not lock(file):
            say(f"another process prepares the records in {folder}: waiting until it ends")
            lock(file, wait=True)
        yield


def _unfinished(builder: tfds.core.DatasetBuilder) -> list[Path]:
    """The temporary folders of a preparation, which remain if it is killed."""
    parent = Path(builder.data_path).parent
    kinds = f"{builder.version}.*staging", f"incomplete.*_{builder.version}"
    return [path for kind in kinds for path in parent.glob(kind)]


def _tell_abandoned(staging: Path) -> None:
    """Say where other preparations, which were killed or are under way, keep faces."""
    others = sorted(path for path in staging.parents[1].glob("*/*.staging") if path != staging)
    if others:
        shown = ", ".join(map(str, others[:5]))
        say(
            f"{len(others)} other preparations are unfinished; to free disk space, delete those "
            f"that nobody will resume: {shown}"
        )


def records_dir(config: ConfigDict, workdir: Path) -> Path:
    """The folder of the TFDS records: `config.data.records_dir`, or `records` in the workdir."""
    folder = config.data.records_dir
    return Path(folder).expanduser().absolute() if folder else workdir.absolute() / "records"


@dataclass(frozen=True)
class Recipe:
    """The settings that turn raw data into records; part of a dataset's metadata.

    faces: how faces are found and cropped. measure: the quality measure. fake, real: range of the
    fidelity target in each class. percentile: share of the qualities clipped at either end, in
    percent. mapping, quality_range: from quality to target, see `fit_scale`. seed: for drawing
    splits and forgeries.
    """

    faces: FaceSettings
    measure: Measure
    fake: tuple[float, float]
    real: tuple[float, float]
    percentile: float
    seed: int
    mapping: str = "linear"
    quality_range: str = "class"

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Recipe":
        """The recipe in a configuration; InputError if the measure cannot be set up."""
        return cls(
            faces=FaceSettings(**config.faces),
            measure=Measure.from_config(config.quality),
            fake=tuple(config.fidelity.fake),
            real=tuple(config.fidelity.real),
            percentile=config.fidelity.percentile,
            seed=config.seed,
            mapping=config.fidelity.mapping,
            quality_range=config.fidelity.quality_range,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values, for metadata and fingerprints."""
        targets = {"fake": self.fake, "real": self.real, "percentile": self.percentile}
        # Earlier records were all linear and of ranges by class: they keep their fingerprint.
        if self.mapping != "linear":
            targets["mapping"] = self.mapping
        if self.quality_range != "class":
            targets["quality_range"] = self.quality_range
        return {
            "faces": self.faces.to_dict(),
            "quality": self.measure.to_json(),
            "fidelity": targets,
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
    lines: Mapping[str, int] | None = None,
    splits: Sequence[str] = SPLITS,
    beam: str = "",
) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    """Stage all sources, fit the fidelity scale to the training split, and give TFDS its examples.

    What was found, left out and clipped is printed and goes into the builder's metadata. Every
    input without a record is also a row of LEFT_OUT, in the folder of the records.

    Args:
      builder: its metadata is filled in.
      sources: of all splits.
      produce: as in `stage`.
      recipe: how faces are measured and given their targets.
      unit: what a source is called in messages.
      notes: by name, why inputs have already been left out.
      lines: by name, the lines of the table that lists the inputs, if one does.
      splits: each must end up with a real and a fake face.
      beam: as in `stage`.

    Returns:
      For each split an iterator of (key, record).

    Raises:
      InputError: no face has a quality, or a split lacks a class.
    """
    folder = staging_folder(builder)
    take_over(sources, folder)
    _tell_abandoned(folder)
    # Loaded first, so that a bad weights file fails now and not after hours of staging.
    network = recipe.measure.load_network()
    seen = stage(sources, produce, folder, unit=unit, beam=beam)
    if network:
        rate(sources, folder, network, unit=unit)
    notes = notes | {source.name: produced.note for source, produced in seen if produced.note}
    scored, unscored = count_faces(sources, folder, NO_EYES if network else NO_SCORE)
    notes = notes | unscored
    if notes:
        say(f"notes on inputs: {count_reasons(notes)}")
        say(describe(notes, "the dataset's metadata.json"))
    if unscored and not scored.rows:
        raise InputError(_explain_no_quality(unscored, recipe.measure, splits))
    tally, listed = sum_tallies(seen)
    for split, counted in tally.items():
        say(f"{split}: {', '.join(f'{count} {what}' for what, count in counted.items() if count)}")
    require_both_classes(scored.methods, splits)
    left_out = {name: note for name, note in notes.items() if name not in scored.names}
    # While TFDS writes, the folder has a temporary name.
    write_left_out(Path(builder.data_path) / LEFT_OUT, left_out, lines or {})
    if left_out:
        place = Path(builder.data_path).with_name(str(builder.version)) / LEFT_OUT
        say(f"inputs left out: {len(left_out)}, each with its reason in {place}")

    fitted, clipped = fit_targets(scored.rows, recipe)
    if fitted:
        builder.info.metadata.update(fidelity_scale=fitted.to_dict(), clipped=clipped)
    builder.info.metadata.update(
        recipe.to_json() | {"quality": recipe.measure.note()},
        faces_found=scored.methods,
        notes=notes,
        tally=tally,
        listed=listed,
    )
    builder.info.metadata[CHECKSUM] = checksum(builder.info.metadata)
    for split, count in clipped.items():
        if count:
            say(f"{split}: faces outside the quality range of training, fidelity clipped: {count}")
    for split, methods in scored.methods.items():
        shown = ", ".join(f"{count} {method}" for method, count in sorted(methods.items()))
        say(f"{split}: {shown} faces")

    def examples(split):
        parent = "train" if split == SOURCES else split
        for face in staged((source for source in sources if source.split == parent), folder):
            if face.split == split and np.isfinite(face.quality):
                yield f"{face.video_id}/{face.frame}", record(face, fitted)

    return {split: examples(split) for split in scored.methods}


class Scored(NamedTuple):
    """Faces with a quality, which are recorded.

    rows: split, quality, label. methods: `{split: {method: count}}`. names: of their sources, and
    the paths in their records.
    """

    rows: list[tuple[str, float, int]]
    methods: dict[str, dict[str, int]]
    names: set[str]


def count_faces(
    sources: Sequence[Source], folder: Path, reason: str
) -> tuple[Scored, dict[str, str]]:
    """The staged faces with a quality, and `reason` for each path of a face without one."""
    scored, unscored = Scored([], {}, set()), {}
    for source in sources:
        for face in staged([source], folder):
            if not np.isfinite(face.quality):
                unscored[face.path] = reason
                continue
            scored.rows.append((face.split, face.quality, face.label))
            methods = scored.methods.setdefault(face.split, {})
            methods[face.method] = methods.get(face.method, 0) + 1
            scored.names.update((source.name, face.path))
    return scored, unscored


def fit_targets(
    rows: Sequence[tuple[str, float, int]], recipe: Recipe
) -> tuple[FidelityScale | None, dict[str, int]]:
    """Fit the fidelity scale to the training faces, and count the faces outside it, per split.

    Args:
      rows: split, quality and label of each face.
      recipe: gives the ranges and the percentile.

    Returns:
      The scale and the counts; None and no counts if there is no training face.
    """
    split, quality, label = (np.array(column) for column in zip(*rows, strict=True))
    train = split == "train"
    if not train.any():
        return None, {}
    fitted = fit_scale(
        quality[train],
        label[train],
        fake=recipe.fake,
        real=recipe.real,
        percentile=recipe.percentile,
        mapping=recipe.mapping,
        quality_range=recipe.quality_range,
    )
    clipped = {
        name: outside(fitted, quality[split == name], label[split == name]) for name in SPLITS
    }
    return fitted, clipped


def _explain_no_quality(unscored: dict[str, str], measure: Measure, splits: Sequence[str]) -> str:
    reason = next(iter(unscored.values()))
    if measure.scores:
        reason += f"; the table has {', '.join([*measure.scores][:3])}, and faces are of "
        reason += ", ".join([*unscored][:3])
    # Other data is scored by the measure of the training.
    other = "" if set(splits) == {"test"} else " or another config.quality.measure"
    return f"no face got a quality ({reason}): choose another config.faces.detector{other}"


def record(face: Face, fitted: FidelityScale | None) -> dict[str, Any]:
    """A face as a record, with its fidelity target; NaN if there is no training split to fit."""
    target = np.float32("nan")
    if fitted:
        target = scale(fitted, np.array([face.quality]), np.array([face.label]))[0]
    fields = {name: getattr(face, name) for name in face.__dataclass_fields__ if name != "split"}
    return fields | {"fidelity": target, "label": LABELS[face.label]}


def staging_folder(builder: tfds.core.DatasetBuilder) -> Path:
    """Where staged faces are kept until the records are written: beside the records.

    Folders of one name, beside other records, hold faces that are made in the same way.
    """
    # Not inside `data_path`: while TFDS writes, that has a new temporary name on every attempt.
    builder_config = builder.builder_config
    kind = getattr(builder_config, "staging", "") or builder_config.name
    return Path(builder.data_path).with_name(f"{builder.version}.{kind}.staging")
