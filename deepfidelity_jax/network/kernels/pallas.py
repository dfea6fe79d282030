"""Pallas kernels for NVIDIA GPUs, each with one pass where XLA takes several.

`choice.IN_USE` lists those in use; XLA's form is beside each call. They are written for
Triton: block sizes are powers of two, edges are masked, accumulators are float32. XLA adds up the
partial sums of blocks, so that a result never depends on the order in which blocks finish.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

# Channels of a block, at least 128 bytes in a row, and columns of a block of `depthwise_grad`. Each
# of 128 threads has four numbers, and for 5 x 5 taps 100 registers of accumulators.
CHANNELS, COLUMNS = 64, 8


def depthwise_grad(
    x: Float[Array, "n h w c"], g: Float[Array, "n h w c"], *, k: int, interpret: bool = False
) -> Float[Array, "k k c"]:
    """Kernel gradient of a depthwise k x k correlation, k odd, in one pass over x and g.

    A program goes down the rows of an image for some columns and channels. It loads each row of x k
    times, shifted sideways: once from memory, then from the cache. It holds the k rows of g that
    this row is multiplied with.
    """
    n, h, w, c = x.shape
    columns, channels = pl.cdiv(w, COLUMNS), pl.cdiv(c, CHANNELS)
    image = pl.BlockSpec((None, h, w, c), lambda m, j, i: (i, 0, 0, 0))
    sums = pl.pallas_call(
        functools.partial(_depthwise_grad_kernel, k=k),
        out_shape=jax.ShapeDtypeStruct((n, columns, k, k, c), jnp.float32),
        # Neighbouring programs work on one image, whose columns overlap in the cache.
        grid=(channels, columns, n),
        in_specs=[image, image],
        out_specs=pl.BlockSpec((None, None, k, k, c), lambda m, j, i: (i, j, 0, 0, 0)),
        compiler_params=triton.CompilerParams(num_warps=4),
        interpret=interpret,
        name="depthwise_grad",
    )(x, g)
    return sums.sum(axis=(0, 1))


def _depthwise_grad_kernel(x_ref, g_ref, sums_ref, *, k):
    h, w, c = x_ref.shape
    middle = k // 2
    column = pl.program_id(1) * COLUMNS + jnp.arange(COLUMNS)
    channel = pl.program_id(0) * CHANNELS + jnp.arange(CHANNELS)

    def load(ref, row, shift):
        moved = column + shift
        inside = ((moved >= 0) & (moved < w))[:, None] & (channel < c)[None, :] & (row < h)
        place = ref.at[row, moved[:, None], channel[None, :]]
        return triton.load(place, mask=inside, other=0.0).astype(jnp.float32)

    def add_row(row, carry):
        rows, sums = carry
        # Row `row` of x is multiplied with row `row + middle - i` of g for the kernel's row i.
        rows = (load(g_ref, row + middle, 0), *rows[:-1])
        moved = [load(x_ref, row, j - middle) for j in range(k)]
        sums = tuple(sums[i * k + j] + moved[j] * rows[i] for i in range(k) for j in range(k))
        return rows, sums

    zeros = jnp.zeros((COLUMNS, CHANNELS), jnp.float32)
    above = [load(g_ref, middle - 1 - i, 0) for i in range(middle)]
    start = (*above, *[zeros] * (k - middle)), (zeros,) * (k * k)
    _, sums = lax.fori_loop(0, h, add_row, start)
    for tap, total in enumerate(sums):
        place = sums_ref.at[tap // k, tap % k, channel]
        triton.store(place, total.sum(axis=0), mask=channel < c)


# Rows and columns of a block of the product, and the summed length of a step: three programs fit on
# a multiprocessor of an H100, and one computes while another writes.
ROWS, WIDTH, DEPTH = 128, 64, 64


def gelu_product(
    x: Float[Array, "n c"],
    kernel: Float[Array, "c d"],
    bias: Float[Array, "d"],
    *,
    interpret: bool = False,
) -> Float[Array, "n d"]:
    """GELU(x @ kernel + bias), exact; the product is neither rounded nor written to memory."""
    n, d = len(x), kernel.shape[1]
    whole = [pl.BlockSpec(a.shape, lambda j, i, a=a: (0,) * a.ndim) for a in (x, kernel, bias)]
    return pl.pallas_call(
        _gelu_product_kernel,
        out_shape=jax.ShapeDtypeStruct((n, d), x.dtype),
        # Programs side by side share rows of x, which are many; the kernel stays in the cache.
        grid=(pl.cdiv(d, WIDTH), pl.cdiv(n, ROWS)),
        in_specs=whole,
        out_specs=pl.BlockSpec((n, d), lambda j, i: (0, 0)),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=3),
        interpret=interpret,
        name="gelu_product",
    )(x, kernel, bias)


def _gelu_product_kernel(x_ref, kernel_ref, bias_ref, y_ref):
    (n, c), d = x_ref.shape, kernel_ref.shape[1]
    row = pl.program_id(1) * ROWS + jnp.arange(ROWS)
    column = pl.program_id(0) * WIDTH + jnp.arange(WIDTH)

    def add_part(part, total):
        inner = part * DEPTH + jnp.arange(DEPTH)
        x = _load(x_ref, (row, n), (inner, c))
        kernel = _load(kernel_ref, (inner, c), (column, d))
        return total + jnp.dot(x, kernel, preferred_element_type=jnp.float32)

    zeros = jnp.zeros((ROWS, WIDTH), jnp.float32)
    total = lax.fori_loop(0, pl.cdiv(c, DEPTH), add_part, zeros)
    bias = triton.load(bias_ref.at[column], mask=column < d, other=0.0)
    total = total + bias.astype(jnp.float32)
    y = (total * _normal_cdf(total)).astype(y_ref.dtype)
    inside = (row < n)[:, None] & (column < d)[None, :]
    triton.store(y_ref.at[row[:, None], column[None, :]], y, mask=inside)


def gelu_gradient(
    x: Float[Array, "n d"],
    bias: Float[Array, "d"],
    g: Float[Array, "n d"],
    *,
    interpret: bool = False,
) -> tuple[Float[Array, "n d"], Float[Array, "d"]]:
    """Exact gradients of GELU(x + bias) for x, and for the bias in float32."""

    def differentiate(x, g, bias):
        x = x + bias
        density = np.float32((2 * np.pi) ** -0.5) * jnp.exp(-0.5 * x * x)
        dx = g * (_normal_cdf(x) + x * density)
        return [dx], [dx]

    (dx,), (dbias,) = _pass_over_rows(differentiate, (x, g), (bias,), 1, 1, interpret)
    return dx, dbias


def moments(
    x: Float[Array, "*b c"], *, interpret: bool = False
) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
    """Mean and biased variance of each channel over all positions, in one pass."""
    x = x.reshape(-1, x.shape[-1])
    # Differences from the first row, so that no digits are lost far from zero.
    first, n = x[0].astype(jnp.float32), len(x)

    def sum_powers(x, first):
        difference = x - first
        return [], [difference, difference * difference]

    _, (total, squares) = _pass_over_rows(sum_powers, (x,), (first,), 0, 2, interpret)
    mean = total / n
    return first + mean, squares / n - mean * mean


def batch_norm_sums(
    x: Float[Array, "*b c"],
    g: Float[Array, "*b c"],
    mean: Float[Array, "c"],
    *,
    interpret: bool = False,
) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
    """The sums over all positions of g and of g * (x - mean), in one pass."""
    x, g = (a.reshape(-1, a.shape[-1]) for a in (x, g))

    def multiply(x, g, mean):
        return [], [g, g * (x - mean)]

    _, sums = _pass_over_rows(multiply, (x, g), (mean,), 0, 2, interpret)
    return tuple(sums)


# Rows of a block, and blocks a program works through one after another.
LINES, BLOCKS = 32, 8


def _pass_over_rows(function, arrays, vectors, written, summed, interpret):
    """Pass once over arrays [n, c]: results of the same shape, and results summed over rows.

    `function` gets a float32 block of each array, then of each vector [c], and returns two lists:
    `written` blocks, stored in the first array's dtype, and `summed` blocks.
    """
    n, c = arrays[0].shape
    chunks = pl.cdiv(n, LINES * BLOCKS)

    def run(*refs):
        inputs, outputs = refs[: len(arrays)], refs[len(arrays) + len(vectors) :]
        chunk, channel = pl.program_id(1), pl.program_id(0) * CHANNELS + jnp.arange(CHANNELS)
        constants = [
            triton.load(ref.at[channel], mask=channel < c, other=0.0).astype(jnp.float32)
            for ref in refs[len(arrays) : len(arrays) + len(vectors)]
        ]

        def add_block(block, sums):
            row = (chunk * BLOCKS + block) * LINES + jnp.arange(LINES)
            inside = (row < n)[:, None] & (channel < c)[None, :]
            blocks = [_load(ref, (row, n), (channel, c)).astype(jnp.float32) for ref in inputs]
            results, terms = function(*blocks, *constants)
            for ref, result in zip(outputs[:written], results, strict=True):
                place = ref.at[row[:, None], channel[None, :]]
                triton.store(place, result.astype(ref.dtype), mask=inside)
            return tuple(
                total + jnp.where(inside, term, 0.0)
                for total, term in zip(sums, terms, strict=True)
            )

        zeros = (jnp.zeros((LINES, CHANNELS), jnp.float32),) * summed
        sums = lax.fori_loop(0, BLOCKS, add_block, zeros)
        for ref, total in zip(outputs[written:], sums, strict=True):
            triton.store(ref.at[channel], total.sum(axis=0), mask=channel < c)

    def whole(shape):
        return pl.BlockSpec(shape, lambda j, i: (0,) * len(shape))

    results = pl.pallas_call(
        run,
        out_shape=[
            *[jax.ShapeDtypeStruct((n, c), arrays[0].dtype)] * written,
            *[jax.ShapeDtypeStruct((chunks, c), jnp.float32)] * summed,
        ],
        grid=(pl.cdiv(c, CHANNELS), chunks),
        in_specs=[whole(a.shape) for a in (*arrays, *vectors)],
        out_specs=[
            *[whole((n, c))] * written,
            *[pl.BlockSpec((None, c), lambda j, i: (i, 0))] * summed,
        ],
        compiler_params=triton.CompilerParams(num_warps=4),
        interpret=interpret,
        name=function.__name__,
    )(*arrays, *vectors)
    return results[:written], [sums.sum(axis=0) for sums in results[written:]]


def _load(ref, rows, columns):
    """A block of a matrix, zeros outside; each axis is (index, size)."""
    (row, n), (column, c) = rows, columns
    inside = (row < n)[:, None] & (column < c)[None, :]
    return triton.load(ref.at[row[:, None], column[None, :]], mask=inside, other=0.0)


def _normal_cdf(x):
    """Phi(x) in float32. Triton's lowering has no erf: this is XLA's rational form of it."""
    z = jnp.clip(x * np.float32(0.5**0.5), -4.0, 4.0)
    square = z * z
    over = functools.reduce(lambda sum_, a: sum_ * square + np.float32(a), ABOVE)
    under = functools.reduce(lambda sum_, b: sum_ * square + np.float32(b), BELOW)
    return 0.5 + 0.5 * (z * over / under)


# erf(z) = z * P(z^2) / Q(z^2) for |z| <= 4, highest powers first; the coefficients are Eigen's.
ABOVE = [
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
    -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
]  # fmt: skip
BELOW = [
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
    -1.42647390514189e-02,
]  # fmt: skip
