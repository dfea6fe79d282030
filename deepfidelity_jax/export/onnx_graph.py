"""Builds an ONNX graph: operators are called like functions, arrays become constants."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

# Opset 20 has GELU, the latest operator needed; onnxruntime 1.17 of 2024 runs it.
OPSET, ML_OPSET, IR = 20, 3, 9
ML = "ai.onnx.ml"
Constant = np.ndarray | np.generic


class Graph:
    """Nodes and constants so far. `graph("Add", x, y)` adds a node, returns its output's name."""

    def __init__(self):
        self._nodes: list = []
        self._constants: list = []

    def __call__(self, operator: str, *inputs: str | Constant, domain: str = "", **attributes):
        """Add a node with one output; arrays among `inputs` become constants."""
        return self.many(1, operator, *inputs, domain=domain, **attributes)[0]

    def many(
        self, count: int, operator: str, *inputs: str | Constant, domain: str = "", **attributes
    ) -> list[str]:
        """Add a node with several outputs."""
        names = [x if isinstance(x, str) else self._constant(x) for x in inputs]
        outputs = [f"{operator}_{len(self._nodes)}_{i}" for i in range(count)]
        node = helper.make_node(operator, names, outputs, domain=domain, **attributes)
        self._nodes.append(node)
        return outputs

    def _constant(self, array: Constant) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def finish(
        self,
        name: str,
        size: int,
        outputs: Mapping[str, tuple[str, list[int]]],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The checked model, whose only input is `name`: uint8 crops of `size` x `size`.

        Args:
          name: name of the input.
          size: side of the crops.
          outputs: for each output, the node output it comes from, and its shape after the batch.
          metadata: what the file says about itself.
        """
        for output, (source, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [source], [output]))
        byte, single = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "deepfidelity",
            [helper.make_tensor_value_info(name, byte, ["batch", size, size, 3])],
            [
                helper.make_tensor_value_info(output, single, ["batch", *shape])
                for output, (_, shape) in outputs.items()
            ],
            self._constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR, producer_name="deepfidelity_jax"
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model
