"""Converts tensors of the official checkpoint to our variables, and back.

`name_tensors` is the table for both directions. The official layout is PyTorch's: convolutions are
[out, in, height, width], matrices [out, in]. Ours stacks the blocks of a stage on a leading axis.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig
from deepfidelity_jax.weight_files.named_tensors import Weights

VARIANTS = ("large", "base", "small", "tiny")
STAGES = (1, 2, 3, 4)
NUMBERS = {str(number) for number in range(1000)}  # block numbers
# Official names of our arrays; all other names are the same.
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
HEADS = ("head", "aux_head", "fidelity_head", "ordinal_head")  # official networks have the first 2
COUNTER = "num_batches_tracked"  # of PyTorch's BatchNorm, which does not use it with a momentum

Place = tuple[
    str, ...
]  # path of one of our arrays: ("params", "stage1", "plain", "conv1", "kernel")


# ------------------------------------------------------------------ the table of names


@dataclass(frozen=True)
class Tensor:
    """One tensor of the official state dict, and where its values are in our variables.

    Attributes:
      name: official name.
      shape: official shape.
      place: path of our array.
      block: index on the leading block axis of our array; None if it has no such axis.
    """

    name: str
    shape: tuple[int, ...]
    place: Place
    block: int | None = None


def name_tensors(config: SSAAFormerConfig) -> list[Tensor]:
    """Every tensor of the official state dict, except BatchNorm's counters.

    The official code numbers the blocks of a stage from 0: our `stage1/symmetric` holds the first
    blocks of stage 1, `stage1/plain` the rest.
    """
    tensors = []
    for place, shape in shapes_of(config).items():
        _, part, *inner, leaf = place
        end = ".".join([*inner[1:], LEAVES.get(leaf, leaf)])
        stage = part.removeprefix("stage")
        if not inner:
            tensors.append(Tensor(f"{part}.{end}", official_shape(place, shape), place))
        elif inner[0] == "patch_embed":
            name = f"patch_embed{stage}.{end}"
            tensors.append(Tensor(name, official_shape(place, shape), place))
        else:
            first = config.symmetric[int(stage) - 1] if inner[0] == "plain" else 0
            for block in range(shape[0]):
                name = f"blocks{stage}.{first + block}.{end}"
                tensors.append(Tensor(name, official_shape(place, shape[1:]), place, block))
    return tensors


@functools.cache
def shapes_of(config: SSAAFormerConfig) -> dict[Place, tuple[int, ...]]:
    """The shape of each array in our variables, without mask heads, which only training uses."""
    init, images = SSAAFormer(config).init, jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(lambda: init(jax.random.key(0), images, train=False))
    return {
        place: array.shape
        for place, array in flatten_dict(variables).items()
        if not place[1].startswith("mask_head")
    }


def official_shape(place: Place, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The official shape of one block's array; a 1x1 convolution has four axes there, two here."""
    leaf, local = place[-1], place[1] in ("stage1", "stage2")
    if leaf in ("gamma_1", "gamma_2") and local:
        return (1, *shape, 1, 1)
    if leaf != "kernel":
        return shape
    if len(shape) == 3:  # depthwise
        return (shape[2], 1, *shape[:2])
    if place[2] == "patch_embed":
        side = 4 if place[1] == "stage1" else 2
        return (shape[1], shape[0] // side**2, side, side)
    return (shape[1], shape[0], 1, 1) if local else (shape[1], shape[0])


def _to_ours(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """OIHW to HWIO, [out, in] to [in, out], then to our shape."""
    array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array.reshape(shape)


def _to_official(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `_to_ours`; a copy."""
    if len(shape) == 4:
        out, into, height, width = shape
        array = array.reshape(height, width, into, out).transpose(3, 2, 0, 1)
    else:
        array = array.T
    return np.array(array, np.float32, order="C")


# ------------------------------------------------------------------ state dict <-> variables


def infer(weights: Weights) -> SSAAFormerConfig:
    """The network that these tensors belong to: variant, symmetric blocks, number of classes.

    Raises InputError if it is not an SSAAFormer or UniFormer of a known variant.
    """
    shapes = {name: np.shape(array) for name, array in weights.items()}
    widths = tuple(_rows(shapes, f"patch_embed{n}.proj.weight") for n in STAGES)
    depths = tuple(1 + max(_blocks(shapes, n), default=-1) for n in STAGES)
    if 0 in depths or 0 in widths:
        raise InputError(
            "the weights belong to another architecture than SSAAFormer and UniFormer: "
            f"they hold {_listed(sorted(shapes), 5)}"
        )
    mixing = [_blocks((name for name in shapes if name.endswith(".w")), n) for n in STAGES]
    for stage, blocks in zip(STAGES, mixing, strict=True):
        if blocks != set(range(len(blocks))):
            raise InputError(f"blocks{stage}.*.w is missing for some of the first blocks")
    classes = _rows(shapes, "head.weight") or _rows(shapes, "aux_head.weight") or 2
    return getattr(SSAAFormerConfig, _find_variant(depths, widths))(
        symmetric=[len(blocks) for blocks in mixing],
        num_classes=classes,
        fidelity_head="fidelity_head.weight" in shapes,
        ordinal_head="ordinal_head.weight" in shapes,
    )


def _rows(shapes: Mapping[str, tuple[int, ...]], name: str) -> int:
    return (*shapes.get(name, ()), 0)[0]


def variant_of(config: SSAAFormerConfig) -> str:
    """The name of a network's variant."""
    return _find_variant(config.depths, config.widths)


def _find_variant(depths: tuple[int, ...], widths: tuple[int, ...]) -> str:
    for variant in VARIANTS:
        config = getattr(SSAAFormerConfig, variant)()
        if (config.depths, config.widths) == (depths, widths):
            return variant
    raise InputError(
        f"the weights have stages of {depths} blocks and {widths} channels, which is "
        f"none of {', '.join(VARIANTS)}"
    )


def _blocks(names: Iterable[str], stage: int) -> set[int]:
    """The block numbers of a stage that occur in these names."""
    parts = [name.split(".") for name in names if name.startswith(f"blocks{stage}.")]
    return {int(part[1]) for part in parts if len(part) > 2 and part[1] in NUMBERS}


def from_state_dict(weights: Weights) -> tuple[SSAAFormerConfig, dict[str, Any]]:
    """Our network and its variables (float32) from an official state dict.

    A UniFormer without a token head gets one of zeros, so its logits stay those of its only head.
    Raises InputError like `fill`.
    """
    config = infer(weights)
    head = {name: x for name, x in weights.items() if name in ("head.weight", "head.bias")}
    if "aux_head.weight" not in weights:
        weights = {**weights, **{f"aux_{name}": np.zeros_like(x) for name, x in head.items()}}
    return config, unflatten_dict(fill(weights, config, name_tensors(config)))


def to_state_dict(config: SSAAFormerConfig, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The official state dict (float32) from our variables, with BatchNorm's counters at zero."""
    arrays = {place: np.asarray(array) for place, array in flatten_dict(variables).items()}
    weights = {}
    for tensor in name_tensors(config):
        array = arrays[tensor.place]
        array = array if tensor.block is None else array[tensor.block]
        weights[tensor.name] = _to_official(array, tensor.shape)
        if tensor.name.endswith("running_var"):
            weights[tensor.name.replace("running_var", COUNTER)] = np.zeros((), np.int64)
    return weights


def start_from(
    weights: Weights, config: SSAAFormerConfig
) -> tuple[dict[Place, np.ndarray], list[str]]:
    """The arrays that training can start from, and a line about each tensor that differs.

    Only heads and symmetric weights may differ. A head that does not fit is left out of the arrays
    and must be initialised by the caller; a missing symmetric weight starts at ones, as in a new
    network. Raises InputError if the weights belong to another variant or are incomplete.
    """
    inferred, tensors = infer(weights), {tensor.name: tensor for tensor in name_tensors(config)}
    if variant_of(inferred) != variant_of(config):
        raise InputError(
            f"the weights are of variant {variant_of(inferred)}, and the network is "
            f"{variant_of(config)}"
        )
    weights, lines = dict(weights), []
    for name, tensor in list(tensors.items()):
        shape = list(np.shape(weights[name])) if name in weights else None
        if name.endswith(".w") and shape is None:
            weights[name] = np.ones(tensor.shape, np.float32)
            lines.append(f"{name} is missing: it starts at ones, an equal mix")
        elif _is_head(name) and shape != list(tensor.shape):
            del tensors[name]
            weights.pop(name, None)
            state = "missing" if shape is None else f"{shape} there and {list(tensor.shape)} here"
            lines.append(f"{name} is {state}: it starts anew")
    for name in sorted(weights.keys() - tensors.keys()):
        if _is_head(name) or name.endswith(".w"):
            del weights[name]
            lines.append(f"{name} is left out: the network here does not have it")
    return fill(weights, config, list(tensors.values())), lines


def _is_head(name: str) -> bool:
    return name.split(".")[0] in HEADS


def fill(
    weights: Weights, config: SSAAFormerConfig, tensors: list[Tensor]
) -> dict[Place, np.ndarray]:
    """Our arrays (float32) by path, from official tensors.

    Raises:
      InputError: tensors are missing, unexpected, misshapen or not finite; it lists all of them.
    """
    expected = {tensor.name: tensor.shape for tensor in tensors}
    unexpected = weights.keys() - expected.keys()
    common = sorted(expected.keys() & weights.keys())
    problems = {
        "missing": sorted(expected.keys() - weights.keys()),
        "unexpected": sorted(name for name in unexpected if not name.endswith(COUNTER)),
        "misshapen": [
            f"{name} {list(np.shape(weights[name]))} instead of {list(expected[name])}"
            for name in common
            if np.shape(weights[name]) != expected[name]
        ],
        "not finite numbers": [name for name in common if not _is_finite(weights[name])],
    }
    parts = [f"{problem}: {_listed(names, 20)}" for problem, names in problems.items() if names]
    if parts:
        raise InputError(f"the weights do not fit {variant_of(config)}; {'; '.join(parts)}")
    shapes = shapes_of(config)
    arrays = {place: np.empty(shapes[place], np.float32) for place in {t.place for t in tensors}}
    for tensor in tensors:
        target = arrays[tensor.place]
        target = target if tensor.block is None else target[tensor.block]
        target[...] = _to_ours(weights[tensor.name], target.shape)
    return arrays


def _is_finite(array: np.ndarray) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating) and bool(np.isfinite(array).all())


def _listed(names: list[str], count: int) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
