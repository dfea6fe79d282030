"""What `--help` prints: an overview, or one mode with its flags and examples."""

# The flags of each mode, besides --workdir and --mode. Any other flag is refused.
_STAGE = ("config", "distributed", "coordinator", "processes", "process")
FLAGS = {
    "run": _STAGE,
    "prepare": _STAGE,
    "train": _STAGE,
    "fit": _STAGE,
    "evaluate": (*_STAGE, "input"),
    "robustness": ("config", "input"),
    "ablate": ("config", "list"),
    "verify": ("config",),
    "predict": (
        "config", "input", "output", "report", "annotate", "exit_code", "workers", "beam", "quiet",
    ),
    "serve": ("host", "port"),
    "convert": ("config", "input", "output", "ema"),
    "compare": ("input", "output", "high", "threshold", "one"),
    "export": ("output",),
}  # fmt: skip

ABOUT = {
    "run": "prepare, train, fit and evaluate (the default); finished stages are skipped",
    "prepare": "find the faces in a dataset and write them as records",
    "train": "train the network on the records",
    "fit": "fit the regressor that turns a feature into a fidelity",
    "evaluate": "score the test split and write the report; with --input, your own labelled files",
    "robustness": "degrade the test faces at five severities; write AUC and errors for each",
    "ablate": "run a grid of options, and write one table with paired differences",
    "verify": "repeat a finished run from the start, and say what differs",
    "predict": "score photographs and videos, one JSON line each",
    "serve": "score photographs and videos in a browser or over HTTP, on this machine",
    "convert": "import the official weights into a workdir, or write weights to a file",
    "compare": "test whether the detectors behind several prediction files differ",
    "export": "write a detector as ONNX, as StableHLO, or as a folder for a model hub",
}

_WORKDIR = """\
  --workdir=DIR         folder of the run: config, checkpoints, metrics, report
"""
_OPTION = """\
  --config.GROUP.OPTION=VALUE
                        change an option; configs/default.py lists all of them
"""
_CONFIG = f"""\
  --config=FILE         a file in configs/ of the repository, such as configs/demo.py
{_OPTION}"""
_PROCESSES = """\
  --distributed         this is one of several processes, started by Cloud TPU, SLURM, Open MPI
                        or Kubernetes
  --coordinator=HOST:PORT --processes=N --process=I
                        the same without a cluster manager: where process 0 listens, how many
                        processes there are, and which one this is
"""
_OWN = {
    "evaluate": """\
  --input=FOLDER        score this folder, with real/ and fake/ inside, instead of the test split,
                        and add a section to the report of --workdir; needs no --config, but takes
                        --config.faces.OPTION=VALUE and --config.data.group=RULE
  --input=TABLE         the same for the files of a .csv, .parquet or .jsonl; --config.data.dir is
                        the folder of its paths, --config.data.real_label=0 or 1 the label of
                        real faces
""",
    "robustness": """\
  --input=FOLDER or TABLE
                        the same for your own labelled files, as in evaluate; takes
                        --config.faces.OPTION=VALUE; video files are also encoded again with
                        H.264, which needs pip install 'deepfidelity_jax[video]'
""",
    "ablate": f"""\
  --config=FILE         a file with config.ablate, such as configs/ablate_paper.py; other modes use
                        only its base configuration
{_OPTION}\
  --list                print one command per training run instead of running them, for any
                        scheduler; the same command without --list makes the table afterwards
""",
    "verify": f"""\
  --config=FILE         repeat with this configuration instead of that of the run
{_OPTION}""",
    "predict": """\
  --workdir=DIR         folder of a trained run; without it, the bundled detector
  --input=PATH          a photograph, a video, or a folder of them; may be repeated. `-` reads one
                        photograph or video from standard input
  --output=FILE         write the lines here instead of to stdout, as a table if it ends in .csv;
                        the same command again adds what is missing or has changed
  --report=PLACE        write a page for each input, with verdict, timeline and heat maps: into this
                        folder, or for one input into this file if it ends in .html
  --annotate=FILE.mp4   write a copy of the input video with boxes, person numbers and scores
  --exit_code           exit with 3 if an input is fake, else with 4 if one is uncertain or has no
                        score, else with 0; without this flag, verdicts do not change the status
  --workers=N           find faces in N processes; by default, for 64 or more inputs, in one per
                        core, at least 2
  --beam=OPTIONS        run on a cluster with Apache Beam, passing it these options
  --quiet               no progress and no summary on stderr
  --config.faces.OPTION=VALUE
                        change how faces are found; all other settings come from the workdir
""",
    "serve": """\
  --workdir=DIR         folder of a trained run; without it, the bundled detector
  --port=NUMBER         port to listen on (8000); 0 takes any free port
  --host=ADDRESS        address to listen on (127.0.0.1: this machine only)
""",
    "convert": f"""\
  --input=FILE          official weights; repeat the flag to add an svr_model.pkl; or a workdir
  --output=FILE         write the weights here (.safetensors or .npz) instead of into a workdir
  --noema               use the raw weights if the file also has averaged ones
  --config=FILE         data and face settings for the new workdir
{_OPTION}""",
    "compare": """\
  --input=FILE.csv      a predictions.csv, or any CSV with the columns path, label and score, and
                        with video_id and frame if it has them; give two or more
  --output=FILE         write the tables here (.csv, .md or .tex) instead of to stdout
  --high=fake|real      the class that a high score means, in files that are not a predictions.csv;
                        give it once for all such files, or once per file, in their order
  --threshold=NUMBER    scores at or above this mean the --high class; once, or once per file
  --one=fake|real       the class that the label 1 stands for, where labels are 0 and 1
""",
    "export": """\
  --workdir=DIR         folder of a trained run; without it, the bundled detector
  --output=FILE         write one file that ends in .onnx or .stablehlo, from face crops to p_fake,
                        and FILE.json with labels, threshold and face settings beside it
  --output=FOLDER/      write weights, config and model card in the layout of model hubs;
                        --workdir and load() take the folder
""",
}
_EXAMPLES = {
    "run": """\
  {program} --config=configs/demo.py --workdir=/tmp/demo
  {program} --config=configs/folder.py --config.data.dir=FOLDER --workdir=/tmp/faces
""",
    "prepare": """\
  {program} prepare --config=configs/ffpp.py --config.data.manual_dir=COPY --workdir=runs/ffpp
""",
    "train": """\
  {program} train --config=configs/ffpp.py --workdir=runs/ffpp
""",
    "fit": """\
  {program} fit --config=configs/ffpp.py --workdir=runs/ffpp
""",
    "evaluate": """\
  {program} evaluate --config=configs/ffpp.py --workdir=runs/ffpp
  {program} evaluate labelled/ --workdir=runs/ffpp
""",
    "robustness": """\
  {program} robustness --workdir=/tmp/demo
  {program} robustness labelled/ --workdir=/tmp/demo
""",
    "ablate": """\
  {program} ablate --config=configs/ablate_paper.py --workdir=runs/ablation
  {program} ablate --config=configs/ablate_paper.py --workdir=runs/ablation --list | parallel
""",
    "verify": """\
  {program} verify --workdir=/tmp/demo
""",
    "predict": """\
  {program} predict photo.jpg
  {program} predict clip.mp4 --report=clip.html
  {program} predict clip.mp4 photos/ --workdir=/tmp/demo --output=scores.csv
  curl -s https://example.org/photo.jpg | {program} predict -
  {program} predict clip.mp4 --exit_code --quiet > /dev/null || echo "not clearly real"
""",
    "serve": """\
  {program} serve
  {program} serve --workdir=/tmp/demo --port=8080
""",
    "convert": """\
  {program} convert ssaaformer.pth svr_model.pkl --workdir=runs/official
  {program} convert /tmp/demo --output=weights.safetensors
""",
    "compare": """\
  {program} compare ours/predictions.csv theirs.csv --high=fake --threshold=0.5
""",
    "export": """\
  {program} export --output=model.onnx
  {program} export --workdir=/tmp/demo --output=model.stablehlo
""",
}
_STATUS = """\
exit status: 0 done, 1 failed while running, 2 wrong usage, config or input
"""


