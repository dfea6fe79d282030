"""The figures as the official code computes them, only for comparison with the published ones.

They are optimistic for two reasons: videos whose names begin alike are averaged into one, and the
threshold is the best of 21 on the same scores that it is evaluated on.
"""

from pathlib import PurePosixPath

import numpy as np

from deepfidelity_jax.fidelity.calibration import is_real
from deepfidelity_jax.fidelity.scale import REAL
from deepfidelity_jax.scoring.metrics import count_classes
from deepfidelity_jax.scoring.table import Predictions
from deepfidelity_jax.statistics.intervals import Sample
from deepfidelity_jax.statistics.ranking import auc


def official_scoring(table: Predictions) -> dict:
    """AUC and accuracy over groups of frames, by the official code's rules.

    A group is all frames of a class whose folder (here: video) has the same name up to the first
    underscore. This merges the FF++ videos of one target across methods, and the Celeb-DF videos of
    one person. The score of a group is the mean of its frames. `acc` is the accuracy at the best of
    the thresholds 0.40, 0.41 ... 0.60 on these scores, the lowest if several tie. `auc` and `acc`
    are None where a class is missing.
    """
    names = [_group_name(video) for video in table.video_id]
    keys = list(zip(table.dataset, table.label.tolist(), names, strict=True))
    number = {key: index for index, key in enumerate(sorted(set(keys)))}
    of_frame = np.array([number[key] for key in keys], np.int64)
    mean = np.bincount(of_frame, table.fidelity) / np.bincount(of_frame)
    label = np.array([kind for _, kind, _ in number], np.int64)
    both = len(set(label.tolist())) == 2
    thresholds = np.linspace(0.4, 0.6, 21)
    accuracy = (is_real(mean, thresholds[:, None]) == (label == REAL)).mean(axis=1)
    best = int(accuracy.argmax())
    sample = Sample(label, mean, np.ones((1, len(label))))
    return {
        "auc": float(auc(sample)[0]) if both else None,
        "acc": float(accuracy[best]) if both else None,
        "threshold": float(thresholds[best]),
        "threshold_from": "the best of 21 on these scores",
        **count_classes("n_groups", label),
    }


def _group_name(video_id: str) -> tuple[str, ...]:
    """The path of a video inside the folder of its class or method, cut at an underscore."""
    path = PurePosixPath(video_id)
    inside = path.parts[1:] or path.parts
    return (*inside[:-1], path.stem.split("_")[0])
