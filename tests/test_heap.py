"""The heap: huge pages, by starting anew once, as called; and what is free goes back."""

import os
import resource
import subprocess
import sys

import pytest

from deepfidelity_jax import heap

PROGRAM = """
import os, sys
from deepfidelity_jax.heap import use_huge_pages
print("started")
use_huge_pages()
print(os.getpid(), os.environ["GLIBC_TUNABLES"], sys.argv[1:], sys.flags.dev_mode)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is of Linux")
@pytest.mark.parametrize("given", [None, "glibc.malloc.arena_max=2"])
def test_starts_anew_once_with_the_same_arguments(given):
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    if given:
        environment["GLIBC_TUNABLES"] = given
    process = subprocess.Popen(
        [sys.executable, "-u", "-X", "dev", "-c", PROGRAM, "--a=b c", ""],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = process.communicate()[0].splitlines()
    # The process stays the same, for those who wait for it or send it signals.
    tunable = given or "glibc.malloc.hugetlb=1"
    assert lines[-1] == f"{process.pid} {tunable} ['--a=b c', ''] True"
    assert lines.count("started") == (1 if given else 2)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is of Linux")
def test_what_was_freed_goes_back():
    """Small pieces are kept by the library when freed, unlike large ones."""

    def resident():
        with open("/proc/self/statm", encoding="utf-8") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    heap.give_back()  # or they would come out of what other tests freed
    before = resident()
    pieces = [bytes(4000) for _ in range(50_000)]
    last = bytes(4000)  # above them, so that they are not the end of the heap
    held = resident() - before
    del pieces
    heap.give_back()
    assert held > 100e6
    assert resident() - before < 0.3 * held
    del last
