"""The processor cores this process may use."""

import os

DEVICES = "JAX_NUM_CPU_DEVICES"
made_devices = False  # whether `make_devices` has made some


def count_cores() -> int:
    """How many there are: those granted to the process, where the system tells, else all."""
    granted = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if granted else os.cpu_count() or 1


def make_devices() -> None:
    """Where JAX runs on a CPU, make a device of each core, up to eight; before JAX starts.

    They serve inference: SSAAFormer-L takes 0.67 s for four images on two devices of a core each
    and 0.76 on one of two cores. Nothing is done where the user has set a number of devices.
    """
    global made_devices
    asked = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not asked and DEVICES not in os.environ:
        os.environ[DEVICES] = str(min(count_cores(), 8))
        made_devices = True
