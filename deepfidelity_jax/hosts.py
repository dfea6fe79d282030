"""The processes of one run: brought together, told apart, kept in step.

All run the same code, each on its own devices. The first alone writes, and what depends on the
disk it decides for all. They share the file system that the workdir and the records are on.
"""

import ctypes
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable

import numpy as np

from deepfidelity_jax.errors import InputError

# Of a process that fell silent the others know within this time. JAX's 100 s is too long.
SILENCE_S = 40
# How long others wait while the first prepares records or fits the regressor.
PATIENCE_S = 7 * 24 * 3600
LOST = (
    "lost another process of the run: what it says tells why; "
    "the same command for all of them goes on from the last checkpoint"
)

_index, _count = 0, 1
_waits = itertools.count()


def start(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Meet the other processes of the run, before anything touches a device.

    Args:
      coordinator: HOST:PORT where the first one listens.
      count: how many there are.
      index: which of them this one is.

    What is None is asked of the cluster: Cloud TPU, SLURM, Open MPI, Kubernetes. Raises InputError
    where that does not tell, or not all have come within five minutes.
    """
    global _index, _count
    import jax

    # JAX would take SIGTERM for itself, and only training would ever look at it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, count, index, heartbeat_timeout_seconds=SILENCE_S)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(f"the processes of the run have not met: {reason}") from None
    signal_lost()
    # Gloo, which joins CPUs, tells stdout of each connection; a run has no results for stdout.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
    _index, _count = jax.process_index(), jax.process_count()


def signal_lost() -> None:
    """Let a run that has lost a process end with one line and status 1.

    When the coordinator is gone or another process is silent, XLA calls abort() in a thread of its
    own: status 134 and, in JAX 0.10, not a word. Python never sees that signal, so it is taken in
    C; a callback for it exists in the runtime but cannot be called (std::bad_cast).
    """

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def end(number):
        os.write(2, f"deepfidelity: failed: {LOST}\n".encode())
        os._exit(1)

    signal_lost.handler = end  # kept from the garbage collector
    ctypes.CDLL(None).signal(ctypes.c_int(signal.SIGABRT), end)


def leave(status: int) -> int:
    """The status to exit with; a failed process of several ends here, without waiting for any."""
    if status and _count > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def is_loss(error: Exception) -> bool:
    """Whether what failed is the connection to another process."""
    # Gloo's words on CPUs, NCCL's on GPUs, the coordination service's on all.
    words = ("Gloo", "NCCL", "by peer", "heartbeat", "coordination service", "UNAVAILABLE")
    return _count > 1 and any(word in str(error) for word in words)


def begin_worker() -> None:
    """Let a worker process leave Ctrl-C to its parent, and never outlive it.

    A killed parent closes no queue, so that its workers would wait for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def index() -> int:
    """Which process this is, from 0."""
    return _index


def count() -> int:
    """How many there are."""
    return _count


def is_first() -> bool:
    """Whether this is the one that writes."""
    return _index == 0


def wait() -> None:
    """Go on when all have come here, however long one takes."""
    if _count > 1:
        from orbax.checkpoint import multihost

        # Naming the processes makes it a matter of the hosts alone: no device is kept busy.
        name, everyone = f"deepfidelity {next(_waits)}", set(range(_count))
        multihost.sync_global_processes(name, timeout=PATIENCE_S, processes=everyone)


def told(value: int) -> int:
    """The first one's `value`: what it sees on a shared disk, others may not see yet."""
    if _count == 1:
        return value
    from jax.experimental import multihost_utils

    wait()
    return int(multihost_utils.broadcast_one_to_all(np.array(value, np.int32)))


def compiled_by_all(function: Callable) -> Callable:
    """A jitted function, always called with the same shapes: run by none before all have compiled.

    Gloo gives up if another process is 30 s late at their first collective, and compiling may take
    one of them longer, say when the compilation cache has it for the others.
    """
    if _count == 1:
        return function

    compiled = None

    def call(*arguments):
        nonlocal compiled
        if compiled is None:
            compiled = function.lower(*arguments).compile()
            wait()
        return compiled(*arguments)

    return call


class Vote:
    """Whether any process says yes, asked in each step and answered one step late.

    So no host waits for the step just sent off, and all get the same answer in the same step.
    """

    def __init__(self):
        import jax

        if _count > 1:
            mesh = jax.sharding.Mesh(np.array(jax.devices()), ("all",))
            spec = jax.sharding.PartitionSpec
            self._split = jax.sharding.NamedSharding(mesh, spec("all"))
            self._any = jax.jit(
                lambda votes: votes.any(), out_shardings=jax.sharding.NamedSharding(mesh, spec())
            )
            self._local, self._asked = jax.local_device_count(), None

    def __call__(self, yes: bool) -> bool:
        """The answer to the call before; with one process, to this one."""
        import jax

        if _count == 1:
            return yes
        before = self._asked
        votes = np.full(self._local, yes)
        self._asked = self._any(jax.make_array_from_process_local_data(self._split, votes))
        return before is not None and bool(before)


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
