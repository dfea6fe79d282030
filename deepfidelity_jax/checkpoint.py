"""Orbax checkpoints: the training state, and as JSON beside it the data iterator and the config.

`checkpoints/<step>/` holds everything needed to go on training or to score a face, on any
platform. The newest are kept, and the best on validation.
"""

import logging
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from deepfidelity_jax.errors import InputError

# Orbax narrates every array it writes.
logging.getLogger("absl").setLevel(logging.ERROR)

METRIC = "val_frame_auc"


class Checkpoints:
    """The checkpoints of one training run, as a context manager that waits for writes to end."""

    def __init__(self, folder: Path, keep: int):
        policies = ocp.training.preservation_policies
        self._checkpointer = ocp.training.Checkpointer(
            folder.absolute(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(keep),
                    policies.BestN(
                        get_metric_fn=lambda metrics: metrics[METRIC],
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            cleanup_tmp_directories=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._checkpointer.close()

    def latest_step(self) -> int | None:
        """The newest finished checkpoint."""
        return latest_step(Path(self._checkpointer.directory))

    def save(self, step: int, state, notes: dict[str, Any], metrics: dict[str, float] | None):
        """Write in the background; `notes` is JSON. A step already there is left as it is."""
        if step in steps(Path(self._checkpointer.directory)):
            return
        notes = notes | {"metrics": metrics}
        self._checkpointer.save_async(step, state, custom_metadata=notes, metrics=metrics)


def steps(folder: Path) -> list[int]:
    """Steps of all finished checkpoints, ascending. A killed write leaves none."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.name.isdigit())
    return sorted(int(path.name) for path in found if ocp.is_orbax_checkpoint(path.absolute()))


def latest_step(folder: Path) -> int | None:
    """The newest finished checkpoint, None where there is none."""
    return max(steps(folder), default=None)


def best_step(folder: Path) -> int | None:
    """The checkpoint best on validation, the later of equals; else the newest."""
    measured = []
    for step in steps(folder):
        metrics = read_notes(folder, step).get("metrics") or {}
        if METRIC in metrics:
            measured.append((metrics[METRIC], step))
    return max(measured)[1] if measured else latest_step(folder)


def read_notes(folder: Path, step: int) -> dict[str, Any]:
    """The JSON saved with a checkpoint. InputError if it is damaged."""
    path = folder / str(step)
    try:
        notes = ocp.metadata(path.absolute()).custom_metadata
    except Exception as error:
        raise _damaged(path, error) from error
    if not isinstance(notes, dict):
        raise _damaged(path, "its notes are missing")
    return notes


def restore(folder: Path, step: int, abstract_state):
    """Read a checkpoint into the shapes and shardings of `abstract_state`.

    Parts of the saved state that `abstract_state` lacks are not read. InputError if the checkpoint
    is damaged or holds another model.
    """
    path = folder / str(step)
    try:
        with ocp.Context(
            pytree_options=ocp.options.PyTreeOptions(
                loading=ocp.options.PyTreeOptions.Loading(partial_load=True)
            )
        ):
            state = ocp.load(path.absolute(), abstract_state)
        # A chunk that never made it to disk reads as zeros or raises only when looked at.
        return jax.block_until_ready(state)
    except Exception as error:
        raise _damaged(path, error) from error


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
