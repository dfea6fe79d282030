"""A detector as an ONNX model."""

import os

import jax
import numpy as np
import onnx

from deepfidelity_jax.detector.load import Detector
from deepfidelity_jax.export.onnx_graph import Graph
from deepfidelity_jax.export.onnx_network import write_network
from deepfidelity_jax.export.onnx_scores import write_p_fake, write_regressor
from deepfidelity_jax.export.program import INPUT, OUTPUTS, view_of
from deepfidelity_jax.fidelity.arrays import Head


def write_model(detector: Detector, properties: dict[str, str]) -> onnx.ModelProto:
    """The program of `make_program` as a float32 model that contains `properties`."""
    graph, view = Graph(), view_of(detector)
    shape, variables = detector.network.config, jax.device_get(detector.variables)
    fitted = detector.fidelity_model
    arrays = fitted.regressor.arrays
    head = arrays.name if isinstance(arrays, Head) else ""
    features, logits, answer = write_network(
        graph, shape, variables, view, INPUT, head, mirror_average=detector.mirror_average
    )
    fidelity = answer or write_regressor(graph, arrays, features)
    tensors = features, logits, fidelity, write_p_fake(graph, fitted.calibration, fidelity)
    sizes = [shape.widths[3]], [shape.num_classes], [], []
    outputs = dict(zip(OUTPUTS, zip(tensors, sizes, strict=True), strict=True))
    return graph.finish(INPUT, view.crop, outputs, properties)


def open_session(content: bytes):
    """The model in onnxruntime, on the CPU."""
    # Recent versions send usage reports to their vendor unless this is set before the import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def run(content: bytes, crops) -> dict[str, np.ndarray]:
    """The outputs for uint8 crops, by onnxruntime."""
    session = open_session(content)
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {INPUT: crops}), strict=True))
