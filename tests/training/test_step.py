"""A training step: pure, the same in parts, with keys of its own in every step."""

import functools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig
from deepfidelity_jax.records import schema
from deepfidelity_jax.training import step, token_mixing
from deepfidelity_jax.training.batches import TOKEN, training_batches, training_input
from deepfidelity_jax.training.step import divide, train_step

# The smallest network that has all parts, and that which has one block.
ALL_PARTS = SSAAFormerConfig(
    depths=(1, 1, 1, 1),
    widths=(16, 24, 32, 48),
    head_dim=16,
    symmetric=(1, 0, 0, 0),
    fidelity_head=True,
    ordinal_head=True,
)
ONE_BLOCK = replace(ALL_PARTS, depths=(1, 0, 0, 0))


def create_state(network, config):
    """A fresh state of the network."""
    return jax.jit(lambda: step.create_state(SSAAFormer(network), config))()


def jit_step(network, config):
    """One training step of the network, as `config` is now."""
    model, config = SSAAFormer(network), config.copy_and_resolve_references()
    return jax.jit(functools.partial(train_step, model=model, config=config))


@pytest.fixture(scope="module")
def batch(records_folder):
    """One real batch of the tiny run."""
    from deepfidelity_configs import demo

    config = demo.get_config()
    config.model.image_size = 32
    batches = training_batches(
        schema.Records(records_folder, schema.SOURCES),
        training_input(config, records_folder),
        batch_size=8,
        seed=0,
        forged=True,
    )
    return next(batches)


@pytest.mark.slow
def test_bfloat16_learns_a_batch_by_heart(batch, tiny):
    """Computed in bfloat16, kept in float32."""
    tiny.train.warmup_steps, tiny.train.learning_rate = 1, 1e-3
    tiny.train.fidelity_weight = 1.0
    state, losses = create_state(ALL_PARTS, tiny), []
    step = jit_step(replace(ALL_PARTS, dtype="bfloat16"), tiny)
    for _ in range(12):
        state, metrics = step(state, batch)
        losses.append(float(metrics["class"]))
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0] - 0.05
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.variables)} == {"float32"}


def test_losses_that_mixing_turns_off_are_told(tiny):
    tiny.train.ranking_weight, tiny.train.mask_weight = 3.0, 1.0
    assert not step.find_idle(tiny.train)
    tiny.train.token_mixing = "labelled"
    line = step.find_idle(tiny.train)
    assert "token_mixing=labelled" in line
    assert line.endswith("of config.train.mask_weight=1.0 and config.train.ranking_weight=3.0")
    tiny.train.mask_weight = 0.0
    assert step.find_idle(tiny.train).endswith("no effect of config.train.ranking_weight=3.0")
    tiny.train.ranking_weight = 0.0
    assert not step.find_idle(tiny.train)


@pytest.mark.slow
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(batch, tiny):
    """Where BatchNorm cannot tell the parts apart, as all hold the same pair."""
    whole = {key: np.concatenate([value[2:4]] * 4) for key, value in batch.items()}
    state = create_state(ONE_BLOCK, tiny)
    one, metrics = jit_step(ONE_BLOCK, tiny)(state, whole)
    tiny.train.accumulate = 4
    in_parts = jit_step(ONE_BLOCK, tiny)
    parts, metrics_of_parts = in_parts(state, whole)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, metrics_of_parts, metrics)
    # Rounding grows where BatchNorm divides by little; a part left out would be a quarter.
    jax.tree.map(
        lambda a, b: close(a, b, rtol=0, atol=5e-6 + 5e-3 * np.abs(b).max()),
        parts.opt_state,
        one.opt_state,
    )
    # The running statistics of four small batches, not of one large one.
    running = [s.variables["batch_stats"]["norm"]["mean"] for s in (state, one, parts)]
    batch_mean = (running[1] - 0.9 * running[0]) / 0.1
    close(running[2], 0.9**4 * running[0] + (1 - 0.9**4) * batch_mean, atol=1e-5)
    # Parts that differ all count: another pair in the last part is another gradient.
    other = {key: np.concatenate([value[:6], value[4:6]]) for key, value in batch.items()}
    assert not np.allclose(in_parts(state, other)[1]["loss"], metrics["loss"], atol=1e-4)


def test_a_batch_is_divided_by_pairs():
    batch = {"image": jnp.arange(24.0).reshape(12, 2), "label": jnp.arange(12)}
    parts = divide(batch, 3)
    np.testing.assert_array_equal(parts["label"], [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]])
    np.testing.assert_array_equal(parts["image"][1, :, 0], [4, 6, 16, 18])


def test_tokens_are_mixed_before_the_network_sees_them(records_folder, tiny):
    """Exchanging in the step, labels left alone, is training on exchanged images."""
    side = 3
    tiny.model.image_size = side * TOKEN
    tiny.train.token_weight = tiny.train.ranking_weight = 0.0  # mixed images are not ranked
    folder = schema.Records(records_folder, "train")
    made_from = training_input(tiny, records_folder)
    batch = next(training_batches(folder, made_from, batch_size=4, seed=0, forged=False))
    state = create_state(ONE_BLOCK, tiny)
    key = jax.random.key(tiny.seed + 2)
    boxes = [token_mixing.draw_box(jax.random.fold_in(key, i), side) for i in range(20)]
    number = next(i for i, box in enumerate(boxes) if 0 < box.mean() < 1)
    state = state.replace(step=jnp.array(number))
    exchanged = token_mixing.exchange(jnp.asarray(batch["image"], jnp.float32), boxes[number])
    by_hand = batch | {"image": exchanged.astype(jnp.uint8)}
    expected = jit_step(ONE_BLOCK, tiny)(state, by_hand)
    tiny.train.token_mixing = "unlabelled"
    found = jit_step(ONE_BLOCK, tiny)(state, batch)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, found, expected)


def test_every_step_drops_other_paths_and_again_the_same(batch, tiny):
    """By the number of the step alone, and otherwise the same state and batch."""
    config = replace(ALL_PARTS, depths=(2, 0, 0, 0), symmetric=(0, 0, 0, 0), drop_path=0.5)
    state = create_state(config, tiny)

    def losses(*numbers):
        take = jit_step(config, tiny)
        return [float(take(state.replace(step=jnp.array(i)), batch)[1]["loss"]) for i in numbers]

    loss, again, next_one = losses(5, 5, 6)
    assert again == loss
    assert next_one != loss
    tiny.seed += 1
    assert losses(5) != [loss]


def test_the_average_follows_the_new_weights(batch, tiny):
    """With the first step's share, 9 / 10, of parameters and statistics alike."""
    tiny.train.update(warmup_steps=0, ema_warmup=True)
    state = create_state(ONE_BLOCK, tiny)
    new, _ = jit_step(ONE_BLOCK, tiny)(state, batch)
    expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, state.variables, new.variables)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, new.ema, expected)
    assert int(new.step) == 1


@pytest.mark.slow
def test_a_start_replaces_weights_and_their_average(tiny):
    state = create_state(ONE_BLOCK, tiny)
    path = ("params", "head", "bias")
    started = step.start_from(state, {path: jnp.array([1.0, 2.0])})
    for tree in (started.variables, started.ema):
        np.testing.assert_array_equal(tree["params"]["head"]["bias"], [1, 2])
        tree["params"]["head"]["bias"] = state.variables["params"]["head"]["bias"]
        jax.tree.map(np.testing.assert_array_equal, tree, state.variables)
