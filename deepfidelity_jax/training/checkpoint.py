"""Orbax checkpoints: the training state, with the config and the scores beside it as JSON.

`checkpoints/<step>/` holds everything needed to go on training or to score a face, on any platform.
The newest are kept and the best, and none is deleted before a newer one has been read back.
"""

import functools
import logging
import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import fingerprint
from deepfidelity_jax.processes import hosts
from deepfidelity_jax.processes.faults import raise_unless_damaged
from deepfidelity_jax.training.sharding import gather

# Orbax logs every array it writes, and quotes at length what it cannot read.
logging.getLogger("absl").setLevel(logging.CRITICAL)

# The score that picks the best checkpoint, by the split it is computed on.
METRICS = {"validation": "val_frame_auc", "test": "test_frame_auc"}
# tensorstore takes a backslash for a slash and a folder `gs:` for a bucket. Orbax, when it writes,
# takes the others for a pattern, and misses files or finds another folder's.
UNREADABLE = ("\\", "gs:/", "s3:/", "az:/")
UNUSABLE = ("*", "?", "[", *UNREADABLE)


def require_usable(folder: Path, marks: Sequence[str] = UNUSABLE) -> None:
    """InputError where the path of `folder` keeps checkpoints from being written or read.

    `marks` is what it may not contain: `UNREADABLE` for reading only.
    """
    path = str(folder.absolute())
    cause = next((repr(mark) for mark in marks if mark in path), None)
    if not cause and path.encode(errors="ignore") != os.fsencode(path):
        cause = "bytes that are not UTF-8"
    if cause:
        raise InputError(
            f"the checkpoint library cannot work in {path!r}, because of {cause}: name another "
            "--workdir, or a link to this one"
        )


