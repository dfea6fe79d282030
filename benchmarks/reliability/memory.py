"""Peak memory of preparation and prediction, by size of one file and by number of files.

    python benchmarks/reliability/memory.py [--plot=docs/memory.svg] [--megabytes 10 100 1000 4000]
        [--pictures 100 1000 5000 20000]

Either a photograph, a video and another file are padded to a given size and put beside two dozen
photographs, or there is a given number of photographs. The folder is prepared, prepared again
(which finds it done) and predicted. The peak is that of the largest process; it must not grow.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import large
import small_run
from matplotlib.figure import Figure

SMALL = 24
MIB = 2**20
COMMANDS = ("prepare", "prepare again", "predict")


def main():
    """Run the campaign, print one row per size, and draw the charts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--megabytes", type=int, nargs="*", default=[10, 100, 1000, 4000])
    parser.add_argument("--pictures", type=int, nargs="*", default=[100, 1000, 5000, 20_000])
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="memory-"))
    workdir = folder / "run"
    small_run.run_or_stop(small_run.command(workdir))

    photographs, made = folder / "photographs", 0
    made = add_photographs(photographs, made, SMALL)
    over_size = {}
    for megabytes in options.megabytes:
        add_big_files(photographs, megabytes * 10**6)
        over_size[megabytes] = measure(photographs, workdir, folder / "prepared")
        show(f"three files of {megabytes:,} MB", over_size[megabytes])
    for path in photographs.rglob("big.*"):
        path.unlink()
    over_count = {}
    for count in options.pictures:
        made = add_photographs(photographs, made, count)
        over_count[count] = measure(photographs, workdir, folder / "prepared")
        show(f"{count:,} photographs", over_count[count])
    shutil.rmtree(folder)
    if options.plot:
        draw(over_size, over_count).savefig(options.plot, metadata={"Date": None})


def add_photographs(folder: Path, made: int, count: int) -> int:
    """Add small photographs in two classes until there are `count`; return their number."""
    for number in range(made, count):
        split, label = ("train", "val", "test")[number // 2 % 3], ("real", "fake")[number % 2]
        path = folder / split / label / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        large.write_picture(path, number)
    return max(made, count)


def add_big_files(folder: Path, size: int) -> None:
    """A photograph, a video and another file, extended to `size` bytes by holes."""
    place = folder / "train" / "real"
    shutil.copy(place / "000000.jpg", place / "big.jpg")
    small_run.film(place / "big.mp4", 0, 25, size=80)
    (place / "big.bin").write_bytes(b"neither")
    for path in place.glob("big.*"):
        os.truncate(path, size)


def measure(photographs: Path, workdir: Path, prepared: Path) -> dict[str, tuple[int, float]]:
    """Peak bytes and seconds of each command on the photographs."""
    shutil.rmtree(prepared, ignore_errors=True)
    prepare = [
        sys.executable,
        str(small_run.TREE / "run.py"),
        f"--config={small_run.TREE / 'configs' / 'folder.py'}",
        f"--workdir={prepared}",
        "--mode=prepare",
        f"--config.data.dir={photographs}",
        "--config.data.group=file",  # a few of 20,000 such pictures look alike
        "--config.faces.detector=none",
        "--config.faces.size=64",
    ]
    predict = small_run.command(
        workdir,
        "predict",
        f"--input={photographs}",
        f"--output={prepared / 'lines.jsonl'}",
        "--config.faces.detector=none",
    )
    return dict(zip(COMMANDS, map(peak, (prepare, prepare, predict)), strict=True))


def peak(argv: list[str]) -> tuple[int, float]:
    """Peak resident memory of a command's largest process in bytes, and its seconds."""
    began = time.monotonic()
    process = small_run.start(argv, quiet=True)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(argv)} ended with status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024, time.monotonic() - began


def show(name: str, peaks: dict[str, tuple[int, float]]) -> None:
    """Print one row."""
    columns = (f"{key} {x / MIB:.0f} MiB in {s:.0f} s" for key, (x, s) in peaks.items())
    print(f"{name}: {', '.join(columns)}", flush=True)


def draw(over_size: dict, over_count: dict) -> Figure:
    """Two charts of peak memory: by size of a file, by number of files."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    named = {"size of each of three files, MB": over_size, "photographs": over_count}
    for axis, (name, rows) in zip(axes, named.items(), strict=True):
        for command in COMMANDS:
            peaks = [row[command][0] / MIB for row in rows.values()]
            axis.plot(list(rows), peaks, marker="o", label=command)
        axis.set(xscale="log", xlabel=name)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("peak memory of a process, MiB")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
