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
    records = Records(folder, split)
    own = detector.config
    feature = [
        detector.features(images)
        for images in evaluation_batches(
            records, own.model.image_size, own.model.eval_crop, own.eval.batch_size
        )
    ]
    # Without the images: of a large split only the features are held.
    rows = [
        {name: value for name, value in records[index].items() if name != "image"}
        for index in range(len(records))
    ]
    say(f"features of {len(rows)} {split} faces")

    def column(name, dtype):
        return np.array([row[name] for row in rows], dtype)

    return Features(
        feature=np.concatenate(feature),
        label=column("label", np.int32),
        fidelity=column("fidelity", np.float32),
        quality=column("quality", np.float32),
        known_quality=column("known_quality", np.float32),
        frame=column("frame", np.int32),
        method=column("method", np.str_),
        video_id=column("video_id", np.str_),
        path=column("path", np.str_),
    )
