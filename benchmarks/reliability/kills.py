"""Kill commands at random moments and run them again: results must be equal to the last bit.

    python benchmarks/reliability/kills.py [--count=200] [--seed=0] [--folder=DIR]

Each trial starts one stage of the small run, kills it several times with SIGKILL, SIGTERM or SIGINT
at random moments, then lets the same command finish. The results are compared with those of an
undisturbed run: every field of every record, every array of every checkpoint, features, regressor,
metrics, and the lines of predictions.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import cv2
import jax
import numpy as np
import small_run
from orbax.checkpoint import v1 as ocp

from deepfidelity_jax.records import schema

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KILLS_A_TRIAL = 6
# Timings, which differ between two equal runs.
CLOCKS = ("images_per_s",)


def main():
    """Run the campaign and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; emptied at the end")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    rng = random.Random(options.seed)

    before, after, seconds = prepare_references(folder)
    stages = [*small_run.STAGES, "predict"]
    sent = {(stage, number.name): 0 for stage in stages for number in SIGNALS}
    faults, kills, trial = [], 0, 0
    while kills < options.count:
        stage = stages[trial % len(stages)]
        workdir = folder / f"trial-{trial}"
        shutil.copytree(before[stage], workdir)
        argv = commands(stage, workdir)
        for _ in range(KILLS_A_TRIAL):
            number = rng.choice(SIGNALS)
            if not end_at(argv, rng.uniform(0.1, 1.0) * seconds[stage], number):
                break
            kills += 1
            sent[stage, number.name] += 1
        status, _, stderr = small_run.finish(argv)
        fault = None
        if status:
            fault = f"status {status}: {stderr.strip().splitlines()[-1:]}"
        elif names := differing(results(stage, workdir), after[stage]):
            fault = f"differs in {', '.join(names[:5])}"
        if fault:
            faults.append(f"trial {trial}, {stage}: {fault}")
        print(f"{kills} kills, trial {trial}, {stage}: {fault or 'equal'}", flush=True)
        shutil.rmtree(workdir)
        trial += 1

    print(f"\n{kills} kills in {trial} trials, {len(faults)} trials with another result")
    for stage in stages:
        shown = ", ".join(f"{sent[stage, number.name]} {number.name}" for number in SIGNALS)
        print(f"  {stage}: {shown}")
    print("\n".join(faults))
    shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(bool(faults))


def prepare_references(folder: Path):
    """An undisturbed run: the workdir before each stage, its results, and its seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    make_inputs(folder / "inputs")
    before, after, seconds = {}, {}, {}
    workdir = folder / "reference"
    workdir.mkdir()
    for stage in [*small_run.STAGES, "predict"]:
        before[stage] = folder / f"before-{stage}"
        shutil.copytree(workdir, before[stage])
        small_run.run_or_stop(commands(stage, workdir))
        after[stage] = results(stage, workdir)
        # Again, to time it with compiled programs and files cached.
        again = folder / "again"
        shutil.copytree(before[stage], again)
        began = time.monotonic()
        small_run.run_or_stop(commands(stage, again))
        seconds[stage] = time.monotonic() - began
        shutil.rmtree(again)
        print(f"{stage}: {seconds[stage]:.1f} s, {len(after[stage])} results", flush=True)
    return before, after, seconds


def make_inputs(folder: Path) -> None:
    """Photographs, a video, a text file and a damaged photograph."""
    folder.mkdir()
    for seed in range(12):
        cv2.imwrite(str(folder / f"{seed}.jpg"), small_run.portrait(seed)[..., ::-1])
    small_run.film(folder / "film.mp4", 12, 30)
    (folder / "notes.txt").write_text("no picture")
    (folder / "cut.jpg").write_bytes((folder / "0.jpg").read_bytes()[:2000])


def commands(stage: str, workdir: Path) -> list[str]:
    """The command of a stage."""
    if stage != "predict":
        return small_run.command(workdir, stage)
    inputs = workdir.parent / "inputs"
    return small_run.command(
        workdir, "predict", f"--input={inputs}", f"--output={workdir / 'lines.jsonl'}"
    )


def end_at(argv: list[str], seconds: float, number: signal.Signals) -> bool:
    """Start a command and signal it after some seconds; False if it had already ended."""
    process = small_run.start(argv)
    time.sleep(seconds)
    alive = process.poll() is None
    if alive and number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal sends it
    elif alive:
        process.send_signal(number)
    try:
        process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise SystemExit(f"{number.name} did not end {' '.join(argv)} in two minutes") from None
    return alive


def results(stage: str, workdir: Path) -> dict[str, str]:
    """A digest of each result of a stage, by name."""
    if stage == "prepare":
        return dict(of_records(next((workdir / "records").glob("*/*/*.*.*"))))
    if stage == "train":
        return of_checkpoints(workdir / "checkpoints") | of_log(workdir / "metrics.jsonl")
    if stage == "fit":
        tables = [workdir / "fidelity.npz", *(workdir / "features").glob("*.npz")]
        return {f"{path.name}:{name}": content for path in tables for name, content in arrays(path)}
    if stage == "evaluate":
        return {path.name: of(path.read_bytes()) for path in (workdir / "eval").rglob("*.*")}
    text = (workdir / "lines.jsonl").read_text(encoding="utf-8")
    lines = text.replace(str(workdir.parent), "").splitlines()
    return {f"line {i}: {json.loads(line)['input']}": of(line) for i, line in enumerate(lines)}


def of(value: bytes | str) -> str:
    """A short digest."""
    return sha256(value.encode() if isinstance(value, str) else value).hexdigest()[:16]


def arrays(path: Path):
    """Name and digest of each array of an .npz file."""
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            yield name, of(file[name].tobytes())


def of_records(folder: Path):
    """Name and digest of every record, in order, and of the metadata.

    The files themselves are not compared: ArrayRecord writes equal records as different bytes.
    """
    for split in sorted(schema.splits_of(folder)):
        source = schema.Records(folder, split)
        for index in range(len(source)):
            fields = source[index]
            yield f"{split} {index}", of(b"".join(field_bytes(fields[key]) for key in fields))
    yield "metadata", of((folder / "metadata.json").read_bytes())


def field_bytes(value) -> bytes:
    """A field of a record as bytes."""
    return value if isinstance(value, bytes) else np.asarray(value).tobytes()


def of_checkpoints(folder: Path) -> dict[str, str]:
    """A digest of every array in every checkpoint, and of its notes."""
    digests = {}
    for path in folder.iterdir():
        state = ocp.load(path.absolute())
        for key_path, leaf in jax.tree_util.tree_leaves_with_path(state):
            digests[f"{path.name}{jax.tree_util.keystr(key_path)}"] = of(np.asarray(leaf).tobytes())
        notes = ocp.metadata(path.absolute()).custom_metadata
        digests[f"{path.name} notes"] = of(json.dumps(notes, sort_keys=True))
    return digests


def of_log(path: Path) -> dict[str, str]:
    """A digest of each line of metrics.jsonl, without timings."""
    digests = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        values = {k: v for k, v in json.loads(line).items() if k not in CLOCKS}
        digests[f"log line {number}"] = of(json.dumps(values, sort_keys=True))
    return digests


def differing(actual: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Names that only one side has, or whose digests differ."""
    return sorted(
        name for name in actual.keys() | expected.keys() if actual.get(name) != expected.get(name)
    )


if __name__ == "__main__":
    main()
