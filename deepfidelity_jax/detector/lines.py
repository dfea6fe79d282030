"""The output of `--mode=predict`: one line per input, from which an interrupted command resumes.

Each line names the detector, and the size and modification time of the input. So the output file
is all that is needed to tell which lines are still valid.
"""

import contextlib
import csv
import io
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from deepfidelity_jax.detector.finding import Input, stamp
from deepfidelity_jax.detector.predict import Prediction, examine_all
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import lock, written_whole
from deepfidelity_jax.processes.workers import CRASHED
from deepfidelity_jax.progress import say

COLUMNS = (
    "input", "status", "fidelity", "p_fake", "threshold", "frames", "people", "note", "detector",
    "bytes", "modified",
)  # fmt: skip
COLOURS = {"real": 32, "fake": 31}  # green and red; every other status is yellow


@dataclass(frozen=True, slots=True)
class Line:
    """A line in the output file: its position, and what shows whether it is still valid."""

    start: int
    end: int
    status: str
    detector: str | None
    bytes: int | None
    modified: str | None


class Lines:
    """Where predictions are written, stdout or a file; a context manager.

    A file that ends in `.csv` gets a header and COLUMNS, any other gets JSON. Output that is not a
    regular file, such as a pipe, is only written to.

    Attributes:
      kept: status of each input whose line `resume` kept.

    Raises:
      InputError: the file cannot be written, holds something else, or is being written by another
        process.
    """

    def __init__(self, output: str | None):
        self.kept: dict[str, str] = {}
        self._path, self._file = Path(output) if output else None, None
        self._there: dict[str, Line] = {}
        self._new = self._regular = False
        self._end = 0
        self._csv = bool(output) and self._path.suffix.lower() == ".csv"
        if output is None:
            return
        try:
            self._new = not os.path.lexists(output)
            self._regular = self._new or stat.S_ISREG(os.stat(output).st_mode)
            flags = os.O_RDWR | os.O_CREAT if self._regular else os.O_WRONLY
            self._file = os.fdopen(
                os.open(output, flags, 0o666), "r+b" if self._regular else "wb", 0
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"--output={output} cannot be written: {reason}") from None
        if not self._regular:
            return
        if not lock(self._file):
            self._file.close()
            raise InputError(f"another command is writing {output}: choose another --output")
        self._read()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._file is None:
            return
        if self._new and self._end == 0 and self._regular:
            self._path.unlink(missing_ok=True)
        self._file.close()

    def _read(self) -> None:
        """Find the lines in the file. A partial last line, from a killed command, is ignored."""
        header = self._header()
        with open(self._path, "rb") as file:
            for number, (start, content, whole) in enumerate(_split(file, self._csv), 1):
                is_header = self._csv and number == 1
                if is_header:
                    ours = content == header if whole else header.startswith(content)
                elif whole:
                    ours = values = self._decode(content)
                else:
                    ours = self._csv or content.startswith(b'{"input": '[: len(content)])
                if not ours:
                    raise InputError(
                        f"{self._path}, line {number} was not written by --mode=predict: choose "
                        "another --output, or delete the file"
                    )
                if not whole:
                    break
                self._end = start + len(content)
                if not is_header:
                    name, *rest = values
                    self._there[name] = Line(start, self._end, *rest)

    def resume(self, inputs: Iterable[Input], detector, quiet: bool = False) -> None:
        """Keep the lines of these inputs that are still valid, and drop the others.

        Files that could not be read are tried again. Lines of other inputs stay. Says how many, if
        not `quiet`.
        """
        other, changed = 0, 0
        for given in inputs:
            name = given.name
            line = self._there.get(name)
            if line is None:
                continue
            if line.detector != detector.fingerprint:
                other += 1
                del self._there[name]
            elif {"bytes": line.bytes, "modified": line.modified} != stamp(given.path) or (
                line.status == "unreadable"
                and self._read_again(given, line, detector) != self._at(line)
            ):
                changed += 1
                del self._there[name]
            else:
                self.kept[name] = line.status
        for count, outcome in (
            (other, "scored again, line from another detector"),
            (changed, "scored again, file has changed"),
            (len(self.kept), "kept"),
            (len(self._there) - len(self.kept), "kept, about other inputs"),
        ):
            if count and not quiet:
                say(f"{self._path}: {outcome}: {count}")
        if self._regular:
            self._rewrite()

    def _read_again(self, given: Input, line: Line, detector) -> bytes:
        """The line that an unreadable file would get now."""
        # If the file crashed a process before, read it in a separate process.
        workers = 2 if CRASHED.encode() in self._at(line) else 1
        (examination,) = examine_all(detector, [replace(given, named=True)], workers)
        return self._encode(examination.prediction)

    def _rewrite(self) -> None:
        """Remove dropped lines and a partial last line from the file."""
        lines = self._there.values()
        start = len(self._header()) if self._end else 0
        if start + sum(line.end - line.start for line in lines) == self._end:
            if os.fstat(self._file.fileno()).st_size > self._end:
                self._file.truncate(self._end)
            return
        with written_whole(os.path.realpath(self._path)) as file:
            file.write(self._header())
            for line in sorted(lines, key=lambda line: line.start):
                file.write(self._at(line))
            file.flush()
            self._end = file.tell()
            # Locked before it replaces the old file, and still open when `file` is closed.
            descriptor = os.dup(file.fileno())
            lock(descriptor)
        self._file.close()
        self._file = os.fdopen(descriptor, "wb", 0)

    def write(self, prediction: Prediction) -> None:
        """Add a line. A failed write leaves no part of it."""
        if self._path is None:
            print(_coloured(prediction), flush=True)
            return
        content = self._encode(prediction)
        if not self._end:
            content = self._header() + content
        written = 0
        try:
            if self._regular:
                self._file.seek(self._end)
            while written < len(content):
                written += self._file.write(content[written:])
        except BaseException:
            if self._regular:
                with contextlib.suppress(OSError):
                    self._file.truncate(self._end)
            raise
        self._end += len(content)

    def _at(self, line: Line) -> bytes:
        return os.pread(self._file.fileno(), line.end - line.start, line.start)

    def _header(self) -> bytes:
        return _row(COLUMNS) if self._csv else b""

    def _encode(self, prediction: Prediction) -> bytes:
        if not self._csv:
            return prediction.to_json().encode() + b"\n"
        values = prediction.to_dict()
        return _row([len(values["faces"]) if c == "people" else values[c] for c in COLUMNS])

    def _decode(self, content: bytes) -> tuple | None:
        """Input, status, detector, bytes and modified; None if it is not one of our lines."""
        try:
            if self._csv:
                (cells,) = csv.reader([content.decode("utf-8", "surrogateescape")], strict=True)
                values = dict(zip(COLUMNS, cells, strict=True))
                values |= {name: values[name] or None for name in ("bytes", "modified")}
                values["bytes"] = values["bytes"] and int(values["bytes"])
            else:
                values = json.loads(content)
            known = (values.get(name) for name in ("detector", "bytes", "modified"))
            return values["input"], values["status"], *known
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error):
            return None


def _coloured(prediction: Prediction) -> str:
    """The line, with its status in colour on a terminal; https://no-color.org is respected."""
    line, word = prediction.to_json(), f'"status": "{prediction.status}"'
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return line
    return line.replace(word, f"\x1b[{COLOURS.get(prediction.status, 33)}m{word}\x1b[0m", 1)


def _row(cells: Iterable) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # quotes cells that hold \r or \n
    return text.getvalue()[:-2].encode("utf-8", "surrogateescape") + b"\n"


def _split(file: io.BufferedIOBase, quoted: bool) -> Iterator[tuple[int, bytes, bool]]:
    """Start, content, and whether it is complete, of each line; `quoted` cells hold newlines."""
    start, content = 0, b""
    for piece in file:
        content += piece
        if piece.endswith(b"\n") and not (quoted and content.count(b'"') % 2):
            yield start, content, True
            start, content = start + len(content), b""
    if content:
        yield start, content, False
