"""Softmax attention over all tokens: its forms and its gradient."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from deepfidelity_jax.network.kernels import choice
from deepfidelity_jax.network.kernels.parts import map_parts

# The name by which a policy of `jax.checkpoint` keeps the result.
ATTENDED = "attended"


@jax.custom_vjp
def dot_product_attention(
    q: Float[Array, "n t heads d"], k: Float[Array, "n t heads d"], v: Float[Array, "n t heads d"]
) -> Float[Array, "n t heads d"]:
    """`plain_attention` in the form that `choice.choose_attention` names for the platform."""
    return _in_chosen_form(FORMS, (q, k, v), gradient=False)


# The gradient rule is outside the platform switch: differentiating the switch itself would keep the
# residuals of every platform's form. The rule runs wherever a gradient is needed, also under
# `jax.checkpoint` and in a scan; the function above is then never compiled.
def _attention_forward(q, k, v):
    out = checkpoint_name(_in_chosen_form(FORMS, (q, k, v), gradient=True), ATTENDED)
    return out, (q, k, v, out)


def _attention_backward(residuals, g):
    return _in_chosen_form(GRADIENTS, (*residuals, g), gradient=True)


dot_product_attention.defvjp(_attention_forward, _attention_backward)


def _in_chosen_form(functions, arrays, *, gradient):
    (_, tokens, _, head_dim), dtype = arrays[0].shape, arrays[0].dtype.name
    capability = min(choice.find_capabilities(), default=None)

    def choose(platform):
        case = (platform, capability, dtype, tokens, head_dim, gradient)
        return functions[choice.choose_attention(*case)]

    return lax.platform_dependent(
        *arrays, cpu=choose("cpu"), cuda=choose("cuda"), default=choose("other")
    )


def plain_attention(
    q: Float[Array, "n t heads d"], k: Float[Array, "n t heads d"], v: Float[Array, "n t heads d"]
) -> Float[Array, "n t heads d"]:
    """softmax(q k^T / sqrt(d)) v, per head: the definition."""
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / q.shape[-1] ** 0.5
    return jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores, axis=-1), v)


def divided_last(
    q: Float[Array, "n t heads d"], k: Float[Array, "n t heads d"], v: Float[Array, "n t heads d"]
) -> Float[Array, "n t heads d"]:
    """Attention that divides the result by the softmax's denominator, not every weight."""
    weights = _weigh(q * q.shape[-1] ** -0.5, k)
    out = _product(weights.astype(v.dtype), v.swapaxes(1, 2)) / weights.sum(axis=-1, keepdims=True)
    return out.astype(v.dtype).swapaxes(1, 2)


def _divided_last_grad(q, k, v, out, g):
    _, t, heads, _ = g.shape
    gradients = map_parts(_gradient_of_part, (q, k, v, out, g), heads * t * t)
    return tuple(x.swapaxes(0, 1).reshape(g.shape) for x in gradients)


def _gradient_of_part(q, k, v, out, g):
    """With P the softmax: dV = P^T dO, dS = P (dP - rowsum(P dP)), and rowsum(P dP) = rowsum(O dO).

    Dao et al., "FlashAttention", 2022, appendix B.
    """
    dtype, scale = q.dtype, q.shape[-1] ** -0.5
    q = q * scale
    weights = _weigh(q, k)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    expected = (out.astype(jnp.float32) * g).sum(axis=-1).swapaxes(1, 2)[..., None]
    q, k, v, g = (x.swapaxes(1, 2) for x in (q, k, v, g))
    dv = _product(weights.astype(dtype).swapaxes(2, 3), g)
    dscores = weights * (_product(g, v.swapaxes(2, 3)) - expected)
    dscores = dscores.astype(dtype)
    dq, dk = _product(dscores, k) * scale, _product(dscores.swapaxes(2, 3), q)
    return tuple(x.astype(dtype).swapaxes(1, 2) for x in (dq, dk, dv))


def _weigh(q, k):
    """exp(q k^T - row maximum) per head, float32; q is scaled."""
    scores = _product(q.swapaxes(1, 2), k.transpose(0, 2, 3, 1))
    return jnp.exp(scores - scores.max(axis=-1, keepdims=True))


_product = partial(jnp.matmul, preferred_element_type=jnp.float32)


def _library_grad(q, k, v, out, g, *, implementation):
    del out
    form = partial(jax.nn.dot_product_attention, implementation=implementation)
    return jax.vjp(form, q, k, v)[1](g)


# By the names in `choice.choose_attention`: the function of q, k and v, and its gradient rule, a
# function of q, k, v, the result and the result's gradient.
FORMS = {"divided_last": divided_last} | {
    name: partial(jax.nn.dot_product_attention, implementation=name) for name in ("xla", "cudnn")
}
GRADIENTS = {"divided_last": _divided_last_grad} | {
    name: partial(_library_grad, implementation=name) for name in ("xla", "cudnn")
}
