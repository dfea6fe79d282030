"""Between the official PyTorch names and our parameters, both ways, bit for bit.

`name_tensors` is the one table. `from_state_dict` and `to_state_dict` follow it, `start_from` takes
over what fits another network; `import_official` and `export_official` are `--mode=convert`.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from deepfidelity_configs import default
from deepfidelity_jax import fidelity, iresnet, svr_file, train, workdir
from deepfidelity_jax.checkpoint import Checkpoints, latest_step
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.model import SSAAFormer, SSAAFormerConfig
from deepfidelity_jax.weights_file import Weights, about, read_weights, write_weights
from deepfidelity_jax.workdir import say

VARIANTS = ("large", "base", "small", "tiny")
STAGES = (1, 2, 3, 4)
NUMBERS = {str(number) for number in range(1000)}  # of blocks
# Official names of what a module of ours holds; all other names are the same.
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
HEADS = ("head", "aux_head", "fidelity_head")  # the last is ours alone
COUNTER = "num_batches_tracked"  # of PyTorch's BatchNorm, which makes no use of it here

Place = tuple[str, ...]  # an array of ours: ("params", "stage1", "plain", "conv1", "kernel")


# ------------------------------------------------------------------ the table of names


@dataclass(frozen=True)
class Tensor:
    """One tensor of the official state dict, and where its numbers are in our variables.

    block is the index on the leading block axis of our array, None where it has none.
    """

    name: str
    shape: tuple[int, ...]
    place: Place
    block: int | None = None


def name_tensors(config: SSAAFormerConfig) -> list[Tensor]:
    """Every tensor of the official state dict but BatchNorm's counters.

    Blocks are numbered within their stage: `stage1/symmetric` holds the first, `stage1/plain` the
    others.
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
    """The shape of each array in our variables."""
    init, images = SSAAFormer(config).init, jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(lambda: init(jax.random.key(0), images, train=False))
    return {place: array.shape for place, array in flatten_dict(variables).items()}


