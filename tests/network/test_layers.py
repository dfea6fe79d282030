"""Layers are PyTorch's: statistics, initialisation, the gradient of a maximum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.layers import (
    THRESHOLDS,
    BatchNorm,
    OrdinalHead,
    conv1x1,
    linear,
    max_over_tokens,
)


def test_batch_norm_keeps_statistics_as_pytorch_does():
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (2, 3, 1, 4)).astype(np.float32)
    start = {"mean": np.full(4, 0.5, np.float32), "var": np.full(4, 2.0, np.float32)}
    params = {"scale": np.full(4, 1.5, np.float32), "bias": np.full(4, -1.0, np.float32)}
    variables = jax.tree.map(jnp.asarray, {"params": params, "batch_stats": start})

    y, new = BatchNorm(True, "float32").apply(variables, jnp.asarray(x), mutable=["batch_stats"])
    flat = x.reshape(-1, 4)
    normal = (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    np.testing.assert_allclose(y, 1.5 * normal - 1, rtol=1e-4, atol=1e-5)
    mean, var = new["batch_stats"]["mean"], new["batch_stats"]["var"]
    np.testing.assert_allclose(mean, 0.9 * start["mean"] + 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, 0.9 * start["var"] + 0.1 * flat.var(0, ddof=1), rtol=1e-5)

    y = BatchNorm(False, "float32").apply(variables, jnp.asarray(x))
    np.testing.assert_allclose(y, 1.5 * (x - 0.5) / np.sqrt(2 + 1e-5) - 1, rtol=1e-4, atol=1e-5)


def test_batch_statistics_survive_a_large_offset():
    """A variance taken as mean(x^2) - mean(x)^2 would be lost here."""
    x = jnp.asarray(1000 + np.random.default_rng(0).normal(size=(4, 8, 8, 2)), jnp.float32)
    norm = BatchNorm(True, "float32")
    _, new = norm.apply(norm.init(jax.random.key(0), x), x, mutable=["batch_stats"])
    expected = 0.9 + 0.1 * np.asarray(x, np.float64).reshape(-1, 2).var(0, ddof=1)
    np.testing.assert_allclose(new["batch_stats"]["var"], expected, rtol=1e-4)


def test_the_largest_token_has_the_gradient():
    """The first of equals, as in PyTorch."""
    x = jnp.array([[[1.0, 5.0], [3.0, 2.0], [3.0, 4.0]]])
    found, pull = jax.vjp(max_over_tokens, x)
    np.testing.assert_array_equal(found, [[3, 5]])
    expected = [[[0, 2], [1, 0], [0, 0]]]
    np.testing.assert_array_equal(pull(jnp.array([[1.0, 2.0]]))[0], expected)


@pytest.mark.parametrize("layer", [linear, conv1x1])
@pytest.mark.parametrize("shape", [(7, 4), (2, 3, 5, 4)])
def test_a_linear_layer_maps_scales_and_activates(layer, shape):
    rng = np.random.default_rng(0)
    x, gamma = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in (shape, (6,)))
    module = layer(6, "fc")
    params = module.init(jax.random.key(0), x)["params"]
    params = {n: p + jnp.float32(0.1 * rng.normal(size=p.shape)) for n, p in params.items()}
    mapped = x @ params["kernel"] + params["bias"]
    close, variables = {"rtol": 1e-5, "atol": 1e-5}, {"params": params}
    np.testing.assert_allclose(module.apply(variables, x), mapped, **close)
    np.testing.assert_allclose(module.apply(variables, x, gamma), mapped * gamma, **close)
    activated = jax.nn.gelu(mapped, approximate=False)
    np.testing.assert_allclose(module.apply(variables, x, activated=True), activated, **close)


def test_a_higher_grade_is_never_likelier():
    """Whatever the biases have become, and by one weight vector: no two faces change places."""
    r = np.random.default_rng(0)
    x = jnp.asarray(r.normal(size=(30, 6)), jnp.float32)
    drawn = {"kernel": r.normal(size=(6, 1)), "bias": r.normal(size=len(THRESHOLDS))}
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), drawn)
    logits = np.asarray(OrdinalHead().apply({"params": params}, x))
    assert (np.diff(logits, axis=1) <= 0).all()
    order = np.argsort(np.asarray(x @ params["kernel"])[:, 0])
    assert (np.diff(logits[order], axis=0) >= 0).all()
    slope = jax.grad(lambda p: OrdinalHead().apply({"params": p}, x)[:, 3].sum())(params)
    assert np.flatnonzero(slope["bias"]).tolist() == [int(np.argsort(-drawn["bias"])[3])]


def test_grades_start_even():
    start = OrdinalHead().init(jax.random.key(0), jnp.zeros((1, 6)))
    p = jax.nn.sigmoid(OrdinalHead().apply(start, jnp.zeros((1, 6))))
    np.testing.assert_allclose(p[0], 1 - THRESHOLDS, atol=1e-6)
