"""A video, a person or a picture in two splits stops a run by name, unless it is allowed."""

import json
from pathlib import Path

import numpy as np
import pytest
import trees

from deepfidelity_datasets.celeb_df.celeb_df_dataset_builder import Builder as CelebBuilder
from deepfidelity_datasets.ffpp.ffpp_dataset_builder import Builder
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.leaks import shared_sources

pytestmark = pytest.mark.usefixtures("one_core")


def built(builder_class, config, place):
    builder = builder_class.configured(config, place)
    builder.download_and_prepare()
    return Path(builder.data_path)


@pytest.fixture
def ffpp_folder(tmp_path, tiny):
    trees.ffpp(tmp_path / "in", ("Deepfakes",))
    config = trees.set_up(tiny, "ffpp", tmp_path / "in", methods=("Deepfakes",))
    return built(Builder, config, tmp_path / "out")


def test_official_splits_have_no_leak(ffpp_folder, tmp_path):
    report = tmp_path / "leaks.json"
    shared_sources.require_none(ffpp_folder, (), report)
    assert json.loads(report.read_text())["allowed"] == []


def test_people_in_two_splits_stop_a_run_unless_allowed_by_name(tmp_path, tiny):
    config = trees.set_up(tiny, "celeb_df", trees.celeb_df(tmp_path / "in"))
    config.data.splits = (0.7, 0.3, 0.0)
    folder = built(CelebBuilder, config, tmp_path / "out")
    with pytest.raises(InputError) as error:
        shared_sources.require_none(folder, (), tmp_path / "leaks.json")
    text = str(error.value)
    assert text.startswith("the person id")
    assert "is in two splits, train (Celeb-" in text
    assert " and test (Celeb-" in text
    assert "--config.leaks.allow=\"('person:train-test',)\"" in text
    assert not (tmp_path / "leaks.json").exists()
    # All of the names are needed.
    with pytest.raises(InputError, match="person:validation-test"):
        shared_sources.require_none(folder, ("person:train-test",), tmp_path / "leaks.json")
    both, report = ("person:train-test", "person:validation-test"), tmp_path / "leaks.json"
    shared_sources.require_none(folder, both, report)
    allowed = json.loads(report.read_text())["allowed"]
    assert {tuple(leak["splits"]) for leak in allowed} == {
        ("train", "test"), ("validation", "test"),
    }  # fmt: skip


def test_what_is_compared():
    owners = {
        "train": {("video", "a"): "a.mp4", ("person", "1"): "a.mp4"},
        "validation": {("video", "b"): "b.mp4", ("person", "2"): "b.mp4"},
        "test": {("video", "a"): "again.mp4", ("person", "2"): "c.mp4"},
    }
    found = shared_sources.compare(owners)
    assert [(leak.title, leak.name, leak.paths) for leak in found] == [
        ("video:train-test", "a", ("a.mp4", "again.mp4")),
        ("person:validation-test", "2", ("b.mp4", "c.mp4")),
    ]


def test_many_chunks_give_what_one_gives(ffpp_folder, monkeypatch):
    whole, names = shared_sources.read(ffpp_folder)[1]["train"], shared_sources.read(ffpp_folder)[0]
    monkeypatch.setattr(shared_sources, "CHUNK", 9)  # two chunks of 16 frames, in this process
    again = shared_sources.read(ffpp_folder)
    np.testing.assert_array_equal(again[1]["train"].hashes, whole.hashes)
    assert again[1]["train"].videos == whole.videos
    assert again[0] == names
