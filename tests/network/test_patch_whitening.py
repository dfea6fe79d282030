"""The first patch embedding whitens the patches of faces."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_ssaaformer import randomise

from deepfidelity_jax.network.patch_whitening import FLOOR, start_whitened, whiten
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig, cut_patches, normalise


def faces(n=12, side=64):
    """Coloured blobs under a little noise: correlated as pictures are."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(128, 50, (n, 4, 4, 3))
    smooth = jax.image.resize(coarse, (n, side, side, 3), "cubic")
    return np.clip(np.asarray(smooth) + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)


def test_patches_are_the_picture_cut_up():
    x = jnp.arange(2 * 8 * 12 * 3.0).reshape(2, 8, 12, 3)
    patches = cut_patches(x, 4)
    assert patches.shape == (2, 2, 3, 48)
    np.testing.assert_array_equal(patches[1, 1, 2].reshape(4, 4, 3), x[1, 4:8, 8:12])


def test_whitened_patches_are_uncorrelated_and_of_equal_strength():
    images = faces()
    kernel, bias = whiten(images, 4)
    white = (
        np.asarray(cut_patches(normalise(jnp.asarray(images)), 4)).reshape(-1, 48) @ kernel + bias
    )
    covariance = np.cov(white.T)
    variance = np.diag(covariance)
    assert np.abs(white.mean(axis=0)).max() < 1e-3
    assert np.abs(covariance - np.diag(variance)).max() < 1e-3
    lost = np.linalg.norm(kernel, axis=0) ** 2 * FLOOR  # FLOOR / (lambda + FLOOR)
    np.testing.assert_allclose(variance, 1 - lost, atol=1e-3)
    assert (np.diff(variance) < 1e-4).all()


@pytest.mark.slow
def test_the_network_starts_with_it_and_nothing_else_changes():
    for config, outputs in ((SSAAFormerConfig.tiny(), 48), (SSAAFormerConfig.small(), 64)):
        init = functools.partial(SSAAFormer(config).init, train=False)
        shapes = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
        params = randomise(shapes)
        images = faces()
        started = start_whitened(params, images)
        kernel, _ = whiten(images, 4)
        proj, before = (p["stage1"]["patch_embed"]["proj"] for p in (started, params))
        assert proj["kernel"].shape == (48, outputs)
        np.testing.assert_array_equal(proj["kernel"][:, :48], kernel)
        np.testing.assert_array_equal(proj["kernel"][:, 48:], before["kernel"][:, 48:])
        started["stage1"]["patch_embed"] = params["stage1"]["patch_embed"]
        jax.tree.map(np.testing.assert_array_equal, started, params)
