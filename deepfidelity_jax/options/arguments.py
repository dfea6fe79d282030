"""Reads the command line: a mode, its files, its flags, its configuration."""

import contextlib
import difflib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import STDIN, expand
from deepfidelity_jax.options.help import FLAGS
from deepfidelity_jax.processes.faults import one_line

# The options of config.data for evaluate with a table, or with a folder, as --input.
OF_TABLE = ("dir", "real_label")
OF_FOLDER = ("group",)
CONFIGS = "the configs are in configs/ of the repository"


def parse(argv: list[str]) -> flags.FlagValues:
    """The command line's flags; InputError if they are wrong or do not fit the mode.

    `predict clip.mp4` is read as `--mode=predict --input=clip.mp4`.
    """
    if mode := mode_of(argv):
        argv = [argv[0], f"--mode={mode}", *argv[2:]]
    values = flags.FlagValues()
    values.set_gnu_getopt()  # files may come between the flags
    try:
        _define_flags(values, argv)
        rest = values(argv)[1:]
    except InputError:
        raise
    except (AttributeError, KeyError) as error:
        unknown, *meant = re.findall(r"[\"']([\w.]+)\\*[\"']", str(error)) or [str(error)]
        hint = f"; did you mean {meant[0]!r}?" if meant else ""
        raise InputError(f"the config has no option {unknown!r}{hint}") from None
    except Exception as error:  # a config file is Python and may raise anything
        from deepfidelity_jax.options import checks

        raise InputError(one_line(checks.explain(error))) from None
    if "input" in FLAGS[values.mode]:
        values["input"].value = [*values.input, *rest]
        values["input"].present += len(rest)
    elif rest:
        raise InputError(f"unexpected argument {rest[0]!r}{_meant(rest[0])}")
    for flag in ("workdir", "input", "output", "report", "annotate"):
        value = values[flag].value
        if "" in (value if isinstance(value, list) else [value]):
            raise InputError(f"--{flag} is empty: give a path")
    alone = values.mode in ("predict", "serve", "compare", "export") or (
        values.mode == "convert" and values.output
    )
    if not values.workdir and not alone:
        raise InputError("--workdir=DIR is missing: the folder of the run (--help lists all flags)")
    values["workdir"].value = values.workdir and expand("--workdir", values.workdir)
    values["output"].value = values.output and expand("--output", values.output)
    values["report"].value = values.report and expand("--report", values.report)
    values["annotate"].value = values.annotate and expand("--annotate", values.annotate)
    values["input"].value = [
        path if path == STDIN else expand("--input", path) for path in values.input
    ]
    _check_processes(values)
    for name in values:
        # --config.GROUP.OPTION is a separate flag with that name.
        allowed = name.split(".")[0] in ("workdir", "mode", *FLAGS[values.mode])
        if values[name].present and not allowed:
            no = "no" if values[name].value is False else ""
            raise InputError(f"--{no}{name} is not for --mode={values.mode}")
    # Grain's worker processes read absl's global flags.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    return values


def mode_of(argv: list[str]) -> str | None:
    """The mode that is given as the first argument, without dashes; None if there is none."""
    return argv[1] if len(argv) > 1 and argv[1] in FLAGS else None


def mode_given(argv: list[str]) -> str | None:
    """The mode that is given in any way; None if there is none, or no such mode."""
    named = [arg.split("=", 1)[1] for arg in argv if re.match("--?mode=", arg)]
    return mode_of(argv) or next((mode for mode in named if mode in FLAGS), None)


def _meant(word: str) -> str:
    """A hint for an argument that is neither a mode nor a flag."""
    if Path(word).exists():
        return f"; to score it: deepfidelity predict {shlex.quote(word)}"
    if close := difflib.get_close_matches(word, FLAGS, 1):
        return f"; did you mean {close[0]!r}?"
    if Path(word).suffix and "=" not in word:
        return ": no such file; to score a file: deepfidelity predict FILE"
    return ": write options as --name=value"


