"""What the command line takes: the flags of each mode, the help text, and how both are read."""

import contextlib
import re

from absl import flags

from deepfidelity_jax.console import one_line
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import expand

OF_TABLE = ("dir", "real_label")  # options of config.data for evaluate with a table as --input
# The flags of each mode, beside --workdir and --mode. Any other flag is refused.
_STAGE = ("config", "distributed", "coordinator", "processes", "process")
FLAGS = {
    "run": _STAGE,
    "prepare": _STAGE,
    "train": _STAGE,
    "fit": _STAGE,
    "evaluate": (*_STAGE, "input"),
    "robustness": (),
    "ablate": ("config", "list"),
    "verify": ("config",),
    "predict": ("config", "input", "output", "quiet", "report", "annotate"),
    "serve": ("host", "port"),
    "convert": ("config", "input", "output", "ema"),
    "compare": ("input", "output", "high", "threshold", "one"),
}
HELP = """\
usage: python run.py --config=configs/NAME.py --workdir=DIR [--mode=MODE] [--FLAG=VALUE ...]

Train a deepfake detector, evaluate it, and score photographs and videos with it.

modes
  run        prepare, train, fit and evaluate (the default); finished stages are skipped
  prepare    find the faces in a dataset and write them as records
  train      train the network on the records
  fit        fit the regressor that turns a feature into a fidelity
  evaluate   score the test split and write the report; with --input, your own labelled files
  robustness degrade the test faces in five grades, and write AUC and false alarms of each
  ablate     run a grid of options, and write one table with paired differences
  verify     repeat a finished run from the start, and say what differs
  predict    score photographs and videos, one JSON line each
  serve      score them in a browser or over HTTP, on this machine
  convert    import the official weights into a workdir, or export weights to a file
  compare    test whether the detectors behind several prediction files differ

all modes
  --workdir=DIR         folder of the run: config, checkpoints, metrics, report; predict and serve
                        without it use the detector that comes with the package

run, prepare, train, fit, evaluate
  --config=FILE         a file in configs/, such as configs/demo.py
  --config.GROUP.OPTION=VALUE
                        change an option; configs/default.py lists all of them
  --distributed         this is one of several processes, started by Cloud TPU, SLURM, Open MPI
                        or Kubernetes
  --coordinator=HOST:PORT --processes=N --process=I
                        the same without a cluster manager: where process 0 listens, how many
                        processes there are, and which one this is

evaluate
  --input=FOLDER        score this folder, with real/ and fake/ inside, instead of the test split;
                        needs no --config, but takes --config.faces.OPTION=VALUE
  --input=TABLE         the same for the files of a .csv, .parquet or .jsonl; --config.data.dir is
                        the folder of its paths, --config.data.real_label=0 or 1 what 0 and 1 mean

predict
  --input=PATH          a photograph, a video, or a folder of them; may be repeated
  --output=FILE         write the lines here instead of to stdout, as a table if it ends in .csv;
                        an interrupted command continues the file
  --report=PLACE        write a page on each input, with the verdict, a timeline and heat maps: into
                        this folder, or for one input into this file if it ends in .html
  --annotate=FILE.mp4   write the video of --input once more, with boxes, person numbers and scores
  --quiet               no progress and no summary on stderr
  --config.faces.OPTION=VALUE
                        change how faces are found; all other settings come from the workdir

serve
  --port=NUMBER         where to listen (8000); 0 takes any free port
  --host=ADDRESS        of which network (127.0.0.1, which only this machine can reach)

ablate
  --config=FILE         a file with config.ablate, such as configs/ablate_paper.py; every other mode
                        runs its base alone
  --list                print a command for each training instead of running it; any scheduler can
                        run these, and the same command without --list makes the table afterwards

verify
  --config=FILE         repeat with this configuration instead of that of the run

convert
  --input=FILE          official weights, and once more for an svr_model.pkl; or a workdir to export
  --output=FILE         write the weights here (.safetensors or .npz) instead of into a workdir
  --noema               take the raw weights where the file also has averaged ones
  --config=FILE         data and face settings for the new workdir

compare
  --input=FILE.csv      a predictions.csv, or any CSV with the columns path, label and score, and
                        with video_id and frame if it has them; give two or more
  --output=FILE         write the tables here (.csv, .md or .tex) instead of to stdout
  --high=fake|real      which class a high score means in files that are not a predictions.csv; once
                        for all of them, or once for each in their order
  --threshold=NUMBER    from which score on such a file means that class; once or for each likewise
  --one=fake|real       which class the label 1 is, where labels are 0 and 1

examples
  python run.py --config=configs/demo.py --workdir=/tmp/demo
  python run.py --mode=predict --input=photo.jpg
  python run.py --mode=predict --workdir=/tmp/demo --input=clip.mp4 --input=photos/
  python run.py --mode=predict --input=clip.mp4 --report=clip.html

exit status: 0 done, 1 failed while running, 2 wrong usage, config or input
On a CPU each core is one JAX device, up to eight; JAX_NUM_CPU_DEVICES=N asks for another number.
"""


