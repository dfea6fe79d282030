"""Check a configuration before any work starts, and report everything wrong with it at once."""

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


def experiment(config: ConfigDict) -> str:
    """Which of several runs a config stands for: 'cross', 'leave_one_out', 'ablate', or none."""
    return next((name for name in ("cross", "leave_one_out", "ablate") if name in config), "")


def checked(config: Any) -> ConfigDict:
    """The configuration from a config file, checked, locked, with `~` expanded.

    A config of several datasets has options of its own, which are checked when it runs.

    Raises:
      InputError: it is not a ConfigDict, or options are wrong.
    """
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"get_config() in --config returns {_show(config)}: it must return a ConfigDict"
        )
    config.lock()
    if (several := experiment(config)) != "cross":
        check(ConfigDict({key: value for key, value in config.items() if key != several}))
    return expand_paths(config)


def check(config: ConfigDict) -> None:
    """InputError that names every option that is wrong, missing or unknown."""
    values = flatten_dict(config.to_dict(), sep=".")
    right = {
        name: values[name]
        for name, option in OPTIONS.items()
        if name in values and option.holds(values[name])
    }
    wrong = [
        _refuse(name, values[name]) for name in OPTIONS if name in values and name not in right
    ]
    for name in values.keys() - OPTIONS.keys():
        meant = difflib.get_close_matches(name, OPTIONS, 1, 0.8)
        wrong.append(
            f"config.{name} is not an option{f'; did you mean config.{meant[0]}?' if meant else ''}"
        )
    missing = [f"config.{name}" for name in OPTIONS if name not in values]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        wrong.append(
            f"missing: {', '.join(missing[:3])}{more}; start from get_config() in "
            "configs/default.py"
        )
    wrong += _conflicts(right)
    if wrong:
        raise InputError("; ".join(wrong))


def check_one(name: str, value) -> None:
    """InputError if the option may not have the value."""
    if not OPTIONS[name].holds(value):
        raise InputError(_refuse(name, value))


def _refuse(name: str, value) -> str:
    return f"config.{name} is {_show(value)}: give {OPTIONS[name].words}"


def _show(value) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:60]}... ({len(shown)} characters)"


def _conflicts(right: Mapping[str, Any]) -> Iterator[str]:
    """Options that are right by themselves but do not fit together."""
    for names, find in RELATIONS.items():
        if all(name in right for name in names):
            wrong = find(*(right[name] for name in names))
            if wrong:
                yield wrong


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
        "blocks; give at most as many, or -1 for all"
    )


def _in_parts(accumulate: int, batch_size: int) -> str:
    if accumulate == 1 or batch_size % (2 * accumulate) == 0:
        return ""
    return (
        f"config.train.accumulate is {accumulate}: config.train.batch_size must be a multiple of "
        f"{2 * accumulate}, as pairs of faces stay together, but is {batch_size}"
    )


def _to_its_end(curriculum: str, steps: int, eval_every: int) -> str:
    if curriculum == "loss" and 0 < steps <= eval_every:
        return (
            f"config.train.curriculum_steps is {steps} and config.train.eval_every {eval_every}: a "
            "curriculum by loss begins at the first evaluation, which must come before its end"
        )
    if (curriculum == "none") == (steps == 0):
        return ""
    return (
        f"config.train.curriculum is {curriculum} and config.train.curriculum_steps {steps}: a "
        "curriculum needs steps above 0, after which all records take part; without one, give 0"
    )


def _by_quality(curriculum: str, measure: str) -> str:
    if curriculum != "quality" or measure != "none":
        return ""
    return (
        "config.train.curriculum is quality and config.quality.measure none, which is the same for "
        "all pictures: name a measure, or another curriculum"
    )


def _measured(curriculum: str, mining: float, steps: int, eval_every: int) -> str:
    if steps > eval_every or (mining == 0 and curriculum != "loss"):
        return ""
    name = f"mining is {mining}" if mining else f"curriculum is {curriculum}"
    return (
        f"config.train.{name}, which would have no effect: difficulty is measured every "
        f"config.train.eval_every={eval_every} steps, and config.train.steps is {steps}; give more "
        "steps than that"
    )


def _with_its_head(regressor: str, fidelity_weight: float, ordinal_weight: float) -> str:
    weights = {"fidelity_head": fidelity_weight, "ordinal_head": ordinal_weight}
    if weights.get(regressor, 1) > 0:
        return ""
    return (
        f"config.fidelity.regressor is {regressor}, but config.train.{regressor[:-5]}_weight is 0, "
        "so the network has no such head"
    )


def _not_above(name: str) -> Callable[..., str]:
    def find(value: float | int, peak: float | int) -> str:
        if value <= peak:
            return ""
        return f"config.{name} is {value}: give at most config.train.learning_rate, which is {peak}"

    return find


