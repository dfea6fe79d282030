"""Mode predict: one strict JSON line for every input, good or bad."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import cv2
import pytest
import trees
from conftest import assert_told
from PIL import Image

KEYS = {
    "input", "status", "fidelity", "p_fake", "threshold", "frames", "faces", "note", "detector",
    "bytes", "modified",
}  # fmt: skip

PERSON = {"person", "fidelity", "p_fake", "quality", "spread", "frames", "bbox", "time"}


def strict(line):
    """JSON without NaN."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(line, parse_constant=refuse)


def test_predict_without_a_detector(run, tmp_path, finished):
    work = f"--workdir={tmp_path}"
    image = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(image)
    assert_told(run("--mode=predict", work), "--input=PATH is missing")
    assert_told(run("--mode=predict", work, f"--input={image}"), "no trained detector")
    (tmp_path / "empty").mkdir()
    good = f"--workdir={finished}"
    missing = f"--input={tmp_path / 'missing.jpg'}"
    assert_told(run("--mode=predict", good, missing), "missing.jpg", "no such file")
    empty = f"--input={tmp_path / 'empty'}"
    assert_told(run("--mode=predict", good, empty), "no photograph or video")


def test_predict_lists_what_it_cannot_score(run, finished, tmp_path):
    """Nothing in a folder is passed over in silence, and nothing special is opened."""
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(folder / "deeper" / "picture", format="PNG")
    os.mkfifo(folder / "fifo")
    (folder / "dangling.jpg").symlink_to("nowhere")
    (folder / "circle").symlink_to("circle")
    (folder / "deeper" / "up").symlink_to("..")
    for name in ("a.txt", "b.txt", "README", ".hidden"):
        (folder / name).write_text("words")
    predict = ["--mode=predict", f"--workdir={finished}", "--config.faces.detector=none"]
    status, out, error = run(*predict, f"--input={folder}")
    assert status == 0, error
    notes = {Path(line["input"]).name: line for line in map(strict, out.splitlines())}
    assert notes.keys() == {"picture", "fifo", "dangling.jpg", "circle", "up"}
    assert notes.pop("picture")["status"] in ("real", "uncertain", "fake")
    assert {line["status"] for line in notes.values()} == {"unreadable"}
    for name, note in (("fifo", "a FIFO"), ("dangling.jpg", "nothing"), ("circle", "circle")):
        assert note in notes[name]["note"]
    assert error.endswith("; not scored: 2 .txt, 1 hidden, 1 without extension\n")
    assert " uncertain, 0 no face, 4 unreadable;" in error
    # Given by name, each has its line, whatever it is.
    named = [f"--input={folder / name}" for name in ("fifo", "a.txt")]
    status, out, error = run(*predict, *named, "--quiet")
    assert (status, error) == (0, "")
    assert [strict(line)["status"] for line in out.splitlines()] == ["unreadable"] * 2
    for name in ("circle", "dangling.jpg", "deeper"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "fifo").unlink()
    assert_told(run(*predict, f"--input={folder}"), "no photograph or video", "2 .txt")


