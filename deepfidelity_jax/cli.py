"""The command line: `python run.py`, installed as `deepfidelity`."""

import contextlib
import errno
import logging
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

from absl import flags

from deepfidelity_jax import hosts
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import require_writable
from deepfidelity_jax.hosts import make_devices

# The flags that a mode uses, beside --workdir and --mode. Any other is refused.
_STAGE = ("config", "distributed", "coordinator", "processes", "process")
FLAGS = {
    "run": _STAGE,
    "prepare": _STAGE,
    "train": _STAGE,
    "fit": _STAGE,
    "evaluate": (*_STAGE, "input"),
    "predict": ("config", "input", "output", "quiet"),
    "convert": ("config", "input", "output", "ema"),
}
DONE, FAILED, WRONG = 0, 1, 2
_interrupted: list[int] = []  # by which signals
# What a full or failing disk says, also through libraries that raise errors of their own.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed while running, 2 wrong usage, config or input."""
    # Quiet: the log lines of XLA and of TFDS's optional TensorFlow say nothing to a user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if argv is None:
        make_devices()
        _quiet_libraries()
        _heed_signals()

    values = None

    def command():
        nonlocal values
        values = parse(sys.argv if argv is None else argv)
        return {"predict": predict, "convert": convert}.get(values.mode, run)(values)

    return end(command, lambda: _what_remains(values))


def _quiet_libraries() -> None:
    """Keep warnings and log lines of libraries off stderr, unless Python's -W asks for them."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"  # for worker processes
        # What can be raised nowhere; where it matters, whoever waits for a result is told as well.
        sys.unraisablehook = threading.excepthook = lambda _: None
    # Else what no handler takes goes to stderr.
    logging.getLogger().addHandler(logging.NullHandler())


def _heed_signals() -> None:
    """Let SIGTERM end a command as Ctrl-C does: with what is half done cleared away."""

    def interrupt(number, frame):
        _interrupted.append(number)
        if number != signal.SIGALRM:  # once more, while that is done: at once
            signal.signal(number, signal.SIG_DFL)
        if not _is_importing(frame):
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, 0.1)

    ignore = sys.unraisablehook

    def deliver_again(unraisable):
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            ignore(unraisable)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    # It may strike in a callback of a library, from which nothing is raised: then a moment later.
    signal.signal(signal.SIGALRM, interrupt)
    sys.unraisablehook = deliver_again


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: there, many swallow whatever is raised."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _what_remains(values: flags.FlagValues | None) -> str:
    """What becomes of what a command had done that did not end."""
    if values is None:  # not even begun
        return "nothing was done"
    kept = values.mode not in ("predict", "convert")
    if values.mode == "predict" and values.output:
        kept = os.path.isfile(values.output)
    return f"the same command {'goes on from there' if kept else 'starts over'}"


def end(command: Callable[[], int], remains: Callable[[], str]) -> int:
    """The status `command` returns; where it fails, one line of why and the status for that.

    `remains` says what becomes of what it had done.
    """
    try:
        return command()
    except InputError as error:
        return _fail(WRONG, _one_line(error))
    except KeyboardInterrupt:
        return _fail(FAILED, f"interrupted: {remains()}")
    except BrokenPipeError:
        return _fail(FAILED)
    except Exception as error:
        if _interrupted:  # libraries make errors of their own of it
            return _fail(FAILED, f"interrupted: {remains()}")
        if hosts.is_loss(error):
            return _fail(FAILED, f"failed: {hosts.LOST} ({_one_line(error)[:200]})")
        if disk := _disk_error(error):
            return _fail(FAILED, f"failed: {disk}: with that mended, {remains()}")
        traceback.print_exc()
        return _fail(FAILED, f"failed: {error}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _fail(status: int, line: str = "") -> int:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)  # what is left of a progress line
    if line:
        print(f"deepfidelity: {line}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # closed or full: Python would try again, and complain, when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return hosts.leave(status)


def _disk_error(error: BaseException | None) -> str:
    """What the disk said, if that is behind an error; else nothing."""
    while error is not None:
        for number in DISK_ERRORS:
            if getattr(error, "errno", None) == number:
                name = getattr(error, "filename", None)
                return os.strerror(number).lower() + (f": {name}" if name else "")
            if os.strerror(number) in str(error):
                return os.strerror(number).lower()
        error = error.__cause__ or error.__context__
    return ""


def parse(argv: list[str]) -> flags.FlagValues:
    """The command line's flags. InputError says what is wrong with them."""
    values = flags.FlagValues()
    try:
        _define(values, argv)
        rest = values(argv)[1:]
    except InputError:
        raise
    except (AttributeError, KeyError) as error:
        unknown, *meant = re.findall(r"[\"']([\w.]+)\\*[\"']", str(error)) or [str(error)]
        hint = f"; did you mean {meant[0]!r}?" if meant else ""
        raise InputError(f"the config has no option {unknown!r}{hint}") from None
    except Exception as error:  # whatever a config file written in Python may raise
        from deepfidelity_jax.options import checks

        raise InputError(_one_line(checks.explain(error))) from None
    if values.help:
        print("usage: python run.py --config=configs/NAME.py --workdir=DIR [--mode=MODE]")
        print(values.get_help())
        raise SystemExit(DONE)
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}: options are written --name=value")
    if not values.workdir and not (values.mode == "convert" and values.output):
        raise InputError("--workdir=DIR is missing: the folder of the run")
    _check_processes(values)
    for name in values:
        # Options of the config are flags of their own, by its name and theirs.
        used = name.split(".")[0] in ("workdir", "mode", "help", "h", *FLAGS[values.mode])
        if values[name].present and not used:
            off = "no" if values[name].value is False else ""
            raise InputError(f"--{off}{name} is not for --mode={values.mode}")
    # Grain's worker processes read absl's global flags.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    return values


