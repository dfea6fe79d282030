"""Depthwise correlation: its forms and its gradient.

XLA's grouped convolution is slow on a CPU, so a CPU uses a sum of shifted products; other platforms
use the grouped convolution.
"""

from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from deepfidelity_jax.network.kernels import choice
from deepfidelity_jax.network.kernels.parts import map_parts

# Most bands of rows that `tap_products` works on.
BANDS = 14


@jax.custom_vjp
def correlate(x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"]) -> Float[Array, "n h w c"]:
    """`plain_correlation` in the platform's form."""
    return lax.platform_dependent(x, kernel, cpu=shifted_sum, default=plain_correlation)


# The gradient rule is outside the platform switch: differentiating the switch itself would keep the
# residuals of every platform's form.
def _correlate_forward(x, kernel):
    return correlate(x, kernel), (x, kernel)


def _correlate_backward(residuals, g):
    x, kernel = residuals
    dx = correlate(g, kernel[::-1, ::-1])
    k = len(kernel)
    default = choice.switch("depthwise_grad", partial(plain_gradient, k=k), k=k)
    dkernel = lax.platform_dependent(x, g, cpu=partial(tap_products, k=k), default=default)
    return dx, dkernel.astype(kernel.dtype)


correlate.defvjp(_correlate_forward, _correlate_backward)


def plain_correlation(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"]
) -> Float[Array, "n h w c"]:
    """Depthwise correlation as a convolution with one channel per group: the definition."""
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def plain_gradient(
    x: Float[Array, "n h w c"], g: Float[Array, "n h w c"], *, k: int
) -> Float[Array, "k k c"]:
    """Kernel gradient of `plain_correlation`."""
    kernel = jax.ShapeDtypeStruct((k, k, x.shape[-1]), x.dtype)
    return jax.linear_transpose(partial(plain_correlation, x), kernel)(g)[0].astype(jnp.float32)


def shifted_sum(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"]
) -> Float[Array, "n h w c"]:
    """Depthwise correlation as a sum of k * k shifted products."""
    k, (n, h, w, c) = len(kernel), x.shape
    padded = _pad(x, k)
    # The product with the identity is computed once. Without it XLA fuses the slice that takes the
    # kernel from a stack of blocks into the sum, and slices again for every number.
    rows = jnp.eye(k * k, dtype=kernel.dtype) @ kernel.reshape(k * k, c)

    def multiply(number):
        # By `lax`: hundreds of taps take long to trace as indexing.
        i, j = divmod(number, k)
        shifted = lax.slice(padded, (0, i, j, 0), (n, i + h, j + w, c))
        row = lax.slice(rows, (number, 0), (number + 1, c)).reshape(c)
        return lax.mul(shifted, lax.broadcast_in_dim(row, shifted.shape, (3,)))

    return reduce(lax.add, map(multiply, range(k * k)))


def tap_products(
    x: Float[Array, "n h w c"], g: Float[Array, "n h w c"], *, k: int
) -> Float[Array, "k k c"]:
    """Kernel gradient of `shifted_sum`: per tap, the shifted image times the gradient, summed."""
    return map_parts(partial(_tap_products_at_once, k=k), (x, g), x[0].size).sum(axis=0)


def _tap_products_at_once(x, g, k):
    n, h, w, c = x.shape
    # The products of all bands of rows are added in one pass, without being written to memory.
    bands = max(count for count in range(1, BANDS + 1) if h % count == 0)
    rows, padded = h // bands, _pad(x, k)
    ones = jnp.ones((1, n * rows * w), x.dtype)

    def sum_products(i, j):
        def multiply(top):
            shifted = lax.dynamic_slice(padded, (0, top + i, j, 0), (n, rows, w, c))
            return shifted * g[:, top : top + rows]

        product = sum(multiply(band * rows) for band in range(bands))
        # Summed by a product with ones: fused into a plain reduction, the multiplication is not
        # vectorised.
        flat = product.reshape(-1, c)
        return jnp.matmul(ones, flat, preferred_element_type=jnp.float32)[0]

    # In a loop, because XLA would fuse all taps into one slow pass.
    i, j = jnp.indices((k, k)).reshape(2, -1)
    return lax.map(lambda tap: sum_products(*tap), (i, j)).reshape(k, k, c)


def _pad(x, k):
    return jnp.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
