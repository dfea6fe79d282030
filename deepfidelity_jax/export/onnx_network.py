"""SSAAFormer in ONNX operators, from its folded parameters: `network.ssaaformer`, layer by layer.

Maps are [n, c, h, w], as ONNX's convolutions take them, and tokens [n, t, c]. `write_network`
raises unless every parameter, except those of other heads, is used exactly once: a network that has
changed is not exported incorrectly.
"""

from collections.abc import Mapping

import numpy as np
from flax.traverse_util import flatten_dict

from deepfidelity_jax.export.onnx_graph import Graph
from deepfidelity_jax.export.view import View
from deepfidelity_jax.network.layers import BATCH_NORM_EPSILON
from deepfidelity_jax.network.ssaaformer import SSAAFormerConfig

LAST = np.iinfo(np.int64).min  # where a slice that runs backwards ends


class Parameters:
    """The folded parameters by path, float32, and which of them were used."""

    def __init__(self, variables: Mapping):
        self._arrays = {
            "/".join(path): np.asarray(array, np.float32)
            for path, array in flatten_dict(variables).items()
        }
        self.unused = set(self._arrays)

    def __call__(self, path: str) -> np.ndarray:
        """The array at a path below `params`."""
        return self.of(f"params/{path}")

    def of(self, path: str) -> np.ndarray:
        """The array at a whole path."""
        self.unused.remove(path)
        return self._arrays[path]

    def has(self, path: str) -> bool:
        """Whether there is an array at this path below `params`."""
        return f"params/{path}" in self._arrays


def write_network(
    graph: Graph,
    config: SSAAFormerConfig,
    variables: Mapping,
    view: View,
    crops: str,
    head: str = "",
    *,
    mirror_average: bool = False,
) -> tuple[str, str, str]:
    """Add the network to the graph; returns the names of features [n, d] and logits [n, 2].

    A third name is that of the fidelity [n] by `head`, one of `outputs.HEADS`; empty without one.

    Args:
      graph: what to add to.
      config: the shape of the network.
      variables: as `fold` returns them.
      view: what the network sees of a crop.
      crops: name of the uint8 crops [n, h, w, 3].
      head: the head that gives the fidelity.
      mirror_average: average over each face and its mirror image, as `inference.answer` does.
    """
    params = Parameters(variables)
    x, side = take(graph, view, crops), view.size
    if mirror_average:
        x = beside_mirrored(graph, x, side)
    for number in (1, 2, 3, 4):
        side //= 4 if number == 1 else 2
        x = stage(graph, config, params, number, x, side)
    statistics = params.of("batch_stats/norm/mean"), params.of("batch_stats/norm/var")
    slope = params("norm/scale") / np.sqrt(statistics[1] + np.float32(BATCH_NORM_EPSILON))
    tokens = to_tokens(graph, x, config.widths[3])
    tokens = graph("Mul", tokens, slope)
    tokens = graph("Add", tokens, params("norm/bias") - statistics[0] * slope)
    mean, half = graph("ReduceMean", tokens, axis(1), keepdims=0), np.float32(0.5)
    features = graph("Add", mean, graph("Mul", highest(graph, tokens), half))
    classes = linear(graph, params, "head", mean)
    strongest = highest(graph, linear(graph, params, "aux_head", tokens))
    logits = graph("Add", classes, graph("Mul", strongest, half))
    answer = answer_of(graph, params, head, features, classes, logits) if head else ""
    optional = ("params/fidelity_head/", "params/ordinal_head/")
    if left := {name for name in params.unused if not name.startswith(optional)}:
        raise AssertionError(f"parameters without a place in the ONNX graph: {sorted(left)}")
    if mirror_average:
        features = mean_of_pairs(graph, features, config.widths[3])
        logits = mean_of_pairs(graph, logits, config.num_classes)
        answer = answer and mean_of_pairs(graph, answer)
    return features, logits, answer


