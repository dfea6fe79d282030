"""A pool of worker processes, which leave a terminal's signals to their parent and die with it."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from deepfidelity_jax.errors import InputError

ENDINGS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # the signals that end a command
CRASHED = "the process that read it crashed"  # the reason for a file that kills a worker
NEVER_BEGAN = (
    "worker processes end as they start: out of memory, or started by a script without "
    '`if __name__ == "__main__":`'
)


def worker_pool(count: int) -> ProcessPoolExecutor:
    """A pool of processes for functions that use no device; `submit` gives them work."""
    # JAX's threads do not survive a fork.
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), begin_worker)


def submit(pool: ProcessPoolExecutor, function: Callable, *arguments) -> Future:
    """Have a worker call a picklable function."""
    with undisturbed():
        return pool.submit(function, *arguments)


def require_workers() -> None:
    """InputError if worker processes cannot be started."""
    try:
        with worker_pool(1) as pool:
            submit(pool, int).result()
    except BrokenProcessPool:
        raise InputError(NEVER_BEGAN) from None


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Block signals while worker processes start, until `begin_worker`.

    A worker inherits the blocked signals; without this, one interrupted at its start would print a
    traceback.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)


def begin_worker() -> None:
    """Set up a worker process, which leaves a terminal's signals to the parent and dies with it.

    A killed parent does not close its queue, so its workers would otherwise wait forever. OpenCV
    gets one thread, because there is one worker per core.
    """
    import cv2

    cv2.setNumThreads(1)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