def official_shape(place: Place, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of one block's array: matrices are [out, in] there, convolutions OIHW, 1x1 ones included."""
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
    """OIHW to HWIO and [out, in] to [in, out], as we shape it."""
    array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array.reshape(shape)


def _to_official(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The way back; a copy."""
    if len(shape) == 4:
        out, into, height, width = shape
        array = array.reshape(height, width, into, out).transpose(3, 2, 0, 1)
    else:
        array = array.T
    return np.array(array, np.float32, order="C")


# ------------------------------------------------------------------ state dict <-> variables


def infer(weights: Weights) -> SSAAFormerConfig:
    """The network whose tensors these are: variant, symmetric blocks, classes.

    InputError where they are of no SSAAFormer or UniFormer there is here.
    """
    shapes = {name: np.shape(array) for name, array in weights.items()}
    widths = tuple(_rows(shapes, f"patch_embed{n}.proj.weight") for n in STAGES)
    depths = tuple(1 + max(_blocks(shapes, n), default=-1) for n in STAGES)
    if 0 in depths or 0 in widths:
        raise InputError(
            "the weights are of another architecture than SSAAFormer and UniFormer: "
            f"they hold {_listed(sorted(shapes), 5)}"
        )
    mixing = [_blocks((name for name in shapes if name.endswith(".w")), n) for n in STAGES]
    for stage, blocks in zip(STAGES, mixing, strict=True):
        if blocks != set(range(len(blocks))):
            raise InputError(f"blocks{stage}.*.w is not there for the first blocks of the stage")
    classes = _rows(shapes, "head.weight") or _rows(shapes, "aux_head.weight") or 2
    return getattr(SSAAFormerConfig, _find_variant(depths, widths))(
        symmetric=[len(blocks) for blocks in mixing],
        num_classes=classes,
        fidelity_head="fidelity_head.weight" in shapes,
    )


def _rows(shapes: Mapping[str, tuple[int, ...]], name: str) -> int:
    return (*shapes.get(name, ()), 0)[0]


def variant_of(config: SSAAFormerConfig) -> str:
    """The name of a network's variant."""
    return _find_variant(config.depths, config.widths)


def _find_variant(depths: tuple[int, ...], widths: tuple[int, ...]) -> str:
    for variant in VARIANTS:
        own = getattr(SSAAFormerConfig, variant)()
        if (own.depths, own.widths) == (depths, widths):
            return variant
    raise InputError(
        f"the weights are of stages of {depths} blocks and {widths} channels: "
        f"none of {', '.join(VARIANTS)}"
    )


def _blocks(names: Iterable[str], stage: int) -> set[int]:
    """The numbers of the blocks that these names are of."""
    parts = [name.split(".") for name in names if name.startswith(f"blocks{stage}.")]
    return {int(part[1]) for part in parts if len(part) > 2 and part[1] in NUMBERS}


def from_state_dict(weights: Weights) -> tuple[SSAAFormerConfig, dict[str, Any]]:
    """Our network and its variables (float32) from a state dict with the official names.

    A UniFormer without token head gets one of zeros: its logits stay those of its only head.
    InputError as `fill` raises it.
    """
    config = infer(weights)
    head = {name: x for name, x in weights.items() if name in ("head.weight", "head.bias")}
    if "aux_head.weight" not in weights:
        weights = {**weights, **{f"aux_{name}": np.zeros_like(x) for name, x in head.items()}}
    return config, unflatten_dict(fill(weights, config, name_tensors(config)))


def to_state_dict(config: SSAAFormerConfig, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The official state dict (float32) of our variables; BatchNorm's counters are zero."""
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
    """What another network takes over of these weights, and a line on each tensor that differs.

    Only heads and symmetric weights may differ. A head that does not fit is not among the arrays:
    it is for the caller to start; a symmetric weight that is not there starts at ones, as it always
    does. InputError where the weights are of another variant or incomplete.
    """
    found, tensors = infer(weights), {tensor.name: tensor for tensor in name_tensors(config)}
    if variant_of(found) != variant_of(config):
        raise InputError(
            f"the weights are of the variant {variant_of(found)}, and the network is "
            f"{variant_of(config)}"
        )
    weights, lines = dict(weights), []
    for name, tensor in list(tensors.items()):
        shape = list(np.shape(weights[name])) if name in weights else None
        if name.endswith(".w") and shape is None:
            weights[name] = np.ones(tensor.shape, np.float32)
            lines.append(f"{name} is not there: it starts at ones, an equal mix")
        elif _is_head(name) and shape != list(tensor.shape):
            del tensors[name]
            weights.pop(name, None)
            there = "not there" if shape is None else f"{shape} there and {list(tensor.shape)} here"
            lines.append(f"{name} is {there}: it starts anew")
    for name in sorted(weights.keys() - tensors.keys()):
        if _is_head(name) or name.endswith(".w"):
            del weights[name]
            lines.append(f"{name} is left out: the network here has none")
    return fill(weights, config, list(tensors.values())), lines


def _is_head(name: str) -> bool:
    return name.split(".")[0] in HEADS


def fill(
    weights: Weights, config: SSAAFormerConfig, tensors: list[Tensor]
) -> dict[Place, np.ndarray]:
    """Our arrays (float32) that these tensors make up, by their place.

    InputError names all tensors that are missing, unexpected, misshapen or not finite, together.
    """
    expected = {tensor.name: tensor.shape for tensor in tensors}
    unexpected = weights.keys() - expected.keys()
    there = sorted(expected.keys() & weights.keys())
    problems = {
        "missing": sorted(expected.keys() - weights.keys()),
        "unexpected": sorted(name for name in unexpected if not name.endswith(COUNTER)),
        "misshapen": [
            f"{name} {list(np.shape(weights[name]))} instead of {list(expected[name])}"
            for name in there
            if np.shape(weights[name]) != expected[name]
        ],
        "not finite numbers": [name for name in there if not _is_finite(weights[name])],
    }
    told = [f"{problem}: {_listed(names, 20)}" for problem, names in problems.items() if names]
    if told:
        raise InputError(f"the weights do not make up {variant_of(config)}; {'; '.join(told)}")
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


# ------------------------------------------------------------------ --mode=convert, init_from


def import_official(
    path: Path, svr: Path | None, folder: Path, config: ConfigDict | None = None, ema: bool = True
) -> None:
    """Official weights, and the regressor in `svr` where there is one, as a workdir in `folder`.

    Without `config` one is made: the network is the tensors', the preprocessing the official one as
    far as it is known. With it, its network must be the tensors', and the workdir is as if it had
    been trained by it. ImageNet weights get new heads and symmetric weights at their start.
    All is read and checked before anything is written. Raises InputError.
    """
    if latest_step(folder / "checkpoints") is not None:
        raise InputError(f"{folder} holds a detector already: take another --workdir")
    key, weights = read_weights(path, ema)
    with about(path):
        made, variables, lines = _as_trained(weights, config)
    width = train.build_model(made).config.widths[-1]
    model = None if svr is None else _read_regressor(svr, width, {"weights": path.name})
    workdir.check(folder, made)

    # The checkpoint is what makes it a detector, so it comes last.
    if model:
        fidelity.save(model, folder / "fidelity.npz")
    workdir.claim(folder, made)
    notes = {"config": made.to_json(), "converted_from": path.name}
    with Checkpoints(folder / "checkpoints", 1) as checkpoints:
        checkpoints.save(made.train.steps, {"ema": variables}, notes, None)

    own = made.model
    say(
        f"{path}: {own.variant}, symmetric blocks {tuple(own.symmetric)}, weights from "
        f"{key or 'the top level'}"
    )
    for line in lines:
        say(f"  {line}")
    if config is None:
        say(
            f"  not in the file, taken as the official code has it: images of {own.image_size}, "
            f"the central {own.eval_crop} of a crop, pixels from -1 to 1; not known: its face "
            f"detector and margin, so {made.faces.detector} and {made.faces.margin} here"
        )
    if model:
        count = len(model.regressor.arrays.coefficients)
        say(f"{svr}: {count} support vectors; threshold {model.calibration.threshold}, fixed")
    else:
        say("no regressor: --mode=predict needs one; the official one is a second --input=FILE.pkl")
    say(f"converted into {folder}")


def _as_trained(weights: Weights, config: ConfigDict | None):
    """The configuration, the variables, and a line on each tensor that was not in the file."""
    network = infer(weights)
    if network.num_classes == 2:
        made, lines = config or make_config(network), []
        _check_network(made, network)
        if "aux_head.weight" not in weights:
            lines.append("aux_head is not there: it is of zeros, so the logits are head's alone")
        return made, from_state_dict(weights)[1], lines
    told = f"its heads are of {network.num_classes} classes, as ImageNet weights' are"
    if config is not None:
        raise InputError(f"{told}: train from it with --config.init_from=, or give no --config")
    network = replace(network, symmetric=None, num_classes=2, fidelity_head=False)
    made = make_config(network)
    arrays, lines = start_from(weights, network)
    arrays |= _draw(made, shapes_of(network).keys() - arrays.keys())
    return made, unflatten_dict(arrays), [f"{told}: a start for training", *lines]


def _read_regressor(path: Path, width: int, provenance: dict) -> fidelity.FidelityModel:
    """A regressor of features of this width, with what is known beside it."""
    regressor = svr_file.read(path)
    if len(regressor.arrays.centre) != width:
        raise InputError(
            f"{path} takes features of {len(regressor.arrays.centre)} numbers, and the network "
            f"gives {width}"
        )
    calibration = fidelity.fixed_calibration("converted, so without validation faces")
    provenance = {**provenance, "regressor": path.name}
    return fidelity.FidelityModel(None, regressor, calibration, provenance)


def export_official(source: Path, output: Path) -> None:
    """The averaged weights of a workdir as an official state dict, .safetensors or .npz."""
    config, variables, _ = train.read_trained(source)
    write_weights(output, to_state_dict(train.build_model(config).config, variables))
    say(f"{output}: the averaged weights of {source}, by their official names")


def rewrite(source: Path, output: Path, ema: bool = True) -> None:
    """Official weights, SSAAFormer's or an iResNet's, as .safetensors or .npz of the same names.

    InputError where they do not make up one of these networks.
    """
    _, weights = read_weights(source, ema)
    with about(source):
        if "conv1.weight" in weights:
            depths, variables = iresnet.from_torch(weights)
            weights, name = iresnet.to_torch(variables), iresnet.name_of(depths)
        else:
            config, variables = from_state_dict(weights)
            weights, name = to_state_dict(config, variables), variant_of(config)
    write_weights(output, weights)
    say(f"{output}: the weights of {name} in {source}, by the same names")


def initial_arrays(config: ConfigDict) -> dict[Place, np.ndarray]:
    """What training takes over from `config.init_from`, a workdir or a file of official names.

    Each tensor that differs is told. Raises InputError.
    """
    path = Path(config.init_from).expanduser()
    if path.is_dir():
        source, variables, _ = train.read_trained(path)
        weights = to_state_dict(train.build_model(source).config, variables)
    else:
        weights = read_weights(path)[1]
    with about(path):
        arrays, lines = start_from(weights, train.build_model(config).config)
    say(f"training starts from {path}")
    for line in lines:
        say(f"  {line}")
    return arrays


def make_config(network: SSAAFormerConfig) -> ConfigDict:
    """The configuration of a converted network: as the official code prepares its images."""
    config = default.get_config()
    config.model.variant = variant_of(network)
    config.model.symmetric = network.symmetric
    config.model.drop_path = network.drop_path
    config.model.image_size = 224
    config.model.eval_crop = 0.9
    config.faces.size = 248  # so that the central 0.9 of a crop is 224 pixels wide
    config.train.steps = 0
    if not network.fidelity_head:
        config.train.fidelity_weight = 0.0
    return config


def _check_network(config: ConfigDict, network: SSAAFormerConfig) -> None:
    """InputError where the configuration names another network than the tensors make up."""
    own = train.build_model(config).config
    asked = {
        "config.model.variant": (variant_of(own), variant_of(network)),
        "config.model.symmetric": (own.symmetric, network.symmetric),
        "a fidelity head (config.train.fidelity_weight)": (
            own.fidelity_head,
            network.fidelity_head,
        ),
    }
    for name, (mine, there) in asked.items():
        if mine != there:
            raise InputError(f"{name} is {mine} in the config and {there} in the file")


def _draw(config: ConfigDict, places: Iterable[Place]) -> dict[Place, np.ndarray]:
    """These arrays of a network started from `config.seed`."""
    places, model = sorted(places), train.build_model(config)

    def draw():
        arrays = flatten_dict(train.create_state(model, config).variables)
        return [arrays[place] for place in places]

    return {place: np.asarray(x) for place, x in zip(places, jax.jit(draw)(), strict=True)}
