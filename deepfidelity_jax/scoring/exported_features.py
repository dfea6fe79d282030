"""Features of a whole split, computed once and kept in `features/<dataset>-<split>.npz`.

Rows are in the order of the records. With several processes, each computes a contiguous part.
"""

import contextlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

from deepfidelity_jax.detector.load import Detector
from deepfidelity_jax.fidelity.scale import scale
from deepfidelity_jax.files import fingerprint, written_whole
from deepfidelity_jax.network.outputs import HEADS
from deepfidelity_jax.processes import hosts
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records.schema import Records, identity, metadata_of
from deepfidelity_jax.records.write import records_dir
from deepfidelity_jax.scoring.table import Predictions
from deepfidelity_jax.training.batches import evaluation_batches
from deepfidelity_jax.training.checkpoint import best_step
from deepfidelity_jax.workdir import Stages, read_config


@dataclass(frozen=True, eq=False)
class Features:
    """One row per record: the feature, the heads' answers, and the record's fields."""

    feature: Float32[np.ndarray, "n d"]
    answers: Float32[np.ndarray, "n h"]
    label: Int32[np.ndarray, "n"]
    fidelity: Float32[np.ndarray, "n"]
    quality: Float32[np.ndarray, "n"]
    known_quality: Float32[np.ndarray, "n"]
    frame: Int32[np.ndarray, "n"]
    method: np.ndarray
    video_id: np.ndarray
    path: np.ndarray

    def save(self, path: Path) -> None:
        """Write an npz without pickle. A failed write leaves the previous file."""
        with written_whole(path) as file:
            np.savez(file, **{column.name: getattr(self, column.name) for column in fields(self)})

    def without(self, methods: Collection[str]) -> "Features":
        """The rows of all methods but these."""
        kept = ~np.isin(self.method, list(methods))
        return Features(**{c.name: getattr(self, c.name)[kept] for c in fields(self)})

    def with_quality_of(self, measure: str) -> "Features":
        """The features with NaN as quality if the measure is `none`, which records as 0."""
        if measure != "none":
            return self
        return replace(self, quality=np.full_like(self.quality, np.nan))

    @classmethod
    def load(cls, path: Path) -> "Features":
        """Read what `save` wrote; answers are NaN in a file of an earlier version."""
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        unknown = np.full((len(columns["label"]), len(HEADS)), np.nan, np.float32)
        return cls(**{"answers": unknown, **columns})


def retarget(features: Features, detector: Detector, folder: Path) -> Features:
    """The features with targets from the detector's own scale.

    Targets are NaN where quality was measured differently than for training. Quality is NaN where
    it was not measured.
    """
    measure = Measure.from_note(metadata_of(folder)["quality"])
    fitted = detector.fidelity_model.scale
    unknown = np.full_like(features.fidelity, np.nan)
    targets = unknown
    if fitted is not None and measure == detector.noted_measure:
        targets = scale(fitted, features.quality.astype(np.float64), features.label)
    return replace(features.with_quality_of(measure.name), fidelity=targets)


def export_once(
    load: Callable[[], Detector],
    weights: str,
    folder: Path,
    dataset: str,
    split: str,
    workdir: Path,
    *,
    mirror_average: bool,
    with_answers: bool = False,
    timing: contextlib.AbstractContextManager | None = None,
) -> Features:
    """The features of one split, computed only if `workdir` does not have them yet.

    Args:
      load: returns the detector; called only when it is needed.
      weights: the digest of its weights.
      folder: the records.
      dataset: the name of the dataset in the workdir.
      split: the split.
      workdir: where the features are kept.
      mirror_average: average over each face and its mirror image; otherwise the face counts alone,
        whatever the detector does.
      with_answers: compute them again if an earlier version kept them without the heads' answers.
      timing: entered while they are computed, once the detector is loaded.
    """
    stages, name = Stages(workdir), f"features {dataset} {split}"
    inputs = fingerprint(identity(folder), weights, split, *how_mirrored(mirror_average))
    path = workdir / "features" / f"{dataset}-{split}.npz"
    done = stages.done(name, inputs, path)
    if done and with_answers:
        with np.load(path, allow_pickle=False) as file:
            done = "answers" in file.files
    if not hosts.broadcast(done):
        detector = load() if mirror_average else load().unmirrored()
        with timing or contextlib.nullcontext():
            stages.begin(name)
            export(detector, folder, split, path)
            stages.finish(name, inputs)
    return Features.load(path)


