"""Files to faces: what is found in folders and on standard input, in one process or in several."""

import contextlib
import io
import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from deepfidelity_jax.detector import finding
from deepfidelity_jax.detector.finding import Input, find, find_all, list_inputs, stamp
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.processes.workers import CRASHED, NEVER_BEGAN
from deepfidelity_jax.quality.measure import Measure

CROPS = FaceSettings(detector="none", size=64)


def test_inputs_are_each_file_once(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.jpg", "a.png", "deep/c.mp4", ".hidden.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    named = str(tmp_path / "b.jpg")
    inputs, hidden = list_inputs([named, str(tmp_path), named])
    assert inputs[0] == Input(tmp_path / "b.jpg", named=True)
    assert [given.path.name for given in inputs] == ["b.jpg", "a.png", "c.mp4", "notes.txt"]
    assert [given.named for given in inputs] == [True, False, False, False]
    assert hidden == 1
    with pytest.raises(InputError, match=r"--input=.*nowhere: no such file"):
        list_inputs([str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no photograph or video in this folder"):
        list_inputs([str(tmp_path / "empty")])


def test_a_stamp_is_size_and_time(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    os.utime(path, ns=(0, 1_000_000_000_123_456_789))
    assert stamp(path) == {"bytes": 3, "modified": "2001-09-09T01:46:40.123456+00:00"}
    nothing = {"bytes": None, "modified": None}
    assert stamp(tmp_path / "none") == stamp(tmp_path) == nothing


def test_standard_input_is_a_file_until_the_end(monkeypatch):
    encoded = cv2.imencode(".png", np.full((64, 64, 3), 90, np.uint8))[1].tobytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(encoded)))
    with contextlib.ExitStack() as stack:
        ((given,), _) = list_inputs(["-"], stack)
        assert (given.name, given.named) == ("-", True)
        assert find(given, CROPS).frames == 1
    assert not given.path.exists()


def test_standard_input_is_read_once(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"picture")))
    with contextlib.ExitStack() as stack:
        ((given,), _) = list_inputs(["-", "-"], stack)
        assert given.path.read_bytes() == b"picture"


def test_closed_standard_input_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it after `<&-`
    with contextlib.ExitStack() as stack, pytest.raises(InputError, match="input is closed"):
        list_inputs(["-"], stack)


def test_many_files_are_never_read_by_this_process(one_core):
    assert finding.count_workers(finding.MANY) == 2
    assert finding.count_workers(finding.MANY - 1) == 1


def test_only_the_encoded_crop_is_kept(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
    found = find(Input(path), CROPS)
    (crop,) = found.crops
    assert len(pickle.dumps(found)) < len(crop.image) + 64 * 64


def test_qualities_are_measured_where_faces_are_found(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    found, measure = find(Input(path), CROPS, Measure("iso")), Measure("iso")
    assert found.qualities == [[measure(crop.image, crop.landmarks) for crop in found.crops]]
    assert find(Input(path), CROPS).qualities is None


def find_or_crash(given, settings, measure):
    """Stands for a decoder that a file kills."""
    if "kills" in given.path.name:
        os._exit(1)
    return find(given, settings, measure)


@pytest.mark.slow
def test_a_file_that_kills_its_process_costs_only_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(finding, "find", find_or_crash)
    names = [f"{n}.png" for n in range(9)]
    names[4] = "kills.png"
    for name in names:
        cv2.imwrite(str(tmp_path / name), np.zeros((64, 64, 3), np.uint8))
    founds = list(find_all([Input(tmp_path / name) for name in names], CROPS, None, 2))
    assert [found.note for found in founds] == [CRASHED if n == 4 else "" for n in range(9)]


SCRIPT = """
import subprocess
import sys
from pathlib import Path
from deepfidelity_jax.processes import console
from deepfidelity_jax.detector.finding import Input, find_all
from deepfidelity_jax.faces.detection import FaceSettings

def command():
    inputs = [Input(Path(name)) for name in sys.argv[1:]]
    print(list(find_all(inputs, FaceSettings(detector="none", size=64), None, 2)))
    return 0

sys.exit(console.end(command, str))
"""


@pytest.mark.slow
def test_workers_that_cannot_start_blame_no_file(tmp_path):
    """Those of a script without the guard: each runs the script again, and may not start others."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    names = [tmp_path / f"{n}.png" for n in range(3)]
    for name in names:
        cv2.imwrite(str(name), np.zeros((64, 64, 3), np.uint8))
    done = subprocess.run(
        [sys.executable, script, *names], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert f"deepfidelity: {NEVER_BEGAN}" in done.stderr.splitlines()
