"""Every program of the network is made for NVIDIA GPUs and TPUs on a machine that has neither.

What is lowered is what runs: inference as `Detector` has it, the unfolded network, and the training
step with its optimizer, nothing allocated: the smallest variant in every size and type, every other
in two sizes and both types. Stages have two blocks of a kind at most, as others repeat their
shapes; one network has all. So an operator that another platform has
no form for, or that JAX itself refuses for a shape, fails here. cuDNN and an H100 are pretended to
be here for JAX's own checks of what cuDNN can.

What comes later is not seen: what XLA, Triton, cuDNN or the driver refuse on the device when they
compile the lowered program, whether it fits into memory, how fast it is, and whether its numbers
are right. For those there is `benchmarks/accelerator.py`.
"""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from deepfidelity_configs import default
from deepfidelity_jax.fidelity.arrays import SupportVectors, regress
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.network.fold import fold
from deepfidelity_jax.network.ssaaformer import SSAAFormerConfig, normalise
from deepfidelity_jax.training.step import create_state, train_step

VARIANTS = ("large", "base", "small", "tiny")
SLOW = pytest.mark.slow
BATCH = 4
ATTENTION = "__cudnn$fmhaSoftmax"  # and with a suffix its gradient


@functools.cache
def describe(variant, whole=False):
    """The training state of a variant, as shapes."""
    config = make_config(variant, 224, "float32")
    return jax.eval_shape(functools.partial(create_state, make_model(config, whole), config))


def make_model(config, whole=False):
    """The network with all of its blocks, or with one symmetric and one plain in each stage."""
    model = build_model(config)
    if whole:
        return model
    own = model.config
    symmetric = [min(1, count) for count in own.symmetric]
    plain = [min(1, all_ - s) for all_, s in zip(own.depths, own.symmetric, strict=True)]
    depths = tuple(map(sum, zip(symmetric, plain, strict=True)))
    return model.clone(config=replace(own, depths=depths, symmetric=tuple(symmetric)))


def make_config(variant, size, dtype):
    config = default.get_config()
    config.model.update(variant=variant, image_size=size, dtype=dtype)
    return config


def make_batch(size):
    tokens = (size // 32) ** 2
    shapes = {
        "image": ((size, size, 3), jnp.uint8),
        "label": ((), jnp.int32),
        "fidelity": ((), jnp.float32),
        "forged": ((tokens,), jnp.float32),
    }
    return {
        name: jax.ShapeDtypeStruct((BATCH, *shape), dtype)
        for name, (shape, dtype) in shapes.items()
    }


def lower(function, *arguments):
    """The texts of a function for CUDA and TPU, of one trace."""
    traced = jax.jit(function).trace(*arguments)
    return [traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("cuda", "tpu")]


@SLOW
@pytest.mark.usefixtures("h100")
@pytest.mark.parametrize(
    ("variant", "size", "dtype"),
    [
        *(("tiny", size, dtype) for size in (128, 160, 224) for dtype in ("float32", "bfloat16")),
        ("small", 128, "float32"),
        ("small", 224, "bfloat16"),
        ("base", 160, "bfloat16"),
        ("base", 224, "float32"),
        ("large", 160, "float32"),
        ("large", 224, "bfloat16"),
    ],
)
def test_lowers_for_cuda_and_tpu(variant, size, dtype):
    whole = (variant, size, dtype) == ("large", 224, "bfloat16")
    config, batch = make_config(variant, size, dtype), make_batch(size)
    model, state = make_model(config, whole), describe(variant, whole)

    step = functools.partial(train_step, model=model, config=config)
    for text in lower(step, state, batch):
        assert ATTENTION not in text  # measured to be no faster where a gradient is wanted

    def score(model, variables, regressor, images):
        outputs = model.apply(variables, normalise(images), train=False)
        return regress(regressor, outputs.features), outputs.logits

    one, row = jax.ShapeDtypeStruct((), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.float32)
    width = model.config.widths[-1]
    vectors = jax.ShapeDtypeStruct((64, width), jnp.float32)
    mean = jax.ShapeDtypeStruct((width,), jnp.float32)
    regressor = SupportVectors(vectors, row, one, one, mean)
    folded = jax.eval_shape(functools.partial(fold, config=model.config), state.ema)
    inference = functools.partial(score, model.clone(folded=True))
    on_cuda, on_tpu = lower(inference, folded, regressor, batch["image"])
    # Blocks of the folded network are straight code: each with attention calls it once.
    calls = sum(model.config.depths[2:]) if dtype == "bfloat16" else 0
    assert on_cuda.count(f"@{ATTENTION}(") == calls
    assert ATTENTION not in on_tpu

    if size == 224:
        lower(functools.partial(score, model), state.ema, regressor, batch["image"])


@SLOW
def test_lowers_for_a_gpu_nothing_is_known_of():
    config, state = make_config("base", 224, "bfloat16"), describe("base")
    model = make_model(config)
    step = functools.partial(train_step, model=model, config=config)
    forward = functools.partial(model.apply, train=False)
    images = jax.ShapeDtypeStruct((BATCH, 224, 224, 3), jnp.float32)
    for text in lower(step, state, make_batch(224)) + lower(forward, state.ema, images):
        assert ATTENTION not in text


def test_variants_are_all():
    made = {name for name, of in vars(SSAAFormerConfig).items() if isinstance(of, classmethod)}
    assert made == set(VARIANTS)
