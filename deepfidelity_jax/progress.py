"""How far a long piece of work is, told on stderr."""

import sys
import time

from deepfidelity_jax import hosts


def say(text: str) -> None:
    """Progress goes to stderr, of several processes the first one's; stdout is for results."""
    if hosts.is_first():
        print(text, file=sys.stderr, flush=True)


class Progress:
    """One line of how much is done, how fast, and how long the rest takes.

    On a terminal it is drawn anew every second, in its place; elsewhere a line is written every ten
    seconds. `clear` makes room for other output, `end` leaves a last line.

    Args:
      total: how much there is to do.
      done: how much of it was done before.
      unit: what is counted.
      did: what is done to it.
      quiet: nothing is written.
    """

    def __init__(
        self, total: int, done: int, unit: str, did: str = "prepared", *, quiet: bool = False
    ):
        self.total, self.done, self.start, self.unit, self.did = total, done, done, unit, did
        self.quiet = quiet or not hosts.is_first()
        self.began = self.shown = time.monotonic()
        self.in_place = sys.stderr.isatty()
        self._drawn = False

    def advance(self) -> None:
        """One more is done."""
        self.done += 1
        now = time.monotonic()
        if now - self.shown >= (1 if self.in_place else 10):
            self.shown = now
            rate = (self.done - self.start) / (now - self.began)
            minutes, seconds = divmod(int((self.total - self.done) / rate), 60)
            self._tell(f"{rate:.1f} a second, {minutes}:{seconds:02d} left")

    def clear(self) -> None:
        """Take the line off the terminal, for other output; it comes back with the next one."""
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._drawn = False

    def end(self) -> None:
        """All that could be done is done."""
        self.clear()
        if self.done > self.start and not self.quiet:
            say(self._line(f"in {time.monotonic() - self.began:.0f} s"))

    def _tell(self, text: str) -> None:
        if self.quiet:
            return
        if not self.in_place:
            say(self._line(text))
            return
        print(f"\r{self._line(text)}\x1b[K", end="", file=sys.stderr, flush=True)
        self._drawn = True

    def _line(self, text: str) -> str:
        return f"{self.did} {self.done} of {self.total} {self.unit}: {text}"