def test_how_faces_are_found_can_be_changed(run, finished, tmp_path):
    image = tmp_path / "a.png"
    Image.fromarray(trees.draw_person(3)).save(image)
    predict = ["--mode=predict", f"--workdir={finished}", f"--input={image}"]
    status, out, error = run(*predict, "--config.faces.detector=none")
    assert status == 0, error
    assert strict(out)["faces"][0]["bbox"] == [0, 0, 640, 480]
    for options, told in (
        (["detector=magic"], "magic"),
        (["frames=0"], "config.faces.frames is 0"),
        (["frames=many"], "many"),
        (["detector=yunet"], "ONNX file"),
        (["detector=yunet", f"yunet={image}"], "not a YuNet ONNX file"),
        ([f"yunet={image}"], "--config.faces.detector=yunet"),
    ):
        output = f"--output={tmp_path / 'x.jsonl'}"
        result = run(*predict, output, *(f"--config.faces.{option}" for option in options))
        assert_told(result, told)
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGKILL, 2), (signal.SIGTERM, 1)])
def test_predict_goes_on_where_it_was_ended(number, workers, run, command, finished, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    picture = Image.fromarray(trees.draw_person(1).repeat(4, 0).repeat(4, 1))
    picture.save(folder / "0.bmp")
    for index in range(1, 60):
        os.link(folder / "0.bmp", folder / f"{index}.bmp")
    predict = ["--mode=predict", str(folder), "--config.faces.detector=none"]
    there, whole = (f"--output={tmp_path / name}" for name in ("there.jsonl", "whole.jsonl"))
    status, _, error = run(*predict, f"--workdir={finished}", whole)
    assert status == 0, error

    output = tmp_path / "there.jsonl"
    process = command(finished, *predict, there, f"--workers={workers}", tiny=False).start()
    while not output.exists() or not output.stat().st_size:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(number)
    out, error = process.communicate()
    assert out == ""
    if number == signal.SIGKILL:
        assert error == ""
    else:
        assert process.returncode == 1
        assert error == "deepfidelity: interrupted: run the same command again to continue\n"
    before = output.read_bytes()
    assert 0 < before.count(b"\n") < 60
    status, out, error = run(*predict, f"--workdir={finished}", there)
    assert (status, out) == (0, ""), error
    assert "there.jsonl: kept: " in error
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_standard_input_and_exit_status(command, finished, tmp_path):
    picture = tmp_path / "a.png"
    Image.fromarray(trees.draw_person(3)).save(picture)
    predict = ["--mode=predict", "-", "--config.faces.detector=none", "--exit_code"]
    given = command(finished, *predict, tiny=False)
    for source in (picture, Path(os.devnull)):
        with source.open("rb") as file:
            done = subprocess.run(
                given.argv, env=given.environment, stdin=file, capture_output=True
            )
        line = strict(done.stdout)
        expected = {"real": 0, "fake": 3}.get(line["status"], 4)
        assert (line["input"], done.returncode) == ("-", expected)
    assert line["status"] == "unreadable"


def test_predict_tells_every_input(run, finished, tmp_path):
    """Good and bad pictures, a wall, a video: one line each, in order, and no score made up."""
    folder = tmp_path / "in"
    folder.mkdir()
    reasons = trees.bad_files(folder)
    people = next(n for n in range(20) if _finds(trees.draw_person(n)))
    Image.fromarray(trees.draw_person(people)).save(folder / "person.jpg", quality=95)
    Image.new("RGB", (320, 240), (120, 110, 100)).save(folder / "wall.png")
    writer = cv2.VideoWriter(
        str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (640, 480)
    )
    for _ in range(4):
        writer.write(cv2.cvtColor(trees.draw_person(people), cv2.COLOR_RGB2BGR))
    writer.release()
    single = tmp_path / "other.png"
    Image.fromarray(trees.draw_person(people)).save(single)

    inputs = [f"--input={folder}", f"--input={single}"]
    status, out, error = run("--mode=predict", f"--workdir={finished}", *inputs)
    assert status == 0, error
    lines = [strict(line) for line in out.splitlines()]
    expected = [str(path) for path in [*sorted(folder.iterdir()), single]]
    assert [line["input"] for line in lines] == expected
    by_name = {line["input"].rsplit("/", 1)[1]: line for line in lines}
    for line in lines:
        assert line.keys() == KEYS
    for name, reason in reasons.items():
        line = by_name[name]
        assert line["status"] == "unreadable"
        assert reason in line["note"]
        assert (line["fidelity"], line["p_fake"], line["faces"]) == (None, None, [])
    wall = by_name["wall.png"]
    assert (wall["status"], wall["note"], wall["frames"]) == ("no face", "no face", 1)
    assert (wall["fidelity"], wall["p_fake"], wall["faces"]) == (None, None, [])
    for name, frames in (("person.jpg", 1), ("clip.mp4", 2), ("other.png", 1)):
        line = by_name[name]
        verdict = "real" if line["fidelity"] >= line["threshold"] else "fake"
        assert line["status"] in (verdict, "uncertain")
        assert line["frames"] == frames
        assert len(line["faces"]) == 1
        (person,) = line["faces"]
        assert person.keys() == PERSON
        assert person["fidelity"] == line["fidelity"]
        assert person["frames"] == frames
        assert 0 <= person["p_fake"] <= 1
        assert 0 <= person["quality"] <= 1
        x, y, width, height = person["bbox"]
        assert abs(x + width / 2 - 320) < 60
        assert abs(y + height / 2 - 240) < 60

    written = tmp_path / "lines.jsonl"
    predict = ["--mode=predict", f"--workdir={finished}"]
    status, out, error = run(*predict, *inputs, f"--output={written}")
    assert (status, out) == (0, ""), error
    assert [strict(line) for line in written.read_text().splitlines()] == lines
    table = tmp_path / "lines.csv"
    status, out, error = run(*predict, *inputs, f"--output={table}", "--quiet")
    assert (status, out, error) == (0, "", "")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["input"] for row in rows] == expected
    for row, line in zip(rows, lines, strict=True):
        assert row["status"] == line["status"]
        assert row["fidelity"] == ("" if line["fidelity"] is None else str(line["fidelity"]))
        assert int(row["people"]) == len(line["faces"])


def _finds(image):
    from deepfidelity_jax.faces.detection import CONFIDENT, FaceSettings, detect

    found = detect(image, FaceSettings())
    return sum(face.score >= CONFIDENT for face in found) == 1
