"""Which form of an operator runs on an NVIDIA GPU: XLA's, cuDNN's or a kernel of ours.

Everything here was measured, or stays XLA's form. `benchmarks/accelerator.py` measures it.
"""

from collections.abc import Callable
from functools import partial

import jax
from jax import lax

# The functions of kernels.py, and those of them that are in use. None has been measured yet: what
# pays in the whole network belongs here.
KERNELS = ("depthwise_grad", "gelu_product", "gelu_gradient", "moments", "batch_norm_sums")
IN_USE: set[str] = set()

# (Compute capability, dtype, with a gradient) for which cuDNN's attention was measured to be faster
# than XLA's: docs/speed.md.
CUDNN_IS_FASTER = {((9, 0), "bfloat16", False)}  # H100, H200


def choose_attention(
    platform: str,
    capability: tuple[int, int] | None,
    dtype: str,
    tokens: int,
    head_dim: int,
    gradient: bool,
) -> str:
    """The form of attention, of `attention.FORMS`: 'divided_last', 'xla' or 'cudnn'.

    Args:
      platform: what is compiled for, by JAX's names: 'cpu', 'cuda', 'tpu' ...
      capability: of the NVIDIA GPU; None where there is none, or it is not known.
      dtype: of the computation.
      tokens: how many there are.
      head_dim: channels of a head.
      gradient: whether the result is to be differentiated.
    """
    if platform == "cpu":
        return "divided_last"
    faster = platform == "cuda" and (capability, dtype, gradient) in CUDNN_IS_FASTER
    return "cudnn" if faster and cudnn_can(capability, dtype, tokens, head_dim, gradient) else "xla"


def cudnn_can(
    capability: tuple[int, int] | None, dtype: str, tokens: int, head_dim: int, gradient: bool
) -> bool:
    """Whether `jax.nn.dot_product_attention` has cuDNN's attention for this, of no bias."""
    return (
        capability is not None
        and capability >= (8, 0)
        and dtype in ("float16", "bfloat16")
        and head_dim % 8 == 0
        and head_dim <= (256 if capability >= (9, 0) else 128)
        # JAX takes the bias that it puts in place of none for one, whose gradient cuDNN has for an
        # even number of tokens only.
        and not (gradient and tokens % 2)
    )


def switch(kernel: str, plain: Callable, **settings) -> Callable:
    """`plain`, but on an NVIDIA GPU the kernel with these settings where it is in use."""
    assert kernel in KERNELS, kernel
    if kernel not in IN_USE or not kernels_run():
        return plain
    # Here, since Pallas takes its time to import and not every JAX has its Triton.
    from deepfidelity_jax.network.kernels import pallas

    form = partial(getattr(pallas, kernel), **settings)
    return lambda *arrays: lax.platform_dependent(*arrays, cuda=form, default=plain)


def kernels_run() -> bool:
    """Whether kernels can run: on one GPU, of the Ampere generation or newer.

    On several GPUs XLA cannot divide a kernel with the batch, and would gather the batch for it.
    """
    gpus = find_capabilities()
    return len(gpus) == 1 and gpus[0] >= (8, 0)


def find_capabilities() -> list[tuple[int, int]]:
    """Compute capability of each NVIDIA GPU of the run.

    Programs can be made for platforms that are not here: then nothing is known of the GPU.
    """
    try:
        devices = jax.devices("cuda")
    except RuntimeError:
        return []
    return [tuple(map(int, device.compute_capability.split("."))) for device in devices]
