"""How a block mixes tokens: with their mirror image, with neighbours, with all other tokens.

The paper's idea is `mirror_mix`, symmetric spatial attention augmentation (SSAA). A face is nearly
symmetric and a forgery seldom is, so each block of the first stage adds the mirror image of its map
A to it:

    A' = s0 * A + s1 * flip_left_right(A),    (s0, s1) = softmax(w),

with two weights w learnt per block. Everything else is UniFormer: its first two stages mix
neighbours (`depthwise_conv`), its last two mix all tokens (`attend`).

Peng et al., "DeepFidelity", arXiv 2312.04961. Li et al., "UniFormer", arXiv 2201.09450. `kernels`
has the implementation of these functions for each platform.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from deepfidelity_jax.network.kernels.depthwise import correlate
from deepfidelity_jax.network.kernels.global_attention import dot_product_attention


def mirror_mix(a: Float[Array, "*b h w c"], weights: Float[Array, "2"]) -> Float[Array, "*b h w c"]:
    """Blend a map with its mirror image: A' = s0 * A + s1 * flip_left_right(A).

    (s0, s1) = softmax(weights): equal weights give a mirror-symmetric map, (1, 0) the map itself.
    """
    s = jax.nn.softmax(weights.astype(jnp.float32)).astype(a.dtype)
    return s[0] * a + s[1] * a[..., ::-1, :]


def depthwise_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"], bias: Float[Array, "c"]
) -> Float[Array, "n h w c"]:
    """Correlate each channel with its own k x k kernel, k odd, and add a bias.

    y[i, j] = sum over a, b of kernel[a, b] * x[i + a - k // 2, j + b - k // 2] + bias, with zeros
    outside the image.
    """
    return correlate(x, kernel) + bias


def attend(
    q: Float[Array, "n t heads d"], k: Float[Array, "n t heads d"], v: Float[Array, "n t heads d"]
) -> Float[Array, "n t heads d"]:
    """Attend from every token to every token, per head: softmax(q k^T / sqrt(d)) v."""
    return dot_product_attention(q, k, v)