def answer_of(
    graph: Graph, params: Parameters, head: str, features: str, classes: str, logits: str
) -> str:
    """The fidelity [n] by one of `outputs.HEADS`: a column of `Outputs.head_fidelities`."""
    real = np.float32([0, 1])
    if head == "ordinal_head":
        rising = np.sort(-params("ordinal_head/bias"))
        margins = graph("Sub", graph("MatMul", features, params("ordinal_head/kernel")), rising)
        return graph("ReduceMean", graph("Sigmoid", margins), axis(1), keepdims=0)
    probabilities = graph("Softmax", classes if head == "class_head" else logits, axis=-1)
    by_class = linear(graph, params, "fidelity_head", features) if head == "fidelity_head" else real
    return graph("ReduceSum", graph("Mul", probabilities, by_class), axis(1), keepdims=0)


def take(graph: Graph, view: View, crops: str) -> str:
    """The central square, resized to the network's input and scaled to [-1, 1]: `view.take`."""
    start, end = view.start, view.start + view.side
    square = graph("Slice", crops, axis(start, start), axis(end, end), axis(1, 2))
    x = graph("Transpose", graph("Cast", square, to=1), perm=[0, 3, 1, 2])
    if view.weights is not None:
        x = graph("MatMul", graph("MatMul", view.weights, x), view.weights.T)
        if view.rounds_up:
            x = graph("Floor", graph("Add", x, np.float32(0.5)))
        x = graph("Clip", graph("Round", x), np.float32(0), np.float32(255))
    return graph("Sub", graph("Div", x, np.float32(127.5)), np.float32(1))


def stage(
    graph: Graph, config: SSAAFormerConfig, params: Parameters, number: int, x: str, side: int
):
    """Patch embedding, then the symmetric blocks, then the plain ones."""
    name, width = f"stage{number}", config.widths[number - 1]
    x = patch_embed(graph, params, f"{name}/patch_embed", x, 4 if number == 1 else 2, width, side)
    symmetric = config.symmetric[number - 1]
    names = [f"{name}/symmetric_{i}" for i in range(symmetric)]
    names += [f"{name}/plain_{i}" for i in range(config.depths[number - 1] - symmetric)]
    for block in names:
        x = graph("Add", x, depthwise(graph, params, f"{block}/pos_embed", x, 3))
        if number <= 2:
            x = local(graph, params, block, x)
        else:
            x = attentive(graph, config, params, block, x, width, side)
    return x


def patch_embed(
    graph: Graph, params: Parameters, name: str, x: str, patch: int, width: int, side: int
):
    """A convolution whose stride is its size, then LayerNorm over the channels."""
    rows = params(f"{name}/proj/kernel").reshape(patch, patch, -1, width)
    x = graph(
        "Conv", x, rows.transpose(3, 2, 0, 1), params(f"{name}/proj/bias"), strides=[patch, patch]
    )
    normed = layer_norm(graph, params, f"{name}/norm", to_tokens(graph, x, width), 1e-5)
    return to_map(graph, normed, width, side)


def local(graph: Graph, params: Parameters, name: str, x: str) -> str:
    """The rest of a block of stage 1 or 2: mix neighbours, then the MLP."""
    mixed = depthwise(graph, params, f"{name}/attn", conv1x1(graph, params, f"{name}/conv1", x), 5)
    mixed = conv1x1(graph, params, f"{name}/conv2", mixed)
    x = graph("Add", x, mirror(graph, params, name, mixed))
    hidden = graph("Gelu", conv1x1(graph, params, f"{name}/mlp/fc1", x))
    return graph("Add", x, conv1x1(graph, params, f"{name}/mlp/fc2", hidden))


def attentive(
    graph: Graph, config: SSAAFormerConfig, params: Parameters, name: str, x: str, c: int, side: int
) -> str:
    """The rest of a block of stage 3 or 4: mix all tokens, then the MLP."""
    x = to_tokens(graph, x, c)
    mixed = attend(
        graph, config, params, name, layer_norm(graph, params, f"{name}/norm1", x, 1e-6), c
    )
    if params.has(f"{name}/w"):
        mixed = to_tokens(graph, mirror(graph, params, name, to_map(graph, mixed, c, side)), c)
    x = graph("Add", x, mixed)
    hidden = linear(
        graph, params, f"{name}/mlp/fc1", layer_norm(graph, params, f"{name}/norm2", x, 1e-6)
    )
    x = graph("Add", x, linear(graph, params, f"{name}/mlp/fc2", graph("Gelu", hidden)))
    return to_map(graph, x, c, side)


