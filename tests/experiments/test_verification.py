"""A finished run, repeated and compared."""

import copy
import json
import shutil

import jax.numpy as jnp
import pytest
from conftest import TREE, assert_told

from deepfidelity_configs import ablate_regressor, default, protocol_ffpp
from deepfidelity_jax import provenance
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.experiments import verification
from deepfidelity_jax.experiments.verification import compare, list_notes, verify
from deepfidelity_jax.training.checkpoint import Checkpoints
from deepfidelity_jax.workdir import write_json


@pytest.fixture
def recorded():
    return {
        "versions": {"deepfidelity_jax": "1"},
        "config": {"seed": 0, "train": {"steps": 4, "log_every": 1}, "data": {"records_dir": "a"}},
        "digests": {"weights": "abc", "regressor": "def"},
        "faces": {"test": 3},
        "step": 4,
        "metrics": {"frame_auc": 0.5},
    }


def test_each_difference_is_a_line(recorded):
    found = copy.deepcopy(recorded)
    assert compare(recorded, found) == []
    found["config"]["seed"] = 1
    found["digests"]["weights"] = "xyz"
    found["faces"]["test"] = 4
    found["step"] = 2
    found["metrics"] = {"frame_auc": 0.6}
    assert compare(recorded, found) == [
        "config.seed is 1, was 0",
        "test: 4, was 3",
        "best step: 2, was 4",
        "weights: xyz, was abc",
        "frame_auc: 0.6, was 0.5",
    ]
    del found["faces"]["test"]
    assert "test: None, was 3" in compare(recorded, found)


def test_what_changes_no_result_is_no_difference(recorded):
    found = copy.deepcopy(recorded)
    found["config"]["data"]["records_dir"] = "b"
    found["config"]["train"]["log_every"] = 7
    found["config"] |= {"eval": {"batch_size": 3}, "quality": {"csv": "other.csv"}}
    assert compare(recorded, found) == []


def test_every_option_that_changes_a_result_is_named(recorded):
    """Also those that may change between the commands of one workdir."""
    changed = {"aggregate": "median", "bootstrap": 0, "cluster": "person", "prevalence": 0.1}
    usual = default.get_config().eval
    found = copy.deepcopy(recorded)
    found["config"]["eval"] = changed
    found["config"]["data"]["group"] = "file"
    lines = [
        f"config.eval.{key} is {json.dumps(now)}, was {json.dumps(usual[key])}"
        for key, now in changed.items()
    ]
    assert sorted(compare(recorded, found)) == ['config.data.group is "file", was ""', *lines]


def test_what_one_version_computes_in_one_run_only_differs(recorded):
    """Such as the intervals, which --config.eval.bootstrap=0 leaves out."""
    recorded["metrics"]["ci.frame_auc.0"] = 0.4
    found = copy.deepcopy(recorded)
    del found["metrics"]["ci.frame_auc.0"]
    assert compare(recorded, found) == ["ci.frame_auc.0 is in the recorded run only"]
    assert compare(found, recorded) == ["ci.frame_auc.0 is in the repeated run only"]
    found |= {"hardware": {}, "times": {}}
    assert list_notes(recorded | {"hardware": {}, "times": {}}, found) == []
    found["versions"] = {"deepfidelity_jax": "2"}
    assert compare(recorded, found) == []


def test_an_option_added_since_had_its_default(recorded):
    found = copy.deepcopy(recorded)
    found["config"]["train"]["balance"] = default.get_config().train.balance
    assert compare(recorded, found) == compare(found, recorded) == []
    found["config"]["train"]["balance"] = "method"
    assert compare(recorded, found) == ['config.train.balance is "method", was "none"']


def test_what_another_version_does_not_compute_is_noted(recorded):
    """And so are the versions and the hardware, those of the training where they are known."""
    recorded |= {"hardware": {"backend": "cpu"}, "times": {}}
    recorded["versions"]["jax"] = "1"
    found = copy.deepcopy(recorded)
    assert list_notes(recorded, found) == []
    found["versions"]["deepfidelity_jax"] = "2"
    found["metrics"] = {"eer": 0.1}
    found["digests"] = {"weights": "abc", "scale, regressor and calibration": "123"}
    assert compare(recorded, found) == []
    only = [
        "regressor is in the recorded run only",
        "scale, regressor and calibration is in the repeated run only",
        "frame_auc is in the recorded run only",
        "eer is in the repeated run only",
    ]
    newer = "versions differ: deepfidelity_jax was 1, is 2"
    assert list_notes(recorded, found) == [newer, *only]
    found["versions"]["jax"] = "2"
    assert list_notes(recorded, found) == [newer, "versions differ: jax was 1, is 2", *only]
    found["times"]["train"] = {"versions": recorded["versions"], "hardware": {"backend": "gpu"}}
    assert list_notes(recorded, found)[0] == "hardware differ: backend was cpu, is gpu"
    found["metrics"] = {"frame_auc": 0.6}
    assert compare(recorded, found) == ["frame_auc: 0.6, was 0.5"]


