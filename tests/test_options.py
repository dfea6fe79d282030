"""Every option tried with what it cannot be: one line before any work, or a documented meaning."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from conftest import DEMO, TINY, TREE
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from deepfidelity_configs import default
from deepfidelity_datasets.ffpp.sources import COMPRESSIONS, METHODS
from deepfidelity_jax import pipeline, workdir
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.ssaaformer import SSAAFormerConfig
from deepfidelity_jax.options import checks, table
from deepfidelity_jax.options.table import OPTIONS
from deepfidelity_jax.records import schema
from deepfidelity_jax.training import loop, step

DEFAULT = f"--config={TREE / 'configs' / 'default.py'}"
CONFIGS = sorted(path.stem for path in (TREE / "configs").glob("[!_]*.py"))
PATHS = {name for name, option in OPTIONS.items() if option.path}

# Nothing, less than that, a fraction, too much, no number, no text, other lengths, other orders,
# a tuple that is a text, half a tuple.
TRIED = (
    "0", "-1", "-0.5", "0.5", "1e400", "99999999999999999999", "nan", "inf", "abc", "true", "None",
    "", "(1,2)", "(2,1)", "(0.2,0.4,0.4,0.1)", "('a',)", "'(0.6, 1.0)'", "[1",
)  # fmt: skip
TRIED_PATHS = (
    "x" * 5000, "x" * 256, "a/" * 2100, "a/" + "ä" * 130, "\0", "a\0b", "~no-such-user",
    "~no-such-user/x",
)  # fmt: skip
TRIED_BEAM = ("'", '"', "it's", '--x="y', "--x='y", "\\", "\0", "a\0b")

# What means something of these, by what it means.
MEANS = {
    "a seed like any other": ("0", {"seed"}),
    "none of it": (
        "0",
        {
            "data.workers", "fidelity.percentile", "fidelity.epsilon", "fidelity.balance",
            "model.drop_path", "augment.flip_p", "augment.rand_layers", "augment.rand_magnitude",
            "augment.rand_std", "augment.jitter", "augment.degrade_p", "augment.degrade_strength",
            "augment.recompress_p", "augment.erase_p", "train.end_learning_rate",
            "train.warmup_steps", "train.warmup_start", "train.schedule_steps",
            "train.weight_decay", "train.clip_norm", "train.label_smoothing", "train.token_weight",
            "train.fidelity_weight", "train.ranking_weight", "train.ema_decay", "eval.bootstrap",
        },
    ),
    "half": (
        "0.5",
        {
            "faces.margin", "fidelity.percentile", "fidelity.C", "fidelity.epsilon",
            "fidelity.gamma", "fidelity.balance", "model.eval_crop", "model.drop_path",
            "augment.flip_p", "augment.rand_magnitude", "augment.rand_std", "augment.jitter",
            "augment.degrade_p", "augment.degrade_strength", "augment.recompress_p",
            "augment.erase_p", "train.learning_rate", "train.weight_decay", "train.clip_norm",
            "train.label_smoothing", "train.token_weight", "train.fidelity_weight",
            "train.ranking_weight", "train.ema_decay",
        },
    ),
    "nothing said": ("", {"data.group"}),
    "a range": ("(1,2)", {"augment.crop_ratio", "augment.recompress_quality"}),
}  # fmt: skip
FLAGS = {
    "data.incomplete", "data.fresh_forgeries", "fidelity.tune", "train.whitening",
    "train.shard_state", "train.remat", "train.ema_warmup", "eval.official_scoring",
}  # fmt: skip


def meant(name, text):
    """Whether this text means something for this option."""
    return (name in FLAGS and text in ("0", "true")) or any(
        text == told and name in names for told, names in MEANS.values()
    )


def config_of(changes):
    """The default configuration with these values, of whatever type they are."""
    values = flatten_dict(default.get_config().to_dict(), sep=".") | changes
    return ConfigDict(unflatten_dict(values, sep="."))


def told(changes):
    """What is said of the default configuration with these values; nothing where it is right."""
    try:
        checks.check(config_of(changes))
    except InputError as error:
        return str(error)
    return ""


def test_every_option_of_the_default_is_in_the_table_in_its_order():
    text = (TREE / "configs" / "default.py").read_text(encoding="utf-8")
    named = re.findall(r"^    config\.(\S+) = (?!ConfigDict)", text, re.MULTILINE)
    assert list(OPTIONS) == named
    assert set(named) == set(flatten_dict(default.get_config().to_dict(), sep="."))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "cross"])
def test_every_config_is_right(name):
    module = __import__(f"deepfidelity_configs.{name}", fromlist=["get_config"])
    checks.check(module.get_config())


def test_groups_are_words_or_patterns():
    for value in ("", "file", "folder", "prefix:[a-z]+_", r"prefix:(?:id)\d+"):
        assert not told({"data.group": value})
    wrong = ("files", "prefix", "prefix:", "prefix:[a", "prefix:(", "PREFIX:a", ("folder",), 1)
    for value in wrong:
        assert "config.data.group is" in told({"data.group": value})


def test_names_are_those_of_the_code():
    for name in METHODS:
        assert not told({"data.methods": (name,)})
    for name in COMPRESSIONS:
        assert not told({"data.compression": name})
    for name in re.findall(r"\w+", OPTIONS["model.variant"].words.removeprefix("one of")):
        assert getattr(SSAAFormerConfig, name)().depths
    assert {"celeb_df", "ffpp"} <= set(re.findall(r"\w+", OPTIONS["data.dataset"].words))


@pytest.mark.parametrize("group", sorted({name.split(".")[0] for name in OPTIONS}))
def test_a_wrong_option_of_the_command_line_is_one_line(run, group, tmp_path):
    """The whole command, with a default that names no data, so that it always ends early."""
    work = tmp_path / "work"
    for name in (name for name in OPTIONS if name.split(".")[0] == group):
        tried = TRIED_PATHS if name in PATHS else TRIED_BEAM if name == "data.beam" else TRIED
        for text in tried:
            status, out, error = run(DEFAULT, f"--workdir={work}", f"--config.{name}={text}")
            assert (status, out, error.count("\n")) == (2, "", 1), (name, text, error)
            assert error.startswith("deepfidelity: "), (name, text, error)
            refused = f"config.{name}" in error and "does not use it" not in error
            assert refused != meant(name, text), (name, text, error)
            assert len(error) < 600
            assert not work.exists()
        refused = [text for text in tried if not meant(name, text)]
        assert len(refused) >= 8, name


WRONG = (
    None, float("nan"), float("inf"), -float("inf"), b"x", {}, 10**30, -(10**30), 1j, (None,),
    ("a", 1), np.zeros(3),
)  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_a_wrong_value_in_a_config_file_is_told(name):
    """Types that a command line cannot give."""
    for value in WRONG:
        assert f"config.{name}" in told({name: value})
    for value in (True, False):
        assert (f"config.{name} is {value}: give" in told({name: value})) == (name not in FLAGS)


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
        ({"train.batch_size": 33}, ["batch_size is 33", "even", "fresh_forgeries"]),
        ({"train.accumulate": 3}, ["accumulate is 3", "batch_size=64"]),
        ({"train.learning_rate": 1e-6}, ["end_learning_rate is 1e-05", "learning_rate", "1e-06"]),
        ({"train.warmup_start": 1.0}, ["warmup_start is 1.0", "learning_rate"]),
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
        {"train.batch_size": 33, "data.fresh_forgeries": False},
        {"train.batch_size": 12, "train.accumulate": 6},
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
    status, out, error = run(f"--config={file}", f"--workdir={tmp_path / 'work'}")
    assert (status, out, error.count("\n")) == (2, "", 1), error
    assert all(part in error for part in parts), error
    assert "Traceback" not in error
    assert not (tmp_path / "work").exists()


def test_a_process_tells_it_before_any_work(command, tmp_path):
    wrong = {
        "train.log_every=0": "log_every is 0",
        "train.batch_size=1": "batch_size is 1: give an even number",
        "train.steps=8000.0": "config.train.steps is '8000.0': give a whole number from 0",
    }
    for option, part in wrong.items():
        done = command(tmp_path / "work", f"--config.{option}").finish()
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert part in done.stderr
        assert not (tmp_path / "work").exists()


def another(name):
    """Another value that the option takes."""
    before = flatten_dict(default.get_config().to_dict(), sep=".")[name]
    values = (
        not before, "elsewhere", "ffpp", "c40", ("Deepfakes",), ("test",), "yunet", "none", "tiny",
        "folder", "bfloat16", "labelled", "test", 2, 63, 96, 0.5, 0.3, (0.3, 0.3), (0.7, 0.9),
        (50, 60), (0.5, 0.4, 0.1), (0, 1, 0, 0), ("video:train-test",),
    )  # fmt: skip
    return next(v for v in values if v != before and OPTIONS[name].holds(v))


def test_a_workdir_is_bound_by_what_changes_results(tmp_path):
    workdir.claim(tmp_path, default.get_config())
    free = set()
    for name in OPTIONS:
        config = config_of({name: another(name)})
        try:
            checks.require_same(tmp_path, config)
            free.add(name)
        except InputError as error:
            assert f"{name} is " in str(error)
    assert free == {
        "data.dir", "data.real_folder", "data.fake_folder", "data.group", "data.records_dir",
        "data.manual_dir", "data.beam", "data.workers", "leaks.allow",
        "train.shard_state", "train.remat", "train.log_every", "train.checkpoint_every",
        "train.keep", "eval.batch_size", "eval.bootstrap", "eval.official_scoring",
    }  # fmt: skip


def test_intervals_and_workers_of_a_finished_run_may_change(run, finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    changed = {"train.log_every": 7, "train.checkpoint_every": 3, "train.keep": 9}
    both = TINY | changed | {"data.workers": 2}
    status, _, error = run(
        DEMO, f"--workdir={workdir}", *(f"--config.{key}={value}" for key, value in both.items())
    )
    assert status == 0, error
    assert "frame_auc" in error
    assert "step " not in error


def test_an_option_the_workdir_does_not_know_is_told(tmp_path):
    config = default.get_config()
    values = json.loads(config.to_json())
    del values["augment"]["jitter"], values["train"]["remat"]
    workdir.write_json(tmp_path / "config.json", values)
    with pytest.raises(InputError, match=r"augment.jitter is no option there and 0.2 here\. Take"):
        checks.require_same(tmp_path, config)


def test_a_detector_of_an_earlier_version_gets_the_defaults(tmp_path):
    config = default.get_config()
    config.model.variant = "tiny"
    values = json.loads(config.to_json())
    for group, name in (("train", "remat"), ("quality", "weights"), ("faces", "yunet")):
        del values[group][name]
    del values["leaks"]
    read = loop.config_from_notes({"config": json.dumps(values)}, tmp_path)
    assert step.build_model(read) == step.build_model(config)
    assert workdir.flatten(read.to_dict()) == workdir.flatten(config.to_dict())


def test_no_steps_are_for_converted_weights(run, tmp_path):
    work = tmp_path / "work"
    for mode in ("run", "train", "fit", "evaluate"):
        status, _, error = run(
            DEMO, f"--workdir={work}", f"--mode={mode}", "--config.train.steps=0"
        )
        assert (status, error.count("\n")) == (2, 1), error
        assert "config.train.steps is 0" in error
        assert "--mode=convert" in error
        assert not work.exists()
    config = config_of({"train.steps": 0})
    checks.check(config)
    pipeline.check_place(config, work, "prepare")
    (work / "checkpoints" / "0" / "state").mkdir(parents=True)
    for name in ("_CHECKPOINT_METADATA", "state/_METADATA"):
        (work / "checkpoints" / "0" / name).write_text("{}")
    pipeline.check_place(config, work, "run")


def test_files_that_options_name(run, tmp_path):
    work = tmp_path / "work"
    (tmp_path / "file").write_text("")
    for given, part in (
        (["faces.detector=yunet"], "config.faces.yunet is ''"),
        (["faces.detector=yunet", f"faces.yunet={tmp_path}"], f"{tmp_path}', which is no file"),
        ([f"data.records_dir={tmp_path / 'file'}"], "which is a file: give a folder"),
    ):
        status, _, error = run(DEMO, f"--workdir={work}", *(f"--config.{x}" for x in given))
        assert (status, error.count("\n")) == (2, 1), error
        assert part in error
        assert not work.exists()


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


@pytest.mark.parametrize(
    ("dataset", "name", "value"),
    [
        ("face_folder", "manual_dir", "/a"), ("face_folder", "beam", "--runner=DirectRunner"),
        ("ffpp", "dir", "/a"), ("ffpp", "splits", (0.5, 0.2, 0.3)),
        ("celeb_df", "compression", "raw"),
        ("wild_deepfake", "methods", ("Deepfakes",)), ("synthetic_faces", "group", "folder"),
        ("synthetic_faces", "incomplete", True), ("celeb_df", "identities", 9),
    ],
)  # fmt: skip
def test_what_a_dataset_does_not_use_is_refused(tmp_path, dataset, name, value):
    """It would be believed to have done something."""
    config = default.get_config()
    config.data.dataset = dataset
    config.data[name] = value
    with pytest.raises(InputError, match=f"config.data.{name} is .* does not use it") as error:
        pipeline.run(config, tmp_path / "work", "prepare")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "work").exists()


def test_what_a_dataset_uses_is_of_the_options_that_not_all_use():
    for dataset in ("face_folder", "ffpp", "celeb_df", "wild_deepfake", "synthetic_faces"):
        used = schema.builder_class(dataset).OPTIONS
        assert set(used) <= set(table.DATASETS_OWN)
        config = default.get_config()
        config.data.dataset = dataset
        checks.require_used(config, used)
        checks.require_used(ConfigDict(json.loads(config.to_json())), used)
