"""Every form of attention is the definition, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.kernels import choice
from deepfidelity_jax.network.kernels.global_attention import (
    ATTENDED,
    FORMS,
    GRADIENTS,
    divided_last,
    dot_product_attention,
    plain_attention,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["divided_last", "xla"])
def test_each_form_is_the_definition_in_value_and_gradient(rng, name):
    q, k, v, g = (normal(rng, 2, 9, 3, 8) for _ in range(4))
    expected, pull = jax.vjp(plain_attention, q, 3 * k, v)
    found = FORMS[name](q, 3 * k, v)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(GRADIENTS[name](q, 3 * k, v, found, g), pull(g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_chosen_form_is_the_definition_in_value_and_gradient(rng):
    q, k, v, g = (normal(rng, 2, 9, 3, 8) for _ in range(4))
    expected, pull = jax.vjp(plain_attention, q, 3 * k, v)
    found, own_pull = jax.vjp(jax.jit(dot_product_attention), q, 3 * k, v)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(own_pull(g), pull(g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_a_policy_can_keep_what_attention_gives(rng, platform):
    """Its gradient then computes no second forward pass."""
    q, k, v = (normal(rng, 2, 5, 2, 4) for _ in range(3))
    keep = jax.checkpoint_policies.save_only_these_names(ATTENDED)

    def count_products(policy):
        def loss(q, k, v):
            return jnp.square(jax.checkpoint(dot_product_attention, policy=policy)(q, k, v)).sum()

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
        block = jax.checkpoint(lambda x, _: (dot_product_attention(x, k, v), None))
        return jax.lax.scan(block, q, None, length=2)[0].astype(jnp.float32).sum()

    for platform in ("cpu", "tpu", "cuda"):
        assert count(dot_product_attention, platform) == (platform == "cuda")
        assert count(loss, platform) == (platform == "cuda")
        assert count(jax.grad(loss, argnums=(0, 1, 2)), platform) == 0


@pytest.mark.usefixtures("h100")
def test_a_table_that_says_cudnn_is_faster_in_training_cannot_break_it(monkeypatch):
    monkeypatch.setattr(choice, "CUDNN_IS_FASTER", {((9, 0), "bfloat16", True)})

    def lower(tokens):
        q = jax.ShapeDtypeStruct((2, tokens, 3, 64), jnp.bfloat16)
        gradient = jax.grad(lambda *a: dot_product_attention(*a).astype(jnp.float32).sum())
        return jax.jit(gradient).trace(q, q, q).lower(lowering_platforms=("cuda",)).as_text()

    assert "__cudnn$fmhaSoftmaxBackward" in lower(196)
    assert "cudnn" not in lower(49)
