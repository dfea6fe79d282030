"""The metrics of a training, as lines of JSON and for TensorBoard."""

import json
import socket
import struct
import time
from pathlib import Path

from deepfidelity_jax.workdir import write_text


class MetricsLog:
    """`metrics.jsonl` and TensorBoard, one line per step; OSError if one cannot be written.

    On resuming, lines of later steps are dropped. Only for the first of several processes.
    """

    def __init__(self, workdir: Path, after: int):
        self.path = workdir / "metrics.jsonl"
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            # A killed run may leave half a line, and lines of steps that will be repeated.
            kept = [
                line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= after
            ]
            write_text(self.path, "".join(kept))
        self._file = self.path.open("a", encoding="utf-8")
        self._board = _Board(workdir / "tensorboard", after + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append one line of named numbers."""
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()
        self._board.write(step, values)

    def close(self) -> None:
        """Flush and close both."""
        self._file.close()
        self._board.close()


class _Board:
    """A file of TensorBoard's; points of earlier files from the step `purge` on are hidden.

    tensorboardX's SummaryWriter writes in a thread. Where the disk is full that thread ends, and
    training would wait for it without end. Here the error is raised, and nothing waits for a disk.
    """

    def __init__(self, folder: Path, purge: int):
        # Only here: tensorboardX imports PyTorch if that is there.
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import masked_crc32c

        self._event, self._crc = Event, masked_crc32c
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
        self._file = (folder / name).open("ab")
        self._add(0, file_version="brain.Event:2")
        self._add(purge, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add the named numbers of a step."""
        points = [{"tag": name, "simple_value": value} for name, value in values.items()]
        self._add(step, summary={"value": points})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, step: int, **content) -> None:
        event = self._event(wall_time=time.time(), step=step, **content).SerializeToString()
        size = struct.pack("<Q", len(event))
        crc = [struct.pack("<I", self._crc(part)) for part in (size, event)]
        self._file.write(b"".join((size, crc[0], event, crc[1])))
        self._file.flush()
