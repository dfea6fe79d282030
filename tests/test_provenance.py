"""What a run is made of."""

import contextlib
import json
import shutil
import sys
import time

import jax
import numpy as np
import pytest

from deepfidelity_jax import provenance
from deepfidelity_jax.errors import InputError


def spend(workdir, inputs, interrupted=False):
    """A stage of 0.2 s; the seconds that are noted for it then."""
    with contextlib.suppress(RuntimeError), provenance.timed(workdir, "train", inputs):
        time.sleep(0.2)
        if interrupted:
            raise RuntimeError("a stage that fails took time, too")
    return provenance.read_times(workdir)["train"]["seconds"]


def test_times_of_an_interrupted_stage_add_up(tmp_path):
    assert provenance.read_times(tmp_path) == {}
    assert spend(tmp_path, "a", interrupted=True) == pytest.approx(0.2, abs=0.1)
    assert spend(tmp_path, "a", interrupted=True) == pytest.approx(0.4, abs=0.15)
    assert spend(tmp_path, "a") == pytest.approx(0.6, abs=0.2)
    assert 10 < provenance.read_times(tmp_path)["train"]["peak_mib"] < 100_000


def test_a_killed_stage_leaves_its_time_up_to_what_it_saved(tmp_path):
    killed = tmp_path / "killed"
    killed.mkdir()
    with provenance.timed(tmp_path, "train", "a") as saved:
        time.sleep(0.2)
        saved()
        time.sleep(0.2)  # done again later
        shutil.copy(tmp_path / provenance.TIMES, killed)
    assert provenance.read_times(killed)["train"]["peak_mib"] > 10
    again = shutil.copytree(killed, tmp_path / "again")
    assert spend(killed, "a") == pytest.approx(0.4, abs=0.15)
    assert spend(again, "b") == pytest.approx(0.2, abs=0.1), "it was begun from other inputs"
    assert provenance.read_times(tmp_path)["train"]["seconds"] == pytest.approx(0.4, abs=0.15)


def test_a_stage_done_again_takes_its_own_time_alone(tmp_path):
    spend(tmp_path, "a")
    assert spend(tmp_path, "a") == pytest.approx(0.2, abs=0.1), "it was finished before"
    spend(tmp_path, "b", interrupted=True)
    assert spend(tmp_path, "c") == pytest.approx(0.2, abs=0.1), "it was begun from other inputs"
    earlier = {"train": {"seconds": 9.0, "peak_mib": 9}}  # as an earlier version wrote it
    (tmp_path / provenance.TIMES).write_text(json.dumps(earlier))
    assert spend(tmp_path, "a") == pytest.approx(0.2, abs=0.1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="where peaks can be forgotten")
def test_the_peak_of_a_stage_is_not_that_of_the_one_before(tmp_path):
    with provenance.timed(tmp_path, "large"):
        np.ones(2**28, np.uint8)
    with provenance.timed(tmp_path, "small"):
        pass
    times = provenance.read_times(tmp_path)
    assert times["large"]["peak_mib"] - times["small"]["peak_mib"] > 200


def test_a_damaged_record_is_told(tmp_path):
    with pytest.raises(InputError, match=r"run\.json is missing"):
        provenance.read_run(tmp_path)
    (tmp_path / "report").mkdir()
    (tmp_path / provenance.RUN).write_text("{half")
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        provenance.read_run(tmp_path)


def test_a_finished_run_says_what_it_was_made_of(finished):
    found = provenance.read_run(finished)
    assert found["versions"]["jax"] == jax.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert "not installed" not in found["versions"].values()
    assert found["config"] == json.loads((finished / "config.json").read_text())
    metrics = json.loads((finished / "eval/synthetic_faces/metrics.json").read_text())
    assert found["metrics"]["frame_auc"] == metrics["frame_auc"]
    assert found["digests"]["test faces"] == metrics["faces_digest"]
    assert len(set(found["digests"].values())) == 5
    features = {f"features {split}" for split in ("train", "validation", "test")}
    assert {"prepare", "train", "fit", "evaluate", *features} == set(found["times"])
    for stage in found["times"].values():
        assert stage["versions"] == found["versions"]
        assert stage["hardware"].items() <= found["hardware"].items()
    assert found["times"]["train"]["hardware"]["backend"] == jax.default_backend()
    assert found["faces"]["test"] == metrics["n_frames"]
