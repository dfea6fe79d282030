"""Gradients computed on a few images at a time are those of all at once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.kernels import parts
from deepfidelity_jax.network.kernels.depthwise import tap_products
from deepfidelity_jax.network.kernels.global_attention import dot_product_attention


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.slow
def test_gradients_in_parts_are_those_at_once(rng, monkeypatch):
    """Of six images three, two or one at a time, as many as fit."""
    x, g = normal(rng, 6, 4, 5, 8), normal(rng, 6, 4, 5, 8)
    q, k, v, dy = (normal(rng, 6, 7, 2, 4) for _ in range(4))

    def compute():
        return tap_products(x, g, k=3), jax.vjp(dot_product_attention, q, k, v)[1](dy)

    expected = compute()
    for images in (3, 2, 1):
        monkeypatch.setattr(parts, "AT_ONCE", images * 4 * 5 * 8)
        close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
        jax.tree.map(close, compute(), expected)
        text = jax.jit(lambda x, g: tap_products(x, g, k=3)).lower(x, g).as_text()
        assert f"tensor<{images}x6x7x8xf32>" in text, "padded images of one part"
