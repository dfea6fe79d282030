"""A command as a process: its exit status, one line for an error, Ctrl-C, quiet libraries."""

import contextlib
import errno
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from types import FrameType

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.processes import hosts, machine
from deepfidelity_jax.processes.faults import disk_error, one_line
from deepfidelity_jax.processes.workers import ENDINGS

DONE, FAILED, WRONG = 0, 1, 2
# What is wrong with a path that the user gave.
PATH_ERRORS = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
IMPORT_RETRY_S, CALLBACK_RETRY_S = 0.1, 0.01

_interrupts: list[int] = []  # signals received so far


def take_over_process() -> None:
    """Set the process up for one command: CPU devices, warnings, signals.

    For a process that belongs to the command line. A library call, `cli.main(argv)`, does none of
    this.
    """
    machine.make_devices()
    quiet_libraries()
    handle_signals()


def end(command: Callable[[], int], unfinished: Callable[[], str]) -> int:
    """Run `command` and return its exit status, or print why it failed in one line.

    Args:
      command: returns an exit status.
      unfinished: says what happens to the work of an interrupted command.

    Returns:
      What `command` returns; WRONG for an InputError, and a file without permission or with too
      long a name; FAILED for any other error. The traceback is printed only for an error nobody
      expected.
    """
    try:
        return command()
    except InputError as error:
        return _fail(WRONG, one_line(error))
    except KeyboardInterrupt:
        return _fail(FAILED, f"interrupted: {unfinished()}")
    except BrokenPipeError:
        return _fail(FAILED)
    except FloatingPointError as error:  # a training that diverged
        return _fail(FAILED, f"failed: {one_line(error)}")
    except Exception as error:
        if _interrupts:  # a library turned the interrupt into an error of its own
            return _fail(FAILED, f"interrupted: {unfinished()}")
        if hosts.is_loss(error):
            return _fail(FAILED, f"failed: {hosts.LOST} ({one_line(error)[:200]})")
        if reason := disk_error(error):
            return _fail(FAILED, f"failed: {reason}; once that is fixed, {unfinished()}")
        if isinstance(error, OSError) and error.errno in PATH_ERRORS and error.filename:
            return _fail(WRONG, one_line(f"{error.filename}: {os.strerror(error.errno).lower()}"))
        traceback.print_exc()
        return _fail(FAILED, f"failed: {error}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def quiet_libraries() -> None:
    """Keep warnings and log lines of libraries off stderr, unless Python's -W asks for them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the processes of a run
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"  # for worker processes
        # Errors in finalizers and threads. If one matters, whoever waits for its result fails too.
        sys.unraisablehook = threading.excepthook = lambda _: None
    # Without any handler, logging prints warnings to stderr.
    logging.getLogger().addHandler(logging.NullHandler())


def handle_signals() -> None:
    """Make SIGTERM end a command as Ctrl-C does: unfinished files are cleared away first.

    SIGHUP, of a closed terminal, is passed on as SIGTERM, unless it is ignored. A second signal
    ends the process at once. Many modules swallow an exception raised while they are imported, and
    nothing can be raised from a library's callback; there the interrupt is tried again a moment
    later.
    """

    def interrupt(number, frame):
        _interrupts.append(number)
        if number != signal.SIGALRM:
            signal.signal(number, signal.SIG_DFL)
            # A closing terminal may send two, or one after SIGTERM, but nobody insists.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if not _is_importing(frame):
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, IMPORT_RETRY_S)

    def hang_up(number, frame):
        signal.signal(number, signal.SIG_IGN)
        signal.raise_signal(signal.SIGTERM)

    ignore = sys.unraisablehook

    def interrupt_again(unraisable):
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, CALLBACK_RETRY_S)
        else:
            ignore(unraisable)

    for number in ENDINGS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, hang_up if number == signal.SIGHUP else interrupt)
    signal.signal(signal.SIGALRM, interrupt)
    sys.unraisablehook = interrupt_again


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _fail(status: int, line: str = "") -> int:
    with contextlib.suppress(OSError):  # a closed terminal does not change the status
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)  # clears a progress line
        if line:
            print(f"deepfidelity: {line}", file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:  # closed or full: Python would flush again at exit, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return hosts.leave(status)
