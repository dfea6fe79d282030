"""What is exported: one function from face crops to features, logits, fidelity and p_fake."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float32

from deepfidelity_jax.detector.load import Detector
from deepfidelity_jax.export import view
from deepfidelity_jax.fidelity.arrays import regress
from deepfidelity_jax.fidelity.calibration import NEAREST, Calibration
from deepfidelity_jax.network.inference import answer

INPUT = "crops"
OUTPUTS = ("features", "logits", "fidelity", "p_fake")


def view_of(detector: Detector) -> view.View:
    """The view that the detector's network has of its crops."""
    model = detector.config.model
    return view.make_view(detector.faces.size, model.image_size, model.eval_crop)


def make_program(detector: Detector) -> Callable[..., dict[str, Array]]:
    """A jittable function of uint8 crops [n, size, size, 3], RGB, to a dict of OUTPUTS, float32.

    `size` is the side of the detector's crops.
    """
    crop_view, fitted = view_of(detector), detector.fidelity_model

    def run(crops):
        answers = answer(
            detector.network,
            detector.variables,
            view.take(crop_view, crops),
            mirror_average=detector.mirror_average,
        )
        fidelity = regress(fitted.regressor.arrays, answers.features, answers.head_fidelities)
        values = answers.features, answers.logits, fidelity, p_fake(fitted.calibration, fidelity)
        return dict(zip(OUTPUTS, values, strict=True))

    return run


def p_fake(calibration: Calibration, fidelity: Float32[Array, "n"]) -> Float32[Array, "n"]:
    """`calibration.p_fake` as a jittable function; in double precision except on a TPU."""

    def in_double(fidelity):
        with jax.enable_x64(True):
            return _p_fake(calibration, fidelity.astype(jnp.float64)).astype(jnp.float32)

    def in_single(fidelity):
        return _p_fake(calibration, fidelity)

    return lax.platform_dependent(fidelity, cpu=in_double, cuda=in_double, default=in_single)


def _p_fake(calibration: Calibration, f: Float[Array, "n"]) -> Float[Array, "n"]:
    if calibration.method == "isotonic":
        knots, values = (jnp.asarray(row, f.dtype) for row in calibration.curve)
        p = jnp.interp(f, knots, values)
    elif calibration.method == "beta":
        a, b, c = calibration.curve[0]
        s = 1 - jnp.clip(f, NEAREST, 1 - NEAREST)
        p = jax.nn.sigmoid(a * jnp.log(s) - b * jnp.log1p(-s) + c)
    else:
        return jax.nn.sigmoid(calibration.slope * (f - calibration.threshold))
    real = f >= calibration.threshold
    return jnp.where(real, jnp.minimum(p, 0.5), jnp.maximum(p, 0.5))
