"""The process of a command: exit status, one line for an error, what Ctrl-C leaves."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.processes import console


def fails(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("two\n  lines"), 2, "two lines"),
        (KeyboardInterrupt(), 1, "interrupted: more to do"),
        (BrokenPipeError(), 1, ""),
        (FloatingPointError("the loss is nan at step 5"), 1, "failed: the loss is nan at step 5"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.npz"),
            1,
            "failed: no space left on device: a.npz; once that is fixed, more to do",
        ),
    ],
)
def test_an_expected_error_is_one_line(error, status, line, capfd):
    assert console.end(fails(error), lambda: "more to do") == status
    assert capfd.readouterr() == ("", f"deepfidelity: {line}\n" if line else "")


def test_a_closed_terminal_does_not_change_the_status():
    read, write = os.pipe()
    os.close(read)
    script = (
        "import sys\nfrom deepfidelity_jax import errors\n"
        "from deepfidelity_jax.processes import console\n"
        "def command(): raise errors.InputError('no')\n"
        "sys.exit(console.end(command, str))"
    )
    done = subprocess.run([sys.executable, "-c", script], stderr=write)
    os.close(write)
    assert done.returncode == console.WRONG


def test_an_unexpected_error_has_a_traceback(capfd):
    assert console.end(fails(RuntimeError("odd")), str) == 1
    error = capfd.readouterr().err
    assert error.startswith("Traceback")
    assert error.endswith("deepfidelity: failed: odd\n")


def test_a_status_is_returned(capfd):
    assert console.end(lambda: 5, str) == 5
    assert capfd.readouterr() == ("", "")


SEALED = """
import os, sys
from pathlib import Path
from deepfidelity_jax.processes import console

if os.geteuid() == 0:
    os.setuid(65534)  # to root nothing is closed
sys.exit(console.end(lambda: Path(sys.argv[1]).stat().st_size, str))
"""


def test_a_place_without_permission_is_one_line(tmp_path):
    sealed = tmp_path / "sealed"
    sealed.mkdir(mode=0)
    path = sealed / "faces"
    done = subprocess.run([sys.executable, "-c", SEALED, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"deepfidelity: {path}: permission denied\n"


def test_a_name_that_no_file_can_have_is_one_line(run):
    name = "x" * 300
    for argv in (("predict", name), ("predict", __file__, f"--report={name}")):
        status, _, error = run(*argv)
        assert (status, error.count("\n")) == (2, 1), error
        assert name in error


def test_a_refusal_that_names_no_file_is_unexpected(capfd):
    assert console.end(fails(PermissionError(errno.EPERM, "not yours")), str) == 1
    assert capfd.readouterr().err.startswith("Traceback")


WAIT = """
import sys, time, warnings
from deepfidelity_jax.processes import console

def command():
    warnings.warn("of a library")
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleared", flush=True)
        time.sleep(float(sys.argv[1]))

console.take_over_process()
sys.exit(console.end(command, lambda: "more to do"))
"""


def hear():
    """Undo what the tests inherit in the background of a shell, or from nohup."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(clearing):
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT, str(clearing)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_clears_away_first(number):
    process = start(clearing=0)
    process.send_signal(number)
    out, error = process.communicate(timeout=30)
    assert (out, error) == ("cleared\n", "deepfidelity: interrupted: more to do\n")
    assert process.returncode == 1


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
def test_a_closing_terminal_does_not_cut_the_clearing_short(first):
    process = start(clearing=0.5)
    process.send_signal(first)
    assert process.stdout.readline() == "cleared\n"
    process.send_signal(signal.SIGHUP)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (1, "deepfidelity: interrupted: more to do\n")


def test_a_second_signal_ends_at_once():
    process = start(clearing=60)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "cleared\n"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert time.monotonic() - began < 10


def test_an_interrupt_during_an_import_is_not_swallowed(tmp_path):
    """A module that swallows whatever is raised while it is imported, as many libraries do."""
    (tmp_path / "swallows.py").write_text(
        "import time\n"
        "try:\n    print('ready', flush=True)\n    time.sleep(1)\nexcept BaseException:\n    pass\n"
    )
    code = WAIT.replace('warnings.warn("of a library")', "import swallows")
    process = subprocess.Popen(
        [sys.executable, "-c", code, "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert error == "deepfidelity: interrupted: more to do\n"
