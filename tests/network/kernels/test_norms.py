"""Batch normalisation and its gradient are those of the definition, differentiated as it stands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.kernels.norms import STATISTICS, batch_norm, plain_batch_norm


def define(x, scale, bias):
    return plain_batch_norm(x, scale, bias, 1e-5)[0]


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    x, g = (rng.normal(2.0, 3.0, (3, 4, 5, 6)) for _ in range(2))
    scale, bias = rng.normal(1.0, 0.3, 6), rng.normal(0.0, 1.0, 6)
    return [jnp.asarray(a, jnp.float32) for a in (x, scale, bias, g)]


def test_value_and_every_gradient_are_those_of_the_definition(arrays):
    *arguments, g = arrays
    expected, pull = jax.vjp(define, *arguments)
    x, scale, bias = (np.asarray(a, np.float64) for a in arguments)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    by_hand = scale * (x - mean) / np.sqrt(var + 1e-5) + bias
    np.testing.assert_allclose(expected, by_hand, rtol=1e-4, atol=1e-5)
    found, own_pull = jax.vjp(jax.jit(lambda *a: batch_norm(*a, 1e-5)[0]), *arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(own_pull(g), pull(g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_gradient_of_images_far_from_zero_keeps_its_digits(arrays):
    x, scale, bias, g = arrays
    _, pull = jax.vjp(lambda x: batch_norm(x, scale, bias, 1e-5)[0], x)
    _, far = jax.vjp(lambda x: batch_norm(x, scale, bias, 1e-5)[0], x + 1000)
    np.testing.assert_allclose(far(g)[0], pull(g)[0], rtol=1e-2, atol=1e-3)


def test_gradient_of_sixteen_bits_is_of_sixteen_bits(arrays):
    x, scale, bias, g = arrays
    y, pull = jax.vjp(lambda x: batch_norm(x, scale, bias, 1e-5)[0], x.astype(jnp.bfloat16))
    assert y.dtype == jnp.float32
    (dx,) = pull(g)
    assert dx.dtype == jnp.bfloat16
    expected = jax.vjp(lambda x: define(x, scale, bias), x)[1](g)[0]
    np.testing.assert_allclose(np.asarray(dx, np.float32), expected, rtol=0.1, atol=0.05)


def test_a_policy_can_keep_the_statistics(arrays):
    """The gradient then passes over x for two sums, and not for mean and variance again."""
    *arguments, _ = arrays
    keep = jax.checkpoint_policies.save_only_these_names(STATISTICS)

    def count_sums(policy):
        def loss(*arguments):
            norm = jax.checkpoint(lambda *a: batch_norm(*a, 1e-5)[0], policy=policy)
            return jnp.square(norm(*arguments)).mean()

        return str(jax.make_jaxpr(jax.grad(loss))(*arguments)).count("reduce_sum")

    assert count_sums(None) - count_sums(keep) == 2
