"""A configuration is checked as a whole: all that is wrong is reported at once, with advice."""

import json
import os

import pytest
from conftest import DEMO, TREE, assert_told
from conftest import OPTIONS as TINY_OPTIONS
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from wrong_configs import config_of, told

from deepfidelity_configs import default
from deepfidelity_jax import workdir
from deepfidelity_jax.detector import trained
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.options import arguments, checks
from deepfidelity_jax.options.table import OPTIONS
from deepfidelity_jax.records import schema

PATHS = {name for name, option in OPTIONS.items() if option.path}


def test_all_that_is_wrong_is_told_together():
    line = told({"train.batch_size": 0, "eval.batch_size": 0, "seed": -1, "train.remat": "no"})
    assert line.split("; ") == [
        "config.seed is -1: give a whole number from 0 to 4294967295",
        "config.train.batch_size is 0: give a whole number from 1 to 65536",
        "config.train.remat is 'no': give true or false",
        "config.eval.batch_size is 0: give a whole number from 1 to 4096",
    ]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"fidelity.fake": (0.0, 0.7)}, ["fidelity.fake is (0.0, 0.7)", "fidelity.real"]),
        ({"fidelity.fake": (0.6, 1.0), "fidelity.real": (0.0, 0.4)}, ["fake below real"]),
        ({"fidelity.fake": (0.5, 0.5), "fidelity.real": (0.5, 0.5)}, ["fake below real"]),
        ({"model.symmetric": (6, 0, 0, 0)}, ["model.symmetric", "of base have (5, 8, 20, 7)"]),
        (
            {
                "train.curriculum": "quality",
                "train.curriculum_steps": 9,
                "quality.measure": "none",
            },
            ["curriculum is quality", "config.quality.measure none", "the same for all pictures"],
        ),
        (
            {"train.mining": 0.5, "train.steps": 10, "train.eval_every": 10},
            ["mining is 0.5, which would have no effect", "eval_every=10", "steps is 10"],
        ),
        (
            {"train.curriculum": "loss", "train.curriculum_steps": 3000, "train.steps": 900},
            ["curriculum is loss, which would have no effect", "steps is 900"],
        ),
        ({"train.accumulate": 3}, ["accumulate is 3", "multiple of 6", "but is 64"]),
        ({"train.learning_rate": 1e-6}, ["end_learning_rate is 1e-05", "learning_rate", "1e-06"]),
        ({"train.warmup_start": 1.0}, ["warmup_start is 1.0", "learning_rate"]),
        (
            {"fidelity.regressor": "fidelity_head", "train.fidelity_weight": 0.0},
            ["regressor is fidelity_head", "train.fidelity_weight is 0", "no such head"],
        ),
        ({"fidelity.regressor": "ordinal_head"}, ["train.ordinal_weight is 0", "no such head"]),
    ],
)
def test_options_that_do_not_go_together(changes, parts):
    line = told(changes)
    assert line.startswith("config.")
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    "changes",
    [
        {"fidelity.fake": (0.0, 0.5), "fidelity.real": (0.5, 1.0)},
        {"fidelity.fake": [0, 0], "fidelity.real": [1, 1]},
        {"train.batch_size": 33},
        {"train.batch_size": 12, "train.accumulate": 6},
        {"train.mining": 0.5, "train.steps": 11, "train.eval_every": 10},
        {"train.curriculum": "quality", "train.curriculum_steps": 5, "train.steps": 5},
        {"fidelity.regressor": "class_head", "train.fidelity_weight": 0.0},
        {"fidelity.regressor": "fidelity_head"},
        {"fidelity.regressor": "ordinal_head", "train.ordinal_weight": 0.5},
        {"train.learning_rate": 1},
        {"augment.crop_scale": (1, 1)},
        {"leaks.allow": ("video:train-test", "person:validation-test")},
        {"data.beam": "--runner=FlinkRunner --name='two words'"},
        {"data.dir": "x" * 255, "init_from": "/".join(["é" * 100] * 20)},
    ],
)
def test_what_is_right_is_left_alone(changes):
    assert not told(changes)


def test_options_that_are_missing_or_not_ours():
    config = default.get_config()
    del config.train.steps
    config.train.step, config.other = 5, ConfigDict({"x": 1})
    with pytest.raises(InputError) as error:
        checks.check(config)
    line = str(error.value)
    assert "config.train.step is not an option; did you mean config.train.steps?" in line
    assert "config.other.x is not an option" in line
    assert "missing: config.train.steps; start from get_config()" in line
    with pytest.raises(InputError, match=f"and {len(OPTIONS) - 3} more"):
        checks.check(ConfigDict())


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ("return 5", ["get_config()", "5", "ConfigDict"]),
        ("return {'seed': 1}", ["get_config()", "ConfigDict"]),
        ("c = default.get_config(); c.train.steps = 8000.5; return c", ["8000.5", "steps"]),
        ("c = default.get_config(); c.train.keep = 0; return c", ["config.train.keep is 0"]),
        ("raise OSError('gone')", ["gone"]),
    ],
)
def test_a_config_file_of_ones_own(run, tmp_path, body, parts):
    file = tmp_path / "own.py"
    file.write_text(f"from deepfidelity_configs import default\ndef get_config():\n    {body}\n")
    for options in ((), ("--config.seed=3",)):
        status, out, error = run(f"--config={file}", f"--workdir={tmp_path / 'work'}", *options)
        assert (status, out, error.count("\n")) == (2, "", 1), error
        assert options or all(part in error for part in parts), error
        assert "Traceback" not in error
        assert "earlier failure to load" not in error
    assert not (tmp_path / "work").exists()


