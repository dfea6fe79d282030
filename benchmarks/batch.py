"""Predicting many photographs, compared with only decoding them and finding their faces.

    python benchmarks/batch.py [--input=FOLDER] [--count=2000] [--rounds=2]

`one look` searches each photograph once. `as predict looks` searches again, with a border and
turned, if the first search finds nobody for sure. Nothing else is done: no crop, no quality, no
network. All forms use the same number of processes and take turns, so that a busy machine affects
all equally. Without a folder, photographs with one rendered face each are written first.
"""

import argparse
import contextlib
import tempfile
import time
from collections import deque
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
from reliability import small_run

from deepfidelity_jax.detector import finding
from deepfidelity_jax.detector.load import load
from deepfidelity_jax.detector.predict import examine_all
from deepfidelity_jax.faces import tracking
from deepfidelity_jax.faces.detection import FaceSettings, detect
from deepfidelity_jax.images import formats, media, pictures, videos
from deepfidelity_jax.processes.machine import count_cores
from deepfidelity_jax.processes.workers import submit, worker_pool

RENDERED = 64


def is_photograph(path: Path) -> bool:
    """Whether a file is one, by its content."""
    with contextlib.suppress(formats.MediaError):
        return media.identify(path) == "image"
    return False


def look(path: Path, settings: FaceSettings) -> int:
    """How many faces one look finds in a photograph."""
    return len(detect(pictures.read_image(path), settings))


def look_again(path: Path, settings: FaceSettings) -> int:
    """How many faces are found as `predict` looks for them."""
    probe = tracking._Probe(1, settings)
    frame = videos.Frame(0, 0.0, pictures.read_image(path))
    faces, turn = probe(frame), probe.better_turn()
    if turn is not None:
        faces = tracking._look(tracking._turned(frame.image, turn), settings)
    return len(faces)


def look_at_all(look, paths: list[Path], settings: FaceSettings, workers: int) -> int:
    """How many faces all photographs have."""
    waiting, count = deque(), 0
    with worker_pool(workers) as pool:
        for path in paths:
            waiting.append(submit(pool, look, path, settings))
            if len(waiting) >= finding.AHEAD * workers:
                count += waiting.popleft().result()
        return count + sum(future.result() for future in waiting)


def main():
    """Let both take turns, and print photographs per second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=count_cores())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = options.input
        if folder is None:
            folder = Path(place)
            for number in range(RENDERED):
                picture = np.ascontiguousarray(small_run.portrait(number)[..., ::-1])
                cv2.imwrite(str(folder / f"{number}.jpg"), picture)
        photographs = [path for path in media.list_files(folder).files if is_photograph(path)]
        paths = list(islice(cycle(photographs), options.count))
        inputs = [finding.Input(path) for path in paths]
        detector = load()
        list(examine_all(detector, inputs[:8]))  # compiles

        def predict():
            return sum(1 for _ in examine_all(detector, inputs, options.workers))

        forms = {
            "one look": lambda: look_at_all(look, paths, detector.faces, options.workers),
            "as predict looks": lambda: look_at_all(
                look_again, paths, detector.faces, options.workers
            ),
            "predict": predict,
        }
        best = dict.fromkeys(forms, float("inf"))
        for _ in range(options.rounds):
            for name, form in forms.items():
                start = time.perf_counter()
                form()
                best[name] = min(best[name], time.perf_counter() - start)
        print(f"{options.count} photographs, {options.workers} processes")
        for name, seconds in best.items():
            share = best["as predict looks"] / seconds
            print(f"{name}: {options.count / seconds:.1f} per second, {share:.2f}")


if __name__ == "__main__":
    main()
