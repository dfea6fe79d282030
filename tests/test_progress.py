"""What is told of long work: in one place on a terminal, seldom elsewhere, nothing when quiet."""

import io
import sys
import time

import pytest

from deepfidelity_jax.progress import Progress, describe_pace, describe_time, say


class Terminal(io.StringIO):
    """A stderr that is one, or is not."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def work(monkeypatch):
    """Do a number of things, 1.5 s each: what was written."""

    def work(count, *, terminal=True, quiet=False):
        clock = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(sys, "stderr", Terminal(terminal))
        progress = Progress(10, 2, "inputs", "predicted", quiet=quiet)
        for _ in range(count):
            clock[0] += 1.5
            progress.advance()
        progress.end()
        return sys.stderr.getvalue()

    return work


def test_a_terminal_has_one_line(work):
    told = work(4)
    assert told.count("\n") == 1, "the last"
    assert "\rpredicted 4 of 10 inputs: 0.7 per second, 9 s left" in told
    assert told.endswith("\r\x1b[Kpredicted 6 of 10 inputs in 6 s\n")


def test_a_file_has_a_line_now_and_then(work):
    lines = work(8, terminal=False).splitlines()
    assert lines == [
        "predicted 9 of 10 inputs: 0.7 per second, 2 s left",
        "predicted 10 of 10 inputs in 12 s",
    ]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (59.4, "59 s"), (94.0, "1 min 34 s"), (3600.0, "1 h 0 min")],
)
def test_a_time_is_told_in_the_units_people_use(seconds, told):
    assert describe_time(seconds) == told


def test_a_pace_is_never_nothing():
    assert describe_pace(124794, 0.3, "images/s") == "0.3 images/s, 115 h 33 min left"
    assert describe_pace(1, 0.004, "per second") == "0.004 per second, 4 min 10 s left"
    assert describe_pace(2469, 1234.5, "images/s") == "1234 images/s, 2 s left"


def test_a_note_on_the_current_item_is_shown_as_seldom(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sys, "stderr", Terminal(True))
    progress = Progress(10, 2, "inputs", "predicted")
    for step in ("soon", "later", "again"):
        progress.note(step)
        clock[0] += 0.7
    assert "soon" not in sys.stderr.getvalue()
    assert sys.stderr.getvalue() == "\rpredicted 2 of 10 inputs: again\x1b[K"


def test_quiet_is_quiet(work):
    assert work(8, quiet=True) == ""
    assert work(0) == ""


def test_a_closed_terminal_ends_nothing(monkeypatch):
    class Closed(Terminal):
        def write(self, text):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Closed(terminal=True))
    say("stopping after this step")
    progress = Progress(1, 0, "inputs")
    progress.shown -= 60
    progress.advance()
    progress.end()