def _scores_inputs(argv: list[str]) -> str:
    """The mode of an unread command line that scores its --input with a workdir; else nothing.

    There --config is no file: the workdir has the settings.
    """
    values = flags.FlagValues()
    values.set_gnu_getopt()
    flags.DEFINE_string("mode", None, "", flag_values=values)
    flags.DEFINE_multi_string("input", [], "", flag_values=values)
    with contextlib.suppress(flags.Error):  # told when all is read
        values(argv, known_only=True)
        if values.mode == "predict" or (values.mode == "evaluate" and values.input):
            return values.mode
    return ""


def _faces_given(values: flags.FlagValues) -> dict:
    """The options of --config.faces on the command line, by name."""
    from ml_collections import config_flags

    given = config_flags.get_override_values(values["config"])
    names = (key.removeprefix("faces.") for key in given)
    return {name: values.config.faces[name] for name in names}


def _check_processes(values: flags.FlagValues) -> None:
    """InputError for flags that do not say which process of how many this is."""
    given = (values.coordinator, values.processes, values.process)
    if given == (None, None, None) and not values.distributed:
        return
    if values.mode in ("predict", "convert") or values.input:
        raise InputError(f"--mode={values.mode} is not for several processes")
    if values.distributed and given != (None, None, None):
        raise InputError("--distributed asks the cluster: leave out --coordinator and the rest")
    if not values.distributed and None in given:
        raise InputError("--coordinator=HOST:PORT, --processes=N and --process=I go together")
    if not values.distributed and values.process >= values.processes:
        raise InputError(f"--process={values.process} of --processes={values.processes}: from 0 on")


def _define(values: flags.FlagValues, argv: list[str]) -> None:
    """Define all flags there are; of --config, what `argv` asks for is looked up."""
    from ml_collections import ConfigDict, config_flags

    help_ = (
        "A file of configs/; --config.group.option=value changes it. predict, and evaluate with "
        "--input: only --config.faces.option=value, how faces are found."
    )
    if mode := _scores_inputs(argv):
        from deepfidelity_configs import default

        refused = (arg for arg in argv if re.match(r"--?config(?!\.faces\.)", arg))
        for arg in refused:
            raise InputError(
                f"{arg}: --mode={mode} of an --input has its settings from the workdir; of "
                "--config it takes --config.faces.OPTION alone"
            )
        config_flags.DEFINE_config_dict(
            "config", ConfigDict({"faces": default.get_config().faces}), help_,
            lock_config=True, flag_values=values, sys_argv=argv,
        )  # fmt: skip
    else:
        config_flags.DEFINE_config_file(
            "config", None, help_, lock_config=True, flag_values=values, sys_argv=argv
        )
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)
    flags.DEFINE_enum("mode", "run", tuple(FLAGS), "What to do.", flag_values=values)
    flags.DEFINE_multi_string(
        "input", [], "predict: a photograph, video or folder; repeatable. evaluate: a folder of "
        "your own with real/ and fake/ inside. convert: official weights, and svr_model.pkl beside "
        "them; or a workdir to export.", flag_values=values
    )  # fmt: skip
    flags.DEFINE_string(
        "output", None, "predict: a file for the lines, .csv for a table; the same command goes "
        "on with it. convert: the exported weights, .safetensors or .npz.", flag_values=values
    )  # fmt: skip
    flags.DEFINE_bool(
        "quiet", False, "predict: no progress and no counts on stderr.", flag_values=values
    )
    flags.DEFINE_bool(
        "ema", True, "convert: averaged weights where the file has them.", flag_values=values
    )
    flags.DEFINE_bool(
        "distributed", False, "One of several processes of a run, as Cloud TPU, SLURM, Open MPI or "
        "Kubernetes tell it.", flag_values=values
    )  # fmt: skip
    flags.DEFINE_string(
        "coordinator", None, "Where none of them tells: HOST:PORT of the first process,",
        flag_values=values
    )  # fmt: skip
    flags.DEFINE_integer("processes", None, "how many there are,", 1, flag_values=values)
    flags.DEFINE_integer("process", None, "and which this is, from 0.", 0, flag_values=values)
    flags.DEFINE_bool("help", False, "Show this.", short_name="h", flag_values=values)


