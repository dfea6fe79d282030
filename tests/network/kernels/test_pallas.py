"""Every kernel is its plain form, run by Pallas's interpreter, and is lowered for an NVIDIA GPU."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.kernels import norms, pallas, products
from deepfidelity_jax.network.kernels.depthwise import correlate, plain_gradient

# Of the large network at 224, an image of each stage; odd batches, edges and widths of all kinds.
STAGES = [(1, 56, 56, 128), (1, 28, 28, 192), (3, 14, 14, 448), (3, 7, 7, 640)]
IMAGES = [*STAGES, (2, 9, 5, 48), (1, 1, 1, 4)]
ROWS = [(3136, 128), (784, 192), (3 * 196, 448), (3 * 49, 640), (257, 48), (1, 4)]
DTYPES = ["float32", "bfloat16"]


def draw(seed, *shapes, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def wide(arrays):
    return [a.astype(jnp.float32) for a in arrays]


def assert_close(found, expected, tolerance):
    """To a share of the largest."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def interpret(kernel):
    return jax.jit(partial(kernel, interpret=True))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_depthwise_grad(shape, k, dtype):
    x, g = draw(0, shape, shape, dtype=dtype)
    found = interpret(partial(pallas.depthwise_grad, k=k))(x, g)
    assert found.dtype == jnp.float32
    assert_close(found, plain_gradient(*wide((x, g)), k=k), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_gelu_product(shape, dtype):
    (n, c), d = shape, 4 * shape[1]
    x, kernel, bias = draw(1, (n, c), (c, d), (d,), dtype=dtype)
    kernel = kernel / np.sqrt(c).astype(dtype)
    found = interpret(pallas.gelu_product)(x, kernel, bias)
    assert found.dtype == dtype
    x, kernel, bias = wide((x, kernel, bias))
    expected = products.gelu(jnp.matmul(x, kernel, precision="highest") + bias)
    assert_close(found, expected, 1e-5 if dtype == "float32" else 4e-3)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_gelu_gradient(shape, dtype):
    x, bias, g = draw(2, shape, shape[1:], shape, dtype=dtype)
    found = interpret(pallas.gelu_gradient)(3 * x, bias, g)
    assert [a.dtype for a in found] == [dtype, jnp.float32]
    expected = products.gelu_gradient(*wide((3 * x, bias, g)))
    assert_close(found[0], expected[0], 1e-5 if dtype == "float32" else 4e-3)
    assert_close(found[1], expected[1], 1e-5)  # summed before it is rounded


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_moments(shape, dtype):
    (x,) = draw(3, shape, dtype=dtype)
    x = x + jnp.asarray(100, dtype)
    mean, var = interpret(pallas.moments)(x)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, exact.var(0), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_batch_norm_sums(shape, dtype):
    x, mean = draw(4, shape, shape[1:], dtype=dtype)
    (g,) = draw(5, shape)
    mean = mean.astype(jnp.float32)
    found = interpret(pallas.batch_norm_sums)(x, g, mean)
    assert_close(found, norms.sums(x, g, mean), 1e-5)


def lower(function, *shapes, dtype, platform="cuda"):
    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    traced = jax.jit(function).trace(*arrays)
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.usefixtures("all_kernels")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", STAGES, ids=str)
def test_every_kernel_lowers(shape, dtype):
    c, rows = shape[-1], (int(np.prod(shape[:-1])), shape[-1])
    hidden = (rows[0], 4 * c)
    cases = [
        *[(partial(pallas.depthwise_grad, k=k), shape, shape) for k in (3, 5)],
        (pallas.gelu_product, rows, (c, 4 * c), (4 * c,)),
        (pallas.gelu_gradient, hidden, (4 * c,), hidden),
        (pallas.moments, rows),
        (pallas.batch_norm_sums, rows, rows, (c,)),
    ]
    for kernel, *shapes in cases:
        assert lower(kernel, *shapes, dtype=dtype).count("xla.gpu.triton") == 1


@pytest.mark.usefixtures("all_kernels")
@pytest.mark.parametrize("platform", ["cuda", "tpu", "cpu"])
def test_each_is_used_on_a_gpu_alone(platform):
    """Where it is in use; with its gradient, under `jax.checkpoint`, in a scan."""

    def mlp(x, kernel, bias):
        return products.project_gelu(x, kernel, bias)

    def train(function):
        def loss(*arguments):
            block = jax.checkpoint(lambda _, __: (function(*arguments).mean(), None))
            return jax.lax.scan(block, 0.0, None, length=2)[0]

        return lambda *arguments: jax.grad(loss, argnums=range(len(arguments)))(*arguments)

    def norm(x, scale, bias):
        return norms.batch_norm(x, scale, bias, 1e-5)[0]

    image, matrices = (1, 4, 4, 8), ((16, 8), (8, 8), (8,))
    for function, shapes, count in (
        (mlp, matrices, 1),
        (train(mlp), matrices, 1),
        (train(correlate), (image, (3, 3, 8)), 1),
        (norm, (image, (8,), (8,)), 1),
        (train(norm), (image, (8,), (8,)), 2),  # moments and sums
    ):
        text = lower(function, *shapes, dtype="float32", platform=platform)
        assert text.count("xla.gpu.triton") == (count if platform == "cuda" else 0)
