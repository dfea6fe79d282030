"""How hard records are: measured the same every time, read back at the right step."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.records.schema import SOURCES, Records
from deepfidelity_jax.training.batches import training_input
from deepfidelity_jax.training.order import difficulty
from deepfidelity_jax.training.order.sampling import Difficulty
from deepfidelity_jax.training.step import create_state


def test_the_file_of_the_last_evaluation_holds(tmp_path):
    config = ConfigDict({"train": {"eval_every": 10}})
    for step in (10, 20):
        own = np.full(3, float(step))
        difficulty.save(Difficulty(own, own), tmp_path, step)
    assert difficulty.read_latest(tmp_path, 9, config) is None
    assert difficulty.read_latest(tmp_path, 10, config).loss[0] == 10
    assert difficulty.read_latest(tmp_path, 19, config).loss[0] == 10
    assert difficulty.read_latest(tmp_path, 25, config).error[0] == 20


def test_it_is_the_loss_of_the_records(tiny, records_folder):
    """One at a time or many, forged or not: the same numbers, in the order of the records."""
    model = build_model(tiny)
    variables = create_state(model, tiny).variables
    made_from, score = training_input(tiny, records_folder), difficulty.make_score(model)
    for split, forged in ((SOURCES, True), ("train", False)):
        records = [Records(records_folder, split)[row] for row in range(4)]
        found = [
            difficulty.measure(
                score, variables, records, made_from, forged=forged, seed=0, batch_size=size
            )
            for size in (3, 4)
        ]
        assert found[0].loss.shape == found[0].error.shape == (4,)
        assert np.allclose(found[0].loss, found[1].loss, atol=1e-5)
        assert np.allclose(found[0].error, found[1].error, atol=1e-5)
        assert np.ptp(found[0].error) > 0
    example = difficulty.LabelledFace(made_from).random_map(
        records[3], np.random.default_rng([0, 3])
    )
    loss, _ = jax.device_get(
        score(variables, example["image"][None], example["label"][None], example["fidelity"][None])
    )
    assert found[1].loss[3] == pytest.approx(float(loss[0]), abs=1e-5)
