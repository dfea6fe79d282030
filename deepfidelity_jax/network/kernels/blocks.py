"""Runs equal blocks as one loop, and chooses what they keep in memory for the gradient."""

import jax
from flax import linen as nn

from deepfidelity_jax.network.kernels.global_attention import ATTENDED
from deepfidelity_jax.network.kernels.norms import STATISTICS

# Matrix products, attention and BatchNorm's statistics. The rest is cheap: recomputing it for the
# gradient is faster than writing it to memory and reading it back.
KEPT = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(STATISTICS, ATTENDED),
)


def stack(block: type[nn.Module], depth: int, *, remat: bool) -> type[nn.Module]:
    """A module that runs `depth` equal blocks in sequence, with parameters on a leading block axis.

    It is called with the input and an array [depth, ...], of which each block gets its own row.
    With `remat` only the input of each block is kept for the gradient; the rest is recomputed.
    """
    # A loop keeps blocks apart. Without it, XLA fuses the depthwise sums of one block into the next
    # in the gradient, and compiles for minutes.
    return nn.scan(
        nn.remat(block, prevent_cse=False, policy=None if remat else KEPT),
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True, "dropout": True},
        length=depth,
    )
