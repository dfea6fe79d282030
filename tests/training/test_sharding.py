"""Where arrays are put."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax import cli
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.processes import hosts, machine
from deepfidelity_jax.processes.machine import DEVICES, count_cores, make_devices
from deepfidelity_jax.training import sharding


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((), None),
        ((2,), None),
        ((16,), 0),
        ((3, 48, 144), 2),
        ((3, 144, 48), 1),
        ((8, 100, 3), 0),
        ((64, 64), 1),
        ((0, 8), 1),
    ],
)
def test_the_longest_axis_that_can_be_is_split(shape, axis):
    assert sharding.find_axis(shape, 8) == axis


def test_several_processes_need_a_batch_for_all_devices(monkeypatch):
    devices = [type("Device", (), {"process_index": i // 4, "id": i}) for i in range(8)]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    monkeypatch.setattr(hosts, "_count", 2)
    with pytest.raises(InputError, match=r"batch_size is 12: .* of all their devices, 8"):
        sharding.data_mesh(12)


@pytest.mark.parametrize(
    ("made", "platform", "cores", "count"),
    [
        (True, "cpu", [8], 1),
        (False, "cpu", [8], 8),
        (True, "gpu", [8], 8),
        (True, "cpu", [6, 6], 2),
        (True, "cpu", [3, 5], 2),
        (False, "cpu", [4, 4], 8),
    ],
)
def test_devices_made_of_cores_do_not_divide_a_batch(monkeypatch, made, platform, cores, count):
    """Each process trains on one."""
    devices = [
        type("Device", (), {"process_index": process, "platform": platform, "id": number})
        for process, own in enumerate(cores) for number in range(own)
    ]  # fmt: skip
    monkeypatch.setattr(jax, "devices", lambda: devices)
    monkeypatch.setattr(machine, "made_devices", made)
    monkeypatch.setattr(hosts, "_count", len(cores))
    mesh = sharding.data_mesh(16)
    assert mesh.size == count
    assert {device.process_index for device in mesh.devices.flat} == set(range(len(cores)))


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, str(min(count_cores(), 8))),
        ({"JAX_NUM_CPU_DEVICES": "3"}, None),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}, None),
    ],
)
def test_devices_are_made_unless_the_user_has_set_a_number(monkeypatch, given, made):
    monkeypatch.setattr(os, "environ", dict(given))
    monkeypatch.setattr(machine, "made_devices", False)
    make_devices()
    assert machine.made_devices == (made is not None)
    assert os.environ == given | ({"JAX_NUM_CPU_DEVICES": made} if made else {})


def test_all_of_an_array_is_gathered():
    np.testing.assert_array_equal(sharding.gather(jnp.arange(5)), np.arange(5))


def test_a_caller_of_the_library_keeps_its_devices(monkeypatch):
    """Only a process that is the command line makes some, not one that calls `main`."""
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(machine, "made_devices", False)
    assert cli.main(["run.py", "--mode=nothing"]) == 2
    assert not machine.made_devices
    assert DEVICES not in os.environ
