"""Preparation: parallel, killed and resumed without a trace, nothing left out in silence."""

import os
import signal
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from deepfidelity_datasets.synthetic_faces.synthetic_faces_dataset_builder import Builder
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.records import schema, write
from deepfidelity_jax.records.schema import FAKE, REAL
from deepfidelity_jax.records.source import (
    Face,
    Produced,
    count_reasons,
    describe,
    require_both_classes,
)
from deepfidelity_jax.records.staging import rate, stage, staged
from deepfidelity_jax.records.write import Recipe


@dataclass(frozen=True)
class Number:
    """A source with `count` faces."""

    name: str
    count: int = 2
    split: str = "train"


def make_face(name, frame, **changes):
    fields = {
        "split": "train",
        "image": f"{name}/{frame}".encode() * (frame + 1),
        "label": frame % 2,
        "method": "original",
        "video_id": name,
        "frame": frame,
        "path": f"{name}.png",
        "quality": 0.25 * frame,
        "landmarks": np.full((5, 2), frame, np.float32),
    }
    return Face(**fields | changes)


def produce(source):
    """Faces that tell where they come from; nothing of the source named `none`."""
    note = "nothing in it" if source.name == "none" else ""
    count = 0 if note else source.count
    faces = [make_face(source.name, frame) for frame in range(count)]
    return Produced(faces, note, {source.name: {"frames": source.count}})


