"""Faults of the machine behind an error: a full disk, no permission, no memory."""

import errno
import os
from collections.abc import Collection

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.processes import hosts

# A full or failing disk. Some libraries raise errors of their own that only quote these.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# Why a file that is whole may not be read. The words of ENFILE begin with those of EMFILE.
READ_ERRORS = (
    errno.EACCES, errno.EPERM, errno.ENFILE, errno.EMFILE, errno.ESTALE, errno.ENOMEM,
)  # fmt: skip


def one_line(error: object) -> str:
    """The text of an error with every run of white space as one space."""
    return " ".join(str(error).split())


def disk_error(error: BaseException | None) -> str:
    """The disk error behind an exception, in the system's words; empty if there is none."""
    return _system_error(error, DISK_ERRORS)


def raise_unless_damaged(what: str, error: Exception) -> None:
    """Raise why `what` could not be read, where that is no sign of damage; otherwise return.

    Raises:
      InputError: no permission, no memory, too many open files.
      Exception: `error` itself, where `console.end` tells it in one line.
    """
    if isinstance(error, InputError) or hosts.is_loss(error) or disk_error(error):
        raise error
    reason = _system_error(error, READ_ERRORS)
    # From Python, and from a device.
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        reason = reason or "out of memory"
    if reason:
        raise InputError(f"{what} cannot be read: {reason}") from error


def _system_error(error: BaseException | None, numbers: Collection[int]) -> str:
    while error is not None:
        for number in numbers:
            if getattr(error, "errno", None) == number:
                name = getattr(error, "filename", None)
                return os.strerror(number).lower() + (f": {name}" if name else "")
            if os.strerror(number) in str(error):
                return os.strerror(number).lower()
        error = error.__cause__ or error.__context__
    return ""
