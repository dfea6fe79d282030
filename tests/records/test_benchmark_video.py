"""A video to the faces of one person: followed, counted, cut as prediction cuts them."""

import copy
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import trees

from deepfidelity_datasets.ffpp.ffpp_dataset_builder import Builder
from deepfidelity_jax.detector import predict
from deepfidelity_jax.faces import tracking
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.images import formats, pictures
from deepfidelity_jax.processes.workers import CRASHED
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records import benchmark_video
from deepfidelity_jax.records.benchmark_video import Extractor, Video, five_points, frame_number
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL
from deepfidelity_jax.records.source import Produced
from deepfidelity_jax.records.staging import stage

SETTINGS = FaceSettings(size=64, frames=4)
READY = FaceSettings(detector="none", size=48, frames=4)


def video(path, **changes):
    fields = {
        "name": path.name,
        "path": str(path),
        "label": REAL,
        "method": ORIGINAL,
        "video_id": path.stem,
        "split": "train",
    }
    return Video(**fields | changes)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """Videos of rendered people: one alone, two, one who comes late, nobody."""
    folder = tmp_path_factory.mktemp("videos")
    alone = trees.film(1)
    empty = np.full_like(alone[0], 110)
    trees.write_video(folder / "alone.mp4", alone)
    trees.write_video(folder / "two.mp4", trees.film(2, people=2))
    trees.write_video(folder / "late.mp4", [empty, *alone[1:]])
    trees.write_video(folder / "nobody.mp4", [empty] * 4)
    return folder


def test_a_person_is_followed_and_the_rest_is_counted(filmed):
    extract = Extractor(SETTINGS, Measure("iso"))
    found = {path.stem: extract(video(path)) for path in sorted(filmed.glob("*.mp4"))}
    counts = {name: produced.tally[name] for name, produced in found.items()}
    assert [face.frame for face in found["alone"].faces] == [0, 1, 2, 3]
    assert [face.frame for face in found["late"].faces] == [1, 2, 3]
    assert counts["late"]["frames without the face"] == 1
    assert counts["late"]["frames with several faces"] == 0
    # One of the two, the same in every frame.
    two = found["two"].faces
    assert len(two) == 4
    centres = [face.bbox[0] + face.bbox[2] / 2 for face in two]
    assert np.ptp(centres) < 30
    assert counts["two"]["frames with several faces"] == 4
    assert counts["two"]["frames without the face"] == 0
    assert not found["nobody"].faces
    assert found["nobody"].note == "no face"
    assert counts["nobody"]["videos without a face"] == 1
    assert counts["nobody"]["frames without the face"] == 4
    for name in counts:
        assert counts[name]["videos"] == 1
        assert counts[name]["frames"] == 4


