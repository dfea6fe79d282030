"""Layers with parameters, initialised as in the official code."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from deepfidelity_jax.network.attention import depthwise_conv
from deepfidelity_jax.network.kernels.norms import batch_norm
from deepfidelity_jax.network.kernels.products import project, project_gelu

BATCH_NORM_EPSILON = 1e-5
# Thresholds of the ordinal head: the middles of 20 equal parts of 0 ... 1. The mean of P(f > t)
# over them is the mean of f by the midpoint rule; a known fidelity is recovered within .025.
THRESHOLDS = (np.arange(20) + 0.5) / 20


class Linear(nn.Module):
    """A matrix product and a bias; `initializers` makes one for each from the number of inputs."""

    width: int
    dtype: str | type
    initializers: Callable

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "*b c"],
        gamma: Float[Array, "d"] | None = None,
        *,
        activated: bool = False,
    ) -> Float[Array, "*b d"]:
        """Map each row, then scale the result by `gamma`, then apply GELU if `activated`."""
        kernel_init, bias_init = self.initializers(x.shape[-1])
        kernel = self.param("kernel", kernel_init, (x.shape[-1], self.width))
        bias = self.param("bias", bias_init, (self.width,))
        if gamma is not None:
            # Scaling the kernel scales the result, which then need not be kept for the gradient.
            kernel, bias = kernel * gamma, bias * gamma
        # As a product of two matrices, whose gradient XLA computes without transposing both sides.
        rows = x.reshape(-1, x.shape[-1]).astype(self.dtype)
        kernel, bias = jnp.asarray(kernel, self.dtype), bias.astype(self.dtype)
        mapped = project_gelu(rows, kernel, bias) if activated else project(rows, kernel) + bias
        return mapped.reshape(*x.shape[:-1], self.width)


class BatchNorm(nn.Module):
    """Normalise each channel over batch and space.

    As in PyTorch, running statistics are 0.9 * old + 0.1 * batch with the unbiased batch variance,
    while the normalisation divides by the biased one. Statistics are float32 and cover the whole
    batch, even if it is split over devices.
    """

    train: bool
    dtype: str | type

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Normalise with batch statistics in training, otherwise with running statistics."""
        c, count = x.shape[-1], math.prod(x.shape[:-1])
        scale = self.param("scale", nn.initializers.ones, (c,))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (c,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (c,))
        if self.train:
            y, mean, var = batch_norm(x, scale, bias, BATCH_NORM_EPSILON)
            if not self.is_initializing():
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value = 0.9 * running_mean.value + 0.1 * mean
                running_var.value = 0.9 * running_var.value + 0.1 * unbiased
            return y.astype(self.dtype)
        mean, var = running_mean.value, running_var.value
        slope = scale * lax.rsqrt(var + BATCH_NORM_EPSILON)
        return (x * slope + (bias - mean * slope)).astype(self.dtype)


class DepthwiseConv(nn.Module):
    """Depthwise convolution with bias, initialised as PyTorch's convolutions."""

    size: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Convolve, with zeros outside the image."""
        c, init = x.shape[-1], uniform(1 / self.size)
        kernel = self.param("kernel", init, (self.size, self.size, c))
        bias = self.param("bias", init, (c,))
        return depthwise_conv(x, kernel.astype(x.dtype), bias.astype(x.dtype))


def linear(width: int, name: str, dtype=jnp.float32) -> Linear:
    """A linear layer initialised as in the official code: normal with deviation 0.02, zero bias."""
    # The official trunc_normal_ cuts off at +-2, a hundred standard deviations.
    inits = nn.initializers.normal(0.02), nn.initializers.zeros
    return Linear(width, dtype, lambda fan_in: inits, name=name)


def conv1x1(width: int, name: str, dtype=jnp.float32) -> Linear:
    """A 1x1 convolution as a matrix product, initialised as PyTorch's convolutions."""
    return Linear(width, dtype, lambda fan_in: (uniform(fan_in**-0.5),) * 2, name=name)


def uniform(bound: float):
    """An initializer that draws uniformly from [-bound, bound)."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def max_over_tokens(tokens: Float[Array, "n t d"]) -> Float[Array, "n d"]:
    """The maximum over tokens; the first of equal tokens gets the gradient, as in PyTorch."""
    # By index, not by `max`, whose gradient goes to the numbers that equal the maximum: when the
    # forward pass is recomputed, rounding may leave none, which gives a gradient of 0 / 0.
    index = lax.stop_gradient(tokens).argmax(axis=1, keepdims=True)
    return jnp.take_along_axis(tokens, index, axis=1)[:, 0]


class MaskHead(nn.Module):
    """The class of each position: linear in its channels, scaled to unit mean square."""

    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n t k"]:
        """Logits of each position, row by row."""
        x = x.astype(jnp.float32).reshape(x.shape[0], -1, x.shape[-1])
        scaled = x / (1e-3 + jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True)))
        return linear(self.classes, "proj")(scaled)


class OrdinalHead(nn.Module):
    """Whether fidelity is above each of THRESHOLDS: one weight vector, and a bias per threshold.

    Cao et al., "Rank consistent ordinal regression" (CORAL), 2020. With a separate weight vector
    for each threshold (Niu et al., 2016) a face could be more likely above .9 than above .1.
    """

    @nn.compact
    def __call__(self, features: Float[Array, "n d"]) -> Float[Array, "n g"]:
        """Logits, falling from the first threshold to the last."""
        # Initial biases are for a fidelity spread evenly from 0 to 1.
        start = np.log((1 - THRESHOLDS) / THRESHOLDS)
        kernel = self.param("kernel", nn.initializers.normal(0.02), (features.shape[-1], 1))
        bias = self.param("bias", lambda key: jnp.asarray(start, jnp.float32))
        # At the minimum of the loss biases are in falling order, as the paper proves; sorting makes
        # it so at every step.
        return project(features, kernel) - jnp.sort(-bias)
