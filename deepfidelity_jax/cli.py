"""The command line: `python run.py`, installed as `deepfidelity`."""

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from absl import flags

from deepfidelity_jax import processes
from deepfidelity_jax.cores import make_devices
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.heap import use_huge_pages

MODES = ("run", "prepare", "train", "fit", "evaluate", "predict", "convert")
DONE, FAILED, WRONG = 0, 1, 2


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed while running, 2 wrong usage, config or input."""
    # Quiet: the log lines of XLA and of TFDS's optional TensorFlow say nothing to a user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if argv is None:
        use_huge_pages()
    make_devices()

    def command():
        values = parse(sys.argv if argv is None else argv)
        return {"predict": predict, "convert": convert}.get(values.mode, run)(values)

    return end(command)


def end(command: Callable[[], int]) -> int:
    """The status `command` returns; where it fails, one line of why and the status for that."""
    try:
        return command()
    except InputError as error:
        print(f"deepfidelity: {_one_line(error)}", file=sys.stderr)
        return processes.leave(WRONG)
    except KeyboardInterrupt:
        print("deepfidelity: interrupted: the same command goes on from there", file=sys.stderr)
        return processes.leave(FAILED)
    except BrokenPipeError:
        return FAILED
    except Exception as error:
        if processes.is_loss(error):
            reason = _one_line(error)[:200]
            print(f"deepfidelity: failed: {processes.LOST} ({reason})", file=sys.stderr)
        else:
            traceback.print_exc()
            print(f"deepfidelity: failed: {error}", file=sys.stderr)
        return processes.leave(FAILED)


def parse(argv: list[str]) -> flags.FlagValues:
    """The command line's flags. InputError says what is wrong with them."""
    from ml_collections import config_flags

    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "A file of configs/; --config.group.option=value changes it.",
        lock_config=True, flag_values=values, sys_argv=argv,
    )  # fmt: skip
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)
    flags.DEFINE_enum("mode", "run", MODES, "What to do.", flag_values=values)
    flags.DEFINE_multi_string(
        "input", [], "predict: a photograph, video or folder; repeatable. convert: official "
        "weights, and svr_model.pkl beside them; or a workdir to export.", flag_values=values
    )  # fmt: skip
    flags.DEFINE_string(
        "output", None, "predict: a file for the lines. convert: the exported weights, "
        ".safetensors or .npz.", flag_values=values
    )  # fmt: skip
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
    try:
        rest = values(argv)[1:]
    except (AttributeError, KeyError) as error:
        unknown, *meant = re.findall(r"[\"']([\w.]+)\\*[\"']", str(error)) or [str(error)]
        hint = f"; did you mean {meant[0]!r}?" if meant else ""
        raise InputError(f"the config has no option {unknown!r}{hint}") from None
    except Exception as error:  # whatever a config file written in Python may raise
        raise InputError(_one_line(error)) from None
    if values.help:
        print("usage: python run.py --config=configs/NAME.py --workdir=DIR [--mode=MODE]")
        print(values.get_help())
        raise SystemExit(DONE)
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}: options are written --name=value")
    if not values.workdir and not (values.mode == "convert" and values.output):
        raise InputError("--workdir=DIR is missing: the folder of the run")
    _check_processes(values)
    # Grain's worker processes read absl's global flags.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    return values


def _check_processes(values: flags.FlagValues) -> None:
    """InputError for flags that do not say which process of how many this is."""
    given = (values.coordinator, values.processes, values.process)
    if given == (None, None, None) and not values.distributed:
        return
    if values.mode in ("predict", "convert"):
        raise InputError(f"--mode={values.mode} is not for several processes")
    if values.distributed and given != (None, None, None):
        raise InputError("--distributed asks the cluster: leave out --coordinator and the rest")
    if not values.distributed and None in given:
        raise InputError("--coordinator=HOST:PORT, --processes=N and --process=I go together")
    if not values.distributed and values.process >= values.processes:
        raise InputError(f"--process={values.process} of --processes={values.processes}: from 0 on")


def run(values: flags.FlagValues) -> int:
    """Train and evaluate as the configuration says."""
    from deepfidelity_jax import pipeline, workdir

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
        from deepfidelity_jax import cross

        cross.run(config, Path(values.workdir))
        return DONE
    place = workdir.check(Path(values.workdir), config)
    if together:
        processes.start(values.coordinator, values.processes, values.process)
    workdir.keep_programs(place)
    pipeline.run(config, place, values.mode)
    return DONE


def evaluate_folder(values: flags.FlagValues) -> int:
    """Score a labelled folder."""
    from deepfidelity_jax import cross
    from deepfidelity_jax.workdir import keep_programs

    if len(values.input) > 1:
        raise InputError("evaluate takes one --input=FOLDER, with real/ and fake/ inside")
    keep_programs(Path(values.workdir))
    cross.evaluate_folder(values.workdir, values.input[0])
    return DONE


def predict(values: flags.FlagValues) -> int:
    """Score photographs and videos: one JSON line each."""
    from deepfidelity_jax.detector import load
    from deepfidelity_jax.predict import expand_inputs
    from deepfidelity_jax.workdir import keep_programs

    if not values.input:
        raise InputError("--input=PATH is missing: a photograph, a video or a folder of them")
    paths = list(expand_inputs(values.input))
    keep_programs(Path(values.workdir))
    detector = load(values.workdir)
    if detector.fidelity_model is None:
        raise InputError(f"{values.workdir} has no fidelity.npz: run --mode=fit first")
    with contextlib.ExitStack() as stack:
        output = sys.stdout
        if values.output:
            output = stack.enter_context(Path(values.output).open("w", encoding="utf-8"))
        for path in paths:
            print(detector.predict(path).to_json(), file=output, flush=True)
    return DONE


def convert(values: flags.FlagValues) -> int:
    """Official weights into a workdir or a safe file, or a workdir's weights into a file."""
    from deepfidelity_jax.convert import export_official, import_official, rewrite

    paths = [Path(given) for given in values.input]
    if values.output:
        if len(paths) != 1:
            raise InputError(f"one --input is written to --output, not {len(paths)}")
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
    config = None if values.config is None else _read_config(values)
    svr = regressors[0] if regressors else None
    import_official(weights[0], svr, Path(values.workdir), config, values.ema)
    return DONE


def _read_config(values: flags.FlagValues):
    """The locked configuration. InputError where its file cannot be read."""
    try:
        values.config.lock()
    except OSError as error:  # the file was not found or could not be run: told on first use
        reason = _one_line(error).split("config_config ")[-1]
        raise InputError(f"--config cannot be read: {reason}") from None
    return values.config


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
