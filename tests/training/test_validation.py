"""Validation: every face counts once, and the scores are named after their split."""

import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig, normalise
from deepfidelity_jax.records.schema import Records
from deepfidelity_jax.training import sharding
from deepfidelity_jax.training.batches import evaluation_batches
from deepfidelity_jax.training.validation import Validation

NETWORK = SSAAFormerConfig(
    depths=(1, 0, 0, 0), widths=(16, 24, 32, 48), head_dim=16, symmetric=(1, 0, 0, 0)
)


@pytest.mark.parametrize(("split", "prefix"), [("validation", "val_"), ("test", "test_")])
def test_scores_are_of_every_face_of_the_split(records_folder, tiny, split, prefix):
    """Whatever the batch size: rows that fill up the last batch do not count."""
    records = Records(records_folder, split)
    tiny.train.select_on, tiny.eval.batch_size = split, len(records) // 2 + 1
    model = SSAAFormer(NETWORK)
    images = np.zeros((1, 32, 32, 3), np.float32)
    init, apply = (jax.jit(f, static_argnames="train") for f in (model.init, model.apply))
    variables = init(jax.random.key(0), jax.numpy.asarray(images), train=False)
    found = Validation(model, tiny, records_folder, sharding.data_mesh(1))(variables)

    (batch,) = evaluation_batches(records, 32, tiny.model.eval_crop, len(records))
    outputs = apply(variables, normalise(jax.numpy.asarray(batch["image"])), train=False)
    logits = np.asarray(outputs.logits, np.float64)
    label, rows = batch["label"], np.arange(len(records))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found == pytest.approx(
        {
            f"{prefix}frame_auc": roc_auc_score(label, logits[:, 1] - logits[:, 0]),
            f"{prefix}loss": -np.log(chances[rows, label]).mean(),
        },
        rel=1e-4,
    )
