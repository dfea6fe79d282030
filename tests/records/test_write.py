"""Staged faces to records: the target of each face, and the same records after any interruption."""

import os
import signal
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from conftest import DEMO, OPTIONS

from deepfidelity_datasets.synthetic_faces.synthetic_faces_dataset_builder import Builder
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.records import schema, write
from deepfidelity_jax.records.schema import FAKE, REAL
from deepfidelity_jax.records.source import Face, Produced
from deepfidelity_jax.records.staging import stage
from deepfidelity_jax.records.write import Recipe


@dataclass(frozen=True)
class Number:
    """A source."""

    name: str
    split: str = "train"


def make_face(name, frame, **changes):
    fields = {"split": "train", "image": b"", "method": "original", "path": f"{name}.png"}
    return Face(**fields | {"video_id": name, "frame": frame} | changes)


def test_a_record_of_a_face():
    scale = FidelityScale(fake_quality=(0.0, 1.0), real_quality=(10.0, 20.0))
    face = make_face("a", 1, quality=15.0, label=REAL)
    record = write.record(face, scale)
    assert record["fidelity"] == pytest.approx(0.8)
    assert record["label"] == "real"
    assert "split" not in record
    face = make_face("a", 1, quality=0.5, label=FAKE)
    assert write.record(face, scale)["fidelity"] == pytest.approx(0.2)


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


@pytest.mark.slow
def test_two_that_prepare_the_same_records_end_in_the_same(command, records_folder, tmp_path):
    """The second comes while the first, stopped for as long, has faces staged."""
    shared = tmp_path / "records"
    both = [
        command(tmp_path / name, "--mode=prepare", f"--config.data.records_dir={shared}")
        for name in ("one", "two")
    ]
    first = both[0].start()
    end = time.monotonic() + 120
    while not list(shared.glob("synthetic_faces/*/*.staging/*.npz")):
        assert first.poll() is None, first.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGSTOP)
    second = both[1].start()
    said = next((line for line in second.stderr if "waiting until it ends" in line), None)
    os.killpg(first.pid, signal.SIGCONT)
    for process in (first, second):
        _, error = process.communicate()
        assert process.returncode == 0, error
    assert said
    (found,) = shared.glob("synthetic_faces/*/[0-9]*.*.*")
    np.testing.assert_equal(read_all(found), read_all(records_folder))
    assert {path.name for path in found.parent.iterdir()} == {found.name, ".lock"}


@pytest.mark.slow
def test_finished_records_are_not_written_to(run, records_folder, tmp_path):
    """They may belong to someone else."""
    before = {path: path.stat().st_mtime_ns for path in records_folder.parent.rglob("*")}
    place = f"--config.data.records_dir={records_folder.parents[2]}"
    status, _, error = run(DEMO, *OPTIONS, place, "--mode=prepare", f"--workdir={tmp_path}")
    assert status == 0, error
    assert before == {path: path.stat().st_mtime_ns for path in records_folder.parent.rglob("*")}


def test_targets_are_fitted_to_training_faces_alone(tiny):
    recipe = Recipe.from_config(tiny)
    recipe = replace(recipe, fake=(0.0, 0.4), real=(0.6, 1.0), percentile=0.0)
    rows = [
        ("train", 1.0, FAKE), ("train", 3.0, FAKE), ("train", 10.0, REAL), ("train", 20.0, REAL),
        ("validation", 2.0, FAKE), ("validation", 20.0, REAL),
        ("test", 0.5, FAKE), ("test", 3.5, FAKE), ("test", 15.0, REAL),
    ]  # fmt: skip
    fitted, clipped = write.fit_targets(rows, recipe)
    assert fitted.fake_quality == (1.0, 3.0)
    assert fitted.real_quality == (10.0, 20.0)
    assert clipped == {"train": 0, "validation": 0, "test": 2}
    assert write.fit_targets([row for row in rows if row[0] == "test"], recipe) == (None, {})


def test_targets_by_rank_and_the_fingerprint_of_linear_ones(tiny):
    """Records made before there was a choice keep their folder."""
    linear = Recipe.from_config(tiny)
    assert set(linear.to_json()["fidelity"]) == {"fake", "real", "percentile"}
    tiny.fidelity.mapping = "rank"
    recipe = Recipe.from_config(tiny)
    assert recipe.to_json()["fidelity"]["mapping"] == "rank"
    rows = [("train", float(2**n), label) for n in range(9) for label in (FAKE, REAL)]
    fitted, _ = write.fit_targets(rows, replace(recipe, percentile=0.0))
    middle = write.record(make_face("a", 0, quality=16.0, label=REAL), fitted)["fidelity"]
    assert middle == pytest.approx(0.8, abs=1e-3)
    assert "real_ranks" not in write.fit_targets(rows, linear)[0].to_dict()


def test_targets_of_one_quality_range_for_both_classes(tiny):
    tiny.fidelity.quality_range = "both"
    recipe = replace(Recipe.from_config(tiny), percentile=0.0)
    assert recipe.to_json()["fidelity"]["quality_range"] == "both"
    rows = [("train", 0.0, FAKE), ("train", 2.0, FAKE), ("train", 1.0, REAL), ("train", 4.0, REAL)]
    fitted, _ = write.fit_targets([*rows, ("test", 9.0, REAL)], recipe)
    best = write.record(make_face("a", 0, quality=2.0, label=FAKE), fitted)["fidelity"]
    assert best == pytest.approx(0.2)


def test_faces_without_a_quality_are_named_not_counted(tmp_path):
    faces = [
        Face("train", b"1", FAKE, "swap", "v", 0, "a.png", 0.5),
        Face("train", b"2", REAL, "original", "w", 0, "b.png", float("nan")),
        Face("test", b"3", REAL, "original", "x", 0, "c.png", 0.7),
    ]
    sources = [Number("a")]
    stage(sources, lambda _: Produced(faces), tmp_path, unit="numbers", workers=1)
    scored, unscored = write.count_faces(sources, tmp_path, "no score")
    assert scored.rows == [("train", 0.5, FAKE), ("test", 0.7, REAL)]
    assert scored.methods == {"train": {"swap": 1}, "test": {"original": 1}}
    assert unscored == {"b.png": "no score"}
    assert scored.names == {"a", "a.png", "c.png"}
