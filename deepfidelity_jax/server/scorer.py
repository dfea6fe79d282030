"""The code of a worker process, which loads the detector once and scores file after file.

It speaks JSON over a pipe, never pickle, so that an attacker who takes over a decoder gets no
further than this process.

    to it     {"path": ..., "page": ...}
    from it   {"ready": true}, {"refused": "why"}, {"step": ..., "share": ...},
              {"prediction": {...}}, {"error": {"type": ..., "message": ..., "limit": ...}}
"""

import contextlib
import json
import math
import os
import resource
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.processes import console
from deepfidelity_jax.processes.faults import disk_error, one_line
from deepfidelity_jax.processes.machine import count_cores, memory_figure
from deepfidelity_jax.processes.workers import begin_worker
from deepfidelity_jax.server.messages import MIB, Error, Limits


def work(connection: Connection, workdir: str | None, cache: Path, limits: Limits) -> None:
    """Load the detector, then score what comes through the pipe until it is closed.

    Args:
      connection: to the server.
      workdir: the workdir of the detector; None for the bundled one.
      cache: folder for the compiled programs of a packed detector, such as the bundled one.
      limits: the limits of the server.
    """
    begin_worker()
    console.quiet_libraries()
    # Otherwise the first worker would take most of a GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def tell(**message):
        connection.send_bytes(json.dumps(message, allow_nan=False).encode())

    try:
        detector = _load(workdir, cache, limits)
    except InputError as error:
        return tell(refused=str(error))
    tell(ready=True)
    _warm_up(detector)  # the first file would have to wait for this anyway
    _limit_memory(limits.memory_bytes)
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except EOFError:
            return None
        try:
            path, page = Path(request["path"]), Path(request["page"])
            tell(prediction=_score(detector, path, page, limits, tell))
        except _Failed as failed:
            tell(error=failed.error.model_dump())
        except Exception as error:
            if reason := disk_error(error):
                message = f"the server cannot keep the page: {reason.split(':')[0]}"
                tell(error=Error(type="disk_full", message=message).model_dump())
            elif not _is_memory(error):
                traceback.print_exc()
                message = f"the file could not be scored: {one_line(error)[:200]}"
                tell(error=Error(type="internal", message=message).model_dump())
            else:
                limit = limits.memory_bytes
                message = f"reading this file takes more than {limit // MIB} MiB of memory"
                refusal = Error(type="too_much_memory", message=message, limit=limit)
                return tell(error=refusal.model_dump())  # a new process is safer
        tell(ready=True)


class _Failed(Exception):
    """Raised for a file that cannot be scored; `error` says why."""

    def __init__(self, error: Error):
        super().__init__(error.message)
        self.error = error


def _load(workdir: str | None, cache: Path, limits: Limits):
    """The detector, ready to score. InputError if it or its face detector cannot be used here."""
    import cv2

    from deepfidelity_jax.detector import bundled
    from deepfidelity_jax.detector.load import load_fitted
    from deepfidelity_jax.faces import detection
    from deepfidelity_jax.workdir import keep_programs

    cv2.setNumThreads(max(1, count_cores() // limits.workers))
    packed = not workdir or bundled.holds(Path(workdir))
    keep_programs(cache if packed else Path(workdir))
    detector = load_fitted(workdir)
    detection.detect(_blank(), detector.faces)  # loads the face detector
    return detector


def _warm_up(detector) -> None:
    """Compile what pages need. A failure is only printed: scoring a file will report it again."""
    from deepfidelity_jax.explanation.heat import heat_maps
    from deepfidelity_jax.explanation.symmetry import symmetry_maps

    try:
        face = detector.prepare(_blank()[None])
        heat_maps(detector, face)
        symmetry_maps(detector, face)
        detector.features_of_prepared(face)
    except Exception:
        traceback.print_exc()


def _blank():
    """A black picture."""
    import numpy as np

    return np.zeros((64, 64, 3), np.uint8)


def _score(detector, path: Path, page: Path, limits: Limits, tell) -> dict:
    """Write the page and return the prediction, with the name of the file as `input`."""
    from deepfidelity_jax.page.page import write_page

    _require_short(path, limits.video_seconds)
    prediction = write_page(
        detector, path, page, lambda step, share: tell(step=step, share=share), shown=path.name
    )
    return prediction.to_dict()


def _require_short(path: Path, seconds: int) -> None:
    """_Failed for a video that is too long; any other problem is left to the prediction."""
    from deepfidelity_jax.images import formats, media, videos

    with contextlib.suppress(formats.MediaError, OSError):
        if media.identify(path) == "video":
            info = videos.video_info(path)
            length = info.frames / info.rate
            if length > seconds:
                message = f"the video lasts {math.ceil(length)} seconds, more than {seconds}"
                raise _Failed(Error(type="too_long", message=message, limit=seconds))


def _limit_memory(growth: int) -> None:
    """Let this process allocate at most `growth` more bytes."""
    if not sys.platform.startswith("linux"):
        return
    # If the machine still runs out of memory, the system should end this process, not another.
    Path("/proc/self/oom_score_adj").write_text("1000")
    # RLIMIT_DATA, because the address space includes memory that is reserved but never used.
    now = memory_figure("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (now + growth, now + growth))


def _is_memory(error: Exception) -> bool:
    """Whether an exception, from any library, says that memory has run out."""
    words = ("Insufficient memory", "RESOURCE_EXHAUSTED", "bad_alloc")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)
