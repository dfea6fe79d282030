"""Preparing and reading records, each compared with the least work that is needed.

python benchmarks/preparation.py [--videos FILE ...] [--yunet ONNX] [--json FILE]

Preparation: from videos to face crops on one core (decode, detect, track, crop, encode, measure
quality), compared with plain OpenCV that decodes the same frames and detects faces in them; in CPU
time, which other programs on the machine hardly change. Without --videos, rendered people in
640x480. Reading: batches of decoded and resized records through Grain, compared with a bare loop
over encoded images in memory, in one process and in two independent ones. The two sides take turns.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import grain
import numpy as np
import tensorflow_datasets as tfds
from absl import flags

from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.faces import detection
from deepfidelity_jax.forgeries import augment
from deepfidelity_jax.images import pictures
from deepfidelity_jax.images.videos import spread_indices, video_info
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records import schema, write
from deepfidelity_jax.records.benchmark_builder import RecordsBuilder
from deepfidelity_jax.records.benchmark_video import Extractor, Video
from deepfidelity_jax.records.schema import ORIGINAL, REAL
from deepfidelity_jax.records.source import Face

ROUNDS = 3
RECORDED, SHOWN, BATCH = 256, 224, 64


def film(path: Path, seed: int, count: int = 96) -> Path:
    """A video of one rendered person moving in front of a wall."""
    rng = np.random.default_rng(seed)
    person, scene = renderer.sample_identity(rng), renderer.sample_scene(rng)
    frames = [
        renderer.render(person, scene, pose, 240)[0] for pose in renderer.sample_poses(rng, 8)
    ]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (640, 480))
    wall = rng.integers(90, 130, (480, 640, 3), dtype=np.uint8)
    for number in range(count):
        picture, left = wall.copy(), 100 + number
        picture[120:360, left : left + 240] = frames[number * 8 // count]
        writer.write(picture[..., ::-1])
    writer.release()
    return path


def decode_and_detect(path: Path, settings: detection.FaceSettings) -> int:
    """The least work: read the same frames by cv2.VideoCapture and run the detector on each."""
    indices = spread_indices(video_info(path).frames, settings.frames)
    video, at, count = cv2.VideoCapture(str(path)), 0, 0
    for index in indices:
        while at < index:
            video.grab()
            at += 1
        _, image = video.read()
        at += 1
        detection.detect(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), settings)
        count += 1
    return count


def time_preparation(paths: list[Path], settings: detection.FaceSettings) -> dict:
    """Frames per second of one core, for plain OpenCV and for a builder's work; and their ratio."""
    cv2.setNumThreads(1)
    extract = Extractor(settings, Measure("iso"))
    took = {"plain": [], "prepared": []}
    frames = sum(decode_and_detect(path, settings) for path in paths)
    for _ in range(ROUNDS):
        for name in took:
            start = time.process_time()
            for path in paths:
                if name == "plain":
                    decode_and_detect(path, settings)
                else:
                    extract(Video(path.name, str(path), REAL, ORIGINAL, path.name, "train"))
            took[name].append(time.process_time() - start)
    plain, prepared = (frames / statistics.median(times) for times in took.values())
    return {"plain": plain, "prepared": prepared, "ratio": prepared / plain}


class BenchmarkFaces(RecordsBuilder):
    """Sixteen rendered faces, repeated."""

    VERSION = tfds.core.Version("1.0.0")
    COUNT = 3200

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=schema.features())

    def _split_generators(self, dl_manager):
        return {"test": self._examples()}

    def _examples(self):
        rng = np.random.default_rng(0)
        person, scene = renderer.sample_identity(rng), renderer.sample_scene(rng)
        images = [
            pictures.encode_image(renderer.render(person, scene, pose, RECORDED)[0])
            for pose in renderer.sample_poses(rng, 16)
        ]
        for n in range(self.COUNT):
            face = Face("test", images[n % 16], n % 2, "original", "v", n, str(n), 0.5)
            yield str(n), write.record(face, None)


def show(record) -> np.ndarray:
    """The image that evaluation makes from a record."""
    return augment.center_crop(pictures.decode_image(record["image"]), SHOWN, 1.0)


class Shown:
    """`show` as a class: Grain's worker processes import this file under another name."""

    def __call__(self, record):
        """The image of a record."""
        return show(record)


def through_grain(folder: Path, workers: int) -> Iterator[np.ndarray]:
    """Batches from worker processes; with workers=0, from a thread of this process."""
    dataset = grain.MapDataset.source(schema.Records(folder, "test")).map(Shown()).batch(BATCH)
    if not workers:
        return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1)))
    stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
    return iter(stream.mp_prefetch(options))


def read_bare(encoded: list[bytes], batches: int) -> None:
    """The least work: batches from images in memory."""
    for _ in range(batches):
        np.stack([show({"image": encoded[n % 16]}) for n in range(BATCH)])


def time_reading(folder: Path) -> dict:
    """Images per second for bare loops and Grain, and the ratios to a bare loop in one process."""
    opened = schema.Records(folder, "test")
    encoded = [opened[index]["image"] for index in range(16)]
    skipped, timed = 4, 24  # batches; workers start during the first
    took = {"bare": [], "bare, 2 processes": [], "thread": [], "2 workers": []}
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    for _ in range(ROUNDS):
        start = time.perf_counter()
        read_bare(encoded, timed)
        took["bare"].append(time.perf_counter() - start)
        with ProcessPoolExecutor(2, spawn) as pool:
            list(pool.map(read_bare, [encoded] * 2, [skipped] * 2))
            start = time.perf_counter()
            list(pool.map(read_bare, [encoded] * 2, [timed // 2] * 2))
            took["bare, 2 processes"].append(time.perf_counter() - start)
        for name, workers in (("thread", 0), ("2 workers", 2)):
            batches = through_grain(folder, workers)
            for _ in range(skipped):
                next(batches)
            start = time.perf_counter()
            for _ in range(timed):
                next(batches)
            took[name].append(time.perf_counter() - start)
            del batches
    rates = {name: timed * BATCH / statistics.median(times) for name, times in took.items()}
    return rates | {f"ratio, {name}": rates[name] / rates["bare"] for name in list(rates)[1:]}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", nargs="*", type=Path, default=[])
    parser.add_argument("--yunet", default="", help="ONNX file of the YuNet detector")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    tfds.disable_progress_bar()
    results = {}
    with tempfile.TemporaryDirectory() as place:
        videos = arguments.videos or [film(Path(place) / f"{n}.mp4", n) for n in range(3)]
        detectors = {"mtcnn": {}, "cascade": {}} | (
            {"yunet": {"yunet": arguments.yunet}} if arguments.yunet else {}
        )
        for detector, options in detectors.items():
            settings = detection.FaceSettings(detector=detector, size=RECORDED, **options)
            results[f"frames per second of a core, {detector}"] = time_preparation(videos, settings)
        builder = BenchmarkFaces(data_dir=Path(place) / "records", file_format="array_record")
        builder.download_and_prepare()
        results["images per second"] = time_reading(Path(builder.data_path))
    for title, values in results.items():
        print(title)
        for name, value in values.items():
            print(f"  {name:<20} {value:10.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
