"""The processes of one run: start, identity, agreement, and the loss of one.

All processes run the same code, each on its own devices, and share the file system of the workdir
and the records. Only the first process writes, and it makes all decisions that depend on files.
"""

import ctypes
import functools
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from deepfidelity_jax.errors import InputError

# A process that stops responding is reported lost after this time. JAX's 100 s is too long.
SILENCE_S = 40
# How long the others wait while the first process prepares records or fits the regressor.
PATIENCE_S = 7 * 24 * 3600
LOST = (
    "lost another process of this run (see its output for the reason); "
    "run the same command on all of them again to continue from the last checkpoint"
)

Value = TypeVar("Value", int, bool)

_index, _count = 0, 1
_waits = itertools.count()


def start(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Connect to the other processes of the run, before anything touches a device.

    An argument that is None is looked up in the cluster: Cloud TPU, SLURM, Open MPI, Kubernetes.

    Args:
      coordinator: HOST:PORT where the first process listens.
      count: number of processes.
      index: index of this process, from 0.

    Raises:
      InputError: the cluster does not give them, or not all processes connect in five minutes.
    """
    global _index, _count
    import jax

    # JAX would handle SIGTERM itself, and only training would notice it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        _call_in_thread(
            jax.distributed.initialize,
            coordinator, count, index, heartbeat_timeout_seconds=SILENCE_S,
        )  # fmt: skip
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(f"the processes of the run did not connect: {reason}") from None
    signal_lost()
    # Gloo, which connects CPUs, prints every connection to stdout. A run prints nothing there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
    _index, _count = jax.process_index(), jax.process_count()


def signal_lost() -> None:
    """Make a run that has lost a process end with one line and status 1.

    When the coordinator or another process is lost, XLA calls abort() in its own thread:
    status 134 and, in JAX 0.10, no message. Python never sees that signal, so the handler is
    installed in C. The runtime's own callback for it cannot be used (std::bad_cast).
    """

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def end(number):
        os.write(2, f"deepfidelity: failed: {LOST}\n".encode())
        os._exit(1)

    signal_lost.handler = end  # kept from the garbage collector
    ctypes.CDLL(None).signal(ctypes.c_int(signal.SIGABRT), end)


def leave(status: int) -> int:
    """The exit status; one of several processes that failed exits here, without waiting."""
    if status and _count > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def is_loss(error: Exception) -> bool:
    """Whether the error is a lost connection to another process."""
    # From Gloo on CPUs, NCCL on GPUs, and the coordination service on both.
    words = ("Gloo", "NCCL", "by peer", "heartbeat", "coordination service", "UNAVAILABLE")
    return _count > 1 and any(word in str(error) for word in words)


def index() -> int:
    """Which process this is, from 0."""
    return _index


def count() -> int:
    """The number of processes."""
    return _count


def is_first() -> bool:
    """Whether this is the process that writes."""
    return _index == 0


def wait() -> None:
    """Wait until all processes have reached this call, without a time limit."""
    if _count > 1:
        from orbax.checkpoint import multihost

        # With `processes` named, only hosts synchronize and no device is kept busy.
        name, everyone = f"deepfidelity {next(_waits)}", set(range(_count))
        _call_in_thread(
            multihost.sync_global_processes, name, timeout=PATIENCE_S, processes=everyone
        )


def _call_in_thread(function: Callable, *arguments, **options):
    """Call a function that blocks in C, so that Python can handle signals meanwhile."""
    outcome: Future = Future()

    def call():
        try:
            outcome.set_result(function(*arguments, **options))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return outcome.result()


def broadcast(value: Value) -> Value:
    """The first process's `value`, as others may not yet see its files on a shared disk."""
    if _count == 1:
        return value
    import numpy as np
    from jax.experimental import multihost_utils

    wait()
    return type(value)(multihost_utils.broadcast_one_to_all(np.array(value, np.int32)))


def compiled_by_all(function: Callable, **static) -> Callable:
    """A jitted function, with its static arguments, that runs once all processes have compiled it.

    Gloo gives up if another process is 30 s late for the first collective, and a process may need
    that long to compile if the others have the program in their compilation cache. The function
    must always be called with the same shapes.
    """
    if _count == 1:
        return functools.partial(function, **static)

    compiled = None

    def call(*arguments):
        nonlocal compiled
        if compiled is None:
            compiled = function.lower(*arguments, **static).compile()
            wait()
        return compiled(*arguments)

    return call


class Vote:
    """Whether any process votes yes, asked in every step and answered one step late.

    All processes get the same answer in the same step, and none waits for the step just dispatched.
    """

    def __init__(self):
        import jax
        import numpy as np

        if _count > 1:
            mesh = jax.sharding.Mesh(np.array(jax.devices()), ("all",))
            spec = jax.sharding.PartitionSpec
            self._split = jax.sharding.NamedSharding(mesh, spec("all"))
            self._any = jax.jit(
                lambda votes: votes.any(), out_shardings=jax.sharding.NamedSharding(mesh, spec())
            )
            self._local, self._asked = jax.local_device_count(), None

    def __call__(self, yes: bool) -> bool:
        """The answer to the previous call; with one process, to this call."""
        import jax
        import numpy as np

        if _count == 1:
            return yes
        before = self._asked
        votes = np.full(self._local, yes)
        self._asked = self._any(jax.make_array_from_process_local_data(self._split, votes))
        return before is not None and bool(before)
