"""A finished run, repeated and compared."""

import copy
import json
import shutil

import pytest
from conftest import assert_told

from deepfidelity_jax import provenance
from deepfidelity_jax.experiments.verification import compare


@pytest.fixture
def recorded():
    return {
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
    found["metrics"] = {"frame_auc": 0.6, "eer": 0.1}
    assert compare(recorded, found) == [
        "config.seed is 1, was 0",
        "weights: xyz, was abc",
        "test: 4, was 3",
        "best step: 2, was 4",
        "frame_auc: 0.6, was 0.5",
        "eer: 0.1, was None",
    ]


def test_what_changes_no_result_is_no_difference(recorded):
    found = copy.deepcopy(recorded)
    found["config"]["data"]["records_dir"] = "b"
    found["config"]["train"]["log_every"] = 7
    assert compare(recorded, found) == []


@pytest.mark.slow
def test_a_run_repeated_is_the_same_and_a_changed_one_is_not(command, finished, tmp_path):
    work = shutil.copytree(finished, tmp_path / "work")
    again = command(work, "--mode=verify", tiny=False).finish()
    assert again.returncode == 0, again.stderr
    assert "no difference: options" in again.stderr
    assert not (work / "verify").exists()
    assert json.loads((work / "report/verify.json").read_text()) == {"same": True, "differing": []}
    changed = command(work, "--mode=verify", "--config.fidelity.C=3.0").finish()
    assert changed.returncode == 1, changed.stderr
    assert "config.fidelity.C is 3.0, was 1.0" in changed.stderr
    lines = json.loads((work / "report/verify.json").read_text())["differing"]
    assert any(line.startswith("regressor: ") for line in lines)
    assert not any(line.startswith("weights: ") for line in lines), "training is the same"


def test_an_unfinished_run_is_told(run, tmp_path):
    (tmp_path / "work").mkdir()
    assert_told(run("--mode=verify", f"--workdir={tmp_path / 'work'}"), provenance.RUN, "missing")
    assert_told(run("--mode=verify", f"--workdir={tmp_path / 'none'}"), "missing")
    assert not (tmp_path / "none").exists()
