"""A line per step, also after a kill, the same for TensorBoard, and what a full disk does."""

import json
import struct
import subprocess
import sys

from tensorboardX.proto.event_pb2 import Event, SessionLog

from deepfidelity_jax.training.metrics_log import MetricsLog


def test_half_a_line_of_metrics_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n{"st')
    log = MetricsLog(tmp_path, after=1)
    log.write(2, {"loss": 0.5})
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert list(map(json.loads, lines)) == [{"step": 1, "loss": 2}, {"step": 2, "loss": 0.5}]


def read_events(path):
    """The events of a TensorBoard file: length, its CRC, the event, its CRC."""
    data = path.read_bytes()
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + size])
        data = data[16 + size :]


def test_tensorboard_gets_what_the_metrics_do(tmp_path):
    """And it hides the points of the steps that are repeated."""
    log = MetricsLog(tmp_path, after=3)
    log.write(4, {"loss": 0.5, "accuracy": 0.25})
    (file,) = (tmp_path / "tensorboard").iterdir()
    version, start, point = read_events(file)
    log.close()
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (4, SessionLog.START)
    assert point.step == 4
    assert {value.tag: value.simple_value for value in point.summary.value} == {
        "loss": 0.5,
        "accuracy": 0.25,
    }


FULL = """
import itertools, resource, sys
from pathlib import Path
from deepfidelity_jax.processes import console
from deepfidelity_jax.training.metrics_log import MetricsLog

def command():
    log = MetricsLog(Path(sys.argv[1]), after=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    for step in itertools.count(1):
        log.write(step, {"a": 0.5})

sys.exit(console.end(command, lambda: "the same command continues"))
"""


def test_a_full_disk_ends_the_metrics_with_one_line(tmp_path):
    """TensorBoard's file reaches the limit of a file's size first."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1
    assert done.stderr == (
        "deepfidelity: failed: file too large; once that is fixed, the same command continues\n"
    )
    assert (tmp_path / "metrics.jsonl").stat().st_size < 20_000