def test_converted_weights_have_no_training_to_repeat(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", 1) as checkpoints:
        checkpoints.save(0, {"ema": jnp.zeros(2)}, {"converted_from": "best.pth"}, None)
    (tmp_path / "report").mkdir()
    (tmp_path / provenance.RUN).write_text("{}")
    with pytest.raises(InputError, match="converted from best.pth: there is no training to repeat"):
        verify(tmp_path)
    assert not (tmp_path / "verify").exists()


@pytest.mark.parametrize("there", ["a later config", "run.json alone", "an earlier record"])
def test_a_run_is_repeated_with_the_config_it_ended_with(recorded, there, tmp_path, monkeypatch):
    """Not with the one that a later command left in config.json."""
    recorded |= {"hardware": {}, "times": {}, "config": json.loads(default.get_config().to_json())}
    config, given = copy.deepcopy(recorded["config"]), []
    if there == "a later config":
        config["eval"]["aggregate"] = "median"
    if there != "run.json alone":
        write_json(tmp_path / "config.json", config)
    noted = recorded if there != "an earlier record" else {**recorded, "config": None}
    noted = {key: value for key, value in noted.items() if value is not None}
    (tmp_path / "report").mkdir()
    write_json(tmp_path / provenance.RUN, noted)

    def repeat(config, place):
        given.append(config.eval.aggregate)
        (place / "report").mkdir(parents=True)
        write_json(place / provenance.RUN, recorded | {"config": json.loads(config.to_json())})

    monkeypatch.setattr(verification.pipeline, "run", repeat)
    assert verify(tmp_path)
    assert given == ["mean"]


@pytest.mark.slow
def test_a_run_repeated_is_the_same_and_a_changed_one_is_not(command, finished, tmp_path):
    """Also one of which only report/run.json is there."""
    work = tmp_path / "work"
    (work / "report").mkdir(parents=True)
    shutil.copy(finished / provenance.RUN, work / "report")
    again = command(work, "--mode=verify", tiny=False).finish()
    assert again.returncode == 0, again.stderr
    assert "no difference: options" in again.stderr
    assert not (work / "verify").exists()
    assert json.loads((work / "report/verify.json").read_text()) == {"same": True, "differing": []}
    shutil.copytree(finished, work, dirs_exist_ok=True)
    options = ["--config.fidelity.C=3.0", "--config.eval.bootstrap=0"]
    changed = command(work, "--mode=verify", *options).finish()
    assert changed.returncode == 1, changed.stderr
    assert "config.fidelity.C is 3.0, was 1.0" in changed.stderr
    assert "config.eval.bootstrap is 0, was 20" in changed.stderr
    lines = json.loads((work / "report/verify.json").read_text())["differing"]
    assert any(line.startswith("scale, regressor and calibration: ") for line in lines)
    assert not any(line.startswith("weights: ") for line in lines), "training is the same"


def test_a_grid_stands_for_its_base_and_several_runs_are_refused(run, tmp_path, monkeypatch):
    """Before anything is repeated."""
    given = []
    monkeypatch.setattr(verification, "verify", lambda place, config: not given.append(config))
    (tmp_path / "report").mkdir()
    (tmp_path / provenance.RUN).write_text("{}")
    command = ["--mode=verify", f"--workdir={tmp_path}"]
    for name in ("ablate_regressor", "protocol_ffpp"):
        status, _, error = run(*command, f"--config={TREE}/configs/{name}.py")
        assert status == 0, error
    for config, grid in zip(given, (ablate_regressor, protocol_ffpp), strict=True):
        base = grid.get_config()
        del base.ablate
        assert config.to_json() == base.to_json()
    for name in ("cross", "protocol_compression", "leave_one_out"):
        result = run(*command, f"--config={TREE}/configs/{name}.py")
        assert_told(result, "--mode=verify does not take a config of several")
        result = run("--mode=convert", f"--workdir={tmp_path}", "--input=w.pth",
                     f"--config={TREE}/configs/{name}.py")  # fmt: skip
        assert_told(result, "--mode=convert does not take a config of several")
    assert run(*command)[0] == 0
    assert given[2:] == [None]


def test_an_unfinished_run_is_told(run, tmp_path):
    (tmp_path / "work").mkdir()
    assert_told(run("--mode=verify", f"--workdir={tmp_path / 'work'}"), provenance.RUN, "missing")
    assert_told(run("--mode=verify", f"--workdir={tmp_path / 'none'}"), "missing")
    assert not (tmp_path / "none").exists()
