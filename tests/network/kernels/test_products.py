"""All forms of the product and of its gradient are one function."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.kernels import products
from deepfidelity_jax.network.kernels.products import (
    gelu,
    gelu_gradient,
    plain_gelu_product,
    plain_product,
    product_at_once,
    product_in_parts,
    project,
    project_gelu,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("widths", [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("rows", [24, 25, 26, 7])
def test_parts_add_up(rng, monkeypatch, rows, widths):
    monkeypatch.setattr(products, "ROWS_OF_A_PART", 5)
    x, g = normal(rng, rows, widths[0]), normal(rng, rows, widths[1])
    expected = np.asarray(x, np.float64).T @ np.asarray(g, np.float64)
    for form in (product_at_once, product_in_parts):
        np.testing.assert_allclose(form(x, g), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [8, 20_000])
def test_gradient_is_that_of_the_product(rng, rows):
    x, kernel, g = normal(rng, rows, 3), normal(rng, 3, 2), normal(rng, rows, 2)
    expected, pull = jax.vjp(plain_product, x, kernel)
    found, own_pull = jax.vjp(jax.jit(project), x, kernel)
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
    close(found, expected)
    for a, b in zip(own_pull(g), pull(g), strict=True):
        close(a, b)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_rows_are_parted_on_a_cpu_alone(platform):
    x, kernel = jnp.ones((20_000, 3)), jnp.ones((3, 2))
    traced = jax.jit(jax.grad(lambda *a: project(*a).sum(), argnums=1)).trace(x, kernel)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("tensor<2x10000x3xf32>" in text) == (platform == "cpu")


@pytest.mark.parametrize("form", [project, partial(project_gelu, bias=jnp.ones(2))])
def test_a_policy_that_keeps_products_sees_this_one(form):
    x, kernel = jnp.ones((4, 3)), jnp.ones((3, 2))
    keep = jax.checkpoint_policies.dots_with_no_batch_dims_saveable

    def count_products(policy):
        loss = jax.checkpoint(
            lambda x, kernel: jnp.sin(form(x, kernel=kernel)).sum(), policy=policy
        )
        return str(jax.make_jaxpr(jax.grad(loss))(x, kernel)).count("dot_general")

    assert count_products(keep) < count_products(None)


def test_gelu_is_exact_in_value_and_gradient():
    x, g = jnp.linspace(-12, 12, 2001)[:, None], jnp.cos(jnp.arange(2001.0))[:, None]
    bias = jnp.full(1, 0.25)
    expected, pull = jax.vjp(lambda x: jax.nn.gelu(x, approximate=False), x + bias)
    np.testing.assert_allclose(gelu(x + bias), expected, rtol=1e-5, atol=2e-6)
    found, of_bias = gelu_gradient(x, bias, g)
    np.testing.assert_allclose(found, pull(g)[0], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(of_bias, pull(g)[0].sum(0), rtol=1e-4)


def test_gelu_of_a_product_has_the_gradient_of_its_definition(rng):
    def define(x, kernel, bias):
        return jax.nn.gelu(x @ kernel + bias, approximate=False)

    x, kernel, bias, g = (normal(rng, *shape) for shape in ((9, 3), (3, 5), (5,), (9, 5)))
    expected, pull = jax.vjp(define, x, kernel, bias)
    found, own_pull = jax.vjp(jax.jit(project_gelu), x, kernel, bias)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(plain_gelu_product(x, kernel, bias), expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(own_pull(g), pull(g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
