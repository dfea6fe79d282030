"""BatchNorm over all positions of a batch, with its gradient in few passes."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from deepfidelity_jax.network.kernels import choice

# The name by which a policy of `jax.checkpoint` keeps the statistics, a few numbers each.
STATISTICS = "statistics"


# Automatic differentiation would pass over x again for the mean and for the variance.
@partial(jax.custom_vjp, nondiff_argnums=(3,))
def batch_norm(
    x: Float[Array, "*b c"],
    scale: Float[Array, "c"],
    bias: Float[Array, "c"],
    epsilon: float,
) -> tuple[Float[Array, "*b c"], Float[Array, "c"], Float[Array, "c"]]:
    """`plain_batch_norm`: y in float32, mean and biased variance of each channel.

    Mean and variance are for the running statistics; no gradient flows through them.
    """
    return _batch_norm_forward(x, scale, bias, epsilon)[0]


def _batch_norm_forward(x, scale, bias, epsilon):
    wide = x.astype(jnp.float32)
    statistics = choice.switch("moments", moments)(x)
    mean, var = (checkpoint_name(statistic, STATISTICS) for statistic in statistics)
    inverse = lax.rsqrt(var + epsilon)
    slope = scale * inverse
    return (wide * slope + (bias - mean * slope), mean, var), (x, scale, mean, inverse)


def _batch_norm_backward(epsilon, residuals, cotangents):
    del epsilon
    (x, scale, mean, inverse), g = residuals, cotangents[0]
    count, wide = math.prod(x.shape[:-1]), x.astype(jnp.float32)
    dbias, along = choice.switch("batch_norm_sums", sums)(x, g, mean)
    dscale = inverse * along
    # dx = slope * (g - mean(g) - z * mean(g z)), z the normalised x; constants of a channel first.
    slope = scale * inverse
    of_x = -slope * inverse * dscale / count
    dx = slope * g + of_x * wide - (slope * dbias / count + of_x * mean)
    return dx.astype(x.dtype), dscale, dbias


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def plain_batch_norm(
    x: Float[Array, "*b c"], scale: Float[Array, "c"], bias: Float[Array, "c"], epsilon: float
) -> tuple[Float[Array, "*b c"], Float[Array, "c"], Float[Array, "c"]]:
    """scale * (x - mean) / sqrt(var + epsilon) + bias, mean and biased var: the definition.

    Ioffe and Szegedy, "Batch normalization", 2015.
    """
    mean, var = moments(x)
    return scale * (x - mean) / jnp.sqrt(var + epsilon) + bias, mean, var


def moments(x: Float[Array, "*b c"]) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
    """Mean and biased variance of each channel over all positions."""
    axes, wide = tuple(range(x.ndim - 1)), x.astype(jnp.float32)
    mean = wide.mean(axis=axes)
    return mean, jnp.square(wide - mean).mean(axis=axes)


def sums(
    x: Float[Array, "*b c"], g: Float[Array, "*b c"], mean: Float[Array, "c"]
) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
    """The sums over all positions of g and of g * (x - mean)."""
    axes, wide = tuple(range(x.ndim - 1)), x.astype(jnp.float32)
    return g.sum(axis=axes), (g * (wide - mean)).sum(axis=axes)
