"""What an exported file says about itself, so that its scores are interpreted correctly."""

import json
from typing import Any

import jax

from deepfidelity_jax import __version__
from deepfidelity_jax.detector.load import Detector
from deepfidelity_jax.export.program import INPUT, view_of
from deepfidelity_jax.faces.geometry import SMALLEST_FACE
from deepfidelity_jax.fidelity.arrays import name_of
from deepfidelity_jax.fidelity.scale import LABELS

FORMAT = "deepfidelity export 1"
UNSTATED = "not stated: whoever trained the detector says what it may be used for"


def describe(detector: Detector, licence: str) -> dict[str, Any]:
    """Input, outputs, thresholds, how faces are cut, licence, versions.

    `licence`: the licence of the weights; empty if none was stated.
    """
    view, fitted, faces = view_of(detector), detector.fidelity_model, detector.faces
    calibration, scale = fitted.calibration, fitted.scale
    return {
        "format": FORMAT,
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["batch", view.crop, view.crop, 3],
            "colour": "RGB",
            "seen": f"the central {view.side} pixels, resized to {view.size}",
        },
        "outputs": {
            "features": "what the regressor takes",
            "logits": "of the classes, in the order of labels",
            "fidelity": "high is real; trained toward 0 to 1, not clipped",
            "p_fake": "probability of a fake, if real and fake are equally likely a priori",
        },
        "labels": list(LABELS),
        "polarity": "high fidelity is real",
        "threshold": calibration.threshold,
        "threshold_from": calibration.threshold_from,
        "fake_below": calibration.fake_below,
        "verdict": "real if fidelity >= threshold; fake if fidelity < fake_below, or below the "
        "threshold where fake_below is null; else uncertain",
        "faces": {
            "detector": faces.detector,
            "margin": faces.margin,
            "size": faces.size,
            "smallest": SMALLEST_FACE,
        },
        "quality": {
            "measure": fitted.provenance.get("quality", {}),
            "lowest_trained": scale and scale.real_quality[0],
        },
        "network": {
            "variant": detector.config.model.variant,
            "step": detector.step,
            "dtype": detector.config.model.dtype,
            "mirror_average": detector.mirror_average,
        },
        "regressor": name_of(fitted.regressor.arrays),
        "calibration": calibration.method,
        "licence": licence or UNSTATED,
        "versions": {"deepfidelity_jax": __version__, "jax": jax.__version__},
        "fingerprint": detector.fingerprint,
    }


def to_properties(about: dict[str, Any]) -> dict[str, str]:
    """The same as strings for ONNX: strings as they are, everything else as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in about.items()
    }