def test_a_command_tells_it_before_any_work(run, command, tmp_path):
    """And the last of them in a process of its own."""
    wrong = {
        "train.log_every=0": "log_every is 0",
        "train.batch_size=1": "batch_size is 1: give a multiple of 2",
        "train.steps=8000.0": "config.train.steps is '8000.0': give a whole number from 0",
    }
    for option, part in wrong.items():
        wrong_one = f"--config.{option}"
        result = run(DEMO, *TINY_OPTIONS, f"--workdir={tmp_path / 'work'}", wrong_one)
        assert_told(result, part)
        assert not (tmp_path / "work").exists()
    done = command(tmp_path / "work", wrong_one).finish()
    assert_told((done.returncode, done.stdout, done.stderr), part)
    assert not (tmp_path / "work").exists()


def test_an_option_the_workdir_does_not_know_had_its_default(tmp_path):
    config = default.get_config()
    values = json.loads(config.to_json())
    del values["augment"]["jitter"], values["train"]["remat"]
    workdir.write_json(tmp_path / "config.json", values)
    checks.require_same(tmp_path, config)
    config.augment.jitter = 0.5
    with pytest.raises(InputError, match=r"augment.jitter is 0.2 there and 0.5 here\. Take"):
        checks.require_same(tmp_path, config)


def test_a_detector_of_an_earlier_version_gets_the_defaults(tmp_path):
    config = default.get_config()
    config.model.variant = "tiny"
    values = json.loads(config.to_json())
    for group, name in (("train", "remat"), ("quality", "weights"), ("faces", "yunet")):
        del values[group][name]
    del values["leaks"]
    read = trained.config_from_notes({"config": json.dumps(values)}, tmp_path)
    assert build_model(read) == build_model(config)
    assert workdir.flatten(read.to_dict()) == workdir.flatten(config.to_dict())


def test_a_tilde_is_the_users_folder_in_every_path(monkeypatch):
    monkeypatch.setenv("HOME", "/srv/someone")
    config = checks.checked(config_of(dict.fromkeys(PATHS, "~/data")))
    for name in PATHS:
        assert flatten_dict(config.to_dict(), sep=".")[name] == "/srv/someone/data"
    group = {"dataset": "ffpp", "manual_dir": "~", "bench_json": "~/list.json", "methods": ("~",)}
    several = checks.checked(ConfigDict({"cross": True, "wild": group}))
    assert several.wild.manual_dir == "/srv/someone"
    assert several.wild.bench_json == "/srv/someone/list.json"
    assert several.wild.methods == ("~",)
    assert checks.expand("--workdir", "a/~/b") == "a/~/b"
    assert checks.expand("--workdir", "./~x") == "./~x"
    with pytest.raises(InputError, match="--workdir is ~no-such-user/x: there is no such user"):
        checks.expand("--workdir", "~no-such-user/x")


def test_a_workdir_claimed_with_a_tilde_is_the_same_without(tmp_path):
    place = os.path.expanduser("~/faces")
    workdir.write_json(
        tmp_path / "config.json", json.loads(config_of({"init_from": "~/faces"}).to_json())
    )
    checks.require_same(tmp_path, config_of({"init_from": place}))


@pytest.mark.parametrize("name", ["demo", "ablate_paper"])
@pytest.mark.parametrize("dataset", schema.datasets())
def test_a_config_serves_another_dataset(name, dataset, tmp_path):
    """What its file sets for its own dataset goes; what the command line sets for it is refused."""
    argv = ["", f"--config={TREE / 'configs' / name}.py", f"--workdir={tmp_path}", "--mode=prepare"]
    if name.startswith("ablate"):
        argv[-1] = "--mode=ablate"
    argv.append(f"--config.data.dataset={dataset}")
    used = schema.builder_class(dataset).OPTIONS
    checks.require_used(arguments.read_config(arguments.parse(argv)), used)
    foreign = "identities" if "identities" not in used else "manual_dir"
    argv.append(f"--config.data.{foreign}=7")
    with pytest.raises(InputError, match=f"{foreign} is '?7'?, but {dataset} does not use it"):
        checks.require_used(arguments.read_config(arguments.parse(argv)), used)
