"""The same faces by Apache Beam as by this machine's processes."""

import os
import sys

import pytest
import trees

import deepfidelity_jax
from deepfidelity_datasets.ffpp.ffpp_dataset_builder import Builder
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records import staging

DIRECT = "--runner=DirectRunner --direct_num_workers=1"


@pytest.fixture
def config(tmp_path, tiny):
    trees.ffpp(tmp_path / "in", ("Deepfakes",))
    (tmp_path / "in/original_sequences/youtube/c23/videos/071.mp4").write_text("no video")
    return trees.set_up(tiny, "ffpp", tmp_path / "in", methods=("Deepfakes",))


def test_beam_gives_the_same_records(tmp_path, config, one_core):
    pytest.importorskip("apache_beam")
    rows, metadata = trees.build(Builder, config, tmp_path / "here")
    config.data.beam = DIRECT
    again, metadata_again = trees.build(Builder, config, tmp_path / "beam")
    assert [row["image"] for row in again["test"]] == [row["image"] for row in rows["test"]]
    assert {name: len(own) for name, own in again.items()} == {
        n: len(own) for n, own in rows.items()
    }
    assert metadata_again == metadata
    assert metadata["notes"]["original_sequences/youtube/c23/videos/071.mp4"].startswith(
        "not a photograph or video"
    )


def test_beam_goes_on_where_another_stopped(tmp_path, config, one_core):
    pytest.importorskip("apache_beam")
    plan = Builder.plan(config)
    folder = tmp_path / "staged"
    staging.stage(plan.sources[:5], plan.produce, folder, unit="videos")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    staging.stage(plan.sources, plan.produce, folder, unit="videos", beam=DIRECT)
    after = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    assert len(before) == 5
    assert len(after) == len(plan.sources) == 12
    assert before.items() <= after.items(), "what was there is not made again"
    assert not list(folder.glob("*.begun"))


def test_without_beam_one_is_told_what_to_install(tmp_path, config, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "deepfidelity_jax.records.beam", raising=False)
    monkeypatch.delattr(deepfidelity_jax, "cluster", raising=False)
    plan = Builder.plan(config)
    with pytest.raises(InputError, match=r"pip install 'deepfidelity_jax\[beam\]'"):
        staging.stage(plan.sources, plan.produce, tmp_path / "x", unit="videos", beam=DIRECT)
    assert os.listdir(tmp_path / "x") == []
