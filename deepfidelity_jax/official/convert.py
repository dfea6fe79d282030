"""Converts official weights into a workdir, and the weights of a workdir into a file.

`import_official`, `export_official` and `rewrite` are `--mode=convert`; `initial_arrays` is
`config.init_from`. Everything is read and checked before anything is written.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from deepfidelity_configs import default
from deepfidelity_jax import workdir
from deepfidelity_jax.detector import bundled
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import stored
from deepfidelity_jax.fidelity.calibration import fixed_calibration
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.network.ssaaformer import SSAAFormerConfig
from deepfidelity_jax.official.network import (
    Place,
    from_state_dict,
    infer,
    shapes_of,
    start_from,
    to_state_dict,
    variant_of,
)
from deepfidelity_jax.official.regressor import read
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality import iresnet
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.training import step
from deepfidelity_jax.training.checkpoint import Checkpoints, latest_step
from deepfidelity_jax.weight_files.named_tensors import Weights, about, read_weights, write_weights


def import_official(
    path: Path, svr: Path | None, folder: Path, config: ConfigDict | None = None, ema: bool = True
) -> None:
    """Turn official weights, and a regressor if there is one, into a workdir.

    ImageNet weights get new heads and initial symmetric weights.

    Args:
      path: the weights.
      svr: the regressor, scikit-learn's joblib file.
      folder: the workdir.
      config: makes the workdir look as if it had been trained with this config, which must describe
        the network of the weights. By default a config is made from the weights, with the official
        preprocessing as far as it is known.
      ema: use the averaged weights if the file has them.

    Raises:
      InputError: the workdir holds a detector already, or a file does not fit.
    """
    if latest_step(folder / "checkpoints") is not None or bundled.holds(folder):
        raise InputError(f"{folder} holds a detector already: choose another --workdir")
    key, weights = read_weights(path, ema)
    with about(path):
        new_config, variables, lines = _as_trained(weights, config)
    model = None if svr is None else _read_regressor(svr, new_config, path.name)

    # The checkpoint comes last, because it makes the folder a detector.
    if model:
        stored.save(model, folder / "fidelity.npz")
    else:  # left by a conversion that was killed, or of weights that were deleted
        (folder / "fidelity.npz").unlink(missing_ok=True)
    workdir.claim(folder, new_config)
    notes = {"config": new_config.to_json(), "converted_from": path.name}
    with Checkpoints(folder / "checkpoints", 1) as checkpoints:
        checkpoints.save(new_config.train.steps, {"ema": variables}, notes, None)

    network = new_config.model
    say(
        f"{path}: {network.variant}, symmetric blocks {tuple(network.symmetric)}, weights from "
        f"{key or 'the top level'}"
    )
    for line in lines:
        say(f"  {line}")
    if config is None:
        say(
            "  not in the file, taken from the official code: images of "
            f"{network.image_size} pixels, the central {network.eval_crop} of a crop, "
            "pixels from -1 to 1; not known: its face detector and margin, here "
            f"{new_config.faces.detector} and {new_config.faces.margin}"
        )
    if model:
        count = len(model.regressor.arrays.coefficients)
        say(f"{svr}: {count} support vectors; threshold {model.calibration.threshold}, fixed")
    else:
        say("no regressor, which --mode=predict needs: give it as --input=FILE.pkl")
    say(f"converted into {folder}")


def _as_trained(weights: Weights, config: ConfigDict | None):
    """The config, the variables, and a line about each tensor that was not in the file."""
    network = infer(weights)
    if network.num_classes == 2:
        new_config, lines = config or make_config(network), []
        _check_network(new_config, network)
        if "aux_head.weight" not in weights:
            lines.append("aux_head is missing: it is set to zeros, so the logits are those of head")
        arrays = flatten_dict(from_state_dict(weights)[1])
        # Heads that official weights lack and only training uses.
        every = jax.eval_shape(
            lambda: step.create_state(build_model(new_config), new_config)
        ).variables
        arrays |= _draw(new_config, flatten_dict(every).keys() - arrays.keys())
        return new_config, unflatten_dict(arrays), lines
    note = f"its heads have {network.num_classes} classes, like those of ImageNet weights"
    if config is not None:
        raise InputError(f"{note}: train from it with --config.init_from=, or give no --config")
    network = replace(
        network, symmetric=None, num_classes=2, fidelity_head=False, ordinal_head=False
    )
    new_config = make_config(network)
    arrays, lines = start_from(weights, network)
    arrays |= _draw(new_config, shapes_of(network).keys() - arrays.keys())
    return new_config, unflatten_dict(arrays), [f"{note}: a starting point for training", *lines]


def _read_regressor(path: Path, config: ConfigDict, weights: str) -> stored.FidelityModel:
    """The official regressor with a fixed threshold, for the network of a config."""
    regressor, width = read(path), build_model(config).config.widths[-1]
    if len(regressor.arrays.centre) != width:
        raise InputError(
            f"{path} takes features of {len(regressor.arrays.centre)} numbers, and the network "
            f"has {width}"
        )
    calibration = fixed_calibration("converted, without validation faces")
    provenance: dict[str, Any] = {"weights": weights, "regressor": path.name}
    with contextlib.suppress(InputError):  # a table or weights that are not here are not noted
        provenance["quality"] = Measure.from_config(config.quality).note()
    return stored.FidelityModel(None, regressor, calibration, provenance)


def export_official(source: Path, output: Path) -> None:
    """Write the weights of a workdir or a packed detector as an official state dict.

    `output` ends in .safetensors or .npz.
    """
    config, variables, _ = bundled.read_detector(source)
    write_weights(output, to_state_dict(build_model(config).config, variables))
    say(f"{output}: the averaged weights of {source}, under their official names")
    if config.model.mirror_average:
        say("the official code does not average over mirror images, as this detector does")


def rewrite(source: Path, output: Path, ema: bool = True) -> None:
    """Rewrite the weights of an SSAAFormer or iResNet as .safetensors or .npz, names unchanged.

    Raises InputError if they belong to neither.
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
    say(f"{output}: the weights of {name} from {source}, under the same names")


