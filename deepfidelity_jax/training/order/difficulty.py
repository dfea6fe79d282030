"""How hard each training record is for the network as it is now.

Measured at every evaluation of a run that needs it, and kept in `difficulty/<step>.npz` of the
workdir. The file determines what is drawn afterwards.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.network.ssaaformer import SSAAFormer, normalise
from deepfidelity_jax.processes.faults import raise_unless_damaged
from deepfidelity_jax.training.batches import ForgedPair, LabelledFace, TrainingInput
from deepfidelity_jax.training.order.sampling import Difficulty

PLACE = "difficulty"  # in the workdir


def measure(
    score: Callable,
    variables: Any,
    records: Sequence[dict[str, Any]],
    made_from: TrainingInput,
    *,
    forged: bool,
    seed: int,
    batch_size: int,
) -> Difficulty:
    """Loss and fidelity error of each record; if forged, means over the real face and its forgery.

    The draws of augmentation and forgery are fixed for each record.

    Args:
      score: from `make_score`.
      variables: the averaged weights.
      records: the training records.
      made_from: how a record becomes an example.
      forged: whether training forges the records.
      seed: of the draws.
      batch_size: records scored at once.
    """
    make = ForgedPair(records, made_from) if forged else LabelledFace(made_from)
    loss, error = [], []
    for start in range(0, len(records), batch_size):
        rows = range(start, min(start + batch_size, len(records)))
        examples = [
            make.random_map(records[row], np.random.default_rng([seed, row])) for row in rows
        ]
        size = 2 if forged else 1

        def gather(key, examples=examples, size=size):
            stacked = np.stack([example[key] for example in examples])
            stacked = stacked.reshape(len(examples) * size, *stacked.shape[1 + (size > 1) :])
            missing = batch_size * size - len(stacked)
            return np.pad(stacked, [(0, missing), *[(0, 0)] * (stacked.ndim - 1)], mode="edge")

        scored = jax.device_get(
            score(variables, gather("image"), gather("label"), gather("fidelity"))
        )
        for values, column in zip(scored, (loss, error), strict=True):
            column.append(values.reshape(-1, size).mean(axis=1)[: len(examples)])
    return Difficulty(*(np.concatenate(column).astype(np.float64) for column in (loss, error)))


def make_score(model: SSAAFormer) -> Callable:
    """A jitted function of variables, images, labels and targets: each image's loss and error."""
    return functools.partial(_score, model)


@functools.partial(jax.jit, static_argnums=0)
def _score(model, variables, images, label, target):
    outputs = model.apply(variables, normalise(images), train=False)
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs.class_logits, label)
    if outputs.fidelity is None:
        return loss, loss
    says = jnp.take_along_axis(outputs.fidelity, label[:, None], axis=1)[:, 0]
    return loss, jnp.abs(says - target)


def save(difficulty: Difficulty, workdir: Path, step: int) -> None:
    """Keep the difficulties measured at a step."""
    with written_whole(workdir / PLACE / f"{step}.npz") as file:
        np.savez(file, loss=difficulty.loss, error=difficulty.error)


def read_latest(workdir: Path, step: int, config: ConfigDict) -> Difficulty | None:
    """The difficulties measured at the last evaluation up to a step; None before the first.

    InputError if their file is missing or damaged.
    """
    last = step // config.train.eval_every * config.train.eval_every
    if last == 0:
        return None
    path = workdir / PLACE / f"{last}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return Difficulty(file["loss"], file["error"])
    except Exception as error:
        raise_unless_damaged(str(path), error)
        raise InputError(
            f"{path} is missing or damaged, and training cannot go on without it from step {step}: "
            "restore it, or start over in a new --workdir"
        ) from None
