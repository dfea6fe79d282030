"""A stack of blocks is the blocks in a row, whatever it keeps for the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from deepfidelity_jax.network.kernels.blocks import stack
from deepfidelity_jax.network.kernels.norms import batch_norm
from deepfidelity_jax.network.kernels.products import project

DEPTH, WIDTH = 3, 4


class Toy(nn.Module):
    """A block with a parameter, a statistic and a product."""

    @nn.compact
    def __call__(self, x, rate):
        kernel = self.param("kernel", nn.initializers.normal(0.5), (WIDTH, WIDTH))
        count = self.variable("batch_stats", "count", jnp.zeros, ())
        if not self.is_initializing():
            count.value += rate
        y = batch_norm(project(x, kernel), jnp.ones(WIDTH), jnp.zeros(WIDTH), 1e-5)[0]
        return x + rate * jnp.sin(y), None


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).normal(size=(6, WIDTH)), jnp.float32)


RATES = jnp.array([0.5, 1.0, 2.0])


def run(remat):
    return stack(Toy, DEPTH, remat=remat)()


def loss(params, x, remat):
    state = {"params": params, "batch_stats": {"count": jnp.zeros(DEPTH)}}
    (y, _), new = run(remat).apply(state, x, RATES, mutable=["batch_stats"])
    return jnp.square(y).sum(), (y, new)


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
def test_a_stack_is_its_blocks_in_a_row(x, remat):
    params = run(remat).init(jax.random.key(0), x, RATES)["params"]
    assert params["kernel"].shape == (DEPTH, WIDTH, WIDTH)
    assert not np.allclose(params["kernel"][0], params["kernel"][1]), "each block draws its own"

    def in_a_row(params):
        y = x
        for kernel, rate in zip(params["kernel"], RATES, strict=True):
            state = {"params": {"kernel": kernel}, "batch_stats": {"count": jnp.zeros(())}}
            (y, _), _ = Toy().apply(state, y, rate, mutable=["batch_stats"])
        return jnp.square(y).sum()

    expected, by_hand = jax.value_and_grad(in_a_row)(params)
    (found, (_, new)), gradient = jax.value_and_grad(loss, has_aux=True)(params, x, remat)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient["kernel"], by_hand["kernel"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(new["batch_stats"]["count"], RATES)


def test_remat_computes_products_and_statistics_again(x):
    params = run(False).init(jax.random.key(0), x, RATES)["params"]

    def count(remat, operation):
        gradient = jax.grad(lambda *a: loss(*a, remat)[0])
        return str(jax.make_jaxpr(gradient)(params, x)).count(operation)

    for operation in ("dot_general", "rsqrt"):
        assert count(True, operation) >= count(False, operation)
    assert count(True, "dot_general") > count(False, "dot_general")
