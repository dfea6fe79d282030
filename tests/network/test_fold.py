"""The form for inference is the same function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.fold import fold
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig

SMALLEST = {
    "depths": (3, 2, 2, 1),
    "widths": (16, 24, 32, 48),
    "head_dim": 16,
    "symmetric": (2, 0, 1, 0),
    "fidelity_head": True,
    "ordinal_head": True,
    "mask_heads": True,
}


def make_variables(config, seed=0):
    """Statistics far from 0 and 1, layer scale far from 1e-6, mirror weights unequal."""
    rng = np.random.default_rng(seed)
    images = jnp.zeros((1, 32, 32, 3))
    init = functools.partial(SSAAFormer(config).init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(seed), images)

    def draw(path, x):
        low, high = {
            "mean": (-2, 2),
            "var": (0.1, 10),
            "scale": (-1.5, 1.5),
            "gamma_1": (0.2, 0.6),
            "gamma_2": (-0.6, -0.2),
            "w": (-1, 1),
            "bias": (-0.3, 0.3),
            "kernel": (-0.3, 0.3),
        }[path[-1].key]
        return jnp.asarray(rng.uniform(low, high, x.shape), x.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def make_images(shape=(3, 64, 96, 3)):
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


def run(config, variables, folded):
    if folded:
        variables = jax.jit(functools.partial(fold, config=config))(variables)
    model = SSAAFormer(config, folded=folded)
    return jax.jit(functools.partial(model.apply, train=False))(variables, make_images())


@pytest.mark.slow
@pytest.mark.parametrize("layer_scale", [None, 0.5])
def test_folded_is_unfolded(layer_scale):
    config = SSAAFormerConfig(layer_scale=layer_scale, **SMALLEST)
    variables = make_variables(config)
    before = jax.tree.map(np.array, variables)
    plain, folded = run(config, variables, False), run(config, variables, True)
    assert [x.shape[1] for x in plain.mask_logits] == [8 * 12, 4 * 6]
    assert folded.mask_logits == ()
    plain = plain._replace(mask_logits=())
    for found, expected in zip(jax.tree.leaves(folded), jax.tree.leaves(plain), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    jax.tree.map(np.testing.assert_array_equal, variables, before)


@pytest.mark.slow
def test_folded_in_bfloat16_is_near_float32():
    config = SSAAFormerConfig(layer_scale=0.5, **SMALLEST)
    narrow = SSAAFormerConfig(layer_scale=0.5, dtype="bfloat16", **SMALLEST)
    variables = make_variables(config)
    wide, folded = run(config, variables, False).features, run(narrow, variables, True).features
    assert np.linalg.norm(folded - wide) < 2e-2 * np.linalg.norm(wide)


def test_the_folded_network_has_what_folding_makes():
    """Neither more nor less, in the same shapes; so loading one needs no other code."""
    config = SSAAFormerConfig(layer_scale=1e-6, **SMALLEST)
    made = jax.eval_shape(functools.partial(fold, config=config), make_variables(config))
    init = functools.partial(SSAAFormer(config, folded=True).init, train=False)
    own = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert jax.tree.structure(made) == jax.tree.structure(dict(own))
    assert jax.tree.map(lambda x: x.shape, made) == jax.tree.map(lambda x: x.shape, dict(own))
