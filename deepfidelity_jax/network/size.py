"""The size of a network: its parameters, and the multiply-adds of a forward pass."""

import math

import jax
import jax.numpy as jnp

from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig


def count_parameters(config: SSAAFormerConfig) -> int:
    """The number of parameters, heads included, without BatchNorm's running statistics."""
    return sum(math.prod(p.shape) for p in jax.tree.leaves(_parameter_shapes(config)))


def count_multiply_adds(config: SSAAFormerConfig, size: int) -> dict[str, int]:
    """Multiply-adds for an image of size x size: 'stage1' to 'stage4', 'heads' and 'total'.

    Counted from the kernels of the network, each used once per token, and the two products of
    attention.
    """
    shapes, counts = _parameter_shapes(config), {}
    for i, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
        tokens = (size // 2 ** (i + 2)) ** 2
        attention = 2 * depth * tokens**2 * width if i >= 2 else 0
        counts[f"stage{i + 1}"] = tokens * _kernel_sizes(shapes[f"stage{i + 1}"]) + attention
    uses = {"head": 1, "aux_head": tokens, "fidelity_head": 1, "ordinal_head": 1}
    heads = (n * _kernel_sizes(shapes[head]) for head, n in uses.items() if head in shapes)
    counts["heads"] = sum(heads)
    return {**counts, "total": sum(counts.values())}


def _parameter_shapes(config):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    model = SSAAFormer(config)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)["params"]


def _kernel_sizes(shapes):
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    return sum(math.prod(leaf.shape) for path, leaf in leaves if path[-1].key == "kernel")
