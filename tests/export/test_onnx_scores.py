"""Every regressor and every calibration is the same function in ONNX operators."""

import jax.numpy as jnp
import numpy as np
import pytest
from random_detectors import draw_crops
from test_program import CURVES

from deepfidelity_jax.export.onnx_graph import Graph
from deepfidelity_jax.export.onnx_model import run
from deepfidelity_jax.export.onnx_network import axis
from deepfidelity_jax.export.onnx_scores import write_p_fake, write_regressor
from deepfidelity_jax.fidelity import calibration
from deepfidelity_jax.fidelity.alternatives import fit_alternative
from deepfidelity_jax.fidelity.arrays import regress
from deepfidelity_jax.fidelity.regressor import METHODS, fit_regressor


def compute(graph, x, crops):
    names = ("features", "logits", "fidelity", "p_fake")
    model = graph.finish("crops", crops.shape[1], dict.fromkeys(names, (x, [])), {})
    return run(model.SerializeToString(), crops)["fidelity"]


@pytest.mark.parametrize("method", METHODS)
def test_every_regressor(method):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 12))
    y = np.clip(0.5 + 0.3 * np.tanh(x[:, 0]) + 0.1 * rng.normal(size=80), 0, 1)
    arrays = (fit_regressor(x, y) if method == "svr" else fit_alternative(method, x, y)).arrays
    # Features as the graph makes them: twelve bytes of a picture, between -2.5 and 2.5.
    crops = draw_crops(40, 2)
    features = (crops.reshape(40, 12).astype(np.float32) - np.float32(127)) / np.float32(50)
    wanted = np.asarray(regress(arrays, jnp.asarray(features)))
    assert wanted.std() > 0.01
    graph = Graph()
    rows = graph("Reshape", graph("Cast", "crops", to=1), axis(-1, 12))
    given = graph("Div", graph("Sub", rows, np.float32(127)), np.float32(50))
    found = compute(graph, write_regressor(graph, arrays, given), crops)
    np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize("method", CURVES)
def test_every_calibration(method):
    own, crops = CURVES[method], np.arange(256, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    graph = Graph()
    level = graph("ReduceMax", graph("Cast", "crops", to=1), axis(1, 2, 3), keepdims=0)
    fidelity = graph("Sub", graph("Div", level, np.float32(160)), np.float32(0.3))
    found = compute(graph, write_p_fake(graph, own, fidelity), crops)
    f = np.arange(256, dtype=np.float32) / np.float32(160) - np.float32(0.3)
    np.testing.assert_allclose(found, calibration.p_fake(own, f), atol=1e-6)
