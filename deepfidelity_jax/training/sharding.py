"""Where arrays live: one mesh over all devices, the batch split along it, the state on each.

A state too large for one device is split as well, each array along one axis.
"""

import itertools

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.processes import hosts, machine


def data_mesh(batch_size: int) -> Mesh:
    """All devices along one axis, `data`; in a single process, as many as divide the batch evenly.

    Where the command line made each core a CPU device (`machine.made_devices`), the mesh has one
    device of each process: XLA spreads a step over all cores, and no device waits for another.
    InputError if there are several processes and the devices do not divide the batch.
    """
    # Process by process, so that batch rows are in the same order for any number of processes.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if machine.made_devices and devices[0].platform == "cpu":
        processes = itertools.groupby(devices, key=lambda device: device.process_index)
        devices = [next(of_process) for _, of_process in processes]
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    if hosts.count() > 1 and count < len(devices):
        raise InputError(
            f"config.train.batch_size is {batch_size}: several processes need a multiple of the "
            f"number of all their devices, {len(devices)}"
        )
    return Mesh(np.array(devices[:count]), ("data",))


def local_mesh(batch_size: int) -> Mesh:
    """As many of this process's devices as divide a batch evenly."""
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    return Mesh(np.array(devices[:count]), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def place_state(abstract, mesh: Mesh, split: bool):
    """The sharding of each array of a state: replicated or, with `split`, split where possible."""

    def place(array):
        axis = find_axis(array.shape, mesh.size) if split else None
        spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, "data")
        return NamedSharding(mesh, spec)

    return jax.tree.map(place, abstract)


def find_axis(shape: tuple[int, ...], devices: int) -> int | None:
    """The axis to split: the longest one that `devices` divides, the last if several tie."""
    axes = [axis for axis, size in enumerate(shape) if size and size % devices == 0]
    return max(axes, key=lambda axis: (shape[axis], axis), default=None)


def place_batch(batch, mesh: Mesh):
    """Put this process's part of a batch on the devices, as one global array."""
    sharding = split_batch(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def gather(array: jax.Array | np.ndarray) -> np.ndarray:
    """The whole array in this process's memory. All processes must call it."""
    if isinstance(array, np.ndarray):
        return array
    if not array.is_fully_addressable and not array.is_fully_replicated:
        return multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)
