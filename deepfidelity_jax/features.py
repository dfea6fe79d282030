"""Features of a whole split, exported in the order of its records."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

from deepfidelity_jax.data import evaluation_batches
from deepfidelity_jax.detector import Detector
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.records import Records
from deepfidelity_jax.workdir import say


@dataclass(frozen=True)
class Features:
    """One row a record: the feature, and what is known of the face; `features/<...>.npz`."""

    feature: Float32[np.ndarray, "n d"]
    label: Int32[np.ndarray, "n"]
    fidelity: Float32[np.ndarray, "n"]
    quality: Float32[np.ndarray, "n"]
    known_quality: Float32[np.ndarray, "n"]
    frame: Int32[np.ndarray, "n"]
    method: np.ndarray
    video_id: np.ndarray
    path: np.ndarray

    def save(self, path: Path) -> None:
        """Write atomically, without pickle."""
        with written_whole(path) as file:
            np.savez(file, **{column.name: getattr(self, column.name) for column in fields(self)})

    @classmethod
    def load(cls, path: Path) -> "Features":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(**{name: file[name] for name in file.files})


def export(detector: Detector, folder: Path, split: str) -> Features:
    """Features of every record of a split, in the order of the records."""
    records, own = Records(folder, split), detector.config
    columns = {column.name: [] for column in fields(Features)}
    for batch in evaluation_batches(
        records, own.model.image_size, own.model.eval_crop, own.eval.batch_size
    ):
        # Without the images: of a large split only the features are held.
        batch["feature"] = detector.features(batch.pop("image"))
        for name, column in columns.items():
            column.append(batch[name])
    say(f"features of {len(records)} {split} faces")
    exported = {name: np.concatenate(column) for name, column in columns.items()}
    for name in ("label", "frame"):
        exported[name] = exported[name].astype(np.int32)
    for name in ("fidelity", "quality", "known_quality"):
        exported[name] = exported[name].astype(np.float32)
    return Features(**exported)
