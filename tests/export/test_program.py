"""The exported function; that it gives the detector's scores is in `test_stablehlo`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_detectors import CALIBRATION

import deepfidelity_jax as df
from deepfidelity_jax.export.program import OUTPUTS, make_program, p_fake
from deepfidelity_jax.fidelity import calibration

CURVES = {
    "platt": CALIBRATION,
    "temperature": calibration.Calibration(-5.0, 0.5, "fixed", "", method="temperature"),
    "beta": calibration.Calibration(
        -5.0, 0.4983, "validation", method="beta", curve=((1.3, 0.7, 0.42),)
    ),
    "isotonic": calibration.Calibration(
        -5.0, 0.5, "validation", method="isotonic",
        curve=((0.1, 0.4, 0.4000001, 0.6, 0.8), (0.97, 0.8, 0.55, 0.45, 0.02)),
    ),
}  # fmt: skip


def test_the_program_says_what_it_takes_and_gives():
    detector = df.load()
    crops = jax.ShapeDtypeStruct((5, 108, 108, 3), np.uint8)
    found = jax.eval_shape(make_program(detector), crops)
    assert tuple(found) == OUTPUTS
    assert [x.shape for x in found.values()] == [(5, 192), (5, 2), (5,), (5,)]
    assert {x.dtype for x in found.values()} == {np.dtype("float32")}


@pytest.mark.parametrize("method", CURVES)
def test_probabilities_are_those_of_the_calibration(method):
    own = CURVES[method]
    assert own.method == method
    f = np.linspace(-0.3, 1.3, 401).astype(np.float32)
    f[200] = np.float32(own.threshold)
    wanted = calibration.p_fake(own, f)
    np.testing.assert_allclose(p_fake(own, jnp.asarray(f)), wanted, atol=1e-6)
