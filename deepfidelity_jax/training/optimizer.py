"""AdamW or Muon with warm-up and cosine decay, and the moving average of the weights."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict
from optax.contrib import MuonDimensionNumbers, muon


def learning_rate(train: ConfigDict) -> optax.Schedule:
    """Linear warm-up to `learning_rate`, then a cosine to `end_learning_rate`.

    The schedule lasts `schedule_steps`, of which a run may take fewer, and changes every
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
    """AdamW or Muon on clipped gradients, with weight decay on kernels only.

    Muon (Jordan et al., 2024) moves a weight matrix equally along all of its directions, by steps
    as large as AdamW's (Liu et al., "Muon is scalable for LLM training", 2025), and decays only
    those matrices. Adam with Nesterov momentum moves the rest. A token head without a loss does
    not decay: PyTorch leaves parameters without a gradient unchanged.
    """
    rate, idle = learning_rate(train), () if train.token_weight else ("aux_head",)
    where = functools.partial(decayed, idle=idle)
    if train.optimizer == "muon":
        chosen = muon(
            rate,
            weight_decay=train.weight_decay,
            weight_decay_mask=where,
            adam_learning_rate=rate,
            muon_weight_dimension_numbers=find_matrices,
            consistent_rms=0.2,
        )
    else:
        chosen = optax.adamw(rate, b1=0.9, b2=0.999, weight_decay=train.weight_decay, mask=where)
    clip = optax.clip_by_global_norm(train.clip_norm) if train.clip_norm else optax.identity()
    return optax.chain(clip, chosen)


def find_matrices(params) -> dict:
    """The axes of each matrix that Muon moves; None for vectors, depthwise kernels and heads.

    Blocks of a stage are stacked along the first axis of [blocks, in, out].
    """

    def matrix(path, array):
        if path[-1].key != "kernel" or "head" in path[0].key or array.ndim > 3:
            return None
        return MuonDimensionNumbers(array.ndim - 2, array.ndim - 1)

    return jax.tree_util.tree_map_with_path(matrix, params)


def decayed(params, idle: Sequence[str] = ()) -> dict:
    """Which parameters weight decay applies to: kernels, except in the modules named in `idle`."""

    def is_decayed(path, _):
        return path[-1].key == "kernel" and path[0].key not in idle

    return jax.tree_util.tree_map_with_path(is_decayed, params)


def average(ema, new, step: Int[Array, ""], decay: float, warmup: bool = True):
    """One step of the exponential moving average of weights and statistics.

    With warm-up the decay is min(decay, (1 + step) / (10 + step)), so that the initial weights are
    soon forgotten (TensorFlow's ExponentialMovingAverage with num_updates).
    """
    warm: Float[Array, ""] = jnp.minimum(decay, (1.0 + step) / (10.0 + step) if warmup else decay)
    return jax.tree.map(lambda old, value: old + (1 - warm) * (value - old), ema, new)
