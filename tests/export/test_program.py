"""The exported function gives what the detector gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_detectors import CALIBRATION, draw_crops, draw_detector

from deepfidelity_jax.export.program import OUTPUTS, make_program, p_fake
from deepfidelity_jax.export.write import measure, score
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


def test_the_program_is_the_detector():
    detector = draw_detector()
    crops = draw_crops(3, 36)
    found = jax.jit(make_program(detector))(crops)
    assert set(found) == set(OUTPUTS)
    assert max(measure(score(detector, crops), found).values()) < 1e-5


@pytest.mark.parametrize("method", CURVES)
def test_probabilities_are_those_of_the_calibration(method):
    own = CURVES[method]
    assert own.method == method
    f = np.linspace(-0.3, 1.3, 401).astype(np.float32)
    f[200] = np.float32(own.threshold)
    wanted = calibration.p_fake(own, f)
    np.testing.assert_allclose(p_fake(own, jnp.asarray(f)), wanted, atol=1e-6)
