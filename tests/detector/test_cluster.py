"""The same verdicts by Apache Beam as by this machine."""

import os
import sys

import pytest
import trees
from conftest import assert_told
from PIL import Image

import deepfidelity_jax as df
from deepfidelity_jax.detector.finding import Input

DIRECT = "--beam=--runner=DirectRunner --direct_num_workers=1"


@pytest.mark.slow
def test_beam_writes_the_same_lines(run, finished, tmp_path):
    pytest.importorskip("apache_beam")
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(trees.draw_person(number)).save(folder / f"{number}.png")
    (folder / "bad.jpg").write_bytes(b"bad")
    (folder / "notes.txt").write_text("words")
    predict = ["predict", folder, f"--workdir={finished}", "--config.faces.detector=none"]
    outputs = [tmp_path / name for name in ("here.jsonl", "beam.jsonl")]
    told = []
    for output, options in zip(outputs, ([], [DIRECT]), strict=True):
        status, out, error = run(*predict, f"--output={output}", *options)
        assert (status, out) == (0, ""), error
        told.append(error.splitlines()[-1])
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    # Once more: nothing is left to do, and the end is the same.
    status, _, error = run(*predict, f"--output={outputs[1]}", DIRECT)
    assert status == 0, error
    assert error.splitlines()[-1] == told[0]
    assert told[0] == told[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beam.jsonl", "here.jsonl", "in"]


@pytest.mark.slow
def test_files_that_change_after_they_were_predicted_have_their_verdicts(tmp_path):
    pytest.importorskip("apache_beam")
    from deepfidelity_jax.detector.cluster import predict_on_cluster

    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    for path in paths:
        path.write_bytes(b"bad")
    inputs = [Input(path, named=True) for path in paths]
    options = DIRECT.removeprefix("--beam=")
    found = predict_on_cluster(df.load(), inputs, "", tmp_path / "kept", options)
    assert next(found).status == "unreadable"
    os.utime(paths[1], (1, 1))
    paths[2].unlink()
    assert [one.input for one in found] == [str(path) for path in paths[1:]]


def test_without_beam_one_is_told_what_to_install(run, finished, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "deepfidelity_jax.detector.cluster", raising=False)
    picture = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(picture)
    result = run("predict", picture, f"--workdir={finished}", f"--output={tmp_path / 'x'}", DIRECT)
    assert_told(result, "pip install 'deepfidelity_jax[beam]'")
    assert not (tmp_path / "x").exists()
