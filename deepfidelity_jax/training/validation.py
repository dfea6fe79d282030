"""Frame AUC and loss on the split that picks the checkpoint."""

import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8
from ml_collections import ConfigDict

from deepfidelity_jax.network.ssaaformer import SSAAFormer, normalise
from deepfidelity_jax.processes import hosts
from deepfidelity_jax.records import schema
from deepfidelity_jax.training import sharding
from deepfidelity_jax.training.batches import evaluation_batches
from deepfidelity_jax.training.checkpoint import METRICS

# The label of rows that fill up a batch.
PADDING = -1


def score_faces(
    variables: Any, images: UInt8[Array, "n s s 3"], label: Int[Array, "n"], *, model: SSAAFormer
) -> tuple[Float[Array, "n 2"], Int[Array, "n"]]:
    """Class and token logits together of a batch, and its labels, which all processes then have."""
    return model.apply(variables, normalise(images), train=False).logits, label


class Validation:
    """Frame AUC and loss of the averaged weights on the split `config.train.select_on`."""

    def __init__(self, model: SSAAFormer, config: ConfigDict, folder: Path, mesh: Mesh):
        split = config.train.select_on
        self.records, self.auc = (
            schema.Records(folder, split).without(config.train.get("leave_out", ())),
            METRICS[split],
        )
        self.loss = self.auc.replace("frame_auc", "loss")
        self.config, self.mesh = config, mesh
        score = jax.jit(
            score_faces, static_argnames="model", out_shardings=sharding.replicated(mesh)
        )
        self.score = hosts.compiled_by_all(score, model=model)

    def __call__(self, variables) -> dict[str, float]:
        """Score the split: `val_frame_auc` and `val_loss`, or `test_...` on the test split."""
        options, process = self.config.model, (hosts.index(), hosts.count())
        devices = self.mesh.size
        rows = -(-self.config.eval.batch_size // devices) * devices // process[1]
        batches = evaluation_batches(
            self.records, options.image_size, options.eval_crop, rows, process
        )
        logits, label = [], []
        # Every process takes the same number of batches, though some may have one face fewer.
        for _ in range(-(-len(self.records) // process[1] // rows)):
            images = np.zeros((rows, options.image_size, options.image_size, 3), np.uint8)
            labels = np.full(rows, PADDING)
            for batch in itertools.islice(batches, 1):
                images[: len(batch["image"])] = batch["image"]
                labels[: len(batch["label"])] = batch["label"]
            images, labels = sharding.place_batch((images, labels), self.mesh)
            scored = jax.device_get(self.score(variables, images, labels))
            logits.append(scored[0][scored[1] != PADDING])
            label.append(scored[1][scored[1] != PADDING])
        logits, label = np.concatenate(logits).astype(np.float64), np.concatenate(label)
        from sklearn.metrics import roc_auc_score

        real = logits[:, 1] - logits[:, 0]
        loss = np.logaddexp(0, np.where(label == schema.REAL, -real, real)).mean()
        return {self.auc: float(roc_auc_score(label, real)), self.loss: float(loss)}
