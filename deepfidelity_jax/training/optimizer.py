"""AdamW with warm-up and cosine decay, and the moving average of the weights."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict


def learning_rate(train: ConfigDict) -> optax.Schedule:
    """Linear warm-up to `learning_rate`, then a cosine to `end_learning_rate`.

    The schedule has `schedule_steps`, of which a run may take fewer, and moves every
    `schedule_every` steps.
    """
    length = train.schedule_steps or train.steps
    warmup = min(train.warmup_steps, length // 2)
    smooth = optax.warmup_cosine_decay_schedule(
        train.warmup_start,
        train.learning_rate,
        warmup,
        max(length, warmup + 1),
        train.end_learning_rate,
    )
    return lambda step: smooth(step // train.schedule_every * train.schedule_every)


def optimizer(train: ConfigDict) -> optax.GradientTransformation:
    """AdamW on clipped gradients, with weight decay on kernels only.

    A token head without a loss does not decay: PyTorch leaves parameters without a gradient alone.
    """
    idle = () if train.token_weight else ("aux_head",)
    adamw = optax.adamw(
        learning_rate(train),
        b1=0.9,
        b2=0.999,
        weight_decay=train.weight_decay,
        mask=functools.partial(decayed, idle=idle),
    )
    clip = optax.clip_by_global_norm(train.clip_norm) if train.clip_norm else optax.identity()
    return optax.chain(clip, adamw)


def decayed(params, idle: Sequence[str] = ()) -> dict:
    """Which parameters weight decay applies to: kernels, except in the modules named in `idle`."""

    def is_decayed(path, _):
        return path[-1].key == "kernel" and path[0].key not in idle

    return jax.tree_util.tree_map_with_path(is_decayed, params)


def average(ema, new, step: Int[Array, ""], decay: float, warmup: bool = True):
    """One step of the exponential moving average of weights and statistics.

    With warm-up the decay is min(decay, (1 + step) / (10 + step)), which soon forgets the initial
    weights (TensorFlow's ExponentialMovingAverage with num_updates).
    """
    warm: Float[Array, ""] = jnp.minimum(decay, (1.0 + step) / (10.0 + step) if warmup else decay)
    return jax.tree.map(lambda old, value: old + (1 - warm) * (value - old), ema, new)
