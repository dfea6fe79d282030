"""Every form of depthwise correlation is the definition, in value and gradient."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.kernels.depthwise import (
    correlate,
    plain_correlation,
    plain_gradient,
    shifted_sum,
    tap_products,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("shape", [(2, 7, 9, 4), (3, 2, 2, 8), (1, 1, 1, 4)])
def test_every_form_is_the_definition_in_value_and_gradient(rng, k, shape):
    x, g, kernel = normal(rng, *shape), normal(rng, *shape), normal(rng, k, k, shape[-1])
    value, pull = jax.vjp(plain_correlation, x, kernel)
    dx, dkernel = pull(g)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    close(shifted_sum(x, kernel), value)
    close(tap_products(x, g, k=k), dkernel)
    close(plain_gradient(x, g, k=k), dkernel)

    value_, pull_ = jax.vjp(jax.jit(correlate), x, kernel)
    dx_, dkernel_ = pull_(g)
    close(value_, value)
    close(dx_, dx)
    close(dkernel_, dkernel)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_each_platform_gets_its_own_form(platform):
    """Lowered for a platform, value and gradient hold a grouped convolution only off the CPU."""
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2))

    def loss(x, kernel):
        return jnp.square(correlate(x, kernel)).sum()

    traced = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(x, kernel)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == (platform != "cpu")


def test_in_a_scan_it_has_the_gradient_of_the_loop(rng):
    x, kernels = normal(rng, 2, 6, 6, 4), normal(rng, 3, 3, 3, 4)

    def scanned(kernels):
        return jnp.square(jax.lax.scan(lambda x, w: (correlate(x, w), None), x, kernels)[0]).mean()

    def looped(kernels):
        y = x
        for kernel in kernels:
            y = plain_correlation(y, kernel)
        return jnp.square(y).mean()

    got, expected = jax.jit(jax.grad(scanned))(kernels), jax.grad(looped)(kernels)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_over_eight_devices_it_equals_one():
    """The batch split over a mesh: same value, same gradients."""
    code = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from deepfidelity_jax.network.kernels.depthwise import correlate
keys = jax.random.split(jax.random.key(0), 3)
x, kernel = jax.random.normal(keys[0], (16, 8, 8, 4)), jax.random.normal(keys[1], (5, 5, 4))
def loss(x, kernel):
    y = correlate(x, kernel)
    return jnp.square(y).mean(), y
f = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
mesh = Mesh(np.array(jax.devices()), ("data",))
assert len(jax.devices()) == 8
spread = jax.device_put(x, NamedSharding(mesh, P("data")))
held = jax.device_put(kernel, NamedSharding(mesh, P()))
one, eight = f(x, kernel), f(spread, held)
assert len(eight[0][1].sharding.device_set) == 8
for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight)):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
"""
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    env["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
