"""The processor cores this process may use."""

import os


def count_cores() -> int:
    """How many there are: those granted to the process, where the system tells, else all."""
    granted = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if granted else os.cpu_count() or 1
