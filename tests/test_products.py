"""All forms of the product and of its gradient are one function."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax import products
from deepfidelity_jax.products import product_at_once, product_in_parts, project


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
    expected, pull = jax.vjp(jnp.matmul, x, kernel)
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


def test_a_policy_that_keeps_products_sees_this_one():
    x, kernel = jnp.ones((4, 3)), jnp.ones((3, 2))
    keep = jax.checkpoint_policies.dots_with_no_batch_dims_saveable

    def count_products(policy):
        loss = jax.checkpoint(lambda *a: jnp.sin(project(*a)).sum(), policy=policy)
        return str(jax.make_jaxpr(jax.grad(loss))(x, kernel)).count("dot_general")

    assert count_products(keep) < count_products(None)
