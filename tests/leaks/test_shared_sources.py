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
from deepfidelity_jax.leaks.look_alikes import Resemblance
from deepfidelity_jax.records.schema import Records

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
    both, report = ("person:train-test", "person:validation-test"), tmp_path / "leaks.json"
    assert f'--config.leaks.allow="{both}"' in text
    assert not (tmp_path / "leaks.json").exists()
    # All of the names are needed, and those given already are told again.
    with pytest.raises(InputError) as error:
        shared_sources.require_none(folder, ("person:train-test",), report)
    assert f'--config.leaks.allow="{both}"' in str(error.value)
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
    assert len(whole.hashes) == len(whole.videos) == len(Records(ffpp_folder, "train")) == 16
    monkeypatch.setattr(shared_sources, "CHUNK", 9)  # two chunks of 16 frames, in this process
    again = shared_sources.read(ffpp_folder)
    np.testing.assert_array_equal(again[1]["train"].hashes, whole.hashes)
    assert again[1]["train"].videos == whole.videos
    assert again[0] == names


def test_a_picture_in_two_splits_goes_by_its_digest(records_folder):
    """The name is the first 16 digits of its SHA-256; a training picture may be a clean source."""
    for split, part in (("train", "sources"), ("test", "test")):
        for digest in list(shared_sources.digests_of(records_folder, part))[:2]:
            found = shared_sources._find_pictures(records_folder, split, {int(digest[:16], 16)})
            assert list(found) == [("picture", digest[:16])]


def test_clean_sources_are_not_look_alikes_of_their_own_fakes(records_folder):
    looks = shared_sources.read(records_folder)[1]
    assert set(looks) == {"train", "validation", "test"}


def test_look_alikes_are_named_by_the_first_pair():
    first = Resemblance(("train", "test"), ("a", "b"), 3)
    other = Resemblance(("train", "test"), ("c", "d"), 1)
    said = shared_sources._describe_look_alikes([first, other])
    assert said.endswith("2 pairs, such as a (train) and b (test), in 3 frames")
    said = shared_sources._describe_look_alikes([other])
    assert said.endswith("1 pair, such as c (train) and d (test)")
