"""Processes a batch a few images at a time, so that they fit in a CPU's cache."""

import jax
import jax.numpy as jnp
from jax import lax

# Numbers of an array that a gradient passes over several times.
AT_ONCE = 2**21


def map_parts(function, arrays, size: int):
    """`function` on a few images at a time, of `size` numbers each: results [parts, ...]."""
    n = len(arrays[0])
    count = max(m for m in range(1, n + 1) if n % m == 0 and (m == 1 or m * size <= AT_ONCE))
    if count == n:
        return jax.tree.map(lambda result: result[None], function(*arrays))

    def run(part):
        # Part i holds images i, i + parts, ..., so that no image moves between devices.
        parts = (a.reshape(count, n // count, *a.shape[1:]) for a in arrays)
        return function(*(lax.dynamic_index_in_dim(a, part, 1, keepdims=False) for a in parts))

    return lax.map(run, jnp.arange(n // count))
