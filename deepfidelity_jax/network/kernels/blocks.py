"""Equal blocks run as one loop, and what they keep in memory for the gradient."""

import jax
from flax import linen as nn

from deepfidelity_jax.network.kernels.global_attention import ATTENDED
from deepfidelity_jax.network.kernels.norms import STATISTICS

# Matrix products, attention and BatchNorm's statistics. The rest is cheap: computing it again in
# the gradient is faster than writing it to memory and reading it back.
KEPT = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(STATISTICS, ATTENDED),
)


def stack(block: type[nn.Module], depth: int, *, remat: bool) -> type[nn.Module]:
    """The module that runs `depth` equal blocks in a row, their parameters on a leading block axis.

    It is called with the input and an array [depth, ...] of which each block gets its own row. With
    `remat` only the input of each block is kept for the gradient, and the rest computed again.
    """
    # A loop keeps blocks apart: in straight code XLA fuses the depthwise sums of one block into the
    # next in the gradient, and compiles for minutes.
    return nn.scan(
        nn.remat(block, prevent_cse=False, policy=None if remat else KEPT),
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True, "dropout": True},
        length=depth,
    )
