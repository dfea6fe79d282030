"""Schedule, decay and averaging by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.training.optimizer import (
    average,
    decayed,
    find_matrices,
    learning_rate,
    optimizer,
)
from deepfidelity_jax.training.step import create_state


def test_schedule(tiny):
    own = tiny.train
    own.steps, own.warmup_steps = 100, 20
    own.learning_rate, own.end_learning_rate = 1e-3, 1e-5
    rate = learning_rate(own)
    assert rate(0) == 0
    assert rate(10) == pytest.approx(5e-4)
    assert rate(20) == pytest.approx(1e-3)
    assert rate(60) == pytest.approx((1e-3 + 1e-5) / 2)  # half the cosine
    assert rate(100) == pytest.approx(1e-5)
    assert rate(1000) == pytest.approx(1e-5)
    own.warmup_steps = 1000  # longer than the run: half of it
    assert learning_rate(own)(50) == pytest.approx(1e-3)
    own.steps = 1
    assert np.isfinite(learning_rate(own)(0))


def test_kernels_decay_and_nothing_else(tiny):
    params = jax.eval_shape(lambda: create_state(build_model(tiny), tiny)).variables["params"]
    found = {}
    for path, decays in jax.tree_util.tree_leaves_with_path(decayed(params)):
        found.setdefault(path[-1].key, set()).add(decays)
    assert found.pop("kernel") == {True}
    assert {"bias", "scale"} <= found.keys()
    assert all(decays == {False} for decays in found.values()), found
    kernels = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "kernel"
    ]
    # Nearly all of the network: vectors are few.
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sum(kernel.size for kernel in kernels) > 0.95 * size


def test_one_update_by_hand(tiny):
    """AdamW's first update is the sign of the gradient, and decay beside it where it belongs."""
    own = tiny.train
    own.warmup_steps, own.learning_rate, own.weight_decay = 0, 0.1, 0.5
    params = {"a": {"kernel": jnp.array([2.0, -2.0]), "bias": jnp.array([2.0])}}
    gradients = {"a": {"kernel": jnp.array([0.3, -0.4]), "bias": jnp.array([0.0])}}
    chain = optimizer(own)
    updates, _ = chain.update(gradients, chain.init(params), params)
    np.testing.assert_allclose(updates["a"]["kernel"], [-0.1 - 0.1, 0.1 + 0.1], rtol=1e-5)
    np.testing.assert_allclose(updates["a"]["bias"], [0.0])


def test_gradients_are_clipped_by_their_global_norm(tiny):
    tiny.train.clip_norm = 1.0
    params = {"kernel": jnp.zeros(2), "bias": jnp.zeros(1)}
    gradients = {"kernel": jnp.array([30.0, 0.0]), "bias": jnp.array([40.0])}
    chain = optimizer(tiny.train)
    state = chain.update(gradients, chain.init(params), params)[1]
    first_moment = state[1][0].mu
    np.testing.assert_allclose(first_moment["kernel"], [0.06, 0], rtol=1e-5)
    np.testing.assert_allclose(first_moment["bias"], [0.08], rtol=1e-5)


def test_average_warms_up():
    """The share of the new value: 9/10 at step 0, 9/11 at 1, then down to 1 - decay."""
    old, new = {"a": jnp.array(1.0)}, {"a": jnp.array(2.0)}
    for step, share in ((0, 0.9), (1, 9 / 11), (8, 0.5), (10_000, 0.001)):
        found = average(old, new, jnp.array(step), 0.999)["a"]
        assert found == pytest.approx(1 + share, rel=1e-6), step
    assert average(old, new, jnp.array(0), 0.0)["a"] == 2


def test_a_token_head_without_a_loss_keeps_its_start(tiny):
    tiny.train.warmup_steps, tiny.train.token_weight = 0, 0.0
    params = {"aux_head": {"kernel": jnp.ones(3)}, "head": {"kernel": jnp.ones(3)}}
    chain = optimizer(tiny.train)
    gradients = jax.tree.map(jnp.zeros_like, params)
    updates, _ = chain.update(gradients, chain.init(params), params)
    assert not np.any(updates["aux_head"]["kernel"])
    assert np.all(updates["head"]["kernel"])


