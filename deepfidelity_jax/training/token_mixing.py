"""Token mixing: a box of patches changes places between the images of a batch.

The first layer sees patches one by one, so exchanging pixels behind whole tokens is exchanging the
patches themselves. MixToken: Jiang et al., "All Tokens Matter", 2021.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray


def draw_box(key: PRNGKeyArray, side: int) -> Bool[Array, "{side} {side}"]:
    """Which of side x side tokens are in the box.

    CutMix's box (Yun et al., 2019): its share of the area is uniform, its centre anywhere, and
    what lies outside is cut off.
    """
    of_area, of_centre = jax.random.split(key)
    half = jnp.floor(side * jnp.sqrt(jax.random.uniform(of_area))) // 2
    centre = jax.random.randint(of_centre, (2, 1), 0, side)
    index = jnp.arange(side)
    rows, columns = (centre - half <= index) & (index < centre + half)
    return rows[:, None] & columns[None, :]


def exchange(x: Float[Array, "n h w c"], box: Bool[Array, "g g"]) -> Float[Array, "n h w c"]:
    """Fill the box with what the batch in reverse order has there; doing it again undoes it."""
    inside = box.repeat(x.shape[1] // len(box), axis=0).repeat(x.shape[2] // len(box), axis=1)
    return jnp.where(inside[:, :, None], x[::-1], x)
