"""The command line: its flags, its help, exit status 2 and one line for wrong usage."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from conftest import DEMO, OPTIONS, TREE, assert_told
from PIL import Image
from sklearn.svm import SVR

import deepfidelity_jax
from deepfidelity_configs import default
from deepfidelity_jax.options import help
from deepfidelity_jax.workdir import held

FOLDER = f"--config={TREE / 'configs' / 'folder.py'}"


def test_wrong_usage(run, tmp_path):
    work = f"--workdir={tmp_path / 'work'}"
    assert_told(run(DEMO), "--workdir=DIR is missing")
    assert_told(run(work), "--config=configs/NAME.py is missing")
    assert_told(run(DEMO, work, "--mode=dance"), "dance", "predict")
    assert_told(run(DEMO, work, "extra"), "extra")
    assert_told(run(DEMO, work, "--colour=red"), "colour")
    assert_told(run(DEMO, work, "--config.train.step=3"), "'step'", "'steps'")
    assert_told(run(DEMO, work, "--config.train.steps=many"), "many")
    assert_told(run(DEMO, work, "--processes=2"), "--coordinator=HOST:PORT", "go together")
    three = ["--coordinator=127.0.0.1:1", "--processes=2", "--process=2"]
    assert_told(run(DEMO, work, *three), "--process=2 with --processes=2", "from 0 to 1")
    assert_told(run(DEMO, work, *three, "--distributed"), "leave out --coordinator")
    assert_told(run("--mode=predict", work, *three), "--mode=predict runs in one process")
    labelled = run("evaluate", "labelled", work, "--distributed")
    assert_told(labelled, "--mode=evaluate with --input runs in one process")
    assert_told(run(DEMO, work, "--config.train.accumulate=3"), "accumulate is 3", "batch_size")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("options", [(), ("--config.train.steps=3",)], ids=["alone", "changed"])
def test_a_config_that_is_not_there(run, tmp_path, monkeypatch, options):
    """Told in the same way whether or not an option is changed."""
    monkeypatch.chdir(tmp_path)
    work = "--workdir=work"
    told = run("--config=configs/missing.py:x", work, *options)
    hint = (
        "--config=configs/missing.py: no such file; the configs are in configs/ of the repository"
    )
    assert told[1:] == ("", f"deepfidelity: {hint}\n")
    near = TREE / "configs" / "foldr.py"
    told = run(f"--config={near}", work, *options)
    assert_told(told, f"--config={near}: no such file; did you mean {near.parent}/folder.py?")
    told = run("--config", str(near.parent), work, *options)
    assert_told(told, f"--config={near.parent}: is a directory")
    assert_told(run("--config=", work, *options), "--config is empty: give a path")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--quiet=maybe", "give true or false"),
        ("--workers=many", "give a whole number"),
        ("--workers=0", "give a whole number from 1"),
        ("--port=99999", "give a whole number from 0 to 65535"),
        ("--threshold=half", "give a number"),
        ("--high=top", "give one of fake, real"),
    ],
)
def test_a_wrong_value_of_a_flag(run, flag, words):
    assert run("predict", "a.jpg", flag) == (2, "", f"deepfidelity: {flag}: {words}\n")


def test_a_file_without_a_mode_can_be_scored(run, tmp_path):
    photo = tmp_path / "a photo.jpg"
    photo.touch()
    hint = f"to score it: deepfidelity predict '{photo}'"
    assert_told(run(photo), f"unexpected argument '{photo}'; {hint}")
    hint = "no such file; to score a file: deepfidelity predict FILE"
    assert_told(run("nowhere.jpg"), f"unexpected argument 'nowhere.jpg': {hint}")
    for word in ("nowhere", "seed=3", "train.steps=3"):
        assert_told(run(word), f"unexpected argument '{word}': write options as --name=value")


def test_flags_that_a_mode_has_no_use_for(run, tmp_path):
    work, predict = f"--workdir={tmp_path / 'work'}", "--mode=predict"
    for flag in ("--output=x", "--input=x", "--quiet", "--noema"):
        told = flag.split("=")[0]
        for mode in ("run", "prepare", "train", "fit"):
            assert_told(run(DEMO, work, f"--mode={mode}", flag), told, f"not for --mode={mode}")
    assert_told(run(predict, work, "--input=x", "--noema"), "--noema is not for --mode=predict")
    assert_told(run("--mode=convert", work, "--input=x", "--quiet"), "--quiet is not for")
    only_faces = "only --config.faces.OPTION can"
    for option in ("--config=nowhere.py", "--config.train.steps=3", "--config.face.size=3"):
        assert_told(
            run(predict, work, "--input=x", option), option, "only --config.faces.OPTION can"
        )
    for option in ("--config", "nowhere.py"), ("--mode", "predict", "--config=nowhere.py"):
        assert_told(run(predict, work, "--input=x", *option), only_faces)
    assert_told(run(predict, work, "--config.faces.frame=3"), "'frame'", "'frames'")
    assert not (tmp_path / "work").exists()


def test_places_that_cannot_be_written(run, finished, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "work", Path("/proc/deepfidelity")):
        assert_told(run(DEMO, f"--workdir={place}", *OPTIONS), f"--workdir={place} cannot be")
    for place in (tmp_path / "file" / "x", tmp_path / "none" / "x", tmp_path):
        told = run(
            "--mode=predict", f"--workdir={finished}", f"--input={TREE}", f"--output={place}"
        )
        assert_told(told, f"--output={place} cannot be written")
    inputs = ["--mode=convert", f"--input={finished}"]
    assert_told(run(*inputs, f"--output={tmp_path / 'file' / 'x.npz'}"), "cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_workdir_in_use(run, finished):
    """The second command says so, at once; predict only reads."""
    with held(finished):
        told = run(DEMO, f"--workdir={finished}", *OPTIONS)
        assert_told(told, "another run is using", finished)
        told = run("--mode=predict", f"--workdir={finished}", "--input=none.jpg")
        assert_told(told, "none.jpg")


def test_wrong_values(run, tmp_path):
    work = f"--workdir={tmp_path / 'work'}"
    for option, told in (
        ("model.variant=huge", "huge"),
        ("model.image_size=100", "multiple of 32"),
        ("data.dataset=mars", "celeb_df, face_folder, ffpp, manifest, synthetic_faces"),
        ("data.identities=2", "config.data.identities is 2: give a whole number from 6"),
        ("faces.detector=magic", "magic"),
        ("quality.measure=beauty", "beauty"),
    ):
        assert_told(run(DEMO, work, f"--config.{option}"), told)
    (tmp_path / "file").write_text("")
    assert_told(run(DEMO, f"--workdir={tmp_path / 'file'}"), tmp_path / "file")


def test_folders_that_will_not_do(run, tmp_path):
    work = f"--workdir={tmp_path / 'work'}"
    assert_told(run(FOLDER, work), "config.data.dir is empty")
    missing = tmp_path / "missing"
    assert_told(run(FOLDER, work, f"--config.data.dir={missing}"), missing, "not a folder")
    (tmp_path / "empty").mkdir()
    empty = f"--config.data.dir={tmp_path / 'empty'}"
    assert_told(run(FOLDER, work, empty), tmp_path / "empty", "empty or not a folder")


def test_a_labelled_input_is_told_by_its_name(run, tmp_path, monkeypatch):
    """Not by the option of --config that it stands for, which nobody gave."""
    monkeypatch.chdir(tmp_path)
    Path("w").mkdir()
    Path("w/config.json").write_text(default.get_config().to_json())
    Path("t.csv").write_text("path,label\nlab/real/a.jpg,real\nlab/fake/b.jpg,fake\n")
    Path("empty").mkdir()
    told = run("evaluate", "t.csv", "--workdir=w")
    assert_told(told, "--input=t.csv lists 2 files, such as 'lab/real/a.jpg', none of which is")
    assert_told(told, f"relative paths are relative to {tmp_path}; --config.data.dir=FOLDER gives")
    assert "manifest" not in told[2]
    told = run("evaluate", "t.csv", "--workdir=w", "--config.data.dir=nowhere")
    assert_told(told, "config.data.dir is 'nowhere', which is not a folder")
    told = run("evaluate", "empty", "--workdir=w")
    assert told[2] == "deepfidelity: --input=empty is empty or not a folder\n"
    Path("t.csv").write_text("path,label\nlab/real/a.jpg,real\n")
    assert_told(run("evaluate", "t.csv", "--workdir=w"), "lists 1 file, such as")


def test_another_config(run, finished):
    result = run(DEMO, f"--workdir={finished}", *OPTIONS, "--config.train.steps=21")
    assert_told(result, finished, "train.steps is 20 there and 21 here")


def test_stages_out_of_order(run, tmp_path):
    work = f"--workdir={tmp_path / 'work'}"
    assert_told(run(DEMO, work, "--mode=train"), "--mode=prepare first")
    assert_told(run(DEMO, work, "--mode=evaluate"), "--mode=prepare first")
    assert not (tmp_path / "work").exists(), "refused, so nothing is left"


@pytest.mark.parametrize("mode", ["prepare", "run"])
def test_a_benchmark_without_a_copy_leaves_nothing(run, tmp_path, mode):
    ffpp = f"--config={TREE / 'configs' / 'ffpp.py'}"
    told = run(ffpp, f"--workdir={tmp_path / 'work'}", f"--mode={mode}")
    assert_told(told, "config.data.manual_dir is empty", "datasets/ffpp/README.md")
    assert not (tmp_path / "work").exists()


def test_convert_that_will_not_do(run, tmp_path):
    convert, work = "--mode=convert", f"--workdir={tmp_path / 'work'}"
    weights, output = tmp_path / "weights.pth", f"--output={tmp_path / 'out.npz'}"
    assert_told(run(convert, f"--input={weights}"), "--workdir=DIR is missing")
    assert_told(run(convert, work), "one --input=FILE of weights", "not 0 and 0")
    two = [f"--input={weights}", f"--input={tmp_path / 'other.pth'}"]
    assert_told(run(convert, work, *two), "not 2 and 0")
    assert_told(run(convert, work, f"--input={weights}"), weights, "No such file")
    weights.write_bytes(b"")
    assert_told(run(convert, work, f"--input={weights}"), weights, "is empty")
    weights.write_bytes(b"cos\nsystem\n(S'touch %s'\ntR." % bytes(tmp_path / "canary"))
    assert_told(run(convert, work, f"--input={weights}"), weights, "os.system", "refused")
    assert not (tmp_path / "canary").exists()
    assert_told(run(convert, output), "--output takes one --input", "not 0")
    assert_told(run(convert, output, f"--input={tmp_path}"), "no trained detector")
    told = run(DEMO, work, *OPTIONS, f"--config.init_from={weights}")
    assert_told(told, weights, "os.system", "refused")
    assert not (tmp_path / "work").exists()
    assert not (tmp_path / "out.npz").exists()


def test_weights_out_and_in_and_used(run, finished, tmp_path):
    weights, work = tmp_path / "weights.safetensors", tmp_path / "work"
    told = run("--mode=convert", f"--input={finished}", f"--output={tmp_path / 'weights.pth'}")
    assert_told(told, "weights.pth", ".safetensors or .npz")
    status, out, error = run("--mode=convert", f"--input={finished}", f"--output={weights}")
    assert (status, out) == (0, ""), error
    rng = np.random.default_rng(0)
    joblib.dump(SVR().fit(rng.normal(size=(20, 192)), rng.uniform(size=20)), tmp_path / "svr.pkl")
    inputs = [f"--input={weights}", f"--input={tmp_path / 'svr.pkl'}"]
    status, out, error = run("--mode=convert", *inputs, f"--workdir={work}")
    assert (status, out) == (0, ""), error
    assert "tiny, symmetric blocks (1, 0, 0, 0)" in error
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    status, out, error = run("--mode=predict", f"--workdir={work}", f"--input={tmp_path / 'a.png'}")
    assert status == 0, error
    assert json.loads(out)["status"] == "no face"
    assert_told(run("--mode=convert", *inputs, f"--workdir={work}"), work, "already")


def test_a_process_ends_with_the_status(command, tmp_path):
    """The same in a process of its own: nothing else is on stderr."""
    done = command(tmp_path / "work", "--mode=predict", "--input=nowhere.jpg", tiny=False).finish()
    assert_told((done.returncode, done.stdout, done.stderr), "nowhere.jpg")


def test_help_names_every_mode(run):
    status, out, error = run("--help")
    assert (status, error) == (0, "")
    assert run("-h") == run("help") == (0, out, "")
    modes = out.split("\nmodes\n")[1].split("\n\n")[0]
    assert [line.split()[0] for line in modes.splitlines()] == [*help.FLAGS, "completion"]
    assert max(map(len, out.splitlines())) <= 100
    assert "JAX_NUM_CPU_DEVICES" in out


@pytest.mark.parametrize("mode", help.FLAGS)
def test_help_of_a_mode_names_its_flags(run, mode):
    status, out, error = run(mode, "--help")
    assert (status, error) == (0, "")
    assert run(f"--mode={mode}", "-h") == (0, out, "")
    listed = out.split("\nflags\n")[1].split("\n\n")[0]
    workdir = {"workdir"} - ({"workdir"} if mode == "compare" else set())
    named = set(re.findall(r"(?<!\w)--(?:no(?=ema))?([a-z_]+)", listed))
    assert named == {*help.FLAGS[mode], *workdir}
    assert listed.count("  --workdir=DIR ") == len(workdir)
    assert max(map(len, out.splitlines())) <= 100


def test_a_mode_and_its_files_are_read_as_people_type_them(run, tmp_path):
    work = f"--workdir={tmp_path / 'work'}"
    assert_told(run("predict", work), "--input=PATH is missing")
    assert_told(run("predict", "nowhere.jpg", work), "--input=nowhere.jpg: no such file")
    assert_told(run("predict", work, "nowhere.jpg", "--quiet"), "--input=nowhere.jpg")
    assert_told(run("train", DEMO, work, "nowhere.jpg"), "unexpected argument 'nowhere.jpg'")
    assert_told(run("predct", "nowhere.jpg"), "'predct'", "did you mean 'predict'")
    assert_told(run("evaluate", str(tmp_path), work), "work")
    assert_told(run("evaluate", "nowhere", work, "--config=x.py"), "reads its settings from")
    assert_told(run("compare", "a.csv"), "two or more --input")
    assert_told(run("robustness", DEMO, work), "--mode=robustness takes --config only with --input")
    assert_told(run("robustness", "nowhere", work), "work")
    assert_told(run("predict", "-", "--beam=x"), "--beam needs --output")
    output = f"--output={tmp_path / 'work' / 'x.jsonl'}"
    assert_told(run("predict", "-", "--beam=x", output), "--input=- is not for --beam")
    assert_told(run("predict", "a.jpg", "--workers=0"), "workers")
    assert not (tmp_path / "work").exists()


def test_version(run):
    assert run("--version") == (0, f"deepfidelity_jax {deepfidelity_jax.__version__}\n", "")


def test_help_loads_nothing_heavy():
    code = "import sys; from deepfidelity_jax import cli; cli.main(['', '-h']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"jax", "flax", "cv2", "tensorflow_datasets", "sklearn", "ml_collections"}
    assert not heavy & set(done.stdout.splitlines()[-1].split())


CALL = """
import os, signal, sys, threading, warnings
from deepfidelity_jax import cli
from deepfidelity_jax.processes import machine
from deepfidelity_jax.detector import load, predict  # what these change is their own

