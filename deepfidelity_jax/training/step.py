"""One training step: a pure function of state and batch.

Random keys are folded with the number of the step, so state and batch determine the next state.
"""

import functools
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Int, PRNGKeyArray
from ml_collections import ConfigDict

from deepfidelity_jax.network.ssaaformer import SSAAFormer, normalise
from deepfidelity_jax.training import token_mixing
from deepfidelity_jax.training.losses import training_loss
from deepfidelity_jax.training.optimizer import average, optimizer

# Streams of random keys, as offsets to `config.seed`, which itself draws the parameters. They stay
# offsets: folding them into one key would change the result of every configuration.
DROP_PATH, TOKEN_MIXING = 1, 2

# What `config.train` weighs, as NAME_weight.
LOSSES = ("token", "fidelity", "ordinal", "ranking", "mask")
# Not of mixed images, which belong to no single class and whose masks are not mixed.
WITHOUT_MIXING = ("mask", "ranking")


@flax.struct.dataclass
class TrainState:
    """Everything that changes from step to step; `variables` and `ema` hold params and batch_stats.

    The leaves are arrays, or their shapes and shardings where a state is only described.
    """

    step: Any
    variables: Any
    ema: Any
    opt_state: optax.OptState


def create_state(model: SSAAFormer, config: ConfigDict) -> TrainState:
    """A fresh state from `config.seed`; jit with shardings creates it already distributed."""
    variables = _draw_variables(model, config.model.image_size, jax.random.key(config.seed))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        ema=jax.tree.map(jnp.copy, variables),
        opt_state=optimizer(config.train).init(variables["params"]),
    )


@functools.partial(jax.jit, static_argnames=("model", "size"))  # traced once for all callers
def _draw_variables(model, size, key):
    return dict(model.init(key, jnp.zeros((1, size, size, 3)), train=False))


def start_from(state: TrainState, arrays: dict[tuple[str, ...], np.ndarray | Array]) -> TrainState:
    """A fresh state with the variables at the paths in `arrays` replaced."""
    variables = unflatten_dict(flatten_dict(state.variables) | arrays)
    return state.replace(variables=variables, ema=jax.tree.map(jnp.copy, variables))


def train_step(
    state: TrainState,
    batch: dict[str, Array],
    *,
    model: SSAAFormer,
    config: ConfigDict,
) -> tuple[TrainState, dict[str, Array]]:
    """One optimizer step: the new state, and the losses, accuracy and gradient norm by name."""
    train = config.train
    box, params = None, state.variables["params"]
    weights = {name: train.get(f"{name}_weight", 0) for name in LOSSES}
    if train.token_mixing != "none":
        key = step_key(config, TOKEN_MIXING, state.step)
        box = token_mixing.draw_box(key, math.isqrt(batch["forged"].shape[1]))
        weights |= dict.fromkeys(WITHOUT_MIXING, 0)

    def loss_of(params, batch_stats, batch, dropout):
        images = normalise(batch["image"])
        if box is not None:
            images = token_mixing.exchange(images, box)
        outputs, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout},
        )
        loss, parts = training_loss(
            outputs,
            batch,
            weights,
            label_smoothing=train.label_smoothing,
            box=box if train.token_mixing == "labelled" else None,
        )
        accuracy = (outputs.class_logits.argmax(-1) == batch["label"]).mean()
        return loss, (updates["batch_stats"], {"loss": loss, **parts, "accuracy": accuracy})

    def add_part(carry, part):
        gradients, batch_stats = carry
        part_gradients, (batch_stats, metrics) = jax.grad(loss_of, has_aux=True)(
            params, batch_stats, *part
        )
        return (jax.tree.map(jnp.add, gradients, part_gradients), batch_stats), metrics

    dropout = step_key(config, DROP_PATH, state.step)
    batch_stats = state.variables["batch_stats"]
    if train.accumulate == 1:
        find = jax.grad(loss_of, has_aux=True)
        gradients, (batch_stats, metrics) = find(params, batch_stats, batch, dropout)
    else:
        # BatchNorm normalises each part by its own statistics and updates the running statistics
        # once per part, so a step differs slightly from one on the undivided batch.
        parts = divide(batch, train.accumulate), jax.random.split(dropout, train.accumulate)
        start = jax.tree.map(jnp.zeros_like, params), batch_stats
        (gradients, batch_stats), metrics = jax.lax.scan(add_part, start, parts)
        gradients = jax.tree.map(lambda x: x / train.accumulate, gradients)
        metrics = jax.tree.map(jnp.mean, metrics)
    updates, opt_state = optimizer(train).update(gradients, state.opt_state, params)
    variables = {"params": optax.apply_updates(params, updates), "batch_stats": batch_stats}
    new = TrainState(
        step=state.step + 1,
        variables=variables,
        ema=average(state.ema, variables, state.step, train.ema_decay, train.ema_warmup),
        opt_state=opt_state,
    )
    return new, metrics | {"grad_norm": optax.global_norm(gradients)}


def find_idle(own: ConfigDict) -> str:
    """Which options of losses have no effect beside `own.token_mixing`; empty if all have."""
    idle = [f"{name}_weight" for name in WITHOUT_MIXING]
    named = [f"config.train.{name}={own[name]}" for name in idle if own.get(name, 0)]
    if own.token_mixing == "none" or not named:
        return ""
    return (
        f"config.train.token_mixing={own.token_mixing} mixes images, which have no mask and belong "
        f"to no single class: no effect of {' and '.join(named)}"
    )


def step_key(config: ConfigDict, stream: int, step: Int[Array, ""]) -> PRNGKeyArray:
    """The random key of a stream at a step."""
    return jax.random.fold_in(jax.random.key(config.seed + stream), step)


def divide(batch: dict[str, Array], count: int) -> dict[str, Array]:
    """Divide a batch [n, ...] into parts [count, n / count, ...]; rows 2i and 2i + 1 stay together.

    Part i has the pairs i, i + count, i + 2 count ..., on any number of devices: each device holds
    its share of every part, and no row moves to another device.
    """

    def split(x):
        pairs = x.reshape(-1, count, 2, *x.shape[1:])
        return pairs.swapaxes(0, 1).reshape(count, -1, *x.shape[1:])

    return jax.tree.map(split, batch)
