"""The token mixers: the symmetric mix of the paper, depthwise convolution, global attention."""

from functools import partial

import jax
import jax.extend.backend
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def mirror_mix(a: Float[Array, "*b h w c"], weights: Float[Array, "2"]) -> Float[Array, "*b h w c"]:
    """Blend an attention map with its mirror image, so that both halves of a face are compared.

    With (s0, s1) = softmax(weights):  A' = s0 * A + s1 * flip_left_right(A).

    Symmetric spatial attention augmentation, arXiv 2312.04961.
    """
    s = jax.nn.softmax(weights.astype(jnp.float32)).astype(a.dtype)
    return s[0] * a + s[1] * a[..., ::-1, :]


def attend(
    q: Float[Array, "n t heads d"], k: Float[Array, "n t heads d"], v: Float[Array, "n t heads d"]
) -> Float[Array, "n t heads d"]:
    """Attend from every token to every token: softmax(q k^T / sqrt(d)) v, per head.

    The form follows the default backend.
    """
    # Two CPU cores, SSAAFormer-L, four images: forward 1.58 s of the cores instead of 1.64, a
    # training step of tiny 0.31 instead of 0.32. cuDNN on a GPU has not been measured.
    if jax.default_backend() == "cpu":
        return divided_last(q, k, v)
    return jax.nn.dot_product_attention(q, k, v, implementation=_choose_library(q.dtype))


def divided_last(
    q: Float[Array, "n t heads d"], k: Float[Array, "n t heads d"], v: Float[Array, "n t heads d"]
) -> Float[Array, "n t heads d"]:
    """Attention by plain matrix products; the sum divides the result, not every weight."""
    q, k, v = (x.swapaxes(1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
    scores = jnp.matmul(q, k.swapaxes(2, 3), preferred_element_type=jnp.float32)
    # Any number may be taken off, so that its gradient need not be computed.
    weights = jnp.exp(scores - lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    out = jnp.matmul(weights.astype(v.dtype), v) / weights.sum(axis=-1, keepdims=True)
    return out.astype(v.dtype).swapaxes(1, 2)


def _choose_library(dtype):
    """cuDNN where it can: 16 bits, on NVIDIA's Ampere or newer."""
    device = jax.local_devices()[0]
    capability = getattr(device, "compute_capability", None)
    cuda = "cuda" in jax.extend.backend.get_backend().platform_version
    new = cuda and tuple(map(int, capability.split("."))) >= (8, 0)
    return "cudnn" if new and dtype in (jnp.bfloat16, jnp.float16) else "xla"


def depthwise_conv(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c"], bias: Float[Array, "c"]
) -> Float[Array, "n h w c"]:
    """Convolve every channel with its own k x k kernel, k odd, zeros outside the image."""
    return _correlate(x, kernel) + bias


# Rows of `tap_products` are in at most as many bands. Two CPU cores, 5 x 5 on 4 x 56 x 56 x 128,
# milliseconds: 7.6 with 14, 8.2 with 8, 10.1 with 4, 20.9 with 1.
BANDS = 14
# Numbers of the images and of the gradients that are read for every tap, so that they stay in the
# cache. The same cores, 16 x 56 x 56 x 128: 18 ms with parts of four images, 40 with all at once.
AT_ONCE = 2**21


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
    dkernel = lax.platform_dependent(
        x, g, cpu=partial(tap_products, k=len(kernel)), default=partial(grouped_grad, k=len(kernel))
    )
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
    kernel = (jnp.eye(k * k, dtype=kernel.dtype) @ kernel.reshape(k * k, -1)).reshape(kernel.shape)
    return sum(padded[:, i : i + h, j : j + w] * kernel[i, j] for i in range(k) for j in range(k))


def tap_products(
    x: Float[Array, "n h w c"], g: Float[Array, "n h w c"], *, k: int
) -> Float[Array, "k k c"]:
    """Kernel gradient of `shifted_sum`: for each tap the product of shifted image and gradient."""
    n, size = len(x), x[0].size
    count = max(m for m in range(1, n + 1) if n % m == 0 and (m == 1 or m * size <= AT_ONCE))
    if count == n:
        return _tap_products_at_once(x, g, k)

    def add(part, total):
        # Every so many images a part, so that a batch split over devices stays where it is.
        x_, g_ = (
            lax.dynamic_index_in_dim(a.reshape(count, n // count, *a.shape[1:]), part, 1, False)
            for a in (x, g)
        )
        return total + _tap_products_at_once(x_, g_, k)

    return lax.fori_loop(0, n // count, add, jnp.zeros((k, k, x.shape[-1])))


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


def _pad(x, k):
    return jnp.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
