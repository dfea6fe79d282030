"""Which form of an operator runs on an NVIDIA GPU: XLA's, cuDNN's or a kernel of `pallas`.

XLA's form is used unless another was measured to be faster: `benchmarks/accelerator.py`.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial

import jax
from jax import lax

# The kernels of `pallas`, and (compute capability, dtype, kernel) of those in use. None is yet: one
# is added where it was measured to make the whole network faster. In another dtype or on another
# card it may need more shared memory than there is.
KERNELS = ("depthwise_grad", "gelu_product", "gelu_gradient", "moments", "batch_norm_sums")
IN_USE: set[tuple[tuple[int, int], str, str]] = set()

# (Compute capability, dtype, with a gradient) where cuDNN's attention was measured to be faster
# than XLA's: docs/speed.md.
CUDNN_IS_FASTER = {((9, 0), "bfloat16", False)}  # H100, H200

_for_any_machine = ContextVar("for_any_machine", default=False)


@contextlib.contextmanager
def for_any_machine() -> Iterator[None]:
    """Functions traced inside have XLA's forms alone, which run on every GPU and can be stored."""
    token = _for_any_machine.set(True)
    try:
        yield
    finally:
        _for_any_machine.reset(token)


def choose_attention(
    platform: str,
    capability: tuple[int, int] | None,
    dtype: str,
    tokens: int,
    head_dim: int,
    gradient: bool,
) -> str:
    """The form of attention, a key of `global_attention.FORMS`: 'divided_last', 'xla' or 'cudnn'.

    Args:
      platform: the platform compiled for, by JAX's name: 'cpu', 'cuda', 'tpu' ...
      capability: compute capability of the NVIDIA GPU; None if there is none or it is unknown.
      dtype: dtype of q, k and v.
      tokens: number of tokens.
      head_dim: channels of a head.
      gradient: whether the result is differentiated.
    """
    if platform == "cpu":
        return "divided_last"
    faster = platform == "cuda" and (capability, dtype, gradient) in CUDNN_IS_FASTER
    return "cudnn" if faster and cudnn_can(capability, dtype, tokens, head_dim, gradient) else "xla"


def cudnn_can(
    capability: tuple[int, int] | None, dtype: str, tokens: int, head_dim: int, gradient: bool
) -> bool:
    """Whether `jax.nn.dot_product_attention` can use cuDNN's attention here, without a bias."""
    return (
        capability is not None
        and capability >= (8, 0)
        and dtype in ("float16", "bfloat16")
        and head_dim % 8 == 0
        and head_dim <= (256 if capability >= (9, 0) else 128)
        # JAX passes cuDNN a bias even where there is none, and cuDNN's gradient of a bias needs an
        # even number of tokens.
        and not (gradient and tokens % 2)
    )


def switch(kernel: str, plain: Callable, **settings) -> Callable:
    """`plain`, or on one NVIDIA GPU the kernel called `kernel` with these settings if in use.

    It is in use for the dtype of the first array. XLA cannot split a kernel over several GPUs: it
    would gather the batch.
    """
    assert kernel in KERNELS, kernel

    def run(*arrays):
        gpus = find_capabilities()
        if len(gpus) != 1 or (gpus[0], arrays[0].dtype.name, kernel) not in IN_USE:
            return plain(*arrays)
        # Imported here: Pallas loads slowly, and not every build of JAX has its Triton.
        from deepfidelity_jax.network.kernels import pallas

        form = partial(getattr(pallas, kernel), **settings)
        return lax.platform_dependent(*arrays, cuda=form, default=plain)

    return run


def find_capabilities() -> list[tuple[int, int]]:
    """Compute capability of each NVIDIA GPU of the run.

    Empty if programs are compiled for a GPU that is not in this machine, or `for_any_machine`.
    """
    if _for_any_machine.get():
        return []
    try:
        devices = jax.devices("cuda")
    except RuntimeError:
        return []
    return [tuple(map(int, device.compute_capability.split("."))) for device in devices]
