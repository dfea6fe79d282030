"""A full disk and a read-only workdir, at every stage. Needs root: it mounts a tmpfs.

    python benchmarks/reliability/disk.py

Each stage of the small run starts in a tmpfs with too little space left, in several amounts. The
command must end with one line and status 1 or 2. Then space is freed, and the same command must end
with the results of an undisturbed run. Last, the workdir is mounted read-only: one line, status 2.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import kills
import small_run

ROOM = (0, 20_000, 200_000, 1_000_000)  # bytes left when the stage starts


def main():
    """Run the campaign and print what it found."""
    folder = Path(tempfile.mkdtemp(prefix="disk-"))
    before, after, _ = kills.prepare_references(folder)
    disk, faults = folder / "disk", []
    disk.mkdir()
    stages = [*small_run.STAGES, "predict"]
    for stage in stages:
        for room in ROOM:
            fault, line = fill(disk, before[stage], stage, room, after[stage])
            faults += [f"{stage}, {room} bytes: {fault}"] if fault else []
            print(f"{stage}, {room} bytes left: {fault or 'recovered'} | {line}", flush=True)
        status, line = read_only(disk, before[stage], stage)
        if status != 2:
            faults.append(f"{stage}, read-only: status {status}")
        print(f"{stage}, read-only: status {status} | {line}", flush=True)
    print(f"\n{len(stages) * (len(ROOM) + 1)} trials, {len(faults)} faults")
    print("\n".join(faults))
    shutil.rmtree(folder)
    raise SystemExit(bool(faults))


def fill(disk: Path, source: Path, stage: str, room: int, expected: dict) -> tuple[str, str]:
    """Run a stage with `room` bytes left; return the fault and the last line of the command."""
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    mount(disk, 4 * size + 200 * 2**20)
    try:
        workdir = disk / "run"
        shutil.copytree(source, workdir)
        shutil.copytree(source.parent / "inputs", disk / "inputs")
        free = shutil.disk_usage(disk).free
        with (disk / "ballast").open("wb") as ballast:
            ballast.write(bytes(max(0, free - room)))
        argv = kills.commands(stage, workdir)
        status, _, stderr = small_run.finish(argv)
        line = last_line(stderr)
        if "Traceback" in stderr:
            return f"a traceback, status {status}", line
        if status == 0 and not kills.differing(kills.results(stage, workdir), expected):
            return "", "there was room enough"
        if status not in (1, 2) or not line.startswith("deepfidelity:"):
            return f"status {status}", line
        (disk / "ballast").unlink()
        status, _, stderr = small_run.finish(argv)
        if status:
            return f"with room again status {status}: {last_line(stderr)}", line
        differing = kills.differing(kills.results(stage, workdir), expected)
        return f"differs in {', '.join(differing[:4])}" if differing else "", line
    finally:
        subprocess.run(["umount", disk], check=True)


def read_only(disk: Path, source: Path, stage: str) -> tuple[int, str]:
    """Status and last line of a stage in a read-only workdir."""
    mount(disk, 400 * 2**20)
    try:
        shutil.copytree(source, disk / "run")
        shutil.copytree(source.parent / "inputs", disk / "inputs")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        status, _, stderr = small_run.finish(kills.commands(stage, disk / "run"))
        if "Traceback" in stderr:
            status = -1
        return status, last_line(stderr)
    finally:
        subprocess.run(["umount", disk], check=True)


def mount(disk: Path, size: int) -> None:
    """Mount a tmpfs of `size` bytes."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)


def last_line(text: str) -> str:
    """The last line of a command's output."""
    return text.strip().splitlines()[-1] if text.strip() else ""


if __name__ == "__main__":
    main()