def state():
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    hooks = sys.unraisablehook, threading.excepthook
    return dict(os.environ), handlers, hooks, list(warnings.filters), machine.made_devices

before = state()
argv = ["run.py", "--workdir=nowhere", "--mode=predict", "--input=nowhere.jpg"]
if sys.argv[1] == "library":
    cli.main(argv)
else:
    sys.argv = argv
    cli.main()
print([one == other for one, other in zip(before, state())])
"""


@pytest.mark.slow
@pytest.mark.parametrize("caller", ["library", "command line"])
def test_only_the_command_line_takes_over_the_process(caller, tmp_path):
    """A library call changes neither environment, signals, hooks, warnings nor devices."""
    unset = ("JAX_NUM_CPU_DEVICES", "TF_CPP_MIN_LOG_LEVEL", "GRPC_VERBOSITY", "PYTHONWARNINGS",
             "XLA_FLAGS")  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", CALL, caller],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.startswith("deepfidelity: ")
    same = done.stdout.strip()
    assert same == str([caller == "library"] * 5)


def test_a_tilde_is_the_home_folder_in_every_path(run, tmp_path, monkeypatch):
    """A shell leaves it alone behind `--workdir=`."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for flag in ("workdir", "output", "input"):
        given = {"workdir": "w", "input": "x", "output": "o"} | {flag: "~no-such-user/x"}
        argv = [f"--{name}={path}" for name, path in given.items()]
        assert_told(
            run("--mode=predict", *argv), f"--{flag} is ~no-such-user/x: there is no such user"
        )
    assert_told(run("--mode=predict", "--workdir=~/w", "--input=~/x"), tmp_path / "home" / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == []
