"""The token mixers: the symmetric mix of the paper, depthwise convolution, global attention."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def mirror_mix(a: Float[Array, "*b h w c"], weights: Float[Array, "2"]) -> Float[Array, "*b h w c"]:
    """Blend an attention map with its mirror image, so that both halves of a face are compared.

    With (s0, s1) = softmax(weights):  A' = s0 * A + s1 * flip_left_right(A).

    Symmetric spatial attention augmentation, arXiv 2312.04961.
    """
    s = jax.nn.softmax(weights.astype(jnp.float32)).astype(a.dtype)
    return s[0] * a + s[1] * a[..., ::-1, :]
