"""Cold and warm start of real commands: `python benchmarks/startup.py [--variant=tiny]`.

Measures the time from the command to its first training step, and to its first verdict: cold, with
an empty `<workdir>/cache`, and warm, with the cache that the cold start left. Records are prepared
beforehand. Losses and verdicts must be equal to the last digit. Besides wall time it reports the
CPU time of the whole command, which other programs on the machine change less.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from deepfidelity_datasets.synthetic_faces import renderer

TREE = Path(__file__).parents[1]


def run(workdir, *options, until=None):
    """Run a command: ((seconds until a line starts with `until`, CPU seconds), its lines)."""
    command = [sys.executable, str(TREE / "run.py"), f"--workdir={workdir}", *options]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    start, cores, seconds, lines = time.perf_counter(), time_children(), None, []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            lines.append(line)
            if seconds is None and until and line.startswith(until):
                seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit("".join(lines))
    return (seconds, time_children() - cores), lines


def time_children():
    """CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def draw_face():
    """A picture with a rendered face that the detector finds, RGB."""
    rng = np.random.default_rng(0)
    person, scene = renderer.sample_identity(rng), renderer.sample_scene(rng)
    picture = rng.integers(90, 130, (480, 640, 3), dtype=np.uint8)
    face, *_ = renderer.render(person, scene, renderer.sample_poses(rng, 1)[0], 240)
    picture[120:360, 200:440] = face
    return picture


def main():
    """Print the table, and write it to --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="tiny", choices=("large", "base", "small", "tiny"))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        changes = {
            "data.identities": 6, "data.clips": 1, "faces.frames": 2, "faces.size": options.size,
            "data.records_dir": folder / "records", "model.variant": options.variant,
            "model.image_size": options.size, "train.steps": 3, "train.batch_size": 8,
            "train.log_every": 1, "eval.batch_size": 8, "eval.bootstrap": 20,
        }  # fmt: skip
        config = [f"--config={TREE / 'configs' / 'demo.py'}"]
        config += [f"--config.{name}={value}" for name, value in changes.items()]
        run(folder / "prepared", *config, "--mode=prepare")
        cv2.imwrite(str(folder / "face.png"), draw_face()[..., ::-1])
        times, outcomes = {}, {}
        for start in ("cold", "warm"):
            workdir = folder / start
            if start == "warm":
                shutil.copytree(folder / "cold" / "cache", workdir / "cache")
            seconds, _ = run(workdir, *config, "--mode=train", until="step 1/")
            metrics = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            times["first training step", start] = seconds
            outcomes[start] = [json.loads(line).get("loss") for line in metrics]
        run(folder / "cold", *config)  # fits the regressor
        shutil.rmtree(folder / "cold" / "cache")
        lines = {}
        for start in ("cold", "warm"):
            arguments = ("--mode=predict", f"--input={folder / 'face.png'}")
            times["first verdict", start], lines[start] = run(
                folder / "cold", *arguments, until="{"
            )
        if json.loads(lines["cold"][-1])["status"] not in ("real", "fake"):
            raise SystemExit(f"no face was found, so nothing was scored: {lines['cold']}")
        equal = outcomes["cold"] == outcomes["warm"] and lines["cold"] == lines["warm"]
    for (what, start), (seconds, cores) in times.items():
        print(f"{what:22} {start:6} {seconds:7.1f} s, {cores:7.1f} s of CPU time")
    print("losses and output", "equal" if equal else f"DIFFER: {outcomes} {lines}")
    if options.json:
        rows = [
            {"what": w, "start": s, "wall_s": t, "cores_s": c} for (w, s), (t, c) in times.items()
        ]
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"variant": options.variant, "equal": equal, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
