"""The cores that are granted, and the devices that are made of them."""

import os
import subprocess
import sys

import pytest
from conftest import CORES, running_on

from deepfidelity_jax.processes import machine


def test_cores_are_those_granted():
    with running_on({min(CORES)}):
        assert machine.count_cores() == 1
    with running_on(CORES):
        assert machine.count_cores() == len(CORES)


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
    code = "import os; from deepfidelity_jax.processes import machine; machine.make_devices(); "
    code += "print(os.environ.get('JAX_NUM_CPU_DEVICES'), machine.made_devices)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | given, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == expected
