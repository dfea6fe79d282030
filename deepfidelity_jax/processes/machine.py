"""The machine a process runs on: its cores, its memory figures, JAX's devices."""

import os
from pathlib import Path

DEVICES = "JAX_NUM_CPU_DEVICES"
made_devices = False  # whether `make_devices` set the number


def memory_figure(name: str) -> int:
    """A figure of this process's memory in bytes, by its name in /proc/self/status.

    OSError or ValueError where the system has no such figure.
    """
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index(f"{name}:") + 1]) * 1024


def count_cores() -> int:
    """The number of cores this process may use."""
    granted = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if granted else os.cpu_count() or 1


def make_devices() -> None:
    """Give JAX one CPU device per core, up to eight, unless the user has set a number.

    Inference is faster that way, see docs/speed.md. Must run before JAX starts. Only for the
    process of a command line, because a library must not change its caller's devices.
    """
    global made_devices
    asked = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not asked and DEVICES not in os.environ:
        os.environ[DEVICES] = str(min(count_cores(), 8))
        made_devices = True