def test_gradients_need_not_be_clipped(tiny):
    tiny.train.clip_norm = 0.0
    params = {"kernel": jnp.zeros(1)}
    chain = optimizer(tiny.train)
    state = chain.update({"kernel": jnp.array([50.0])}, chain.init(params), params)[1]
    np.testing.assert_allclose(state[1][0].mu["kernel"], [5.0], rtol=1e-5)


def test_a_schedule_may_be_longer_than_the_run_and_move_in_stairs(tiny):
    own = tiny.train
    own.steps, own.schedule_steps, own.warmup_steps, own.schedule_every = 30, 100, 50, 10
    own.warmup_start, own.learning_rate = 1e-4, 6e-4
    rate = learning_rate(own)
    found = [float(rate(step)) for step in (0, 9, 10, 19, 20, 29)]
    np.testing.assert_allclose(found, [1e-4, 1e-4, 2e-4, 2e-4, 3e-4, 3e-4], rtol=1e-5)


def test_muon_moves_every_matrix_along_all_of_its_directions_alike(tiny):
    """The singular values of a step are alike whatever the gradient's, and its size is AdamW's."""
    own = tiny.train
    own.optimizer, own.warmup_steps, own.weight_decay, own.learning_rate = "muon", 0, 0.0, 0.1
    key = jax.random.key(0)
    # Two stacked blocks with gradients whose directions differ a thousandfold.
    kernel = jax.random.normal(key, (2, 24, 16)) * jnp.logspace(-3, 0, 16)
    params = {"blocks": {"kernel": jnp.zeros_like(kernel)}, "head": {"kernel": jnp.zeros((4, 2))}}
    gradients = {"blocks": {"kernel": kernel}, "head": {"kernel": jnp.full((4, 2), 0.01)}}
    chain = optimizer(own)
    updates, _ = chain.update(gradients, chain.init(params), params)
    step = updates["blocks"]["kernel"]
    for block, gradient in zip(step, kernel, strict=True):
        values = jnp.linalg.svd(block, compute_uv=False)
        assert values[0] < 2 * values[8], "the gradient's fall by a factor of 30 there"
        assert jnp.vdot(block, gradient) < 0
        assert jnp.sqrt(jnp.mean(block**2)) == pytest.approx(0.2 * 0.1, rel=0.4)
    # Adam's first step has the same size for every number; Nesterov's momentum lengthens it.
    np.testing.assert_allclose(updates["head"]["kernel"], -0.1 * (0.9 + 0.1 / 0.19), rtol=0.05)


def test_muon_moves_the_matrices_of_the_network_and_adamw_the_rest(tiny):
    params = jax.eval_shape(lambda: create_state(build_model(tiny), tiny)).variables["params"]
    is_leaf = lambda axes: axes is None or hasattr(axes, "output_axis")  # noqa: E731
    found = jax.tree.leaves(find_matrices(params), is_leaf=is_leaf)
    for (path, leaf), axes in zip(jax.tree_util.tree_leaves_with_path(params), found, strict=True):
        own = [part.key for part in path]
        if axes is None:
            assert own[-1] != "kernel" or "head" in own[0] or own[-2] in ("attn", "pos_embed"), own
        else:
            assert own[-1] == "kernel"
            assert (axes.reduction_axis, axes.output_axis) == (leaf.ndim - 2, leaf.ndim - 1)


def test_muon_decays_what_adamw_decays(tiny):
    own = tiny.train
    own.optimizer, own.warmup_steps, own.weight_decay, own.learning_rate = "muon", 0, 0.5, 0.1
    params = {"a": {"kernel": 2 * jnp.ones((3, 3)), "bias": jnp.ones(3)}}
    chain = optimizer(own)
    updates, _ = chain.update(jax.tree.map(jnp.zeros_like, params), chain.init(params), params)
    np.testing.assert_allclose(updates["a"]["kernel"], -0.1, rtol=1e-5)
    assert not np.any(updates["a"]["bias"])
