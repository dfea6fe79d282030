"""The lines of predict: whole, one an input, none lost or repeated whatever ended the command."""

import json
import multiprocessing
import os
import resource
from types import SimpleNamespace

import pytest

from deepfidelity_jax.detector.finding import Input, stamp
from deepfidelity_jax.detector.lines import Lines
from deepfidelity_jax.detector.predict import PersonScore, Prediction
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.processes.workers import CRASHED

DETECTOR = SimpleNamespace(fingerprint="one", threshold=0.5, faces=FaceSettings(), measure=None)
NAMES = ["a.jpg", 'comma, "quote".jpg', "new\nline\r.jpg", os.fsdecode(b"latin\xe9.jpg"), "b.txt"]
PERSON = PersonScore(0, 0.7, 0.2, None, 0.0, 1, [1.0, 2.0, 3.0, 4.0], 0.0)


@pytest.fixture
def inputs(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    return [Input(folder / name, named=True) for name in NAMES]


def predict(given, detector=DETECTOR):
    """What stands for a prediction here; the text cannot be read, in truth."""
    about = {"detector": detector.fingerprint, **stamp(given.path)}
    if given.path.suffix == ".txt":
        note = "not a photograph or video"
        return Prediction(str(given.path), "unreadable", threshold=0.5, note=note, **about)
    return Prediction(str(given.path), "real", 0.7, 0.2, 0.5, 1, [PERSON], **about)


def write(path, inputs, detector=DETECTOR):
    """One command, to its end: how many lines it had to write."""
    with Lines(str(path)) as lines:
        lines.resume(inputs, detector)
        todo = [given for given in inputs if str(given.path) not in lines.kept]
        for given in todo:
            lines.write(predict(given, detector))
    return len(todo)


@pytest.fixture(params=["jsonl", "csv"])
def output(request, tmp_path):
    return tmp_path / f"lines.{request.param}"


def test_a_finished_file_is_not_touched(output, inputs):
    assert write(output, inputs) == len(NAMES)
    before = output.read_bytes(), output.stat().st_mtime_ns, output.stat().st_ino
    assert write(output, inputs) == 0
    assert (output.read_bytes(), output.stat().st_mtime_ns, output.stat().st_ino) == before


@pytest.mark.slow
def test_cut_anywhere_it_ends_the_same(output, inputs, tmp_path):
    write(output, inputs)
    whole = output.read_bytes()
    cut = tmp_path / f"cut{output.suffix}"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        assert write(cut, inputs) > 0
        assert cut.read_bytes() == whole


def test_what_changed_is_done_again_and_told(output, inputs, capsys):
    write(output, inputs)
    inputs[1].path.write_text("another content")
    assert write(output, inputs) == 1
    assert "scored again, file has changed: 1" in capsys.readouterr().err
    assert write(output, inputs) == 0
    other = SimpleNamespace(**vars(DETECTOR) | {"fingerprint": "two"})
    assert write(output, inputs, other) == len(NAMES)
    told = f"scored again, line from another detector: {len(NAMES)}"
    assert told in capsys.readouterr().err
    # The same as of a command that had nothing to go on from.
    content = output.read_bytes()
    output.unlink()
    write(output, inputs, other)
    assert output.read_bytes() == content


def test_a_quiet_command_says_nothing(output, inputs, capsys):
    write(output, inputs)
    with Lines(str(output)) as lines:
        lines.resume(inputs, DETECTOR, quiet=True)
        assert len(lines.kept) == len(NAMES)
    assert capsys.readouterr().err == ""


def test_what_could_not_be_read_is_tried_again(tmp_path, inputs):
    """The file is the same, what can be decoded is not."""
    output, text = tmp_path / "lines.jsonl", inputs[-1]
    with Lines(str(output)) as lines:
        lines.write(predict(inputs[0]))
        known = {"threshold": 0.5, "note": "no decoder for it", "detector": "one"}
        lines.write(Prediction(str(text.path), "unreadable", **known, **stamp(text.path)))
    assert write(output, [inputs[0], text]) == 1
    kept, again = [json.loads(line) for line in output.read_text().splitlines()]
    assert kept["input"] == str(inputs[0].path)
    assert again["note"] == "not a photograph or video"


def crash(given, settings, measure):
    """Stands for a decoder that a file kills, with its process."""
    assert multiprocessing.parent_process() is not None
    os._exit(1)


@pytest.mark.slow
def test_a_file_that_crashed_a_process_is_tried_again_in_another(tmp_path, inputs, monkeypatch):
    monkeypatch.setattr("deepfidelity_jax.detector.finding.find", crash)
    monkeypatch.setattr("deepfidelity_jax.detector.predict.find", crash)
    output, text = tmp_path / "lines.jsonl", inputs[-1]
    known = {"threshold": 0.5, "note": CRASHED, "detector": "one"}
    with Lines(str(output)) as lines:
        lines.write(Prediction(str(text.path), "unreadable", **known, **stamp(text.path)))
    assert write(output, [text]) == 0, "the line is as it was"


def test_lines_of_other_inputs_stay(output, inputs, capsys):
    write(output, inputs[:2])
    inputs[2].path.write_text("another content")
    assert write(output, inputs[1:]) == len(NAMES) - 2
    assert "kept, about other inputs: 1" in capsys.readouterr().err
    before = output.read_bytes()
    assert write(output, inputs) == 0
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.jsonl", b"one line without an end"),
        ("notes.txt", b"hello\n"),
        ("photo.jpg", b"\xff\xd8\xff\x00\n\x01\n"),
        ("other.csv", b"path,score\na.jpg,1\n"),
        ("list.json", b"[]\n"),
    ],
)
def test_another_file_is_left_alone(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not written by --mode=predict"):
        Lines(str(path))
    assert path.read_bytes() == content


def test_one_command_at_a_time(tmp_path, inputs):
    path = tmp_path / "lines.jsonl"
    write(path, inputs)
    inputs[0].path.write_text("changed")
    with Lines(str(path)) as lines:
        for prepare in (lambda: None, lambda: lines.resume(inputs, DETECTOR)):
            prepare()  # the second time another file takes its place
            with pytest.raises(InputError, match="another command is writing"):
                Lines(str(path))
    assert write(path, inputs) == 1


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none" / "x", tmp_path, tmp_path / "file" / "x"):
        with pytest.raises(InputError, match=f"--output={path} cannot be written"):
            Lines(str(path))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_written_leaves_nothing(tmp_path):
    with pytest.raises(InputError), Lines(str(tmp_path / "x.jsonl")):
        raise InputError("the workdir holds no detector")
    assert not list(tmp_path.iterdir())
    with Lines(os.devnull) as lines:
        lines.write(Prediction("a.jpg", "no face"))


def test_a_full_disk_leaves_whole_lines(output, inputs):
    write(output, inputs)
    whole = output.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for length in (len(whole) - 5, len(whole) // 2, 10, 0):
        output.unlink()
        resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                write(output, inputs)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        there = output.read_bytes() if output.exists() else b""
        assert whole.startswith(there)
        assert not there or there.endswith(b"\n")
        write(output, inputs)
        assert output.read_bytes() == whole
