"""Figures as the official code computes them, for comparison with published ones."""

from pathlib import PurePosixPath

import numpy as np

from deepfidelity_jax.scoring.intervals import Level, Sample
from deepfidelity_jax.scoring.metrics import auc, count_level
from deepfidelity_jax.scoring.table import Predictions


def official_scoring(table: Predictions) -> dict:
    """Score as the paper's code does, to compare with its published numbers and for nothing else.

    Within a class, all frames whose folder (here: video) has the same name up to the first
    underscore are one group and score their mean; so FF++ videos of one target, by whatever method,
    and Celeb-DF videos of one person are merged. `auc` is over groups. `acc` is over groups at
    whichever of the 21 thresholds 0.40, 0.41 ... 0.60 suits these very scores best, the lowest of
    equals. What cannot be had because a class is missing is None.
    """
    names = [_official_name(video) for video in table.video_id]
    keys = list(zip(table.dataset, table.label.tolist(), names, strict=True))
    number = {key: index for index, key in enumerate(sorted(set(keys)))}
    of_frame = np.array([number[key] for key in keys], np.int64)
    mean = np.bincount(of_frame, table.fidelity) / np.bincount(of_frame)
    label = np.array([kind for _, kind, _ in number], np.int64)
    both = len(set(label.tolist())) == 2
    thresholds = np.linspace(0.4, 0.6, 21)
    accuracy = ((mean >= thresholds[:, None]) == label).mean(axis=1)
    best = int(accuracy.argmax())
    sample = Sample(label, mean, np.ones((1, len(label))))
    return {
        "auc": float(auc(sample)[0]) if both else None,
        "acc": float(accuracy[best]) if both else None,
        "threshold": float(thresholds[best]),
        "threshold_from": "the best of 21 on these scores",
        **count_level("n_groups", Level(label, mean, np.arange(len(label)))),
    }


def _official_name(video_id: str) -> tuple[str, ...]:
    """Path of a video below its folder of one class or method, its name cut at an underscore."""
    path = PurePosixPath(video_id)
    inside = path.parts[1:] or path.parts
    return (*inside[:-1], path.stem.split("_")[0])