def test_unreadable_videos_cost_themselves_only(filmed, tmp_path):
    whole = (filmed / "alone.mp4").read_bytes()
    cases = {"empty": b"", "text": b"<html>404</html>", "cut": whole[: len(whole) // 2]}
    extract = Extractor(SETTINGS, Measure("iso"))
    for name, data in cases.items():
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(data)
        produced = extract(video(path))
        assert not produced.faces
        assert produced.note
        assert produced.tally == {name: {"videos": 1, "unreadable videos": 1}}


class Watching:
    """In place of a detector: keeps the images that it is asked to score."""

    threshold, fingerprint, measure = 0.5, "", None

    def __init__(self, settings):
        self.faces, self.seen = settings, []
        calibration = Calibration(-10.0, self.threshold, "fixed")
        self.fidelity_model = SimpleNamespace(calibration=calibration, scale=None)

    def fidelity(self, images):
        self.seen.append(images)
        return np.full(len(images), 0.9, np.float32)

    def p_fake(self, scores):
        return 1 - scores

    def quality(self, images, landmarks):
        return np.full(len(images), 0.5), ""


@pytest.mark.slow
def test_prediction_sees_what_was_recorded_to_the_byte(tmp_path, tiny, one_core):
    """The whole path: a copy in the official layout, records, prediction from their metadata."""

    films = [trees.film(seed, count=3) for seed in (1, 2)]

    def write(path, seed):
        trees.write_video(path, films[seed % 2])

    trees.ffpp(tmp_path / "in", ("Deepfakes",), write=write)
    config = trees.set_up(tiny, "ffpp", tmp_path / "in", methods=("Deepfakes",))
    config.faces.detector, config.faces.size, config.faces.frames = "cascade", 64, 2
    rows, metadata = trees.build(Builder, config, tmp_path / "out")
    assert metadata["tally"]["train"]["videos"] == 4
    settings = FaceSettings(**metadata["faces"])
    paths = {row["path"] for row in rows["test"]}
    assert len(paths) == 4
    for path in paths:
        own = sorted((r for r in rows["test"] if r["path"] == path), key=lambda row: row["frame"])
        assert len(own) == 2
        extraction = tracking.extract(tmp_path / "in" / path, settings)
        crops = extraction.people[0].crops
        assert [crop.image for crop in crops] == [row["image"] for row in own]
        watching = Watching(settings)
        predict.predict(watching, tmp_path / "in" / path)
        recorded = np.stack([pictures.decode_image(row["image"]) for row in own])
        np.testing.assert_array_equal(watching.seen[0][: len(recorded)], recorded)


def write_frames(folder, numbers, sides):
    folder.mkdir(parents=True)
    for number, side in zip(numbers, sides, strict=True):
        crop = trees.numbered(5, number, side)
        cv2.imwrite(str(folder / f"{number}.png"), crop[..., ::-1])
    return [f"{folder.name}/{number}.png" for number in numbers]


def test_ready_crops_are_one_person_whatever_their_sizes(tmp_path):
    numbers, sides = [3, 20, 100, 110, 111], [48, 200, 60, 300, 48]
    names = write_frames(tmp_path / "frames" / "a", numbers, sides)
    given = video(tmp_path / "frames", video_id="a", frames=tuple(names))
    produced = Extractor(READY, Measure("none"))(given)
    assert [face.frame for face in produced.faces] == [3, 20, 110, 111]
    assert [face.path for face in produced.faces] == [f"a/{n}.png" for n in (3, 20, 110, 111)]
    for face in produced.faces:
        assert trees.told(pictures.decode_image(face.image)) == face.frame
        assert np.isnan(face.landmarks).all()
    (tmp_path / "frames" / "a" / "20.png").unlink()
    (tmp_path / "frames" / "a" / "110.png").write_bytes(b"\x89PNG half")
    produced = Extractor(READY, Measure("none"))(given)
    assert [face.frame for face in produced.faces] == [3, 111]
    assert produced.note == "2 of 4 frames unreadable"
    assert produced.tally["a"]["unreadable frames"] == 2


def test_quality_by_csv_knows_frames_and_videos(tmp_path, filmed):
    names = write_frames(tmp_path / "frames" / "a", [1, 2], [48, 48])
    given = video(tmp_path / "frames", frames=tuple(names))
    scores = Measure("csv", {"a/1.png": 0.25, "a/2.png": 0.5})
    assert [face.quality for face in Extractor(READY, scores)(given).faces] == [0.25, 0.5]
    scores = Measure("csv", {"alone.mp4": 0.75})
    produced = Extractor(READY, scores)(video(filmed / "alone.mp4"))
    assert {face.quality for face in produced.faces} == {0.75}


def test_landmarks():
    points = trees.points_81(0, side=96)
    five = five_points(points)
    np.testing.assert_allclose(five[0], points[36:42].mean(0))
    np.testing.assert_allclose(five[1], points[42:48].mean(0))
    np.testing.assert_allclose(five[2:], points[[30, 48, 54]])


def test_frames_are_known_by_their_numbers():
    assert frame_number("frames/071_054/0012.png") == 12
    assert frame_number("a/frame_7.png") == 7
    with pytest.raises(formats.MediaError, match=r"thumb\.png has no frame number"):
        frame_number("a/thumb.png")


@dataclass(frozen=True)
class Deadly:
    """Kills its process at one source, as a decoder might that meets a damaged file."""

    name: str
    split: str = "train"


def produce_or_die(source):
    if source.name == "deadly":
        assert multiprocessing.parent_process() is not None
        os._exit(11)
    return Produced([], f"read {source.name}")


@pytest.mark.slow
def test_a_crash_costs_its_source_only(tmp_path):
    sources = [Deadly(name) for name in ("a", "deadly", "b")]
    seen = stage(sources, produce_or_die, tmp_path, unit="files", workers=2)
    notes = {source.name: produced.note for source, produced in seen}
    assert notes == {name: f"read {name}" for name in "ab"} | {"deadly": CRASHED}
    # Tried again alone, it does not take this process with it.
    ((_, again),) = stage(sources[1:2], produce_or_die, tmp_path, unit="files", workers=1)
    assert again.note == CRASHED
    # Nor does one that took a whole run with it.
    place = tmp_path / "alone"
    first = multiprocessing.get_context("spawn").Process(
        target=stage, args=(sources, produce_or_die, place), kwargs={"unit": "files", "workers": 1}
    )
    first.start()
    first.join()
    assert first.exitcode == 11
    seen = stage(sources, produce_or_die, place, unit="files", workers=1)
    assert {source.name: produced.note for source, produced in seen} == notes


def test_fakes_are_labelled_fake(filmed):
    given = video(
        filmed / "alone.mp4", label=FAKE, method="Deepfakes", origins=("video/1", "video/2")
    )
    produced = Extractor(copy.copy(SETTINGS), Measure("none"))(given)
    assert {(face.label, face.method, face.origins) for face in produced.faces} == {
        (FAKE, "Deepfakes", "video/1 video/2")
    }
    assert Path(given.path).exists()


def test_a_folder_is_listed_and_the_rest_told(tmp_path):
    for name in ("b.mp4", "a.mp4", "._a.mp4", "list.txt"):
        (tmp_path / "real").mkdir(exist_ok=True)
        (tmp_path / "real" / name).write_bytes(b"")
    names, left_out = benchmark_video.list_folder(tmp_path, "real", (".mp4",))
    assert names == ["a.mp4", "b.mp4"]
    assert left_out == {
        "real/._a.mp4": "hidden",
        "real/list.txt": "not named as the dataset's .mp4 files are",
    }
