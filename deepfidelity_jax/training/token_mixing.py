"""Token mixing: the images of a batch exchange a box of patches.

The first layer sees patches one by one, so exchanging the pixels of whole tokens exchanges their
patches. MixToken: Jiang et al., "All Tokens Matter", 2021.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray


def draw_box(key: PRNGKeyArray, side: int) -> Bool[Array, "{side} {side}"]:
    """Which of side x side tokens are in the box.

    The box of CutMix (Yun et al., 2019): a uniform share of the area around a uniform centre, cut
    off at the edges.
    """
    of_area, of_centre = jax.random.split(key)
    half = jnp.floor(side * jnp.sqrt(jax.random.uniform(of_area))) // 2
    centre = jax.random.randint(of_centre, (2, 1), 0, side)
    index = jnp.arange(side)
    rows, columns = (centre - half <= index) & (index < centre + half)
    return rows[:, None] & columns[None, :]


def exchange(x: Float[Array, "n h w c"], box: Bool[Array, "g g"]) -> Float[Array, "n h w c"]:
    """Fill the box from the batch in reverse order; doing it twice undoes it."""
    inside = box.repeat(x.shape[1] // len(box), axis=0).repeat(x.shape[2] // len(box), axis=1)
    return jnp.where(inside[:, :, None], x[::-1], x)
