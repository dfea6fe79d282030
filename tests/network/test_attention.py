"""The symmetric mix is the paper's equation; all forms of an operator are one function."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.attention import mirror_mix
from deepfidelity_jax.network.kernels import attention, choice, depthwise
from deepfidelity_jax.network.kernels.attention import attend, divided_last
from deepfidelity_jax.network.kernels.depthwise import (
    depthwise_conv,
    grouped_conv,
    grouped_grad,
    shifted_sum,
    tap_products,
)


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


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("shape", [(2, 7, 9, 4), (3, 2, 2, 8), (1, 1, 1, 4)])
def test_depthwise_forms_agree_in_value_and_gradient(rng, k, shape):
    x, g, kernel = normal(rng, *shape), normal(rng, *shape), normal(rng, k, k, shape[-1])
    bias = normal(rng, shape[-1])
    value, pull = jax.vjp(grouped_conv, x, kernel)
    dx, dkernel = pull(g)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    close(shifted_sum(x, kernel), value)
    close(tap_products(x, g, k=k), dkernel)
    close(grouped_grad(x, g, k=k), dkernel)

    value_, pull_ = jax.vjp(jax.jit(depthwise_conv), x, kernel, bias)
    dx_, dkernel_, dbias_ = pull_(g)
    close(value_, value + bias)
    close(dx_, dx)
    close(dkernel_, dkernel)
    close(dbias_, g.sum((0, 1, 2)))


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_each_platform_gets_its_own_form(platform):
    """Lowered for a platform, value and gradient hold a grouped convolution exactly off CPU."""
    x, kernel, bias = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2)), jnp.ones(2)

    def loss(x, kernel):
        return jnp.square(depthwise_conv(x, kernel, bias)).sum()

    traced = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(x, kernel)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == (platform != "cpu")


def test_depthwise_conv_in_a_scan_has_the_gradient_of_the_loop(rng):
    x, kernels, bias = normal(rng, 2, 6, 6, 4), normal(rng, 3, 3, 3, 4), jnp.zeros(4)

    def scanned(kernels):
        def body(x, kernel):
            return depthwise_conv(x, kernel, bias), None

        return jnp.square(jax.lax.scan(body, x, kernels)[0]).mean()

    def looped(kernels):
        y = x
        for kernel in kernels:
            y = grouped_conv(y, kernel)
        return jnp.square(y).mean()

    got, expected = jax.jit(jax.grad(scanned))(kernels), jax.grad(looped)(kernels)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_depthwise_conv_over_eight_devices_equals_one():
    """The batch split over a mesh: same value, same gradients."""
    code = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from deepfidelity_jax.attention import depthwise_conv
keys = jax.random.split(jax.random.key(0), 3)
x, kernel = jax.random.normal(keys[0], (16, 8, 8, 4)), jax.random.normal(keys[1], (5, 5, 4))
def loss(x, kernel):
    y = depthwise_conv(x, kernel, jnp.ones(4))
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


def test_attend_is_the_equation_and_knows_no_order(rng):
    q, k, v = (normal(rng, 2, 6, 3, 8) for _ in range(3))
    scores = np.einsum("nqhd,nkhd->nhqk", q, k) / np.sqrt(8)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("nhqk,nkhd->nqhd", weights, v)
    np.testing.assert_allclose(attend(q, k, v), expected, rtol=1e-4, atol=1e-5)
    order = rng.permutation(6)
    np.testing.assert_allclose(attend(q, k[:, order], v[:, order]), expected, rtol=1e-4, atol=1e-5)


def test_attention_forms_agree_in_value_and_gradient(rng):
    q, k, v, g = (normal(rng, 2, 9, 3, 8) for _ in range(4))
    expected, pull = jax.vjp(jax.nn.dot_product_attention, q, 3 * k, v)
    for form in (divided_last, attend):
        found, own_pull = jax.vjp(jax.jit(form), q, 3 * k, v)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        for a, b in zip(own_pull(g), pull(g), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_gradients_in_parts_are_those_at_once(rng, monkeypatch):
    """Of six images three, two or one at a time, as many as fit."""
    x, g = normal(rng, 6, 4, 5, 8), normal(rng, 6, 4, 5, 8)
    q, k, v, dy = (normal(rng, 6, 7, 2, 4) for _ in range(4))

    def compute():
        return tap_products(x, g, k=3), jax.vjp(attend, q, k, v)[1](dy)

    expected = compute()
    for images in (3, 2, 1):
        monkeypatch.setattr(depthwise, "AT_ONCE", images * 4 * 5 * 8)
        close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
        jax.tree.map(close, compute(), expected)
        text = jax.jit(lambda x, g: tap_products(x, g, k=3)).lower(x, g).as_text()
        assert f"tensor<{images}x6x7x8xf32>" in text, "padded images of one part"


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_a_policy_can_keep_what_attention_gives(rng, platform):
    """Its gradient then computes no second forward pass."""
    q, k, v = (normal(rng, 2, 5, 2, 4) for _ in range(3))
    keep = jax.checkpoint_policies.save_only_these_names(attention.ATTENDED)

    def count_products(policy):
        def loss(q, k, v):
            return jnp.square(jax.checkpoint(attend, policy=policy)(q, k, v)).sum()

        traced = jax.jit(jax.grad(loss)).trace(q, k, v)
        return traced.lower(lowering_platforms=(platform,)).as_text().count("dot_general")

    assert count_products(keep) < count_products(None)


def test_attention_of_large_scores_is_finite_and_keeps_its_type(rng):
    q, k, v = (normal(rng, 1, 5, 2, 8).astype(jnp.bfloat16) for _ in range(3))
    found = divided_last(300 * q, k, v)
    assert found.dtype == jnp.bfloat16
    assert np.isfinite(np.asarray(found, np.float32)).all()


@pytest.mark.usefixtures("h100")
def test_a_gpu_that_is_here_gets_cudnn_where_no_gradient_is_wanted():
    q = jax.ShapeDtypeStruct((2, 49, 3, 64), jnp.bfloat16)

    def count(function, platform):
        traced = jax.jit(function).trace(q, q, q)
        return traced.lower(lowering_platforms=(platform,)).as_text().count("__cudnn$fmhaSoftmax")

    def loss(q, k, v):
        # As the network has it: in a scan, under jax.checkpoint.
        block = jax.checkpoint(lambda x, _: (attend(x, k, v), None))
        return jax.lax.scan(block, q, None, length=2)[0].astype(jnp.float32).sum()

    for platform in ("cpu", "tpu", "cuda"):
        assert count(attend, platform) == (platform == "cuda")
        assert count(loss, platform) == (platform == "cuda")
        assert count(jax.grad(loss, argnums=(0, 1, 2)), platform) == 0


@pytest.mark.usefixtures("h100")
def test_a_table_that_says_cudnn_is_faster_in_training_cannot_break_it(monkeypatch):
    monkeypatch.setattr(choice, "CUDNN_IS_FASTER", {((9, 0), "bfloat16", True)})

    def lower(tokens):
        q = jax.ShapeDtypeStruct((2, tokens, 3, 64), jnp.bfloat16)
        gradient = jax.grad(lambda *a: attend(*a).astype(jnp.float32).sum())
        return jax.jit(gradient).trace(q, q, q).lower(lowering_platforms=("cuda",)).as_text()

    assert "__cudnn$fmhaSoftmaxBackward" in lower(196)
    assert "cudnn" not in lower(49)
