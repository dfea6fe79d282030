"""The network's parameters for inference: affine layers multiplied into their neighbours."""

import jax
import jax.numpy as jnp

from deepfidelity_jax.network.layers import BATCH_NORM_EPSILON
from deepfidelity_jax.network.ssaaformer import SSAAFormerConfig


def fold(variables, config: SSAAFormerConfig) -> dict:
    """Variables of `SSAAFormer(config, folded=True)`, which is the same function in inference.

    BatchNorm is folded into the 1x1 convolution after it, layer scale into the last product of its
    branch, and neither is left in the result:

      W^T (s x + t) + b = (s W)^T x + (W^T t + b),   gamma (W^T x + b) = (W gamma)^T x + gamma b.

    The last BatchNorm stays, because the maximum over tokens is taken of its output and its slope
    may be negative. Stacks are split into blocks, and kernels get the dtype of the computation.
    Can be jitted.
    """
    params, stats = dict(variables["params"]), dict(variables["batch_stats"])
    for number in (2, 3):
        params.pop(f"mask_head{number}", None)  # only used in training
    for number in (1, 2, 3, 4):
        stage, name = dict(params[f"stage{number}"]), f"stage{number}"
        statistics = stats.pop(name, {})
        for kind in ("symmetric", "plain"):
            if kind in stage:
                stack = _fold_blocks(stage.pop(kind), statistics.get(kind))
                for i in range(len(stack["pos_embed"]["bias"])):
                    stage[f"{kind}_{i}"] = jax.tree.map(lambda x, i=i: x[i], stack)
        params[name] = jax.tree_util.tree_map_with_path(
            lambda path, x: x.astype(config.dtype) if path[-1].key == "kernel" else x, stage
        )
    return {"params": params, "batch_stats": stats}


def _fold_blocks(blocks, statistics):
    """Fold a stack of blocks: local blocks with BatchNorm's `statistics`, global ones without."""
    blocks, mlp = dict(blocks), dict(blocks["mlp"])
    if statistics is None:
        attention = dict(blocks["attn"])
        mixer, last = attention, "proj"
        blocks["attn"] = attention
    else:
        mixer, last = blocks, "conv2"
        norm1, norm2 = blocks.pop("norm1"), blocks.pop("norm2")
        blocks["conv1"] = _after_norm(blocks["conv1"], norm1, statistics["norm1"])
        mlp["fc1"] = _after_norm(mlp["fc1"], norm2, statistics["norm2"])
    if "gamma_1" in blocks:
        mixer[last] = _scaled(mixer[last], blocks.pop("gamma_1"))
        mlp["fc2"] = _scaled(mlp["fc2"], blocks.pop("gamma_2"))
    blocks["mlp"] = mlp
    return blocks


def _after_norm(layer, norm, statistics):
    slope = norm["scale"] * jax.lax.rsqrt(statistics["var"] + BATCH_NORM_EPSILON)
    shift = norm["bias"] - statistics["mean"] * slope
    kernel = layer["kernel"]
    bias = layer["bias"] + jnp.einsum("bc,bcd->bd", shift, kernel, precision="highest")
    return {"kernel": slope[:, :, None] * kernel, "bias": bias}


def _scaled(layer, gamma):
    return {"kernel": layer["kernel"] * gamma[:, None, :], "bias": layer["bias"] * gamma}
