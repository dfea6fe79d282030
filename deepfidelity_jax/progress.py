"""Messages and progress on stderr."""

import contextlib
import sys
import time

from deepfidelity_jax.processes import hosts


def say(text: str) -> None:
    """Print to stderr, in the first of several processes only; stdout is for results."""
    if hosts.is_first():
        _write(f"{text}\n")


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # a closed terminal must not end a run
        print(text, end="", file=sys.stderr, flush=True)


def describe_time(seconds: float) -> str:
    """A time to read: 9 s, 1 min 34 s, 115 h 33 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def describe_pace(left: int, rate: float, unit: str) -> str:
    """How fast things are done, and how long the rest takes: 0.3 images/s, 115 h 33 min left."""
    shown = f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}" if rate >= 0.1 else f"{rate:.1g}"
    return f"{shown} {unit}, {describe_time(left / rate)} left"


class Progress:
    """A line that shows how much is done, how fast, and how much time is left.

    On a terminal the line is updated in place every second; elsewhere a new line is printed every
    ten seconds. Call `clear` before other output, and `end` when all is done.

    Args:
      total: number of items.
      done: how many were done before.
      unit: the name of the items.
      did: the past participle of the action, such as `scored`.
      quiet: print nothing.
    """

    def __init__(
        self, total: int, done: int, unit: str, did: str = "prepared", *, quiet: bool = False
    ):
        self.total, self.done, self.start, self.unit, self.did = total, done, done, unit, did
        self.quiet = quiet or not hosts.is_first()
        self.began = self.shown = time.monotonic()
        self.in_place = sys.stderr.isatty()
        self._drawn = False

    def advance(self, count: int = 1) -> None:
        """Count more items as done."""
        self.done += count
        now = time.monotonic()
        if now - self.shown >= (1 if self.in_place else 10):
            self.shown = now
            rate = (self.done - self.start) / (now - self.began)
            self._tell(f": {describe_pace(self.total - self.done, rate, 'per second')}")

    def note(self, text: str) -> None:
        """Show what is being done with the current item, as often as `advance` would."""
        now = time.monotonic()
        if now - self.shown >= (1 if self.in_place else 10):
            self.shown = now
            self._tell(f": {text}")

    def clear(self) -> None:
        """Clear the line for other output; it reappears with the next update."""
        if self._drawn:
            _write("\r\x1b[K")
            self._drawn = False

    def end(self) -> None:
        """Print a last line with the total time, if anything was done."""
        self.clear()
        if self.done > self.start and not self.quiet:
            say(self._line(f" in {describe_time(time.monotonic() - self.began)}"))

    def _tell(self, text: str) -> None:
        if self.quiet:
            return
        if not self.in_place:
            say(self._line(text))
            return
        _write(f"\r{self._line(text)}\x1b[K")
        self._drawn = True

    def _line(self, text: str) -> str:
        return f"{self.did} {self.done} of {self.total} {self.unit}{text}"
