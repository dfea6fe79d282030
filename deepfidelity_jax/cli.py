"""The command line: `python run.py`, installed as `deepfidelity`. One function per mode."""

import contextlib
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from absl import flags

from deepfidelity_jax import __version__
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import STDIN, require_writable
from deepfidelity_jax.options import completion, help
from deepfidelity_jax.options.arguments import (
    changed_options,
    mode_given,
    parse,
    read_config,
    read_single,
    told_by_input,
    without_grid,
)
from deepfidelity_jax.processes import console, hosts
from deepfidelity_jax.processes.console import DONE, FAILED


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed while running, 2 wrong usage, config or input.

    Args:
      argv: program name and flags. None is the real command line: it reads sys.argv and sets up the
        process (CPU devices, signals, warnings). A call with `argv` changes none of these.
    """
    arguments = sys.argv if argv is None else argv
    values = None

    def command():
        nonlocal values
        if told := _tell(arguments):
            print(told, end="")
            return DONE
        if argv is None:
            console.take_over_process()
        values = parse(arguments)
        modes = {
            "predict": predict, "convert": convert, "compare": compare, "robustness": robustness,
            "ablate": lambda values: ablate(values, _program(arguments[0])), "verify": verify,
            "export": export, "serve": serve,
        }  # fmt: skip
        return modes.get(values.mode, run)(values)

    return console.end(command, lambda: _unfinished(values))


def _tell(arguments: list[str]) -> str:
    """The text of a command for help, the version or a completion script; otherwise empty."""
    name, given = Path(arguments[0]).name, arguments[1:]
    if {"--help", "-h"} & set(given) or given == ["help"]:
        program = f"python {name}" if name.endswith(".py") else "deepfidelity"
        return help.text(program, mode_given(arguments))
    if given == ["--version"]:
        return f"deepfidelity_jax {__version__}\n"
    return completion.script(*given[1:]) if given[:1] == ["completion"] else ""


def _program(first: str) -> list[str]:
    """The words that start this program from any folder; `first` is the first of its arguments."""
    if first.endswith(".py"):
        return [sys.executable, str(Path(first).absolute())]
    found = shutil.which(first)
    return [str(Path(found).absolute()) if found else first]


def _unfinished(values: flags.FlagValues | None) -> str:
    """What the message about an interruption says about the work that was done."""
    if values is None:
        return "nothing was done"
    kept = values.mode not in ("predict", "serve", "convert", "compare", "export")
    if values.mode == "predict" and values.output:
        kept = Path(values.output).is_file()
    return f"run the same command again to {'continue' if kept else 'start over'}"


def run(values: flags.FlagValues) -> int:
    """Modes run, prepare, train, fit and evaluate: the stages of the configuration."""
    from deepfidelity_jax import pipeline, workdir
    from deepfidelity_jax.options import checks

    if values.mode == "evaluate" and values.input:
        return evaluate_folder(values)
    if values.config is None:
        raise InputError("--config=configs/NAME.py is missing")
    config, folder = without_grid(read_config(values)), Path(values.workdir)
    several_processes = values.distributed or values.coordinator
    if several := checks.experiment(config):
        if several_processes:
            raise InputError("a config of several datasets or training runs needs a single process")
        if values.mode != "run" and (several, values.mode) != ("cross", "evaluate"):
            raise InputError(
                f"--mode={values.mode} does not take a config of several datasets or runs"
            )
        return run_several(several, config, folder)
    pipeline.check_place(config, folder, values.mode)
    if several_processes:
        hosts.start(values.coordinator, values.processes, values.process)
    with workdir.held(folder) if hosts.is_first() else contextlib.nullcontext():
        workdir.keep_programs(folder)
        pipeline.run(config, folder, values.mode)
    return DONE


def run_several(name: str, config, folder: Path) -> int:
    """A config of several datasets or training runs."""
    from deepfidelity_jax import workdir
    from deepfidelity_jax.experiments import leave_one_out
    from deepfidelity_jax.scoring import cross_dataset

    with workdir.held(folder):
        {"cross": cross_dataset, "leave_one_out": leave_one_out}[name].run(config, folder)
    return DONE


def evaluate_folder(values: flags.FlagValues) -> int:
    """Mode evaluate with --input: score a labelled folder or table with a trained workdir."""
    from deepfidelity_jax.scoring import cross_dataset
    from deepfidelity_jax.workdir import held, keep_programs, read_config

    folder = Path(values.workdir)
    read_config(folder)  # before `held`, which would create a missing workdir
    with held(folder), told_by_input(values):
        keep_programs(folder)
        cross_dataset.evaluate_folder(folder, *_labelled_input(values))
    return DONE


def _labelled_input(values: flags.FlagValues):
    """The only --input, and the options of `faces` and `data` that are given for it."""
    if len(values.input) > 1:
        raise InputError(
            f"{values.mode} takes one --input=FOLDER, with real/ and fake/ inside, or one "
            "--input=TABLE"
        )
    return values.input[0], changed_options(values, "faces"), changed_options(values, "data")


def robustness(values: flags.FlagValues) -> int:
    """Mode robustness: a trained detector under graded degradations."""
    from deepfidelity_jax import workdir
    from deepfidelity_jax.experiments import robustness

    folder = Path(values.workdir)
    if not values.input and values["config"].present:
        raise InputError("--mode=robustness takes --config only with --input")
    workdir.read_config(folder)  # before `held`, which would create a missing workdir
    with workdir.held(folder), told_by_input(values):
        workdir.keep_programs(folder)
        robustness.run(folder, _labelled_input(values) if values.input else None)
    return DONE


def ablate(values: flags.FlagValues, program: list[str]) -> int:
    """Mode ablate: a grid of runs and its table, or their commands (--list) of this program."""
    from ml_collections import config_flags

    from deepfidelity_jax import workdir
    from deepfidelity_jax.experiments import ablation

    if values.config is None:
        raise InputError("--config=configs/NAME.py is missing")
    config, folder = read_config(values), Path(values.workdir)
    if "ablate" not in config:
        raise InputError("the config has no `ablate`: give one such as configs/ablate_paper.py")
    if values.list:
        given = config_flags.get_override_values(values["config"])
        file = config_flags.get_config_filename(values["config"])
        print("\n".join(ablation.list_commands(config, folder, file, given, program)))
        return DONE
    with workdir.held(folder):
        ablation.run(config, folder)
    return DONE


def verify(values: flags.FlagValues) -> int:
    """Mode verify: repeat a run from the start; 1 if anything differs."""
    from deepfidelity_jax import provenance, workdir
    from deepfidelity_jax.experiments import verification

    config, folder = values.config and read_single(values), Path(values.workdir)
    provenance.read_run(folder)  # before `held`, which would create a missing workdir
    with workdir.held(folder):
        workdir.keep_programs(folder)
        return DONE if verification.verify(folder, config) else FAILED


def predict(values: flags.FlagValues) -> int:
    """Mode predict: score photographs and videos, one line each."""
    import numpy as np

    from deepfidelity_jax.detector import bundled, finding
    from deepfidelity_jax.detector.lines import Lines
    from deepfidelity_jax.detector.load import load_fitted
    from deepfidelity_jax.detector.predict import examine_all, write_all
    from deepfidelity_jax.faces import detection
    from deepfidelity_jax.page.outputs import Outputs
    from deepfidelity_jax.progress import Progress, say
    from deepfidelity_jax.workdir import keep_programs

    if not values.input:
        raise InputError("--input=PATH is missing: a photograph, a video or a folder of them")
    if values.beam and not values.output:
        raise InputError("--beam needs --output=FILE, in a folder that all machines share")
    if values.beam and (values.report or values.annotate):
        raise InputError("--report and --annotate are not for --beam")
    if values.beam and STDIN in values.input:
        raise InputError(f"--input={STDIN} is not for --beam: only this machine has standard input")
    with contextlib.ExitStack() as stack:
        inputs, hidden = finding.list_inputs(values.input, stack)
        outputs = Outputs(inputs, values.report, values.annotate)
        lines = stack.enter_context(Lines(values.output))
        if values.workdir and not bundled.holds(Path(values.workdir)):
            keep_programs(Path(values.workdir))
        detector = load_fitted(values.workdir)
        changed = changed_options(values, "faces")
        detector.faces = replace(detector.faces, **changed)
        if "yunet" in changed and detector.faces.detector != "yunet":
            raise InputError("--config.faces.yunet needs --config.faces.detector=yunet")
        # Fails before the first line if the face detector cannot be loaded.
        detection.detect(np.zeros((64, 64, 3), np.uint8), detector.faces)
        lines.resume(inputs, detector, quiet=values.quiet)
        todo = [
            each
            for each in inputs
            if each.name not in lines.kept or not outputs.are_there(detector, each.path)
        ]
        quiet, done = values.quiet or not sys.stderr.isatty(), len(inputs) - len(todo)
        progress = Progress(len(inputs), done, "inputs", "predicted", quiet=quiet)
        if values.beam:
            from deepfidelity_jax.detector.cluster import predict_on_cluster

            kept = Path(f"{values.output}.verdicts")
            examined = predict_on_cluster(detector, todo, values.workdir, kept, values.beam)
            predictions = examined
        else:
            examined = examine_all(
                detector, todo, values.workers or finding.count_workers(len(todo))
            )
            predictions = outputs.write_each(detector, todo, examined)
        outputs.tell = progress.note
        with contextlib.closing(examined):
            counts = write_all(inputs, todo, predictions, lines, progress)
        if values.beam:
            shutil.rmtree(kept, ignore_errors=True)  # not there if there was nothing to do
    if hidden:
        counts.left_out["hidden"] = hidden
    if not counts.statuses:
        raise InputError(f"no photograph or video in --input: {counts.describe()}")
    for line in outputs.notes if values.quiet else (*outputs.notes, counts.describe()):
        say(line)
    if outputs.failed:
        return FAILED
    return counts.exit_status if values.exit_code else DONE


def serve(values: flags.FlagValues) -> int:
    """Mode serve: a local page and an HTTP API for the same predictions."""
    try:
        from deepfidelity_jax.server.serve import serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("deepfidelity_jax"):
            raise
        raise InputError(
            f"--mode=serve needs {error.name}: pip install 'deepfidelity_jax[serve]'"
        ) from None
    serve(values.workdir, values.host, values.port)
    return DONE


def convert(values: flags.FlagValues) -> int:
    """Mode convert: official weights into a workdir, or weights into a file (--output)."""
    from deepfidelity_jax import workdir
    from deepfidelity_jax.official.convert import export_official, import_official, rewrite
    from deepfidelity_jax.training.checkpoint import require_usable

    paths = [Path(given) for given in values.input]
    if values.output:
        if len(paths) != 1:
            raise InputError(f"convert with --output takes one --input, not {len(paths)}")
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
    folder = Path(values.workdir)
    require_usable(folder)
    config = None if values.config is None else read_single(values)
    svr = regressors[0] if regressors else None
    with workdir.held(folder):
        import_official(weights[0], svr, folder, config, values.ema)
    return DONE


def compare(values: flags.FlagValues) -> int:
    """Mode compare: compare prediction files, without any detector."""
    from deepfidelity_jax.comparison import tables
    from deepfidelity_jax.comparison.compare import compare
    from deepfidelity_jax.comparison.prediction_files import read_all

    if values.workdir:
        raise InputError("--workdir is not for --mode=compare")
    if values.output:
        tables.require_format(values.output)
        require_writable(values.output, "--output")
    files = read_all(values.input, values.high, values.threshold, values.one)
    comparison = compare(files)
    if values.output:
        tables.write(comparison, values.output)
    else:
        print(tables.to_markdown(comparison), end="")
    return DONE


def export(values: flags.FlagValues) -> int:
    """Mode export: a detector as a file or a folder for other programs."""
    from deepfidelity_jax.export.write import export

    if not values.output:
        raise InputError("--output is missing: a FILE.onnx, a FILE.stablehlo or a FOLDER/")
    export(values.workdir, values.output)
    return DONE
