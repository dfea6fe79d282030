"""Rows times a kernel, with and without GELU: the gradients each platform computes fastest."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from deepfidelity_jax.network.kernels import choice

# On a CPU x^T g is a sum over parts of the rows: the most parts, and the least length of each.
PARTS = 4
ROWS_OF_A_PART = 6000


@jax.custom_vjp
def project(x: Float[Array, "n c"], kernel: Float[Array, "c d"]) -> Float[Array, "n d"]:
    """`plain_product`; on a CPU the kernel's gradient x^T g is a sum over parts of the rows."""
    return plain_product(x, kernel)


def _project_forward(x, kernel):
    # Not a call of `project`, so that a policy of `jax.checkpoint` sees the product.
    return plain_product(x, kernel), (x, kernel)


def _project_backward(residuals, g):
    x, kernel = residuals
    return g @ kernel.T, lax.platform_dependent(x, g, cpu=product_in_parts, default=product_at_once)


project.defvjp(_project_forward, _project_backward)


@jax.custom_vjp
def project_gelu(
    x: Float[Array, "n c"], kernel: Float[Array, "c d"], bias: Float[Array, "d"]
) -> Float[Array, "n d"]:
    """`plain_gelu_product`, in one kernel where `choice.IN_USE` says so."""
    return choice.switch("gelu_product", plain_gelu_product)(x, kernel, bias)


def _project_gelu_forward(x, kernel, bias):
    product = plain_product(x, kernel)  # seen by a policy, as in `project`
    return gelu(product + bias), (x, kernel, bias, product)


def _project_gelu_backward(residuals, g):
    x, kernel, bias, product = residuals
    dproduct, dbias = choice.switch("gelu_gradient", gelu_gradient)(product, bias, g)
    return *_project_backward((x, kernel), dproduct), dbias.astype(bias.dtype)


project_gelu.defvjp(_project_gelu_forward, _project_gelu_backward)


def plain_product(x: Float[Array, "n c"], kernel: Float[Array, "c d"]) -> Float[Array, "n d"]:
    """x @ kernel: the definition."""
    return x @ kernel


def plain_gelu_product(
    x: Float[Array, "n c"], kernel: Float[Array, "c d"], bias: Float[Array, "d"]
) -> Float[Array, "n d"]:
    """GELU(x @ kernel + bias), exact: the definition."""
    return gelu(x @ kernel + bias)


def gelu(x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """x * Phi(x), exact."""
    # jax.nn.gelu uses erfc, which is slower on a CPU, for precision far below zero not needed here.
    return x * (0.5 + 0.5 * lax.erf(x * np.float32(0.5**0.5).astype(x.dtype)))


def gelu_gradient(
    x: Float[Array, "n d"], bias: Float[Array, "d"], g: Float[Array, "n d"]
) -> tuple[Float[Array, "n d"], Float[Array, "d"]]:
    """Gradients of GELU(x + bias) for x, and for the bias in float32."""
    x = x + bias
    # Phi as 1 - Phi(-x), so that XLA does not recognise the erf of the forward pass: it would write
    # it to memory and read it twice, while recomputing it is faster.
    phi = 0.5 - 0.5 * lax.erf(x * np.float32(-(0.5**0.5)).astype(x.dtype))
    density = np.float32((2 * np.pi) ** -0.5).astype(x.dtype) * jnp.exp(-0.5 * jnp.square(x))
    dx = g * (phi + x * density)
    return dx, dx.sum(axis=0, dtype=jnp.float32)


def product_at_once(x: Float[Array, "n c"], g: Float[Array, "n d"]) -> Float[Array, "c d"]:
    """x^T g."""
    return x.T @ g


def product_in_parts(x: Float[Array, "n c"], g: Float[Array, "n d"]) -> Float[Array, "c d"]:
    """x^T g as a sum over parts of the rows, which the cores share; the wider factor is last."""
    n = len(x)
    parts = max(
        p for p in range(1, PARTS + 1) if n % p == 0 and (p == 1 or n // p > ROWS_OF_A_PART)
    )
    if parts == 1:
        return product_at_once(x, g)
    if x.shape[1] > g.shape[1]:
        return product_in_parts(g, x).T
    x, g = (a.reshape(parts, n // parts, -1) for a in (x, g))
    return jnp.einsum("pnc,pnd->pcd", x, g).sum(axis=0)
