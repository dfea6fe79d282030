"""A configuration is checked before any work, and everything wrong with it is told together."""

import difflib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import expand
from deepfidelity_jax.network.ssaaformer import SSAAFormerConfig
from deepfidelity_jax.options.table import DATASETS_OWN, OPTIONS, PATHS
from deepfidelity_jax.workdir import flatten, read_config


def checked(config: Any) -> ConfigDict:
    """What a config file gave, locked, with its paths expanded; InputError unless it is right.

    A config of several datasets has options of its own, which are not checked here.
    """
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"get_config() of --config gives {_show(config)}: let it give a ConfigDict"
        )
    config.lock()
    if not config.get("cross"):
        check(config)
    return expand_paths(config)


def check(config: ConfigDict) -> None:
    """InputError that tells of every option that is wrong, missing or not one of ours."""
    values = flatten_dict(config.to_dict(), sep=".")
    right = {
        name: values[name]
        for name, option in OPTIONS.items()
        if name in values and option.holds(values[name])
    }
    told = [_refuse(name, values[name]) for name in OPTIONS if name in values and name not in right]
    for name in values.keys() - OPTIONS.keys():
        meant = difflib.get_close_matches(name, OPTIONS, 1, 0.8)
        told.append(
            f"config.{name} is no option{f'; did you mean config.{meant[0]}?' if meant else ''}"
        )
    missing = [f"config.{name}" for name in OPTIONS if name not in values]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        told.append(
            f"missing: {', '.join(missing[:3])}{more}; begin with get_config() of "
            "configs/default.py"
        )
    told += _conflicts(right)
    if told:
        raise InputError("; ".join(told))


def _refuse(name: str, value) -> str:
    return f"config.{name} is {_show(value)}: give {OPTIONS[name].words}"


def _show(value) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:60]}... ({len(shown)} characters)"


def _conflicts(right: Mapping[str, Any]) -> Iterator[str]:
    """What does not go together, of options that are right by themselves."""
    for names, find in RELATIONS.items():
        if all(name in right for name in names):
            told = find(*(right[name] for name in names))
            if told:
                yield told


def _apart(fake, real) -> str:
    if fake[1] <= real[0] and fake[0] < real[1]:
        return ""
    return (
        f"config.fidelity.fake is {tuple(fake)} and config.fidelity.real {tuple(real)}: give "
        "ranges that do not overlap, fake below real"
    )


def _within_depth(symmetric, variant: str) -> str:
    depths = getattr(SSAAFormerConfig, variant)().depths
    if all(s <= depth for s, depth in zip(symmetric, depths, strict=True)):
        return ""
    return (
        f"config.model.symmetric is {tuple(symmetric)}: the stages of {variant} have {depths} "
        "blocks, give no more; -1 is all of them"
    )


def _in_pairs(batch_size: int, fresh_forgeries: bool) -> str:
    if batch_size % 2 == 0 or not fresh_forgeries:
        return ""
    return (
        f"config.train.batch_size is {batch_size}: give an even number, since "
        "config.data.fresh_forgeries puts each face beside its forgery"
    )


def _in_parts(accumulate: int, batch_size: int) -> str:
    if accumulate == 1 or batch_size % (2 * accumulate) == 0:
        return ""
    return (
        f"config.train.accumulate is {accumulate}: give a number of parts into which the pairs of "
        f"config.train.batch_size={batch_size} faces can be divided"
    )


def _not_above(name: str) -> Callable[..., str]:
    def find(value: float | int, peak: float | int) -> str:
        if value <= peak:
            return ""
        return (
            f"config.{name} is {value}: give no more than config.train.learning_rate, which is "
            f"{peak}"
        )

    return find


RELATIONS: Mapping[tuple[str, ...], Callable[..., str]] = {
    ("fidelity.fake", "fidelity.real"): _apart,
    ("model.symmetric", "model.variant"): _within_depth,
    ("train.batch_size", "data.fresh_forgeries"): _in_pairs,
    ("train.accumulate", "train.batch_size"): _in_parts,
    ("train.end_learning_rate", "train.learning_rate"): _not_above("train.end_learning_rate"),
    ("train.warmup_start", "train.learning_rate"): _not_above("train.warmup_start"),
}


def require_same(workdir: Path, config: ConfigDict) -> Path:
    """The workdir, if it is new or this config's. InputError names what differs."""
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir={workdir} is a file")
    if not (workdir / "config.json").exists():
        return workdir
    there = flatten(expand_paths(read_config(workdir)).to_dict())
    here = flatten(json.loads(config.to_json()))

    def told(key, values):
        return repr(values[key]) if key in values else "no option"

    differing = [
        f"{key} is {told(key, there)} there and {told(key, here)} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key) and binds(key)
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise InputError(
            f"{workdir} was made with another config: {'; '.join(differing[:3])}{more}. "
            "Take another --workdir, or the same values"
        )
    return workdir


def require_used(config: ConfigDict, used: Collection[str]) -> None:
    """InputError for a changed option of `config.data` that its dataset, which uses `used`, lacks.

    It would be believed to have done something.
    """
    from deepfidelity_configs import default

    usual = default.get_config().data
    for key in DATASETS_OWN:
        value = config.data[key]
        if isinstance(value, tuple):
            value = list(value)  # as a workdir's config.json has it
        changed = value != (list(usual[key]) if isinstance(value, list) else usual[key])
        if changed and key not in used:
            raise InputError(
                f"config.data.{key} is {_show(value)}, but {config.data.dataset} does not use it: "
                f"its options are {', '.join(used)}"
            )


def binds(name: str) -> bool:
    """Whether a workdir is bound to the value of this option; so to one that is not ours."""
    return name not in OPTIONS or OPTIONS[name].binds


def expand_paths(config: ConfigDict) -> ConfigDict:
    """The same configuration, `~` spelt out in all of its paths."""
    for name, value in flatten_dict(config.to_dict(), sep=".").items():
        if name.split(".")[-1] in PATHS and isinstance(value, str) and value.startswith("~"):
            config.update_from_flattened_dict({name: expand(f"config.{name}", value)})
    return config


def complete(config: ConfigDict) -> ConfigDict:
    """The configuration of an earlier version, with the defaults of options that are newer."""
    from deepfidelity_configs import default

    def fill(own, defaults):
        for name, value in defaults.items():
            if name not in own:
                own[name] = value
            elif isinstance(value, ConfigDict):
                fill(own[name], value)

    fill(config, default.get_config())
    return config


def explain(error: object) -> str:
    """What the parser of the command line says, in the words of the option where it is ours."""
    text = str(error)
    given = re.match(r"flag --config\.([\w.]+)=(.*?): ", text, re.DOTALL)
    if given and given[1] in OPTIONS:
        return _refuse(given[1], given[2])
    if "Traceback (most recent call last)" in text:  # of a config file
        text = f"{text.split(': ')[0].removeprefix('flag ')}: {text.strip().splitlines()[-1]}"
    return text