RELATIONS: Mapping[tuple[str, ...], Callable[..., str]] = {
    ("fidelity.fake", "fidelity.real"): _apart,
    ("model.symmetric", "model.variant"): _within_depth,
    ("train.accumulate", "train.batch_size"): _in_parts,
    ("train.curriculum", "train.curriculum_steps", "train.eval_every"): _to_its_end,
    ("train.curriculum", "quality.measure"): _by_quality,
    ("train.curriculum", "train.mining", "train.steps", "train.eval_every"): _measured,
    ("fidelity.regressor", "train.fidelity_weight", "train.ordinal_weight"): _with_its_head,
    ("train.end_learning_rate", "train.learning_rate"): _not_above("train.end_learning_rate"),
    ("train.warmup_start", "train.learning_rate"): _not_above("train.warmup_start"),
}


def require_same(workdir: Path, config: ConfigDict) -> None:
    """InputError if the workdir belongs to another config; it names what differs."""
    if not (workdir / "config.json").exists():
        return
    there = flatten(expand_paths(complete(read_config(workdir))).to_dict())
    here = flatten(json.loads(config.to_json()))

    def shown(key, values):
        return repr(values[key]) if key in values else "no option"

    differing = [
        f"{key} is {shown(key, there)} there and {shown(key, here)} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key) and binds(key)
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise InputError(
            f"{workdir} was made with another config: {'; '.join(differing[:3])}{more}. "
            "Take another --workdir, or use the same values"
        )


def drop_unused(config: ConfigDict, given: Collection[str]) -> None:
    """Undo what the config file sets in `config.data` for another dataset than the one given.

    `given`: the options of `config.data` on the command line, which stay. Unknown datasets pass.
    """
    from deepfidelity_configs import default
    from deepfidelity_jax.records import schema

    if config.data.dataset in schema.datasets():
        used = {*schema.builder_class(config.data.dataset).OPTIONS, *given}
        usual = default.get_config().data
        for key in DATASETS_OWN:
            if key in config.data and key not in used:
                config.data[key] = usual[key]


def require_used(config: ConfigDict, used: Collection[str]) -> None:
    """InputError if an option of `config.data` was changed that the dataset does not use.

    Otherwise the user would believe it had an effect. `used`: the options that the dataset uses.
    """
    from deepfidelity_configs import default

    usual = default.get_config().data
    for key in DATASETS_OWN:
        value = config.data[key]
        if isinstance(value, tuple):
            value = list(value)  # a config read from config.json has lists
        changed = value != (list(usual[key]) if isinstance(value, list) else usual[key])
        if changed and key not in used:
            raise InputError(
                f"config.data.{key} is {_show(value)}, but {config.data.dataset} does not use it: "
                f"its options are {', '.join(used)}"
            )


def binds(name: str) -> bool:
    """Whether a workdir is bound to the value of this option; an unknown option binds."""
    return name not in OPTIONS or OPTIONS[name].binds


def counts(name: str) -> bool:
    """Whether a repeated run must have the same value of this option; of an unknown one it must."""
    return name not in OPTIONS or OPTIONS[name].counts


def expand_paths(config: ConfigDict) -> ConfigDict:
    """The same configuration, with `~` expanded in all of its paths."""
    for name, value in flatten_dict(config.to_dict(), sep=".").items():
        if name.split(".")[-1] in PATHS and isinstance(value, str) and value.startswith("~"):
            config.update_from_flattened_dict({name: expand(f"config.{name}", value)})
    return config


def complete(config: ConfigDict) -> ConfigDict:
    """A configuration written by an earlier version, with defaults for options added since."""
    from deepfidelity_configs import default

    def fill(group, defaults):
        for name, value in defaults.items():
            if name not in group:
                group[name] = value
            elif isinstance(value, ConfigDict):
                fill(group[name], value)

    fill(config, default.get_config())
    return config


# What absl says of a wrong value, and what we say.
WORDS = {
    r".*Non-boolean argument.*": "give true or false",
    r"invalid literal for int.*": "give a whole number",
    r"could not convert string to float.*": "give a number",
    r".* is not a positive integer": "give a whole number from 1",
    r".* is not a non-negative integer": "give a whole number from 0",
    r".* is not an integer in the range \[(\d+), (\d+)\]": r"give a whole number from \1 to \2",
    r"value should be one of <(.*)>": r"give one of \1",
}
UNREAD = "Configuration is not available because of an earlier failure to load: "


def explain(error: object) -> str:
    """An error of the command line parser in our words, for an option in those of the table."""
    text = str(error).removeprefix(UNREAD)
    if flag_match := re.match(r"flag --([\w.]+)=(.*?): (.*)", text, re.DOTALL):
        name, value, reason = flag_match.groups()
        if (option := name.removeprefix("config.")) in OPTIONS:
            return _refuse(option, value)
        for theirs, ours in WORDS.items():
            if reason_match := re.fullmatch(theirs, reason):
                return f"--{name}={value}: {reason_match.expand(ours).replace('|', ', ')}"
    if "Traceback (most recent call last)" in text:  # raised by a config file
        text = f"{text.split(': ')[0].removeprefix('flag ')}: {text.strip().splitlines()[-1]}"
    return text