def _define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define every flag. `help` describes them.

    predict, and evaluate and robustness with --input, read their settings from the workdir; there
    --config has only the group `faces` and, except for predict, the options for a table or folder.
    """
    from ml_collections import ConfigDict, config_flags

    common = {"lock_config": True, "flag_values": values, "sys_argv": argv}
    mode, file = _read_ahead(argv)
    if mode:
        from deepfidelity_configs import default

        usual = default.get_config()
        settable = {"faces": usual.faces}
        also, names = "", r"faces\."
        if mode != "predict":
            of_data = (*OF_TABLE, *OF_FOLDER)
            settable["data"] = ConfigDict({name: usual.data[name] for name in of_data})
            also = "".join(f", --config.data.{name}" for name in of_data)
            names += rf"|data\.(?:{'|'.join(of_data)})\b"
        for arg in filter(re.compile(rf"--?config(?!\.(?:{names}))").match, argv):
            raise InputError(
                f"{arg}: --mode={mode} with --input reads its settings from the workdir; only "
                f"--config.faces.OPTION{also} can be changed"
            )
        config_flags.DEFINE_config_dict("config", ConfigDict(settable), **common)
    else:
        if file is not None:
            _require_config(file)
        config_flags.DEFINE_config_file("config", None, **common)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_enum("mode", "run", tuple(FLAGS), "", flag_values=values)
    flags.DEFINE_multi_string("input", [], "", flag_values=values)
    flags.DEFINE_string("output", None, "", flag_values=values)
    flags.DEFINE_string("report", None, "", flag_values=values)
    flags.DEFINE_string("annotate", None, "", flag_values=values)
    flags.DEFINE_bool("exit_code", False, "", flag_values=values)
    flags.DEFINE_integer("workers", None, "", 1, flag_values=values)
    flags.DEFINE_string("beam", None, "", flag_values=values)
    flags.DEFINE_bool("quiet", False, "", flag_values=values)
    flags.DEFINE_string("host", "127.0.0.1", "", flag_values=values)
    flags.DEFINE_integer("port", 8000, "", 0, 65535, flag_values=values)
    flags.DEFINE_bool("list", False, "", flag_values=values)
    flags.DEFINE_bool("ema", True, "", flag_values=values)
    flags.DEFINE_multi_enum("high", [], ("fake", "real"), "", flag_values=values)
    flags.DEFINE_multi_float("threshold", [], "", flag_values=values)
    flags.DEFINE_enum("one", None, ("fake", "real"), "", flag_values=values)
    flags.DEFINE_bool("distributed", False, "", flag_values=values)
    flags.DEFINE_string("coordinator", None, "", flag_values=values)
    flags.DEFINE_integer("processes", None, "", 1, flag_values=values)
    flags.DEFINE_integer("process", None, "", 0, flag_values=values)


def _read_ahead(argv: list[str]) -> tuple[str, str | None]:
    """What must be known before the flags are defined.

    Returns:
      The mode, if it scores --input with a workdir, else empty; and the file of --config.
    """
    values = flags.FlagValues()
    values.set_gnu_getopt()
    flags.DEFINE_string("mode", None, "", flag_values=values)
    flags.DEFINE_multi_string("input", [], "", flag_values=values)
    # Only to tell `--workdir DIR`, a flag and its value, from a file to score.
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_string("config", None, "", flag_values=values)
    with contextlib.suppress(flags.Error):  # the full parse reports it
        rest = values(argv, known_only=True)[1:]
        files = values.input or any(not argument.startswith("-") for argument in rest)
        if values.mode == "predict" or (values.mode in ("evaluate", "robustness") and files):
            return values.mode, values.config
        return "", values.config
    return "", None


def _require_config(given: str) -> None:
    """InputError unless the file of --config=FILE or FILE:ARGUMENT can be read.

    ml_collections would quote its own attempts, and tell them apart by whether options follow.
    """
    path = given.split(":")[0]
    if not path:
        raise InputError("--config is empty: give a path")
    try:
        open(path, "rb").close()
    except FileNotFoundError:
        there = [str(file) for file in Path(path).parent.glob("*.py")]
        meant = difflib.get_close_matches(path, there, 1)
        hint = f"did you mean {meant[0]}?" if meant else CONFIGS
        raise InputError(f"--config={path}: no such file; {hint}") from None
    except OSError as error:
        raise InputError(f"--config={path}: {(error.strerror or str(error)).lower()}") from None


def _check_processes(values: flags.FlagValues) -> None:
    """InputError unless the flags for several processes fit together."""
    given = (values.coordinator, values.processes, values.process)
    if given == (None, None, None) and not values.distributed:
        return
    alone = values.mode in ("predict", "serve", "convert", "compare")
    if alone or values.input:
        with_input = "" if alone else " with --input"
        raise InputError(f"--mode={values.mode}{with_input} runs in one process")
    if values.distributed and given != (None, None, None):
        raise InputError("--distributed asks the cluster: leave out --coordinator and the rest")
    if not values.distributed and None in given:
        raise InputError("--coordinator=HOST:PORT, --processes=N and --process=I go together")
    if not values.distributed and values.process >= values.processes:
        raise InputError(
            f"--process={values.process} with --processes={values.processes}: processes are "
            f"numbered from 0 to {values.processes - 1}"
        )


def read_config(values: flags.FlagValues):
    """The locked configuration; InputError if its file cannot be read or an option is wrong."""
    from ml_collections import config_flags

    from deepfidelity_jax.options import checks

    try:
        config = values.config
        getattr(config, "lock", None)  # ml_collections reads the file on first use
    except OSError as error:
        raise InputError(f"--config cannot be read: {one_line(checks.explain(error))}") from None
    overrides = config_flags.get_override_values(values["config"])
    if "data.dataset" in overrides:
        checks.drop_unused(config, [key.removeprefix("data.") for key in overrides])
    return checks.checked(config)


def without_grid(config):
    """The config of a single run: of a grid, that of its base."""
    if "ablate" in config:
        config = config.copy_and_resolve_references().unlock()
        del config.ablate
        config.lock()
    return config


def read_single(values: flags.FlagValues):
    """`read_config` for a mode that takes a single run; InputError if the config is of several."""
    from deepfidelity_jax.options import checks

    config = without_grid(read_config(values))
    if checks.experiment(config):
        raise InputError(f"--mode={values.mode} does not take a config of several datasets or runs")
    return config


@contextlib.contextmanager
def told_by_input(values: flags.FlagValues) -> Iterator[None]:
    """Tell what is wrong with a labelled --input by that name, not by the option it stands for."""
    try:
        yield
    except InputError as error:
        option = r"config\.data\.(?:dir|manifest) is .*?, which (.*), and .* has no records made .*"
        if values.input and (refusal := re.fullmatch(option, str(error))):
            raise InputError(f"--input={values.input[0]} {refusal[1]}") from None
        raise


def changed_options(values: flags.FlagValues, group: str) -> dict:
    """The options of a group of --config that are given on the command line, by name.

    Paths have `~` expanded. InputError if one is wrong.
    """
    from ml_collections import config_flags

    from deepfidelity_jax.options import checks
    from deepfidelity_jax.options.table import OPTIONS

    changed = {}
    for key in config_flags.get_override_values(values["config"]):
        within, _, name = key.partition(".")
        if within == group:
            value = values.config[group][name]
            checks.check_one(key, value)
            changed[name] = expand(f"--config.{key}", value) if OPTIONS[key].path else value
    return changed
