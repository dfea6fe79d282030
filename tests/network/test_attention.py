"""Token mixing is its equations: the symmetric mix, depthwise convolution, global attention."""

import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.attention import attend, depthwise_conv, mirror_mix


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def test_mix_is_the_equation(rng):
    a, w = normal(rng, 2, 3, 5, 4), jnp.array([0.3, -1.2])
    s0 = 1 / (1 + np.exp(-1.5))
    expected = s0 * np.asarray(a) + (1 - s0) * np.asarray(a)[:, :, ::-1]
    np.testing.assert_allclose(mirror_mix(a, w), expected, atol=1e-6)


def test_mix_commutes_with_a_flip(rng):
    a, w = normal(rng, 2, 3, 6, 4), jnp.array([0.7, -0.4])
    flipped_after = mirror_mix(a, w)[:, :, ::-1]
    np.testing.assert_array_equal(mirror_mix(a[:, :, ::-1], w), flipped_after)


def test_weights_pushed_apart_leave_the_map_alone(rng):
    a = normal(rng, 2, 3, 6, 4)
    np.testing.assert_array_equal(mirror_mix(a, jnp.array([60.0, -60.0])), a)
    np.testing.assert_array_equal(mirror_mix(a, jnp.array([-60.0, 60.0])), a[:, :, ::-1])


def test_equal_weights_give_a_mirror_symmetric_map(rng):
    mixed = mirror_mix(normal(rng, 2, 3, 6, 4), jnp.ones(2))
    np.testing.assert_array_equal(mixed, mixed[:, :, ::-1])


def test_depthwise_conv_is_its_definition(rng):
    x, kernel, bias = normal(rng, 2, 5, 4, 3), normal(rng, 3, 3, 3), normal(rng, 3)
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros(x.shape) + np.asarray(bias)
    for n, y, z, c in np.ndindex(*x.shape):
        expected[n, y, z, c] += np.sum(padded[n, y : y + 3, z : z + 3, c] * kernel[:, :, c])
    np.testing.assert_allclose(depthwise_conv(x, kernel, bias), expected, atol=1e-5)


def test_attend_is_the_equation_and_knows_no_order(rng):
    q, k, v = (normal(rng, 2, 6, 3, 8) for _ in range(3))
    scores = np.einsum("nqhd,nkhd->nhqk", q, k) / np.sqrt(8)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("nhqk,nkhd->nqhd", weights, v)
    np.testing.assert_allclose(attend(q, k, v), expected, rtol=1e-4, atol=1e-5)
    order = rng.permutation(6)
    np.testing.assert_allclose(attend(q, k[:, order], v[:, order]), expected, rtol=1e-4, atol=1e-5)