def assert_same_faces(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in Face.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
            assert type(getattr(one, name)) is type(getattr(other, name)), name


def test_staged_faces_are_those_produced(tmp_path):
    sources = [Number("b", 3), Number("none"), Number("a", 1), Number("zero", 0)]
    seen = stage(sources, produce, tmp_path, unit="numbers", workers=1)
    assert [source for source, _ in seen] == sources
    assert [produced.note for _, produced in seen] == ["", "nothing in it", "", ""]
    assert [produced.tally for _, produced in seen] == [
        {s.name: {"frames": s.count}} for s in sources
    ]
    expected = [face for source in sources for face in produce(source).faces]
    assert_same_faces(list(staged(sources, tmp_path)), expected)


def test_what_is_staged_is_not_produced_again(tmp_path):
    sources = [Number(name) for name in "abcd"]
    stage(sources[:2], produce, tmp_path, unit="numbers", workers=1)
    (tmp_path / "half.1234").write_bytes(b"a killed write")
    asked = []

    def watched(source):
        asked.append(source.name)
        return produce(source)

    stage(sources, watched, tmp_path, unit="numbers", workers=1)
    assert asked == ["c", "d"]
    expected = [face for source in sources for face in produce(source).faces]
    assert_same_faces(list(staged(sources, tmp_path)), expected)


def test_an_error_keeps_what_was_done(tmp_path):
    def fails(source):
        if source.name == "c":
            raise OSError("the disk is gone")
        return produce(source)

    sources = [Number(name) for name in "abcd"]
    with pytest.raises(OSError, match="disk"):
        stage(sources, fails, tmp_path, unit="numbers", workers=1)
    assert len(list(tmp_path.glob("*.npz"))) == 2


class Counted:
    """A measure of many faces, and how many it was given each time; fails when told to."""

    def __init__(self, calls=99):
        self.calls, self.given = calls, []

    def __call__(self, images, landmarks):
        assert len(images) == len(landmarks)
        self.given.append(len(images))
        if len(self.given) > self.calls:
            raise OSError("the device is gone")
        found = np.array(
            [len(image) + points[0, 0] for image, points in zip(images, landmarks, strict=True)]
        )
        return np.where(found > 160, np.nan, found).astype(np.float32)


def test_staged_faces_are_rated_together(tmp_path):
    sources = [Number("a", 50), Number("none"), Number("b", 50), Number("zero", 0), Number("c", 3)]
    stage(sources, produce, tmp_path, unit="numbers", workers=1)
    before = list(staged(sources, tmp_path))
    measure = Counted()
    rate(sources, tmp_path, measure, unit="numbers")
    assert measure.given == [100, 3], "many at once, across sources"
    after = list(staged(sources, tmp_path))
    for one, other in zip(before, after, strict=True):
        expected = len(one.image) + one.frame
        expected = expected if expected <= 160 else np.nan
        np.testing.assert_equal(other.quality, expected)
        assert type(other.quality) is float
    assert 0 < np.isnan([face.quality for face in after]).sum() < len(after)
    assert_same_faces([replace(face, quality=0.0) for face in after],
                      [replace(face, quality=0.0) for face in before])  # fmt: skip
    again = Counted()
    rate(sources, tmp_path, again, unit="numbers")
    assert again.given == []


def test_rating_goes_on_where_it_stopped(tmp_path):
    sources = [Number(name, 40) for name in "abcdef"]
    stage(sources, produce, tmp_path, unit="numbers", workers=1)
    with pytest.raises(OSError, match="device"):
        rate(sources, tmp_path, Counted(calls=2), unit="numbers")
    rest = Counted()
    rate(sources, tmp_path, rest, unit="numbers")
    assert rest.given == [80], "four of six were rated before"
    stage(sources, produce, tmp_path / "other", unit="numbers", workers=1)
    rate(sources, tmp_path / "other", Counted(), unit="numbers")
    assert_same_faces(list(staged(sources, tmp_path)), list(staged(sources, tmp_path / "other")))


def test_the_same_picture_is_rated_once(tmp_path):
    def twice(source):
        (face,) = produce(source).faces
        return Produced([face, replace(face, split="sources")])

    measure = Counted()
    stage([Number("a", 1)], twice, tmp_path, unit="numbers", workers=1)
    rate([Number("a", 1)], tmp_path, measure, unit="numbers")
    assert measure.given == [1]
    first, second = staged([Number("a", 1)], tmp_path)
    assert first.quality == second.quality == len(first.image)


def test_a_record_of_a_face():
    scale = FidelityScale(fake_quality=(0.0, 1.0), real_quality=(10.0, 20.0))
    face = make_face("a", 1, quality=15.0, label=REAL)
    record = write.record(face, scale)
    assert record["fidelity"] == pytest.approx(0.8)
    assert record["label"] == "real"
    assert "split" not in record
    face = make_face("a", 1, quality=0.5, label=FAKE)
    assert write.record(face, scale)["fidelity"] == pytest.approx(0.2)


def test_each_split_needs_both_classes():
    full = {"original": 1, "swap": 1}
    require_both_classes({name: full for name in ("train", "validation", "test")})
    for missing in ("original", "swap"):
        lacking = {key: value for key, value in full.items() if key != missing}
        found = {"train": full, "validation": full, "test": lacking}
        name = "real" if missing == "original" else "fake"
        with pytest.raises(InputError, match=f"no {name} face was found for the test split"):
            require_both_classes(found)
    with pytest.raises(InputError, match="validation"):
        require_both_classes({"train": full, "test": full})


def test_long_lists_of_notes_are_cut():
    text = describe({f"{n:02d}.jpg": "truncated JPEG" for n in range(25)})
    assert text.count("truncated JPEG") == 10
    assert "and 15 more" in text


def test_notes_are_counted_in_one_line():
    notes = dict.fromkeys(map(str, range(5)), "hidden") | {"x": "no face", "a": "truncated JPEG"}
    assert count_reasons(notes) == "5 hidden, 1 no face, 1 truncated JPEG"
    assert count_reasons(notes, limit=1) == "5 hidden, 2 for other reasons"
    assert describe(notes, limit=2).startswith("  a: truncated JPEG\n  x: no face\n")


def test_recipes_that_cannot_be(tiny):
    tiny.quality.measure = "beauty"
    with pytest.raises(InputError, match="'beauty': one of"):
        Recipe.from_config(tiny)
    tiny.quality.measure, tiny.quality.csv = "csv", "/no/such.csv"
    with pytest.raises(InputError, match="/no/such.csv"):
        Recipe.from_config(tiny)
    tiny.quality.measure = "ser_fiq"
    with pytest.raises(InputError, match="config.quality.weights is '', which is no file"):
        Recipe.from_config(tiny)


def test_a_recipe_tells_its_measure(tiny, tmp_path):
    """By the content of the weights, wherever they lie."""
    tiny.quality.measure = "ser_fiq"
    told = []
    for name, content in (("a.pth", b"1"), ("b.pth", b"1"), ("c.pth", b"2")):
        (tmp_path / name).write_bytes(content)
        tiny.quality.weights = str(tmp_path / name)
        told.append(Recipe.from_config(tiny).to_json()["quality"])
    assert told[0]["measure"] == "ser_fiq"
    assert told[0]["weights"] == sha256(b"1").hexdigest()
    assert told[0] == told[1] != told[2]
    tiny.quality.measure = "iso"
    assert "weights" not in Recipe.from_config(tiny).to_json()["quality"]


def read_all(folder):
    """Every record of every split, in order, and the files that people read."""
    splits = {}
    for split in schema.splits_of(folder):
        opened = schema.Records(folder, split)
        splits[split] = [opened[index] for index in range(len(opened))]
    return splits, schema.metadata_of(folder)


def test_killed_and_started_again_leaves_the_same_records(command, tiny, records_folder, tmp_path):
    """A real process with its workers, killed while faces wait for the records."""
    preparing = command(tmp_path, "--mode=prepare")
    process = preparing.start()
    place = tmp_path / "records" / "synthetic_faces"
    end = time.monotonic() + 120
    while len(list(place.glob("*/*.staging/*.npz"))) < 1:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    waiting = {p: p.stat().st_mtime_ns for p in place.glob("*/*.staging/*.npz")}
    assert 1 <= len(waiting) < 6
    staging = write.staging_folder(Builder.configured(tiny, tmp_path / "records"))
    assert {path.parent for path in waiting} == {staging}, "where the next run looks for them"
    assert not list(place.glob("*/*/dataset_info.json"))
    done = preparing.finish()
    assert done.returncode == 0, done.stderr
    assert "prepared 6 of 6 clips" in done.stderr
    (found,) = place.glob("*/[0-9]*.*.*")  # TFDS leaves what the killed one began
    assert found.parent.name == records_folder.parent.name
    (splits, metadata), (expected, expected_metadata) = read_all(found), read_all(records_folder)
    np.testing.assert_equal(splits, expected)  # to the byte of every image; NaN is NaN
    assert metadata == expected_metadata
    left = [path.name for path in place.rglob("*") if "staging" in path.name]
    assert not left, "staged faces are removed with the last record"
    assert Path(tmp_path / "config.json").exists()


def test_workers_do_not_outlive_a_killed_preparation(command, tmp_path):
    preparing = command(tmp_path, "--mode=prepare")
    process = preparing.start()
    staging = tmp_path / "records" / "synthetic_faces"
    while not list(staging.glob("*/*.staging/*.npz")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    try:
        while group_is_alive(process.pid):
            assert time.monotonic() < end, "workers still run"
            time.sleep(0.1)
    finally:
        if group_is_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def group_is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