def run(values: flags.FlagValues) -> int:
    """Train and evaluate as the configuration says."""
    from deepfidelity_jax import pipeline, workdir
    from deepfidelity_jax.options import checks

    if values.mode == "evaluate" and values.input:
        return evaluate_folder(values)
    if values.config is None:
        raise InputError("--config=configs/NAME.py is missing")
    config = _read_config(values)
    together = values.distributed or values.coordinator
    if config.get("cross"):
        if together:
            raise InputError("a config of several datasets is not for several processes")
        if values.mode not in ("run", "evaluate"):
            raise InputError(f"--mode={values.mode} is not for a config of several datasets")
        from deepfidelity_jax.scoring import cross_dataset

        with workdir.held(Path(values.workdir)):
            cross_dataset.run(config, Path(values.workdir))
        return DONE
    pipeline.check_place(config, Path(values.workdir), values.mode)
    place = checks.require_same(Path(values.workdir), config)
    if together:
        hosts.start(values.coordinator, values.processes, values.process)
    with workdir.held(place) if hosts.is_first() else contextlib.nullcontext():
        workdir.keep_programs(place)
        pipeline.run(config, place, values.mode)
    return DONE


def evaluate_folder(values: flags.FlagValues) -> int:
    """Score a labelled folder."""
    from deepfidelity_jax.scoring import cross_dataset
    from deepfidelity_jax.workdir import held, keep_programs, read_config

    if len(values.input) > 1:
        raise InputError("evaluate takes one --input=FOLDER, with real/ and fake/ inside")
    place = Path(values.workdir)
    read_config(place)  # before the workdir's lock, which would make one
    with held(place):
        keep_programs(place)
        cross_dataset.evaluate_folder(place, values.input[0], _faces_given(values))
    return DONE


def predict(values: flags.FlagValues) -> int:
    """Score photographs and videos: one line each."""
    import numpy as np

    from deepfidelity_jax.detector.lines import Lines
    from deepfidelity_jax.detector.load import load
    from deepfidelity_jax.detector.predict import list_inputs, predict_all
    from deepfidelity_jax.faces import detection
    from deepfidelity_jax.progress import Progress, say
    from deepfidelity_jax.workdir import keep_programs

    if not values.input:
        raise InputError("--input=PATH is missing: a photograph, a video or a folder of them")
    inputs, hidden = list_inputs(values.input)
    with Lines(values.output) as lines:
        keep_programs(Path(values.workdir))
        detector = load(values.workdir)
        if detector.fidelity_model is None:
            raise InputError(f"{values.workdir} has no fidelity.npz: run --mode=fit first")
        given = _faces_given(values)
        detector.faces = replace(detector.faces, **given)
        if "yunet" in given and detector.faces.detector != "yunet":
            raise InputError("--config.faces.yunet is for --config.faces.detector=yunet")
        detection.detect(
            np.zeros((64, 64, 3), np.uint8), detector.faces
        )  # the detector's file is good
        lines.resume(inputs, detector)
        quiet = values.quiet or not sys.stderr.isatty()
        progress = Progress(len(inputs), len(lines.kept), "inputs", "predicted", quiet=quiet)
        counts = predict_all(detector, inputs, lines, progress)
    if hidden:
        counts.left_out["hidden"] = hidden
    if not counts.statuses:
        raise InputError(f"no photograph or video in --input: {counts.describe()}")
    if not values.quiet:
        say(counts.describe())
    return DONE


def convert(values: flags.FlagValues) -> int:
    """Official weights into a workdir or a safe file, or a workdir's weights into a file."""
    from deepfidelity_jax import workdir
    from deepfidelity_jax.official.convert import export_official, import_official, rewrite
    from deepfidelity_jax.training.checkpoint import require_usable

    paths = [Path(given) for given in values.input]
    if values.output:
        if len(paths) != 1:
            raise InputError(f"one --input is written to --output, not {len(paths)}")
        require_writable(values.output, "--output")
        if paths[0].is_file():
            rewrite(paths[0], Path(values.output), values.ema)
        else:
            export_official(paths[0], Path(values.output))
        return DONE
    regressors = [path for path in paths if path.suffix in (".pkl", ".joblib")]
    weights = [path for path in paths if path not in regressors]
    if len(weights) != 1 or len(regressors) > 1:
        raise InputError(
            "convert takes one --input=FILE of weights and at most one --input=FILE.pkl of a "
            f"regressor, not {len(weights)} and {len(regressors)}"
        )
    require_usable(Path(values.workdir))
    config = None if values.config is None else _read_config(values)
    svr = regressors[0] if regressors else None
    with workdir.held(Path(values.workdir)):
        import_official(weights[0], svr, Path(values.workdir), config, values.ema)
    return DONE


def _read_config(values: flags.FlagValues):
    """The locked configuration. InputError where its file cannot be read or an option is wrong."""
    from deepfidelity_jax.options import checks

    try:
        config = values.config
        getattr(config, "lock", None)  # the first use
    except OSError as error:  # the file was not found or could not be run: told on first use
        reason = _one_line(error).split("config_config ")[-1]
        raise InputError(f"--config cannot be read: {reason}") from None
    return checks.checked(config)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
