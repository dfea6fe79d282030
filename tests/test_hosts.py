"""A run of one process; runs of several are in training/test_distributed.py."""

import os
import subprocess
import sys

import pytest
from conftest import CORES, running_on

from deepfidelity_jax import hosts


def test_one_process_is_the_first_and_waits_for_none():
    assert (hosts.index(), hosts.count(), hosts.is_first()) == (0, 1, True)
    hosts.wait()
    assert hosts.broadcast(7) == 7
    assert [hosts.Vote()(yes) for yes in (False, True)] == [False, True]
    assert hosts.compiled_by_all(len) is len
    assert hosts.leave(3) == 3
    assert not hosts.is_loss(RuntimeError("Gloo connection closed by peer"))


def test_cores_are_those_granted():
    with running_on({min(CORES)}):
        assert hosts.count_cores() == 1
    with running_on(CORES):
        assert hosts.count_cores() == len(CORES)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, f"{min(len(CORES), 8)} True"),
        ({"JAX_NUM_CPU_DEVICES": "3"}, "3 False"),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, "None False"),
    ],
)
def test_devices_are_made_unless_the_user_asked_for_some(given, expected):
    names = ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    code = "import os; from deepfidelity_jax import hosts; hosts.make_devices(); "
    code += "print(os.environ.get('JAX_NUM_CPU_DEVICES'), hosts.made_devices)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | given, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == expected
