"""Several processes are one run: the same losses, one set of files, one end.

Two real processes with two virtual devices each, joined on the loopback interface.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import TINY
from test_loop import losses_of, read_metrics, wait_for
from training_states import read_state

from deepfidelity_jax.processes import hosts
from deepfidelity_jax.scoring.exported_features import Features
from deepfidelity_jax.training import checkpoint


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def start(command, finished):
    """Start the two processes of a run on the finished run's records."""
    started = []

    def start(workdir, *options):
        place = f"--config.data.records_dir={finished / 'records'}"
        meeting = [f"--coordinator=127.0.0.1:{free_port()}", "--processes=2"]
        pair = [
            command(workdir, place, *meeting, f"--process={i}", *options, devices=2).start()
            for i in range(2)
        ]
        started.extend(pair)
        return pair

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def finish(pair):
    """Exit status, stdout, stderr of each."""
    ends = [process.communicate() for process in pair]
    return [(process.returncode, *outputs) for process, outputs in zip(pair, ends, strict=True)]


def assert_lost(process):
    """It ends within a minute, with status 1 and one line."""
    since = time.monotonic()
    _, error = process.communicate()
    assert time.monotonic() - since < 60
    assert process.returncode == 1, error
    assert error.splitlines()[-1].startswith(f"deepfidelity: failed: {hosts.LOST}")
    assert "Traceback" not in error


@pytest.fixture(scope="module")
def on_two_processes(start, tmp_path_factory):
    """A run from training to report that loses a process, then is told to stop, then ends."""
    workdir = tmp_path_factory.mktemp("two") / "run"
    checkpoints, log = workdir / "checkpoints", workdir / "metrics.jsonl"
    pair = start(workdir)
    wait_for(lambda: checkpoint.latest_step(checkpoints), pair[0], seconds=900)
    os.killpg(pair[1].pid, signal.SIGKILL)
    assert_lost(pair[0])

    left = checkpoint.latest_step(checkpoints)
    assert 0 < left < TINY["train.steps"]
    # Lines after that checkpoint may be there already; the second run drops and rewrites them.
    before = log.stat().st_mtime_ns
    pair = start(workdir)
    wait_for(
        lambda: log.stat().st_mtime_ns > before and read_metrics(workdir)[-1]["step"] > left,
        pair[0],
        seconds=900,
    )
    pair[1].terminate()
    (first, _, error), (second, _, _) = finish(pair)
    assert (first, second) == (128 + signal.SIGTERM,) * 2, error
    left = checkpoint.latest_step(checkpoints)
    assert f"stopped at step {left}, saved" in error

    (status, out, error), quiet = finish(start(workdir))
    assert (status, out) == (0, ""), error
    assert quiet == (0, "", ""), "the first one speaks for all"
    assert f"resuming from step {left} of" in error
    assert "report: " in error
    return workdir


def test_losses_are_those_of_one_process_and_of_one_device(
    on_two_processes, on_eight_devices, finished, tiny
):
    steps = [line["step"] for line in read_metrics(on_two_processes) if "loss" in line]
    assert steps == list(range(1, tiny.train.steps + 1))
    found = losses_of(on_two_processes)
    for other in (on_eight_devices, finished):
        expected = list(losses_of(other).values())
        np.testing.assert_allclose(list(found.values()), expected, rtol=1e-5, atol=1e-5)
    validated, expected = (
        [line["val_loss"] for line in read_metrics(run) if "val_loss" in line]
        for run in (on_two_processes, finished)
    )
    np.testing.assert_allclose(validated, expected, rtol=1e-5, atol=1e-5)


def test_what_two_processes_leave_is_what_one_leaves(on_two_processes, finished, tiny):
    """The checkpoint opens here, the features are all there and in order, nothing is beside."""
    ends = read_state(on_two_processes, tiny), read_state(finished, tiny)
    # All but rounding, which Adam makes steps of where a gradient is next to nothing.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), *ends)
    paths = [
        {path.name for path in (run / "features").iterdir()} for run in (on_two_processes, finished)
    ]
    assert paths[0] == paths[1]
    for name in paths[0]:
        found, expected = (
            Features.load(run / "features" / name) for run in (on_two_processes, finished)
        )
        for column in ("path", "video_id", "frame", "label", "quality"):
            np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
        np.testing.assert_allclose(found.feature, expected.feature, atol=5e-2)


MEET = """
import signal
import sys
from pathlib import Path
import jax
import numpy as np
from deepfidelity_jax.processes import console, hosts
from deepfidelity_jax.training import checkpoint, sharding

def meet():
    folder = Path(sys.argv[3])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    hosts.start(sys.argv[1], 2, int(sys.argv[2]))
    first = hosts.broadcast(hosts.index() + 7)
    vote = hosts.Vote()
    said = [vote(yes) for yes in (False, hosts.index() == 1, False)]
    places = sharding.place_state(np.arange(8.0), sharding.data_mesh(4), split=True)
    in_parts = jax.device_put(np.arange(8.0), places)
    if not hosts.is_first():
        checkpoint.steps = lambda folder: []  # as on a shared disk that is slow to show new files
    with checkpoint.Checkpoints(folder, keep=1) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"in parts": in_parts}, {}, None)
    if hosts.is_first():
        shape = jax.ShapeDtypeStruct(in_parts.shape, in_parts.dtype)
        checkpoint.restore(folder, 2, checkpoint.on_one_device({"in parts": shape}))
    hosts.wait()
    try:
        print(first, said, file=sys.stderr, flush=True)
        if hosts.is_first():
            sys.stdin.read()  # for ever
        hosts.wait()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        hosts.wait()

sys.exit(console.end(meet, str))
"""


def test_what_all_decide_and_the_loss_of_the_coordinator(command, tmp_path):
    """The first one's word goes for all, also on which checkpoints stay; a vote is answered later.

    What lies in parts on both is saved as one, and one alone can read it. One that waits for the
    other can be interrupted.
    """
    address = f"127.0.0.1:{free_port()}"
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", MEET, address, str(i), str(tmp_path)],
            env=command(".", devices=2).environment,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    said = [process.stderr.readline() for process in pair]
    assert said == ["7 [False, False, True]\n"] * 2
    pair[1].terminate()
    heard, _, _ = select.select([pair[1].stderr], [], [], 60)
    pair[0].kill()
    assert_lost(pair[1])
    pair[0].communicate()
    assert heard
    assert checkpoint.steps(tmp_path) == [2]
    abstract = checkpoint.on_one_device({"in parts": jax.ShapeDtypeStruct((8,), np.float32)})
    found = checkpoint.restore(tmp_path, 2, abstract)
    np.testing.assert_array_equal(found["in parts"], np.arange(8.0))