def attend(graph: Graph, config: SSAAFormerConfig, params: Parameters, name: str, x: str, c: int):
    """Multi-head self-attention over tokens, projected."""
    d = config.head_dim
    qkv = graph.many(
        3, "Split", linear(graph, params, f"{name}/attn/qkv", x), axis=-1, num_outputs=3
    )
    heads = [graph("Reshape", part, axis(0, -1, c // d, d)) for part in qkv]
    q, v = (graph("Transpose", heads[i], perm=[0, 2, 1, 3]) for i in (0, 2))
    k = graph("Transpose", heads[1], perm=[0, 2, 3, 1])
    scores = graph("MatMul", graph("Mul", q, np.float32(d**-0.5)), k)
    x = graph("MatMul", graph("Softmax", scores, axis=-1), v)
    x = graph("Reshape", graph("Transpose", x, perm=[0, 2, 1, 3]), axis(0, -1, c))
    return linear(graph, params, f"{name}/attn/proj", x)


def mirror(graph: Graph, params: Parameters, name: str, x: str) -> str:
    """The paper's mix of a map and its mirror image, in a symmetric block."""
    if not params.has(f"{name}/w"):
        return x
    share = np.exp(params(f"{name}/w"))
    share = share / share.sum()
    mirrored = flip(graph, x)
    return graph("Add", graph("Mul", x, share[0]), graph("Mul", mirrored, share[1]))


def flip(graph: Graph, x: str) -> str:
    """The mirror image of a map."""
    return graph("Slice", x, axis(-1), axis(LAST), axis(3), axis(-1))


def beside_mirrored(graph: Graph, x: str, side: int) -> str:
    """Images [n, 3, h, w] as [2 n, 3, h, w], each followed by its mirror image."""
    pair = [graph("Unsqueeze", image, axis(1)) for image in (x, flip(graph, x))]
    return graph("Reshape", graph("Concat", *pair, axis=1), axis(-1, 3, side, side))


def mean_of_pairs(graph: Graph, x: str, *width: int) -> str:
    """The mean over each face and its mirror image, [n] or [n, width]."""
    return graph("ReduceMean", graph("Reshape", x, axis(-1, 2, *width)), axis(1), keepdims=0)


def depthwise(graph: Graph, params: Parameters, name: str, x: str, size: int) -> str:
    """Each channel convolved with its own kernel, zeros outside."""
    kernel = params(f"{name}/kernel").transpose(2, 0, 1)[:, None]
    bias = params(f"{name}/bias")
    return graph("Conv", x, kernel, bias, group=len(bias), pads=[size // 2] * 4)


def conv1x1(graph: Graph, params: Parameters, name: str, x: str) -> str:
    """A linear layer on a map."""
    kernel = params(f"{name}/kernel").T[:, :, None, None]
    return graph("Conv", x, kernel, params(f"{name}/bias"))


def linear(graph: Graph, params: Parameters, name: str, x: str) -> str:
    """A linear layer on the last axis."""
    return graph("Add", graph("MatMul", x, params(f"{name}/kernel")), params(f"{name}/bias"))


def layer_norm(graph: Graph, params: Parameters, name: str, x: str, epsilon: float) -> str:
    """LayerNorm over the last axis."""
    scale, bias = params(f"{name}/scale"), params(f"{name}/bias")
    return graph("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)


def to_tokens(graph: Graph, x: str, c: int) -> str:
    """A map [n, c, h, w] as tokens [n, h * w, c], row by row."""
    return graph("Transpose", graph("Reshape", x, axis(0, c, -1)), perm=[0, 2, 1])


def to_map(graph: Graph, x: str, c: int, side: int) -> str:
    """Tokens as a map again."""
    x = graph("Transpose", x, perm=[0, 2, 1])
    return graph("Reshape", x, axis(0, c, side, side))


def highest(graph: Graph, tokens: str) -> str:
    """The maximum over tokens."""
    return graph("ReduceMax", tokens, axis(1), keepdims=0)


def axis(*numbers: int) -> np.ndarray:
    """Axes or a shape as ONNX takes them; in a shape, 0 keeps a dimension and -1 is the rest."""
    return np.array(numbers, np.int64)
