"""Curriculum, hard-sample mining and balance: which record each row of a batch is drawn from.

Records are drawn with replacement. A draw depends on the seed, on its index in the stream, and on
the difficulties measured last, which are on disk; so a run that resumes draws the same records.

A curriculum starts with the easiest START of the records and adds the others evenly over
`config.train.curriculum_steps`. Easy means a high quality within the class, or a low loss (Bengio
et al., "Curriculum learning", 2009). Mining draws a record in proportion to its fidelity error, to
the power of `config.train.mining`. Balance gives each class, or each method of forgery and the real
faces, the same share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Float, Int, Shaped
from ml_collections import ConfigDict

START = 0.3
# How often a record is drawn, at least and at most, relative to one of average error.
LEAST, MOST = 0.1, 10.0


@dataclass(frozen=True, eq=False)
class About:
    """What drawing needs to know about each record: label, method, quality (NaN if unknown)."""

    label: Int[np.ndarray, "n"]
    method: Shaped[np.ndarray, "n"]
    quality: Float[np.ndarray, "n"]


@dataclass(frozen=True, eq=False)
class Difficulty:
    """How hard each record is: its loss and its fidelity error."""

    loss: Float[np.ndarray, "n"]
    error: Float[np.ndarray, "n"]


def is_uniform(config: ConfigDict, *, forged: bool) -> bool:
    """Whether every record is seen once an epoch, so that this module is not needed.

    `forged`: the records are real faces, each seen beside a new forgery. Balance then depends on
    the families drawn, see `batches.TrainingInput`.
    """
    own = config.train
    balanced = forged or own.balance == "none"
    return own.curriculum == "none" and own.mining == 0 and balanced


def needs_difficulty(config: ConfigDict) -> bool:
    """Whether the difficulty of the records has to be measured during training."""
    return config.train.curriculum == "loss" or config.train.mining > 0


def read_about(records: Sequence[dict[str, Any]]) -> About:
    """`About` of all records."""
    rows = [(own["label"], own["method"], own["quality"]) for own in records]
    label, method, quality = zip(*rows, strict=True)
    return About(np.int64(label), np.array(method, object), np.float64(quality))


@dataclass(frozen=True, eq=False)
class Drawn(Sequence[dict[str, Any]]):
    """The endless stream of drawn records, as a random-access sequence for Grain.

    Attributes:
      records: what is drawn from.
      order: the rows of the records, the easiest first.
      cumulative: sum of the weights in that order.
      rows_per_step: records of one step, over all processes.
      curriculum_steps: steps until all records take part; 0: from the first step.
      seed: of the draws.
      length: records in the stream.
    """

    records: Sequence[dict[str, Any]]
    order: Int[np.ndarray, "n"]
    cumulative: Float[np.ndarray, "n"]
    rows_per_step: int
    curriculum_steps: int
    seed: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:  # type: ignore[override]
        return self.records[self.row(int(index))]

    def row(self, index: int) -> int:
        """The row of the record at this index of the stream."""
        count = self.count(index // self.rows_per_step)
        at = np.random.default_rng([self.seed, index]).random() * self.cumulative[count - 1]
        place = np.searchsorted(self.cumulative[:count], at, side="right")
        return int(self.order[min(place, count - 1)])

    def count(self, step: int) -> int:
        """How many records take part in a step, the easiest ones."""
        n = len(self.order)
        if not self.curriculum_steps:
            return n
        share = START + (1 - START) * min(1.0, step / self.curriculum_steps)
        return max(1, round(share * n))


def draw(
    records: Sequence[dict[str, Any]],
    about: About,
    config: ConfigDict,
    rows_per_step: int,
    difficulty: Difficulty | None = None,
) -> Drawn:
    """The stream for a configuration; what needs a difficulty is off until one is measured."""
    own = config.train
    weights = balance(about, own.balance)
    if own.mining > 0 and difficulty is not None:
        weights = weights * mine(difficulty.error, own.mining)
    order, steps = np.arange(len(weights)), 0
    if own.curriculum == "quality":
        order, steps = rank_by_quality(about), own.curriculum_steps
    elif own.curriculum == "loss" and difficulty is not None:
        order, steps = np.argsort(difficulty.loss, kind="stable"), own.curriculum_steps
    return Drawn(
        records=records,
        order=order,
        cumulative=np.cumsum(weights[order]),
        rows_per_step=rows_per_step,
        curriculum_steps=steps,
        seed=config.seed,
        length=max(1, own.steps) * rows_per_step,
    )


def rank_by_quality(about: About) -> Int[np.ndarray, "n"]:
    """Rows from the best picture of each class to the worst; unknown quality comes last.

    Classes are ranked separately, so that each share of the order holds both in proportion.
    """
    place = np.zeros(len(about.label))
    for label in np.unique(about.label):
        (rows,) = np.nonzero(about.label == label)
        quality = np.nan_to_num(about.quality[rows], nan=-np.inf)
        place[rows[np.argsort(-quality, kind="stable")]] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.argsort(place, kind="stable")


def mine(error: Float[np.ndarray, "n"], power: float) -> Float[np.ndarray, "n"]:
    """Weights that rise with the error, within LEAST and MOST of the average one."""
    mean = error.mean()
    if mean <= 0:
        return np.ones(len(error))
    return np.clip((error / mean) ** power, LEAST, MOST)


def balance(about: About, by: str) -> Float[np.ndarray, "n"]:
    """Weights that give each class, or each method and the real faces, the same total."""
    if by == "none":
        return np.ones(len(about.label))
    groups = about.label if by == "class" else about.method
    _, group, count = np.unique(groups, return_inverse=True, return_counts=True)
    return 1.0 / count[group]