def initial_arrays(config: ConfigDict) -> dict[Place, np.ndarray]:
    """The arrays that `config.init_from` gives to training: a detector's, official, or bundled.

    Prints each tensor that differs. Raises InputError if the arrays do not fit.
    """
    path = Path(config.init_from).expanduser()
    is_bundled = config.init_from == bundled.NAME
    if is_bundled or path.is_dir():
        source, variables, _ = bundled.read_detector(bundled.folder() if is_bundled else path)
        weights = to_state_dict(build_model(source).config, variables)
    else:
        weights = read_weights(path)[1]
    with about(path):
        arrays, lines = start_from(weights, build_model(config).config)
    say(f"training starts from {path}")
    for line in lines:
        say(f"  {line}")
    return arrays


def make_config(network: SSAAFormerConfig) -> ConfigDict:
    """The config of a converted network, with the preprocessing of the official code."""
    config = default.get_config()
    config.model.variant = variant_of(network)
    config.model.symmetric = network.symmetric
    config.model.drop_path = network.drop_path
    config.model.image_size = 224
    config.model.eval_crop = 0.9
    config.faces.size = 248  # the central 0.9 of which is 224 pixels
    config.train.steps = 0
    if not network.fidelity_head:
        config.train.fidelity_weight = 0.0
    if network.ordinal_head:
        config.train.ordinal_weight = 1.0
    return config


def _check_network(config: ConfigDict, network: SSAAFormerConfig) -> None:
    """Raise InputError if the config describes another network than the weights."""
    configured = build_model(config).config
    asked = {
        "config.model.variant": (variant_of(configured), variant_of(network)),
        "config.model.symmetric": (configured.symmetric, network.symmetric),
        "a fidelity head (config.train.fidelity_weight)": (
            configured.fidelity_head,
            network.fidelity_head,
        ),
        "an ordinal head (config.train.ordinal_weight)": (
            configured.ordinal_head,
            network.ordinal_head,
        ),
    }
    for name, (mine, there) in asked.items():
        if mine != there:
            raise InputError(f"{name} is {mine} in the config and {there} in the file")


def _draw(config: ConfigDict, places: Iterable[Place]) -> dict[Place, np.ndarray]:
    """These arrays of a new network, initialised from `config.seed`."""
    places, model = sorted(places), build_model(config)
    if not places:
        return {}

    def draw():
        arrays = flatten_dict(step.create_state(model, config).variables)
        return [arrays[place] for place in places]

    return {place: np.asarray(x) for place, x in zip(places, jax.jit(draw)(), strict=True)}
