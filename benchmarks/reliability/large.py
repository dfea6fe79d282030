"""Prediction on many small pictures and on a long video: memory and time to the first line.

    python benchmarks/reliability/large.py [--pictures 100 2000 20000] [--minutes 1 12 120]

Prints one line per size: seconds until the first line of output and until the end, and peak memory.
The time to the first line and the peak must not grow with the input. The pictures are 64 pixels
wide and scored as ready crops, so that finding faces does not dominate.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import small_run


def main():
    """Run the campaign and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, nargs="*", default=[100, 2000, 20_000])
    parser.add_argument("--minutes", type=int, nargs="*", default=[1, 12, 120])
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="large-"))
    workdir = folder / "run"
    small_run.run_or_stop(small_run.command(workdir))
    (folder / "pictures").mkdir()
    made, last = 0, 0
    for count in options.pictures:
        for number in range(made, count):
            write_picture(folder / "pictures" / f"{number:06}.jpg", number)
        made = max(made, count)
        measured = measure(workdir, folder / "pictures", "--config.faces.detector=none")
        last = show(f"{count} pictures", measured)
        assert last == count, f"{last} lines for {count} pictures"
    for minutes in options.minutes:
        film = small_run.film(folder / "film.mp4", 0, minutes * 60 * 25, size=80)
        size = film.stat().st_size / 2**20
        show(f"{minutes} minutes of video, {size:.0f} MiB", measure(workdir, film))
    shutil.rmtree(folder)


def write_picture(path: Path, seed: int) -> None:
    """A small picture, different for every seed."""
    rng = np.random.default_rng(seed)
    grid = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(grid, (64, 64), interpolation=cv2.INTER_CUBIC))


def measure(workdir: Path, source: Path, *options: str) -> tuple[float, float, int, int]:
    """Seconds to the first line and to the end, peak bytes, and the number of lines."""
    argv = small_run.command(workdir, "predict", f"--input={source}", *options)
    began, first, lines = time.monotonic(), 0.0, 0
    process = small_run.start(argv)
    for line in process.stdout:
        first = first or time.monotonic() - began
        json.loads(line)
        lines += 1
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(process.stderr.read())
    return first, time.monotonic() - began, usage.ru_maxrss * 1024, lines


def show(name: str, measured: tuple[float, float, int, int]) -> int:
    """Print one row and return the number of lines."""
    first, total, peak, lines = measured
    print(
        f"{name}: first line {first:.1f} s, all {lines} in {total:.1f} s, {peak / 2**20:.0f} MiB",
        flush=True,
    )
    return lines


if __name__ == "__main__":
    main()