class Checkpoints:
    """The checkpoints of a training run, as a context manager that waits for writes to end.

    Each is read back once it is written. Only then are older ones deleted, except the `keep` newest
    and the best.
    """

    def __init__(self, folder: Path, keep: int):
        require_usable(folder)
        # Orbax would count what a killed deletion left as a checkpoint.
        if hosts.is_first():
            for path in folder.glob("[0-9]*"):
                if path.name.isdigit() and not _is_finished(path):
                    shutil.rmtree(path)
        hosts.wait()
        # With True each device writes a slice of an array it has a copy of, and cutting the slices
        # compiles a program for every shape and device.
        saving = ocp.options.ArrayOptions.Saving(use_replica_parallel=False)
        self._checkpointer = ocp.training.Checkpointer(
            folder.absolute(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.PreserveAll(),
            cleanup_tmp_directories=True,
            context=ocp.Context(array_options=ocp.options.ArrayOptions(saving=saving)),
        )
        self._folder, self._keep = folder, keep
        self._written: tuple[int, Any] | None = None  # a step, and what it must read as

    def __enter__(self):
        return self

    def __exit__(self, kind, *error):
        try:
            if kind in (None, SystemExit):  # also what was saved when told to stop
                self._finish()
        finally:
            self._checkpointer.close()

    def save(self, step: int, state, notes: dict[str, Any], metrics: dict[str, float] | None):
        """Write in the background, with `notes` as JSON; a step already saved is left alone.

        InputError if the checkpoint before cannot be read back.
        """
        if hosts.broadcast(step in steps(self._folder)):
            return
        self._finish()
        notes = notes | {"metrics": metrics, "checksums": checksums(state)}
        self._checkpointer.save_async(step, state, custom_metadata=notes, metrics=metrics)
        self._written = step, jax.tree.map(_on_host, state)

    def _finish(self) -> None:
        """Wait for what is being written, read it back, and delete what it replaces."""
        if self._written is None:
            return
        (step, abstract), self._written = self._written, None
        self._checkpointer.wait()
        restore(self._folder, step, abstract)
        while (old := hosts.broadcast(self._find_replaced(step))) >= 0:
            self._checkpointer.delete(old)

    def _find_replaced(self, new: int) -> int:
        """The first checkpoint that is not needed beside `new`, -1 if all are."""
        finished = steps(self._folder)
        # A run that went on from an earlier step may have later ones lying there.
        kept = {*finished[-self._keep :], best_step(self._folder), new}
        return next((step for step in finished if step not in kept), -1)


def _on_host(leaf) -> np.ndarray:
    # Read back into the host's memory, as a device may not hold two states. Allocates nothing.
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def steps(folder: Path) -> list[int]:
    """Steps of all finished checkpoints, ascending; what a killed process left does not count."""
    if not folder.is_dir():
        return []
    numbered = (path for path in folder.iterdir() if path.name.isdigit())
    return sorted(int(path.name) for path in numbered if _is_finished(path))


def _is_finished(path: Path) -> bool:
    # A killed deletion may leave one of the two.
    return (path / "_CHECKPOINT_METADATA").is_file() and any(path.glob("*/_METADATA"))


def latest_step(folder: Path) -> int | None:
    """The newest finished checkpoint, None if there is none."""
    return max(steps(folder), default=None)


def best_step(folder: Path) -> int | None:
    """The checkpoint with the best score, the later of equals; without scores the newest."""
    measured = []
    for step in steps(folder):
        metrics = read_notes(folder, step).get("metrics") or {}
        # A run that selects on test has its score under `val_frame_auc` in older workdirs.
        measured += [(metrics[name], step) for name in METRICS.values() if name in metrics]
    return max(measured)[1] if measured else latest_step(folder)


def read_notes(folder: Path, step: int) -> dict[str, Any]:
    """The JSON saved with a checkpoint. InputError if it is damaged or cannot be read."""
    path = folder / str(step)
    try:
        file = (path / "_CHECKPOINT_METADATA").stat()
        notes = _read_notes(path.absolute(), (file.st_ino, file.st_mtime_ns, file.st_size))
    except Exception as error:
        raise_unless_damaged(f"checkpoint {path}", error)
        raise _damaged(path, error) from error
    if not notes or "metrics" not in notes:
        raise _damaged(path, "its notes cannot be read")
    return dict(notes)


@functools.lru_cache(maxsize=64)  # Orbax reads the metadata of every array along with them
def _read_notes(path: Path, version: tuple[int, ...]) -> dict[str, Any]:
    notes = ocp.metadata(path).custom_metadata
    if not notes:  # Orbax gives {} for what it could not read, and not why
        (path / "_CHECKPOINT_METADATA").read_bytes()
    return notes


def digest_of_weights(folder: Path, step: int) -> str:
    """A digest of the weights of a step, from the checksums in its notes."""
    return fingerprint(step, read_notes(folder, step).get("checksums", {}))


def restore(folder: Path, step: int, abstract_state):
    """Read a checkpoint into the shapes and shardings of `abstract_state`.

    Parts of the saved state that `abstract_state` lacks are not read. Each process reads its part
    by itself, so that one may read alone what is placed on its own devices. InputError if the
    checkpoint is damaged, cannot be read or holds another model.
    """
    require_usable(folder, UNREADABLE)
    path, process = folder / str(step), jax.process_index()
    try:
        with ocp.Context(
            pytree_options=ocp.options.PyTreeOptions(
                loading=ocp.options.PyTreeOptions.Loading(partial_load=True)
            ),
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=process, active_processes={process}
            ),
        ):
            state = ocp.load(path.absolute(), abstract_state)
        # A chunk missing on disk reads as zeros, or raises when it is first looked at.
        sums = checksums(jax.block_until_ready(state))
    except Exception as error:
        raise_unless_damaged(f"checkpoint {path}", error)
        raise _damaged(path, error) from error
    saved = read_notes(folder, step).get("checksums", sums)
    differing = sorted(name for name in sums if sums[name] != saved.get(name))
    if differing:
        raise _damaged(path, f"the bytes of {differing[0]} have changed")
    return state


def checksums(state) -> dict[str, int]:
    """CRC-32 of each array by its path: the files themselves would not reveal a flipped bit."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    return {
        name: zlib.crc32(gather(leaf).tobytes())
        for name, (_, leaf) in zip(names, leaves, strict=True)
    }


def _damaged(path: Path, error) -> InputError:
    reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else repr(error)
    return InputError(
        f"checkpoint {path} is damaged or incomplete ({reason}): "
        "delete that folder to go on from the one before it"
    )


def on_one_device(abstract):
    """Shapes and dtypes of a pytree, placed on the first local device."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract
    )