def how_mirrored(mirror_average: bool) -> list[str]:
    """What the inputs of a stage say of mirror images; nothing without, as in earlier versions."""
    return ["mirror average"] if mirror_average else []


def find_test_records(workdir: Path, name: str) -> Path | None:
    """The records whose test split was evaluated under this name; None if gone or changed."""
    eval_dir = workdir / "eval" / name
    if not (eval_dir / "metrics.json").exists():
        return None
    noted = json.loads((eval_dir / "metrics.json").read_text(encoding="utf-8")).get("records")
    if noted is None:  # by an earlier version
        folder = find_earlier(workdir, name, "test")
        return folder if folder and _are_of(eval_dir / "predictions.csv", folder) else None
    for records in _places(workdir):
        folder = records / noted.rpartition(" ")[0]
        if (folder / "dataset_info.json").exists() and identity(folder) == noted:
            return folder
    return None


def _are_of(predictions: Path, folder: Path) -> bool:
    """Whether the rows of predictions.csv are, in order, the faces of these records' test split."""
    table = Predictions.read_csv(predictions)
    faces = [(face["path"], face["frame"]) for face in Records(folder, "test")]
    return faces == list(zip(table.path, table.frame, strict=True))


def find_earlier(workdir: Path, dataset: str, split: str) -> Path | None:
    """The records from which an earlier version exported a split; None if they are gone."""
    stages, step = Stages(workdir), best_step(workdir / "checkpoints")
    for records in _places(workdir):
        for info in sorted(records.glob("*/*/*/dataset_info.json"), reverse=True):
            named = fingerprint(info.parent.parent.name, step, split)
            if stages.done(f"features {dataset} {split}", named):
                return info.parent
    return None


def _places(workdir: Path) -> set[Path]:
    return {workdir.absolute() / "records", records_dir(read_config(workdir), workdir)}


def export(detector: Detector, folder: Path, split: str, path: Path) -> None:
    """Write the features of a split to `path`; the first process joins all parts."""
    records = Records(folder, split)
    count = min(hosts.count(), len(records))
    process = (hosts.index(), count)
    parts = [path.with_name(f"{path.stem}.{i + 1}-of-{count}.npz") for i in range(count)]
    if process[0] < count:
        compute(detector, records, process).save(path if count == 1 else parts[process[0]])
    hosts.wait()
    if hosts.is_first() and count > 1:
        join([Features.load(part) for part in parts]).save(path)
        for part in parts:
            part.unlink()
    hosts.wait()
    say(f"features of {len(records)} {split} faces")


def join(parts: list[Features]) -> Features:
    """All parts, one after another."""
    names = [column.name for column in fields(Features)]
    return Features(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def compute(detector: Detector, records: Records, process: tuple[int, int] = (0, 1)) -> Features:
    """Features of one process's part of the records, computed on all its devices.

    `process` is its index and the number of processes.
    """
    config, detector = detector.config, detector.on_all_devices()
    columns = {column.name: [] for column in fields(Features)}
    for batch in evaluation_batches(
        records, config.model.image_size, config.model.eval_crop, config.eval.batch_size, process
    ):
        # The images are dropped here, so that a large split fits into memory.
        batch["feature"], batch["answers"] = detector.features_and_answers(batch.pop("image"))
        for name, column in columns.items():
            column.append(batch[name])
    exported = {name: np.concatenate(column) for name, column in columns.items()}
    for name in ("label", "frame"):
        exported[name] = exported[name].astype(np.int32)
    for name in ("fidelity", "quality", "known_quality"):
        exported[name] = exported[name].astype(np.float32)
    return Features(**exported)
