"""A detector as StableHLO: the bytes of `jax.export`, which need only JAX to run.

from jax import export
program = export.deserialize(open("model.stablehlo", "rb").read())
program.call(crops)["fidelity"]

JAX reads such files for at least six months after the version that wrote them.
"""

import jax
import numpy as np
from jax import export

from deepfidelity_jax.detector.load import Detector
from deepfidelity_jax.export.program import make_program
from deepfidelity_jax.network.kernels import choice

PLATFORMS = ("cpu", "cuda", "tpu")


def write_program(detector: Detector) -> bytes:
    """The exported program, for any number of crops and each of PLATFORMS."""
    (batch,) = export.symbolic_shape("batch")
    size = detector.faces.size
    crops = jax.ShapeDtypeStruct((batch, size, size, 3), np.uint8)
    program = jax.jit(make_program(detector))
    with choice.for_any_machine():
        return bytes(export.export(program, platforms=PLATFORMS)(crops).serialize())


def run(content: bytes, crops) -> dict[str, np.ndarray]:
    """The outputs for uint8 crops."""
    outputs = export.deserialize(bytearray(content)).call(crops)
    return {name: np.asarray(array) for name, array in outputs.items()}
