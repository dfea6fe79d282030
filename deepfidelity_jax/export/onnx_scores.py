"""From a feature to p_fake in ONNX operators: `fidelity.arrays` and `fidelity.calibration`.

Kernels and calibration are computed in double precision, as they are on a CPU.
"""

import numpy as np

from deepfidelity_jax.export.onnx_graph import ML, Graph
from deepfidelity_jax.export.onnx_network import axis
from deepfidelity_jax.fidelity import arrays as forms
from deepfidelity_jax.fidelity.calibration import NEAREST, Calibration

SINGLE, DOUBLE = 1, 11  # ONNX's numbers of float32 and float64


def write_regressor(graph: Graph, arrays: forms.Arrays, features: str) -> str:
    """Add the regressor; returns the name of fidelity [n], float32."""
    arrays = type(arrays)(*(np.asarray(array) for array in arrays))
    match arrays:
        case forms.Linear():
            x = graph("Sub", features, arrays.centre)
            return _weighted_sum(graph, x, arrays.coefficients, arrays.intercept)
        case forms.Perceptron():
            x = graph("MatMul", graph("Sub", features, arrays.centre), arrays.hidden)
            units = graph("Relu", graph("Add", x, arrays.hidden_intercept))
            return _weighted_sum(graph, units, arrays.coefficients, arrays.intercept)
        case forms.Trees():
            return _ask_trees(graph, arrays, features)
        case forms.Neighbours():
            centre = arrays.vectors.mean(axis=0, dtype=np.float64)
            squared = _distances(graph, arrays.vectors - centre, centre, features)
            return graph("Cast", _ask_neighbours(graph, arrays, squared), to=SINGLE)
    squared = _distances(graph, arrays.vectors, arrays.centre, features)
    kernel = graph("Exp", graph("Mul", squared, _double(-arrays.gamma)))
    coefficients, intercept = _double(arrays.coefficients), _double(arrays.intercept)
    return graph("Cast", _weighted_sum(graph, kernel, coefficients, intercept), to=SINGLE)


def write_p_fake(graph: Graph, calibration: Calibration, fidelity: str) -> str:
    """Add the calibration; returns the name of p_fake [n], float32."""
    f, half = graph("Cast", fidelity, to=DOUBLE), _double(0.5)
    if calibration.method == "isotonic":
        p = _interpolate(graph, f, *map(_double, calibration.curve))
    elif calibration.method == "beta":
        a, b, c = map(_double, calibration.curve[0])
        s = graph("Sub", _double(1), graph("Clip", f, _double(NEAREST), _double(1 - NEAREST)))
        rising = graph("Mul", graph("Log", s), a)
        falling = graph("Mul", graph("Log", graph("Sub", _double(1), s)), b)
        p = graph("Sigmoid", graph("Add", graph("Sub", rising, falling), c))
    else:
        beyond = graph("Sub", f, _double(calibration.threshold))
        p = graph("Sigmoid", graph("Mul", beyond, _double(calibration.slope)))
        return graph("Cast", p, to=SINGLE)
    real = graph("GreaterOrEqual", f, _double(calibration.threshold))
    p = graph("Where", real, graph("Min", p, half), graph("Max", p, half))
    return graph("Cast", p, to=SINGLE)


def _distances(graph: Graph, vectors: np.ndarray, centre: np.ndarray, features: str) -> str:
    """Squared distances [n, m] from each feature to all vectors, which are relative to `centre`."""
    vectors = _double(vectors)
    x = graph("Sub", graph("Cast", features, to=DOUBLE), _double(centre))
    squared_norms = graph("ReduceSum", graph("Mul", x, x), axis(1))
    both = graph("Add", squared_norms, np.sum(vectors**2, axis=1))
    cross = graph("MatMul", x, np.ascontiguousarray(-2 * vectors.T))
    return graph("Max", graph("Add", both, cross), _double(0))


def _ask_neighbours(graph: Graph, arrays: forms.Neighbours, squared: str) -> str:
    """Weighted mean of the nearest targets."""
    count = axis(len(arrays.shares))
    _, nearest = graph.many(2, "TopK", squared, count, largest=0)
    weights = graph(
        "Mul", graph("Gather", _double(arrays.weights), nearest), _double(arrays.shares)
    )
    weighted = graph("Mul", weights, graph("Gather", _double(arrays.targets), nearest))
    total = graph("ReduceSum", weighted, axis(1), keepdims=0)
    return graph("Div", total, graph("ReduceSum", weights, axis(1), keepdims=0))


def _ask_trees(graph: Graph, arrays: forms.Trees, features: str) -> str:
    """The sum of the leaves that a feature falls into."""
    trees, nodes = _reached(arrays.children)
    first, second = arrays.children[trees, nodes].T
    leaf = first == nodes
    values = graph(
        "TreeEnsembleRegressor",
        features,
        domain=ML,
        n_targets=1,
        base_values=[float(arrays.intercept)],
        nodes_treeids=trees,
        nodes_nodeids=nodes,
        nodes_featureids=arrays.feature[trees, nodes],
        nodes_values=arrays.threshold[trees, nodes],
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_truenodeids=np.where(leaf, 0, first),
        nodes_falsenodeids=np.where(leaf, 0, second),
        target_treeids=trees[leaf],
        target_nodeids=nodes[leaf],
        target_ids=np.zeros(leaf.sum(), int),
        target_weights=arrays.value[trees, nodes][leaf],
    )
    return graph("Reshape", values, axis(-1))


def _reached(children: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tree and number of each node that is not padding; children come after their parent."""
    reached = np.zeros(children.shape[:2], bool)
    reached[:, 0] = True
    every = np.arange(len(children))
    for node in range(children.shape[1]):
        for child in children[:, node].T:
            reached[every, child] |= reached[:, node]
    return np.nonzero(reached)


def _interpolate(graph: Graph, f: str, knots: np.ndarray, values: np.ndarray) -> str:
    """`np.interp`: the first value plus, for each segment, its slope times the distance into it."""
    widths = np.diff(knots)
    slopes = (np.diff(values) / widths)[:, None]
    beyond = graph("Sub", graph("Unsqueeze", f, axis(1)), knots[:-1])
    inside = graph("Min", graph("Max", beyond, _double(0)), widths)
    rise = graph("Reshape", graph("MatMul", inside, slopes), axis(-1))
    return graph("Add", rise, values[0])


def _weighted_sum(graph: Graph, x: str, coefficients: np.ndarray, intercept: np.ndarray) -> str:
    product = graph("MatMul", x, coefficients[:, None])
    return graph("Reshape", graph("Add", product, intercept), axis(-1))


def _double(array) -> np.ndarray:
    return np.asarray(array, np.float64)
