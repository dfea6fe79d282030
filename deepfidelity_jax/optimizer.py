"""AdamW with warm-up and cosine decay, and the moving average of the weights."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict


def learning_rate(train: ConfigDict) -> optax.Schedule:
    """Linear warm-up from 0 to `learning_rate`, then a cosine to `end_learning_rate`."""
    warmup = min(train.warmup_steps, train.steps // 2)
    return optax.warmup_cosine_decay_schedule(
        0.0, train.learning_rate, warmup, max(train.steps, warmup + 1), train.end_learning_rate
    )


def optimizer(train: ConfigDict) -> optax.GradientTransformation:
    """AdamW on clipped gradients; norms, biases and scales (vectors) are not decayed.

    Parameters of stacked blocks carry a leading block axis, under `symmetric` and `plain`.
    """
    adamw = optax.adamw(
        learning_rate(train), b1=0.9, b2=0.999, weight_decay=train.weight_decay, mask=decayed
    )
    return optax.chain(optax.clip_by_global_norm(train.clip_norm), adamw)


def decayed(params) -> dict:
    """Which parameters weight decay applies to: the kernels."""

    def is_kernel(path, _):
        return path[-1].key == "kernel"

    return jax.tree_util.tree_map_with_path(is_kernel, params)


def average(ema, new, step: Int[Array, ""], decay: float):
    """One step of the exponential moving average of weights and statistics, with warm-up.

    The decay is min(decay, (1 + step) / (10 + step)), so that the start is soon forgotten
    (TensorFlow's ExponentialMovingAverage with num_updates).
    """
    warm: Float[Array, ""] = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, value: old + (1 - warm) * (value - old), ema, new)
