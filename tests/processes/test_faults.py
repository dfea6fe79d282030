"""Faults of the machine are told from damaged files and from errors of the program."""

import errno
import os

import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.processes.faults import disk_error, raise_unless_damaged


def test_a_disk_error_is_found_behind_others():
    full = OSError(errno.ENOSPC, "full")
    try:
        try:
            raise full
        except OSError as error:
            raise ValueError("writing failed") from error
    except ValueError as error:
        assert disk_error(error) == "no space left on device"
    quoted = RuntimeError(f"RESOURCE_EXHAUSTED: {os.strerror(errno.ENOSPC)}; a/b")
    assert disk_error(quoted) == "no space left on device"
    assert disk_error(ValueError("no space")) == ""
    assert disk_error(OSError(errno.ENOENT, "none")) == ""


def raised_by(action):
    """The error that an action ends with."""
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("no error")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(errno.EACCES, "", "a/b"), "permission denied: a/b"),
        (OSError(errno.ESTALE, ""), "stale file handle"),
        (OSError(errno.ENFILE, ""), "too many open files in system"),
        (ValueError(f"driver: {os.strerror(errno.ENFILE)}"), "too many open files in system"),
        (ValueError(f"RESOURCE_EXHAUSTED: {os.strerror(errno.EMFILE)}; a"), "too many open files"),
        (MemoryError(), "out of memory"),
        (raised_by(lambda: np.ones(1 << 60, np.uint8)), "out of memory"),
        (raised_by(lambda: jnp.ones(1 << 45, jnp.uint8).block_until_ready()), "out of memory"),
    ],
)
def test_what_cannot_be_read_may_be_whole(error, reason):
    with pytest.raises(InputError, match=f"^the thing cannot be read: {reason}$"):
        raise_unless_damaged("the thing", error)


def test_errors_with_lines_of_their_own_are_raised_and_damage_is_not():
    for own in (OSError(errno.EIO, "broken"), InputError("wrong")):
        with pytest.raises(type(own)) as found:
            raise_unless_damaged("the thing", own)
        assert found.value is own
    for damage in (ValueError("no zip file"), FileNotFoundError(errno.ENOENT, "", "a"), EOFError()):
        raise_unless_damaged("the thing", damage)
