"""Features are kept row by row, whoever computed which part."""

import contextlib
import json
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest

import deepfidelity_jax as df
from deepfidelity_jax.files import fingerprint
from deepfidelity_jax.scoring.exported_features import (
    Features,
    export_once,
    find_test_records,
    join,
)
from deepfidelity_jax.training.checkpoint import best_step, digest_of_weights
from deepfidelity_jax.workdir import Stages


def features(n, seed=0):
    r = np.random.default_rng(seed)
    numbers = {name: r.normal(size=n).astype(np.float32)
               for name in ("fidelity", "quality", "known_quality")}  # fmt: skip
    return Features(
        feature=r.normal(size=(n, 4)).astype(np.float32),
        answers=r.uniform(size=(n, 4)).astype(np.float32),
        label=r.integers(0, 2, n).astype(np.int32),
        frame=np.arange(n, dtype=np.int32),
        method=np.array([f"method {i}" for i in range(n)]),
        video_id=np.array([f"vidéo {i}" for i in range(n)]),
        path=np.array([f"{i}.png" for i in range(n)]),
        **numbers,
    )


def assert_equal(found, expected):
    for column in fields(Features):
        left, right = getattr(found, column.name), getattr(expected, column.name)
        np.testing.assert_array_equal(left, right, strict=True)


def test_what_is_saved_comes_back(tmp_path):
    written = features(5)
    written.save(tmp_path / "deep" / "a.npz")
    assert_equal(Features.load(tmp_path / "deep" / "a.npz"), written)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.npz"]


def test_features_of_an_earlier_version_have_no_answers(tmp_path):
    path = tmp_path / "a.npz"
    features(5).save(path)
    with np.load(path) as file:
        columns = {name: file[name] for name in file.files if name != "answers"}
    np.savez(path, **columns)
    found = Features.load(path)
    assert np.isnan(found.answers).all()
    assert found.answers.shape == (5, 4)
    assert_equal(replace(found, answers=features(5).answers), features(5))


def test_answers_are_computed_where_a_head_needs_them(finished, records_folder, tmp_path):
    work = shutil.copytree(finished, tmp_path / "work")
    path = work / "features" / "synthetic_faces-test.npz"
    before = Features.load(path)
    with np.load(path) as file:
        columns = {name: file[name] for name in file.files if name != "answers"}
    np.savez(path, **columns)
    loaded = []

    def load():
        loaded.append("a detector")
        return df.load(work)

    @contextlib.contextmanager
    def timed():
        loaded.append("is timed")
        yield

    weights = digest_of_weights(work / "checkpoints", best_step(work / "checkpoints"))
    asked = (load, weights, records_folder, "synthetic_faces", "test", work)
    alone = {"mirror_average": False}
    assert np.isnan(export_once(*asked, **alone).answers).all()
    assert not loaded
    for _ in range(2):
        found = export_once(*asked, **alone, with_answers=True, timing=timed())
        np.testing.assert_allclose(found.answers, before.answers, atol=1e-5)
        assert loaded == ["a detector", "is timed"]
    export_once(load, "those of another training", *asked[2:], **alone)
    assert len(loaded) == 3, "at the same step"
    export_once(load, "those of another training", *asked[2:], mirror_average=True)
    assert len(loaded) == 4, "of the same weights, averaged over mirror images"


@pytest.mark.parametrize("changed", ["nothing", "the order", "a frame", "the number"])
def test_records_behind_an_earlier_evaluation_are_those_of_its_rows(finished, tmp_path, changed):
    """Where neither metrics.json nor the stages say what the records held."""
    work = shutil.copytree(finished, tmp_path / "work")
    place = work / "eval" / "synthetic_faces"
    (records,) = (work / "records" / "synthetic_faces").glob("*/*.*.*")
    assert find_test_records(work, "synthetic_faces") == records
    metrics = json.loads((place / "metrics.json").read_text())
    del metrics["records"]
    (place / "metrics.json").write_text(json.dumps(metrics))
    assert find_test_records(work, "synthetic_faces") is None
    named = fingerprint(records.parent.name, best_step(work / "checkpoints"), "test")
    Stages(work).finish("features synthetic_faces test", named)
    lines = (place / "predictions.csv").read_text().splitlines(keepends=True)
    if changed == "the order":
        lines[1:] = lines[:0:-1]
    elif changed == "the number":
        del lines[-1]
    elif changed == "a frame":
        path, number = lines[1].split(",")[0], lines[1].split(",")[5]
        lines[1] = lines[1].replace(f",{number},", f",{int(number) + 100},", 1)
        assert path in lines[1]
    (place / "predictions.csv").write_text("".join(lines))
    found = find_test_records(work, "synthetic_faces")
    assert found == (records if changed == "nothing" else None)


def test_parts_are_joined_in_order():
    parts = [features(3, seed=1), features(2, seed=2)]
    whole = join(parts)
    assert len(whole.label) == 5
    for column in fields(Features):
        first, second = (getattr(part, column.name) for part in parts)
        np.testing.assert_array_equal(getattr(whole, column.name)[:3], first)
        np.testing.assert_array_equal(getattr(whole, column.name)[3:], second)
