"""Official state dicts of the tiny network, made up for tests."""

import numpy as np

from deepfidelity_jax.network.ssaaformer import SSAAFormerConfig
from deepfidelity_jax.official import network

TINY = SSAAFormerConfig.tiny(symmetric=(1, 0, 2, 0))
PLAIN = SSAAFormerConfig.tiny(symmetric=(0, 0, 0, 0))


def draw(config, seed=0):
    """Official weights far from their start."""
    rng = np.random.default_rng(seed)
    weights = {}
    for tensor in network.name_tensors(config):
        centre = 1.0 if "norm" in tensor.name and tensor.name.endswith(("weight", "var")) else 0.0
        values = centre + 0.2 * rng.uniform(-1, 1, tensor.shape)
        weights[tensor.name] = values.astype(np.float32)
    return weights


def with_heads(weights, classes, names=("head", "aux_head")):
    """The same trunk with heads of so many classes."""
    trunk = {name: x for name, x in weights.items() if not name.startswith(("head", "aux_head"))}
    rng = np.random.default_rng(1)
    for name in names:
        trunk[f"{name}.weight"] = rng.normal(size=(classes, 192)).astype(np.float32)
        trunk[f"{name}.bias"] = rng.normal(size=classes).astype(np.float32)
    return trunk


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, strict=True, err_msg=name)
