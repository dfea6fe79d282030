"""How hard records are: measured the same every time, read back at the right step."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig, normalise
from deepfidelity_jax.records.schema import SOURCES, Records
from deepfidelity_jax.training.batches import training_input
from deepfidelity_jax.training.order import difficulty
from deepfidelity_jax.training.order.sampling import Difficulty
from deepfidelity_jax.training.step import create_state

NETWORK = SSAAFormerConfig(
    depths=(1, 0, 0, 0), widths=(16, 24, 32, 48), head_dim=16, symmetric=(1, 0, 0, 0)
)


def test_the_file_of_the_last_evaluation_holds(tmp_path):
    config = ConfigDict({"train": {"eval_every": 10}})
    for step in (10, 20):
        own = np.full(3, float(step))
        difficulty.save(Difficulty(own, own), tmp_path, step)
    assert difficulty.read_latest(tmp_path, 9, config) is None
    assert difficulty.read_latest(tmp_path, 10, config).loss[0] == 10
    assert difficulty.read_latest(tmp_path, 19, config).loss[0] == 10
    assert difficulty.read_latest(tmp_path, 25, config).error[0] == 20


def test_a_missing_or_damaged_file_is_told_in_one_line(tmp_path):
    config = ConfigDict({"train": {"eval_every": 10}})
    difficulty.save(Difficulty(np.ones(3), np.ones(3)), tmp_path, 10)
    path = tmp_path / "difficulty" / "10.npz"
    for damage in (lambda: path.write_bytes(path.read_bytes()[:-30]), path.unlink):
        damage()
        with pytest.raises(InputError, match=r"10.npz is missing or damaged, .* from step 15"):
            difficulty.read_latest(tmp_path, 15, config)


@pytest.mark.parametrize("fidelity_head", [True, False])
def test_loss_and_error_by_their_definitions(fidelity_head):
    """Cross-entropy of the class head; how far the head's fidelity, given the class, is off."""
    model = SSAAFormer(replace(NETWORK, fidelity_head=fidelity_head))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    label, target = np.int32([0, 1, 1, 0]), np.float32([0.1, 0.9, 0.3, 0.7])
    init, apply = (jax.jit(f, static_argnames="train") for f in (model.init, model.apply))
    variables = init(jax.random.key(0), normalise(jnp.asarray(images)), train=False)
    variables = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape), variables)
    loss, error = difficulty.make_score(model)(variables, images, label, target)

    outputs = apply(variables, normalise(jnp.asarray(images)), train=False)
    chances = np.exp(np.asarray(outputs.class_logits, np.float64))
    chances /= chances.sum(axis=1, keepdims=True)
    expected = -np.log(chances[np.arange(4), label])
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-5)
    if fidelity_head:
        says = np.asarray(outputs.fidelity)
        expected = np.abs(says[np.arange(4), label] - target)
        assert np.ptp(says, axis=1).min() > 0.001, "the class makes a difference"
    np.testing.assert_allclose(error, expected, rtol=1e-4, atol=1e-5)


def test_it_is_the_loss_of_the_records(tiny, records_folder):
    """One at a time or many, forged or not: the same numbers, in the order of the records."""
    model = SSAAFormer(replace(NETWORK, fidelity_head=True))
    variables = jax.jit(lambda: create_state(model, tiny).variables)()
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
