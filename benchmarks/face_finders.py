"""Compare the face detectors on your photographs and videos, all upright, with a face in each.

python benchmarks/face_finders.py --pictures FOLDER ... --videos FOLDER --yunet ONNX
    [--finders NAME ...] [--most N] [--json FILE]

Prints the share of pictures, and of frames of videos, in which a face is found the right way up: as
they are, cut tight around YuNet's box, and halved in size; the share of frames of each video in
which its main person is found; false faces in drawn pictures without one; and frames of 640x480 per
second of one core.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from deepfidelity_jax.faces import detection, tracking
from deepfidelity_jax.images import pictures, videos

VIDEO_FRAMES = 20
EMPTY = 50  # pictures without a face
ROUNDS = 30  # frames timed


def search(
    image: UInt8[np.ndarray, "h w 3"], settings: detection.FaceSettings
) -> tracking.Extraction:
    """Find the faces as in preparation and prediction."""
    return tracking.follow(lambda: [videos.Frame(0, 0.0, image)], 1, settings)


def is_found(image: UInt8[np.ndarray, "h w 3"], settings: detection.FaceSettings) -> bool:
    """Whether an upright face is found."""
    found = search(image, settings)
    return bool(found.people) and not found.note


def cut_tight(
    image: UInt8[np.ndarray, "h w 3"], yunet: detection.FaceSettings
) -> UInt8[np.ndarray, "a b 3"] | None:
    """The square around YuNet's best box, cut off at the border; None without a box."""
    faces = detection.detect(image, yunet)
    if not faces:
        return None
    (x, y), half = faces[0].centre, faces[0].size / 2
    rows = slice(max(0, round(y - half)), round(y + half))
    return np.ascontiguousarray(image[rows, max(0, round(x - half)) : round(x + half)])


def halve(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "a b 3"]:
    """The picture at half its size."""
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def draw_empty(number: int) -> UInt8[np.ndarray, "480 640 3"]:
    """A picture without a face: noise, blots, waves, blocks, or a sky over hills, in turn."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:480, :640].astype(float)
    kind, size = number % 5, 2.0 ** rng.uniform(0, 5)
    if kind == 0:
        image = rng.normal(128, 50, (480, 640, 3))
    elif kind == 1:
        image = 128 + 60 * size * cv2.GaussianBlur(rng.normal(size=(480, 640, 3)), (0, 0), size)
    elif kind == 2:
        turns = rng.uniform(-0.2, 0.2, (2, 2))
        waves = np.sin(x * turns[0, 0] + y * turns[0, 1]) + np.sin(x * turns[1, 0] - y)
        image = 128 + 50 * waves[..., None] * rng.uniform(0.5, 1, 3)
    elif kind == 3:
        image = np.full((480, 640, 3), 128.0)
        for _ in range(200):
            left, top, width, height = rng.integers(0, (640, 480, 120, 120))
            image[top : top + height, left : left + width] = rng.uniform(0, 255, 3)
    else:
        hills = 240 + sum(60 / n * np.sin(x * n / 90 + rng.uniform(0, 6)) for n in range(1, 6))
        ground = rng.normal((90, 110, 60), 25, (480, 640, 3))
        image = np.where((y > hills)[..., None], ground, [120, 150, 220] + y[..., None] / 6)
    return np.clip(image, 0, 255).astype(np.uint8)


def read_folder(folder: Path, most: int) -> Iterator[np.ndarray]:
    """Evenly spaced JPEG and PNG pictures of a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in (".jpg", ".png")]
    for number in videos.spread_indices(len(paths), min(most, len(paths))):
        yield pictures.read_image(paths[number])


def compare_pictures(
    what: str,
    images: Iterable[np.ndarray],
    finders: list[detection.FaceSettings],
    yunet: detection.FaceSettings,
) -> dict[str, dict[str, float]]:
    """Share of the pictures with a face found, by kind of picture and detector."""
    rows: dict[str, dict[str, list[bool]]] = {}
    for image in images:
        views = {"": image, ", tight": cut_tight(image, yunet)}
        views |= {f"{n}, halved": halve(view) for n, view in views.items() if view is not None}
        for name, view in views.items():
            row = rows.setdefault(what + name, {finder.detector: [] for finder in finders})
            for settings in finders if view is not None else []:
                row[settings.detector].append(is_found(view, settings))
    return {name: {k: float(np.mean(v)) for k, v in row.items()} for name, row in rows.items()}


def time_finder(settings: detection.FaceSettings, images: list[np.ndarray]) -> float:
    """Frames per second of one core, in processor time."""
    cv2.setNumThreads(1)
    took = []
    for number in range(-3, ROUNDS):
        start = time.process_time()
        detection.detect(images[number % len(images)], settings)
        took.append(time.process_time() - start)
    return 1 / statistics.median(took[3:])


def main() -> None:
    """Print a table: what was searched, and a column for each detector."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", nargs="*", type=Path, default=[])
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--yunet", required=True, help="ONNX file of the YuNet detector")
    parser.add_argument("--finders", nargs="*", default=["mtcnn", "yunet", "cascade"])
    parser.add_argument("--most", type=int, default=400, help="pictures of a folder")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    settings = [
        detection.FaceSettings(name, arguments.yunet, frames=VIDEO_FRAMES)
        for name in arguments.finders
    ]
    yunet = detection.FaceSettings("yunet", arguments.yunet)
    rows: dict[str, dict[str, float]] = {}
    for folder in arguments.pictures:
        images = read_folder(folder, arguments.most)
        rows |= compare_pictures(folder.name, images, settings, yunet)
    paths = sorted(arguments.videos.rglob("*.mp4")) if arguments.videos else []
    if paths:
        shown = (frame.image for path in paths for frame in videos.read_frames(path, VIDEO_FRAMES))
        rows |= compare_pictures("frames of videos", shown, settings, yunet)
    for path in paths:
        row = rows[str(path.relative_to(arguments.videos))] = {}
        for finder in settings:
            extraction = tracking.extract(path, finder)
            row[finder.detector] = (
                max((len(p.crops) for p in extraction.people), default=0) / extraction.frames
            )
    empty = [draw_empty(number) for number in range(EMPTY)]
    rows["false faces"] = {
        finder.detector: float(np.mean([bool(search(image, finder).people) for image in empty]))
        for finder in settings
    }
    frames = empty
    if arguments.pictures:
        frames = [empty[4].copy() for _ in range(10)]
        for frame, image in zip(frames, read_folder(arguments.pictures[0], 10), strict=False):
            frame[80:400, 160:480] = cv2.resize(image, (320, 320), interpolation=cv2.INTER_AREA)
    rows["frames per second"] = {
        finder.detector: time_finder(finder, frames) for finder in settings
    }
    for name, row in rows.items():
        print(f"{name:<30}" + "".join(f"{k:>10} {v:6.3f}" for k, v in row.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
