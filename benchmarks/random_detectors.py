"""Detectors with random weights, for benchmarks and tests; nothing in them is trained."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from deepfidelity_configs import default
from deepfidelity_jax.detector.load import Detector
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.fidelity.regressor import Regressor, to_arrays
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.fidelity.stored import FidelityModel
from deepfidelity_jax.network.build import build_model

CALIBRATION = Calibration(-7.0, 0.55, "validation", fake_below=0.4)


def shake(variables, seed=0):
    """The variables with every constant replaced, so that no part of the network is idle."""
    rng = np.random.default_rng(seed)

    def one(path, x):
        name = path[-1].key
        if name == "kernel":
            return np.asarray(x)
        noise = rng.normal(0, 0.1, x.shape).astype(np.float32)
        return 1 + np.abs(noise) if name in ("scale", "var", "w") else 0.3 + noise

    shaken = jax.tree_util.tree_map_with_path(one, variables)
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x * np.float32([0.5, 1.5]) if path[-1].key == "w" else x, shaken
    )


def draw_variables(model, size, seed=0):
    """Random variables of a network for pictures of this size."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(seed), images)
    rng = np.random.default_rng([seed, 1])

    def one(path, x):
        if path[-1].key != "kernel":
            return np.zeros(x.shape, np.float32)
        fan_in = math.prod(x.shape[:-1][-3:])  # as the network is initialised, without compiling
        return rng.normal(0, fan_in**-0.5, x.shape).astype(np.float32)

    return shake(jax.tree_util.tree_map_with_path(one, shapes), seed)


def draw_fitted(width, calibration=CALIBRATION, vectors=50):
    """A random support vector regressor and its calibration."""
    rng = np.random.default_rng(1)
    coefficients = rng.normal(0, 0.2, vectors)
    arrays = to_arrays(
        rng.normal(0, 3, (vectors, width)), coefficients - coefficients.mean(), 0.5,
        0.02 / width, np.zeros(width),
    )  # fmt: skip
    scale = FidelityScale((0.1, 0.9), (0.2, 0.8))
    return FidelityModel(scale, Regressor(arrays), calibration)


def draw_config(
    variant="tiny", size=32, crop=36, share=32 / 36, dtype="float32", mirror_average=False
) -> ConfigDict:
    """The default configuration with a network and crops of this size."""
    config = default.get_config()
    config.model.dtype, config.model.mirror_average = dtype, mirror_average
    config.model.variant, config.model.image_size, config.model.eval_crop = variant, size, share
    config.faces.size = crop
    return config


def draw_detector(variant="tiny", seed=0, **shape) -> Detector:
    """A detector of this variant and of the shape `draw_config` takes."""
    config = draw_config(variant, **shape)
    model = build_model(config)
    variables = draw_variables(model, config.model.image_size, seed)
    return Detector(config, variables, 0, draw_fitted(model.config.widths[3]))


def draw_crops(count, size, seed=0):
    """Random pictures, uint8 [count, size, size, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
