"""The rules by which a form is chosen; that all forms are one function is tested with them."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from deepfidelity_jax.network.kernels import choice, norms, pallas
from deepfidelity_jax.network.kernels.choice import choose_attention, cudnn_can

A100, H100, B200 = (8, 0), (9, 0), (10, 0)


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "tokens", "head_dim", "gradient", "form"),
    [
        ("cpu", None, "float32", 196, 64, False, "divided_last"),
        ("cpu", None, "bfloat16", 49, 32, True, "divided_last"),
        ("cpu", H100, "bfloat16", 196, 64, False, "divided_last"),  # a CPU beside a GPU
        ("tpu", None, "bfloat16", 196, 64, False, "xla"),
        ("tpu", None, "float32", 49, 64, True, "xla"),
        ("rocm", None, "bfloat16", 196, 64, False, "xla"),
        ("cuda", H100, "bfloat16", 196, 64, False, "cudnn"),
        ("cuda", H100, "bfloat16", 49, 64, False, "cudnn"),
        ("cuda", H100, "bfloat16", 25, 32, False, "cudnn"),
        ("cuda", H100, "bfloat16", 196, 64, True, "xla"),
        ("cuda", H100, "bfloat16", 49, 64, True, "xla"),
        ("cuda", H100, "float32", 196, 64, False, "xla"),
        ("cuda", H100, "float16", 196, 64, False, "xla"),  # cuDNN could, nobody measured it
        ("cuda", H100, "bfloat16", 196, 60, False, "xla"),
        ("cuda", H100, "bfloat16", 196, 264, False, "xla"),
        ("cuda", A100, "bfloat16", 196, 64, False, "xla"),
        ("cuda", B200, "bfloat16", 196, 64, False, "xla"),
        ("cuda", (7, 5), "bfloat16", 196, 64, False, "xla"),
        ("cuda", None, "bfloat16", 196, 64, False, "xla"),  # compiled where there is none
    ],
)
def test_form_of_attention(platform, capability, dtype, tokens, head_dim, gradient, form):
    found = choose_attention(platform, capability, dtype, tokens, head_dim, gradient)
    assert found == form


@pytest.mark.usefixtures("h100")
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("tokens", [16, 49])
@pytest.mark.parametrize("head_dim", [32, 60, 256, 264])
def test_the_library_takes_what_cudnn_can(gradient, dtype, tokens, head_dim):
    """The library's own checks accept what `cudnn_can` does; a new release may take more."""
    q = jax.ShapeDtypeStruct((2, tokens, 3, head_dim), dtype)
    form = partial(jax.nn.dot_product_attention, implementation="cudnn")
    function = jax.grad(lambda *a: form(*a).astype(jnp.float32).sum()) if gradient else form
    try:
        jax.eval_shape(function, q, q, q)
        said = True
    except NotImplementedError:
        said = False
    assert said or not cudnn_can(H100, dtype, tokens, head_dim, gradient)


@pytest.mark.parametrize(
    ("gpus", "dtype", "used"),
    [
        ([], "bfloat16", False),
        ([A100], "bfloat16", False),
        ([H100], "bfloat16", True),
        ([H100], "float32", False),
        ([H100, H100], "bfloat16", False),
    ],
)
def test_a_kernel_runs_on_the_card_and_in_the_dtype_it_was_measured_in(
    monkeypatch, gpus, dtype, used
):
    """Another card may lack the shared memory it needs, or be faster with XLA's form."""
    monkeypatch.setattr(choice, "IN_USE", {(H100, "bfloat16", "moments")})
    monkeypatch.setattr(choice, "find_capabilities", lambda: gpus)
    x = jax.ShapeDtypeStruct((16, 8), dtype)
    program = str(jax.make_jaxpr(choice.switch("moments", norms.moments))(x))
    assert ("pallas_call" in program) == used
    program = str(jax.make_jaxpr(choice.switch("gelu_gradient", lambda x: x))(x))
    assert "pallas_call" not in program


def test_each_kernel_is_a_function():
    assert {kernel for _, _, kernel in choice.IN_USE} <= {*choice.KERNELS}
    assert all(callable(getattr(pallas, name)) for name in choice.KERNELS)
