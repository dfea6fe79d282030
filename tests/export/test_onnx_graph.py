"""A graph is what was called, and a wrong one is refused."""

import numpy as np
import onnx
import pytest

from deepfidelity_jax.export.onnx_graph import Graph
from deepfidelity_jax.export.onnx_model import run


def write(graph, **outputs):
    return graph.finish("crops", 2, outputs, {"labels": "[]"})


def test_calls_become_nodes_and_arrays_constants():
    graph = Graph()
    total = graph("ReduceSum", graph("Cast", "crops", to=1), np.array([1, 2, 3]), keepdims=0)
    low, high = graph.many(2, "Split", graph("Cast", "crops", to=1), axis=1, num_outputs=2)
    rest = graph("Add", total, np.float32(0.5))
    model = write(
        graph, features=(low, [1, 2, 3]), logits=(high, [1, 2, 3]), fidelity=(total, []),
        p_fake=(rest, []),
    )  # fmt: skip
    assert {entry.key: entry.value for entry in model.metadata_props} == {"labels": "[]"}
    crops = np.arange(36, dtype=np.uint8).reshape(3, 2, 2, 3)
    found = run(model.SerializeToString(), crops)
    np.testing.assert_array_equal(found["features"], crops[:, :1])
    np.testing.assert_array_equal(found["logits"], crops[:, 1:])
    np.testing.assert_array_equal(found["p_fake"], crops.sum(axis=(1, 2, 3)) + 0.5)


def test_what_no_runtime_could_run_is_refused():
    graph = Graph()
    product = graph("MatMul", graph("Cast", "crops", to=1), np.zeros((5, 2), np.float32))
    with pytest.raises(onnx.shape_inference.InferenceError):
        write(graph, features=(product, [2, 2, 2]))