def parse(argv: list[str]) -> flags.FlagValues:
    """The command line's flags; InputError if they are wrong or do not fit the mode."""
    values = flags.FlagValues()
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
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}: write options as --name=value")
    alone = values.mode in ("predict", "serve", "compare") or (
        values.mode == "convert" and values.output
    )
    if not values.workdir and not alone:
        raise InputError("--workdir=DIR is missing: the folder of the run (--help lists all flags)")
    values["workdir"].value = values.workdir and expand("--workdir", values.workdir)
    values["output"].value = values.output and expand("--output", values.output)
    values["report"].value = values.report and expand("--report", values.report)
    values["annotate"].value = values.annotate and expand("--annotate", values.annotate)
    values["input"].value = [expand("--input", path) for path in values.input]
    _check_processes(values)
    for name in values:
        # --config.GROUP.OPTION is a flag of its own, named so.
        allowed = name.split(".")[0] in ("workdir", "mode", *FLAGS[values.mode])
        if values[name].present and not allowed:
            no = "no" if values[name].value is False else ""
            raise InputError(f"--{no}{name} is not for --mode={values.mode}")
    # Grain's worker processes read absl's global flags.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    return values


def _define_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Define every flag. HELP describes them.

    predict, and evaluate of an --input, read their settings from the workdir; there --config has
    the group `faces` alone, and for evaluate what a table needs.
    """
    from ml_collections import ConfigDict, config_flags

    common = {"lock_config": True, "flag_values": values, "sys_argv": argv}
    if mode := _mode_with_input(argv):
        from deepfidelity_configs import default

        usual = default.get_config()
        settable = {"faces": usual.faces}
        also, names = "", r"faces\."
        if mode == "evaluate":
            settable["data"] = ConfigDict({name: usual.data[name] for name in OF_TABLE})
            also = "".join(f", --config.data.{name}" for name in OF_TABLE)
            names += rf"|data\.(?:{'|'.join(OF_TABLE)})\b"
        for arg in filter(re.compile(rf"--?config(?!\.(?:{names}))").match, argv):
            raise InputError(
                f"{arg}: --mode={mode} with --input reads its settings from the workdir; only "
                f"--config.faces.OPTION{also} can be changed"
            )
        config_flags.DEFINE_config_dict("config", ConfigDict(settable), **common)
    else:
        config_flags.DEFINE_config_file("config", None, **common)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_enum("mode", "run", tuple(FLAGS), "", flag_values=values)
    flags.DEFINE_multi_string("input", [], "", flag_values=values)
    flags.DEFINE_string("output", None, "", flag_values=values)
    flags.DEFINE_string("report", None, "", flag_values=values)
    flags.DEFINE_string("annotate", None, "", flag_values=values)
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


def _mode_with_input(argv: list[str]) -> str:
    """The mode, if it scores --input with a workdir; else empty. Reads `argv` ahead of the rest."""
    values = flags.FlagValues()
    values.set_gnu_getopt()
    flags.DEFINE_string("mode", None, "", flag_values=values)
    flags.DEFINE_multi_string("input", [], "", flag_values=values)
    with contextlib.suppress(flags.Error):  # the full parse reports it
        values(argv, known_only=True)
        if values.mode == "predict" or (values.mode == "evaluate" and values.input):
            return values.mode
    return ""


def _check_processes(values: flags.FlagValues) -> None:
    """InputError unless the flags for several processes fit together."""
    given = (values.coordinator, values.processes, values.process)
    if given == (None, None, None) and not values.distributed:
        return
    if values.mode in ("predict", "serve", "convert", "compare") or values.input:
        raise InputError(f"--mode={values.mode} runs in one process")
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
    from deepfidelity_jax.options import checks

    try:
        config = values.config
        getattr(config, "lock", None)  # ml_collections reads the file on first use
    except OSError as error:
        reason = one_line(error).split("config_config ")[-1]
        raise InputError(f"--config cannot be read: {reason}") from None
    return checks.checked(config)


def changed_options(values: flags.FlagValues, group: str) -> dict:
    """The options of a group of --config that are given on the command line, by name."""
    from ml_collections import config_flags

    given = config_flags.get_override_values(values["config"])
    names = (key.partition(".")[2] for key in given if key.startswith(f"{group}."))
    return {name: values.config[group][name] for name in names}
