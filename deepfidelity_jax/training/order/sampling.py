"""Curriculum, hard-sample mining and balance: which record each row of a batch is drawn from.

Records are drawn with replacement. A draw depends on the seed, on its index in the stream, and on
the difficulties measured last, which are on disk; so a run that resumes draws the same records.

A curriculum starts with the easiest START of the records and adds the others evenly over
`config.train.curriculum_steps`. Easy means a high quality or a low loss within the class (Bengio
et al., "Curriculum learning", 2009). Mining draws a record in proportion to its fidelity error, to
the power of `config.train.mining`. Balance gives each class, or each method of forgery and the real
faces, the same share: a group is drawn first, then a record of it.
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
    train = config.train
    balanced = forged or train.balance == "none"
    return train.curriculum == "none" and train.mining == 0 and balanced


def needs_difficulty(config: ConfigDict) -> bool:
    """Whether the difficulty of the records has to be measured during training."""
    return config.train.curriculum == "loss" or config.train.mining > 0


def read_about(records: Sequence[dict[str, Any]]) -> About:
    """`About` of all records."""
    rows = [(record["label"], record["method"], record["quality"]) for record in records]
    label, method, quality = zip(*rows, strict=True)
    return About(np.int64(label), np.array(method, object), np.float64(quality))


@dataclass(frozen=True, eq=False)
class Drawn(Sequence[dict[str, Any]]):
    """The endless stream of drawn records, as a random-access sequence for Grain.

    Attributes:
      records: what is drawn from.
      groups: the rows of each group, the easiest first; groups are drawn equally often.
      cumulative: of each group, the sum of the weights in that order.
      rows_per_step: records of one step, over all processes.
      curriculum_steps: steps until all records take part; 0: from the first step.
      seed: of the draws.
      length: records in the stream.
    """

    records: Sequence[dict[str, Any]]
    groups: Sequence[Int[np.ndarray, "_"]]
    cumulative: Sequence[Float[np.ndarray, "_"]]
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
        at = np.random.default_rng([self.seed, index]).random() * len(self.groups)
        group = int(at)
        rows, cumulative = self.groups[group], self.cumulative[group]
        count = max(1, round(self.share(index // self.rows_per_step) * len(rows)))
        at = (at - group) * cumulative[count - 1]
        position = np.searchsorted(cumulative[:count], at, side="right")
        return int(rows[min(position, count - 1)])

    def share(self, step: int) -> float:
        """The share of each group that takes part in a step, the easiest records."""
        if not self.curriculum_steps:
            return 1.0
        return START + (1 - START) * min(1.0, step / self.curriculum_steps)


def draw(
    records: Sequence[dict[str, Any]],
    about: About,
    config: ConfigDict,
    rows_per_step: int,
    difficulty: Difficulty | None = None,
) -> Drawn:
    """The stream for a configuration; what needs a difficulty is off until one is measured."""
    train = config.train
    order, steps = np.arange(len(about.label)), 0
    if train.curriculum == "quality":
        unknown_last = np.nan_to_num(-about.quality, nan=np.inf)
        order, steps = rank(unknown_last, about.label), train.curriculum_steps
    elif train.curriculum == "loss" and difficulty is not None:
        order, steps = rank(difficulty.loss, about.label), train.curriculum_steps
    groups = divide(order, about, train.balance)
    weights = [np.ones(len(rows)) for rows in groups]
    if train.mining > 0 and difficulty is not None:
        weights = [mine(difficulty.error[rows], train.mining) for rows in groups]
    return Drawn(
        records=records,
        groups=groups,
        cumulative=[np.cumsum(each) for each in weights],
        rows_per_step=rows_per_step,
        curriculum_steps=steps,
        seed=config.seed,
        length=max(1, train.steps) * rows_per_step,
    )


def rank(hardness: Float[np.ndarray, "n"], label: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """Rows from the easiest record of each class to the hardest.

    Classes are ranked separately, so that each share of the order holds both in proportion.
    """
    position = np.zeros(len(label))
    for kind in np.unique(label):
        (rows,) = np.nonzero(label == kind)
        easy_first = np.argsort(hardness[rows], kind="stable")
        position[rows[easy_first]] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.argsort(position, kind="stable")


def divide(order: Int[np.ndarray, "n"], about: About, by: str) -> list[Int[np.ndarray, "_"]]:
    """The rows in this order, apart for each class, or for each method and the real faces."""
    if by == "none":
        return [order]
    group = (about.label if by == "class" else about.method)[order]
    return [order[group == name] for name in np.unique(group)]


def mine(error: Float[np.ndarray, "n"], power: float) -> Float[np.ndarray, "n"]:
    """Weights that rise with the error, within LEAST and MOST of that of an average error."""
    mean = error.mean()
    if mean <= 0:
        return np.ones(len(error))
    return np.clip((error / mean) ** power, LEAST, MOST)
