"""Depthwise convolution: the forms it is computed in, and its gradient."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from deepfidelity_jax.network.kernels import choice

# On a CPU, numbers of an array that a gradient passes over several times, lest it leaves the cache.
# Two cores, 16 images: 18 ms instead of 40 for the 25 taps of 56 x 56 x 128, 28 instead of 45 for
# attention of 7 heads over 196 tokens; four at once in both.
AT_ONCE = 2**21


def depthwise_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"], bias: Float[Array, "c"]
) -> Float[Array, "n h w c"]:
    """Convolve every channel with its own k x k kernel, k odd, zeros outside the image."""
    return _correlate(x, kernel) + bias


# Rows of `tap_products` are in at most as many bands. Two CPU cores, 5 x 5 on 4 x 56 x 56 x 128,
# milliseconds: 7.6 with 14, 8.2 with 8, 10.1 with 4, 20.9 with 1.
BANDS = 14


# Two CPU cores, 5 x 5 on 4 x 56 x 56 x 128, milliseconds: shifted_sum 2.5, grouped_conv 128; their
# kernel gradients 7.6 and 202. Off the CPU the library's depthwise convolution stays until another
# form has been measured there.
@jax.custom_vjp
def _correlate(x, kernel):
    return lax.platform_dependent(x, kernel, cpu=shifted_sum, default=grouped_conv)


def _correlate_forward(x, kernel):
    return _correlate(x, kernel), (x, kernel)


def _correlate_backward(residuals, g):
    x, kernel = residuals
    dx = _correlate(g, kernel[::-1, ::-1])
    k = len(kernel)
    default = choice.switch("depthwise_grad", partial(grouped_grad, k=k), k=k)
    dkernel = lax.platform_dependent(x, g, cpu=partial(tap_products, k=k), default=default)
    return dx, dkernel.astype(kernel.dtype)


# The rule lies outside the platform switch: differentiating the switch itself would keep
# the residuals of every platform's form.
_correlate.defvjp(_correlate_forward, _correlate_backward)


def shifted_sum(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"]
) -> Float[Array, "n h w c"]:
    """Depthwise correlation as a sum of k * k shifted products."""
    k, (h, w) = len(kernel), x.shape[1:3]
    padded = _pad(x, k)
    # A product with the identity, which XLA computes on its own. A kernel sliced out of a stack it
    # would slice anew for every number of the sum: 3 x 3 on 4 x 14 x 14 x 448, 1.0 ms of a core
    # instead of 0.2.
    kernel = (jnp.eye(k * k, dtype=kernel.dtype) @ kernel.reshape(k * k, -1)).reshape(kernel.shape)
    return sum(padded[:, i : i + h, j : j + w] * kernel[i, j] for i in range(k) for j in range(k))


def tap_products(
    x: Float[Array, "n h w c"], g: Float[Array, "n h w c"], *, k: int
) -> Float[Array, "k k c"]:
    """Kernel gradient of `shifted_sum`: for each tap the product of shifted image and gradient."""
    return map_parts(partial(_tap_products_at_once, k=k), (x, g), x[0].size).sum(axis=0)


def _tap_products_at_once(x, g, k):
    n, h, w, c = x.shape
    # The rows in bands, whose products are added in one pass without being written down.
    bands = max(count for count in range(1, BANDS + 1) if h % count == 0)
    rows, padded = h // bands, _pad(x, k)
    ones = jnp.ones((1, n * rows * w), x.dtype)

    def sum_products(i, j):
        def multiply(top):
            shifted = lax.dynamic_slice(padded, (0, top + i, j, 0), (n, rows, w, c))
            return shifted * g[:, top : top + rows]

        product = sum(multiply(band * rows) for band in range(bands))
        # A product with ones: fused into a plain reduction, the multiplication is not vectorised.
        flat = product.reshape(-1, c)
        return jnp.matmul(ones, flat, preferred_element_type=jnp.float32)[0]

    # A loop: side by side, XLA fuses all taps into one slow pass.
    i, j = jnp.indices((k, k)).reshape(2, -1)
    return lax.map(lambda tap: sum_products(*tap), (i, j)).reshape(k, k, c)


def grouped_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"]
) -> Float[Array, "n h w c"]:
    """Depthwise correlation as a convolution with one channel per group."""
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def grouped_grad(
    x: Float[Array, "n h w c"], g: Float[Array, "n h w c"], *, k: int
) -> Float[Array, "k k c"]:
    """Kernel gradient of `grouped_conv`."""
    kernel = jax.ShapeDtypeStruct((k, k, x.shape[-1]), x.dtype)
    return jax.linear_transpose(partial(grouped_conv, x), kernel)(g)[0].astype(jnp.float32)


def map_parts(function, arrays, size):
    """`function` of a few images at a time, of `size` numbers each: results [parts, ...]."""
    n = len(arrays[0])
    count = max(m for m in range(1, n + 1) if n % m == 0 and (m == 1 or m * size <= AT_ONCE))
    if count == n:
        return jax.tree.map(lambda result: result[None], function(*arrays))

    def run(part):
        # Every so many images a part, so that a batch split over devices stays where it is.
        parts = (a.reshape(count, n // count, *a.shape[1:]) for a in arrays)
        return function(*(lax.dynamic_index_in_dim(a, part, 1, keepdims=False) for a in parts))

    return lax.map(run, jnp.arange(n // count))


def _pad(x, k):
    return jnp.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
