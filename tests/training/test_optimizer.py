"""Schedule, decay and averaging by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.training.optimizer import average, decayed, learning_rate, optimizer
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
