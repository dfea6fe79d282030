"""What a run is made of."""

import json
import sys
import time

import jax
import numpy as np
import pytest

from deepfidelity_jax import provenance
from deepfidelity_jax.errors import InputError


def test_times_add_up(tmp_path):
    assert provenance.read_times(tmp_path) == {}
    for _ in range(2):
        with provenance.timed(tmp_path, "train"):
            time.sleep(0.2)
    with pytest.raises(RuntimeError), provenance.timed(tmp_path, "fit"):
        raise RuntimeError("a stage that fails took time, too")
    times = provenance.read_times(tmp_path)
    assert times["train"]["seconds"] == pytest.approx(0.4, abs=0.15)
    assert set(times) == {"train", "fit"}
    assert 10 < times["train"]["peak_mib"] < 100_000


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
    assert {"prepare", "train", "fit", "evaluate"} == set(found["times"])
    assert found["faces"]["test"] == metrics["n_frames"]