def text(program: str, mode: str | None = None) -> str:
    """The help of a mode; without one, the overview.

    Args:
      program: what the user calls the program, such as `python run.py`.
      mode: a key of FLAGS.
    """
    return _of_mode(program, mode) if mode else _overview(program)


def _overview(program: str) -> str:
    modes = "".join(f"  {mode:<11}{about}\n" for mode, about in ABOUT.items())
    shown = "".join(_EXAMPLES[mode] for mode in ("run", "predict")).format(program=program)
    return f"""\
usage: {program} [MODE] --config=configs/NAME.py --workdir=DIR [--FLAG=VALUE ...]

Train a deepfake detector, evaluate it, and score photographs and videos with it.

modes
{modes}  completion bash, zsh or fish: print the completion script for that shell

`{program} MODE --help` lists the flags of a mode. --mode=MODE is the same as MODE.

examples
{shown}
A face's fidelity is high if it is real; p_fake is the probability of a fake. FOLDER holds
photographs or videos, in real/ and fake/ if they are labelled.

{_STATUS}\
On a CPU each core is one JAX device, up to eight; JAX_NUM_CPU_DEVICES=N changes that.
"""


def _of_mode(program: str, mode: str) -> str:
    takes = FLAGS[mode]
    files = " [FILE ...]" if "input" in takes else ""
    mode_flags = _OWN.get(mode, "")
    listed = "" if "  --workdir=" in mode_flags or mode == "compare" else _WORKDIR
    listed += _CONFIG if "processes" in takes else ""
    listed += mode_flags + (_PROCESSES if "processes" in takes else "")
    also = "A FILE is the same as --input=FILE.\n\n" if files else ""
    codes = "with --exit_code also 3 and 4\n" if mode == "predict" else ""
    return f"""\
usage: {program} {mode}{files} [--FLAG=VALUE ...]

{ABOUT[mode][0].upper()}{ABOUT[mode][1:]}.

flags
{listed}
{also}examples
{_EXAMPLES[mode].format(program=program)}
{_STATUS}{codes}"""
