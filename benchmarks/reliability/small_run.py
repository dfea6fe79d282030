"""The smallest run through every stage, and its commands as real processes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from deepfidelity_datasets.synthetic_faces import renderer

TREE = Path(__file__).parents[2]
STAGES = ("prepare", "train", "fit", "evaluate")
OPTIONS = {
    "data.identities": 6,
    "data.clips": 1,
    "faces.frames": 2,
    "faces.size": 64,
    "model.image_size": 32,
    "train.steps": 20,
    "train.batch_size": 8,
    "train.warmup_steps": 4,
    "train.learning_rate": 1e-4,
    "train.log_every": 1,
    "train.eval_every": 10,
    "train.checkpoint_every": 5,
    "eval.batch_size": 8,
    "eval.bootstrap": 20,
}


def command(workdir: Path, mode: str = "run", *options: str, **changed) -> list[str]:
    """The argument list of a command on the small run; `changed` replaces options."""
    argv = [sys.executable, str(TREE / "run.py"), f"--workdir={workdir}", f"--mode={mode}"]
    if mode != "predict":
        argv.append(f"--config={TREE / 'configs' / 'demo.py'}")
        argv += [f"--config.{name}={value}" for name, value in (OPTIONS | changed).items()]
    return [*argv, *options]


def start(argv: Sequence[str], quiet: bool = False) -> subprocess.Popen:
    """Start a command in its own process group, on one CPU device."""
    out = subprocess.DEVNULL if quiet else subprocess.PIPE
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
    }
    return subprocess.Popen(
        argv,
        env=environment,
        stdout=out,
        stderr=out,
        text=True,
        start_new_session=True,
    )


def finish(argv: Sequence[str]) -> tuple[int, str, str]:
    """Run a command to its end: exit status, stdout, stderr."""
    process = start(argv)
    stdout, stderr = process.communicate()
    return process.returncode, stdout, stderr


def run_or_stop(argv: Sequence[str]) -> str:
    """Run a command that must succeed, and return its stdout."""
    status, stdout, stderr = finish(argv)
    if status:
        raise SystemExit(f"{' '.join(argv)}\nended with status {status}:\n{stderr}")
    return stdout


def portrait(seed: int, size: int = 240) -> UInt8[np.ndarray, "h w 3"]:
    """A picture with a rendered face that the cascade finds, RGB."""
    rng = np.random.default_rng(seed)
    person, scene = renderer.sample_identity(rng), renderer.sample_scene(rng)
    picture = rng.integers(90, 130, (size * 2, size * 2 + 160, 3), dtype=np.uint8)
    face, *_ = renderer.render(person, scene, renderer.sample_poses(rng, 1)[0], size)
    top, left = size // 2, size // 2 + 80
    picture[top : top + size, left : left + size] = face
    return picture


def film(path: Path, seed: int, frames: int, *, codec: str = "mp4v", size: int = 240) -> Path:
    """A video of one rendered face that moves sideways."""
    picture = portrait(seed, size)
    height, width = picture.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, (width, height))
    for number in range(frames):
        writer.write(np.roll(picture, number % 40, axis=1)[..., ::-1])
    writer.release()
    return path
