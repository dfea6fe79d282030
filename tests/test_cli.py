"""The command line: exit status, one line for each wrong input, strict JSON for the rest."""

import csv
import json
import os
import shutil
import signal
import struct
import time
import zlib
from pathlib import Path

import cv2
import joblib
import numpy as np
import pytest
from conftest import DEMO, TINY, TREE
from PIL import Image
from sklearn.svm import SVR

from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.cli import main
from deepfidelity_jax.workdir import held

FOLDER = f"--config={TREE / 'configs' / 'folder.py'}"
OPTIONS = [f"--config.{key}={value}" for key, value in TINY.items()]
KEYS = {
    "input", "status", "fidelity", "p_fake", "threshold", "frames", "faces", "note", "detector",
    "bytes", "modified",
}  # fmt: skip
PERSON = {"person", "fidelity", "p_fake", "quality", "spread", "frames", "bbox", "time"}


@pytest.fixture
def run(capfd):
    """Run a command: exit status, stdout, stderr."""

    def run(*argv):
        status = main(["run.py", *map(str, argv)])
        return status, *capfd.readouterr()

    return run


def assert_told(result, *parts):
    """Exit 2, nothing on stdout, one line on stderr that says all the parts."""
    status, out, error = result
    assert status == 2, error
    assert out == ""
    assert error.count("\n") == 1, error
    assert error.startswith("deepfidelity: ")
    for part in parts:
        assert str(part) in error


def test_wrong_usage(run, tmp_path):
    work = f"--workdir={tmp_path / 'work'}"
    assert_told(run(DEMO), "--workdir=DIR is missing")
    assert_told(run(work), "--config=configs/NAME.py is missing")
    assert_told(run(DEMO, work, "--mode=dance"), "dance", "predict")
    assert_told(run(DEMO, work, "extra"), "extra")
    assert_told(run(DEMO, work, "--colour=red"), "colour")
    assert_told(run(DEMO, work, "--config.train.step=3"), "'step'", "'steps'")
    assert_told(run(DEMO, work, "--config.train.steps=many"), "many")
    assert_told(run("--config=configs/missing.py", work), "configs/missing.py")
    assert_told(run(DEMO, work, "--processes=2"), "--coordinator=HOST:PORT", "go together")
    three = ["--coordinator=127.0.0.1:1", "--processes=2", "--process=2"]
    assert_told(run(DEMO, work, *three), "--process=2 of --processes=2")
    assert_told(run(DEMO, work, *three, "--distributed"), "leave out --coordinator")
    assert_told(run("--mode=predict", work, *three), "predict", "not for several processes")
    assert_told(run(DEMO, work, "--config.train.accumulate=3"), "accumulate is 3", "batch_size")
    assert not (tmp_path / "work").exists()


def test_flags_that_a_mode_has_no_use_for(run, tmp_path):
    work, predict = f"--workdir={tmp_path / 'work'}", "--mode=predict"
    for flag in ("--output=x", "--input=x", "--quiet", "--noema"):
        told = flag.split("=")[0]
        for mode in ("run", "prepare", "train", "fit"):
            assert_told(run(DEMO, work, f"--mode={mode}", flag), told, f"not for --mode={mode}")
    assert_told(run(predict, work, "--input=x", "--noema"), "--noema is not for --mode=predict")
    assert_told(run("--mode=convert", work, "--input=x", "--quiet"), "--quiet is not for")
    for option in ("--config=nowhere.py", "--config.train.steps=3", "--config.face.size=3"):
        assert_told(run(predict, work, "--input=x", option), option, "--config.faces.OPTION alone")
    for option in ("--config", "nowhere.py"), ("--mode", "predict", "--config=nowhere.py"):
        assert_told(run(predict, work, "--input=x", *option), "--config.faces.OPTION alone")
    assert_told(run(predict, work, "--config.faces.frame=3"), "'frame'", "'frames'")
    assert not (tmp_path / "work").exists()


def test_places_that_cannot_be_written(run, finished, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "work", Path("/proc/deepfidelity")):
        assert_told(run(DEMO, f"--workdir={place}", *OPTIONS), f"--workdir={place} cannot be")
    for place in (tmp_path / "file" / "x", tmp_path / "none" / "x", tmp_path):
        told = run(
            "--mode=predict", f"--workdir={finished}", f"--input={TREE}", f"--output={place}"
        )
        assert_told(told, f"--output={place} cannot be written")
    inputs = ["--mode=convert", f"--input={finished}"]
    assert_told(run(*inputs, f"--output={tmp_path / 'file' / 'x.npz'}"), "cannot be written")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_workdir_in_use(run, finished):
    """The second command says so, at once; predict only reads."""
    with held(finished):
        told = run(DEMO, f"--workdir={finished}", *OPTIONS)
        assert_told(told, "another run is at work in", finished)
        told = run("--mode=predict", f"--workdir={finished}", "--input=none.jpg")
        assert_told(told, "none.jpg")


def test_wrong_values(run, tmp_path):
    work = f"--workdir={tmp_path / 'work'}"
    for option, told in (
        ("model.variant=huge", "huge"),
        ("model.image_size=100", "multiple of 32"),
        ("data.dataset=mars", "celeb_df, face_folder, ffpp, synthetic_faces"),
        ("data.identities=2", "config.data.identities is 2: give a whole number from 6"),
        ("faces.detector=magic", "magic"),
        ("quality.measure=beauty", "beauty"),
    ):
        assert_told(run(DEMO, work, f"--config.{option}"), told)
    (tmp_path / "file").write_text("")
    assert_told(run(DEMO, f"--workdir={tmp_path / 'file'}"), tmp_path / "file")


def test_folders_that_will_not_do(run, tmp_path):
    work = f"--workdir={tmp_path / 'work'}"
    assert_told(run(FOLDER, work), "config.data.dir is empty")
    missing = tmp_path / "missing"
    assert_told(run(FOLDER, work, f"--config.data.dir={missing}"), missing, "no folder")
    (tmp_path / "empty").mkdir()
    empty = f"--config.data.dir={tmp_path / 'empty'}"
    assert_told(run(FOLDER, work, empty), tmp_path / "empty", "no folder or empty")


def test_another_config(run, finished):
    result = run(DEMO, f"--workdir={finished}", *OPTIONS, "--config.train.steps=21")
    assert_told(result, finished, "train.steps is 20 there and 21 here")


def test_stages_out_of_order(run, tmp_path):
    work = f"--workdir={tmp_path / 'work'}"
    assert_told(run(DEMO, work, "--mode=train"), "--mode=prepare first")
    assert_told(run(DEMO, work, "--mode=evaluate"), "--mode=prepare first")


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


def test_convert_that_will_not_do(run, tmp_path):
    convert, work = "--mode=convert", f"--workdir={tmp_path / 'work'}"
    weights, output = tmp_path / "weights.pth", f"--output={tmp_path / 'out.npz'}"
    assert_told(run(convert, f"--input={weights}"), "--workdir=DIR is missing")
    assert_told(run(convert, work), "one --input=FILE of weights", "not 0 and 0")
    two = [f"--input={weights}", f"--input={tmp_path / 'other.pth'}"]
    assert_told(run(convert, work, *two), "not 2 and 0")
    assert_told(run(convert, work, f"--input={weights}"), weights, "No such file")
    weights.write_bytes(b"")
    assert_told(run(convert, work, f"--input={weights}"), weights, "is empty")
    weights.write_bytes(b"cos\nsystem\n(S'touch %s'\ntR." % bytes(tmp_path / "canary"))
    assert_told(run(convert, work, f"--input={weights}"), weights, "os.system", "refused")
    assert not (tmp_path / "canary").exists()
    assert_told(run(convert, output), "one --input is written to --output", "not 0")
    assert_told(run(convert, output, f"--input={tmp_path}"), "no trained detector")
    told = run(DEMO, work, *OPTIONS, f"--config.init_from={weights}")
    assert_told(told, weights, "os.system", "refused")
    assert not (tmp_path / "work").exists()
    assert not (tmp_path / "out.npz").exists()


def test_weights_out_and_in_and_used(run, finished, tmp_path):
    weights, work = tmp_path / "weights.safetensors", tmp_path / "work"
    told = run("--mode=convert", f"--input={finished}", f"--output={tmp_path / 'weights.pth'}")
    assert_told(told, "weights.pth", ".safetensors or .npz")
    status, out, error = run("--mode=convert", f"--input={finished}", f"--output={weights}")
    assert (status, out) == (0, ""), error
    rng = np.random.default_rng(0)
    joblib.dump(SVR().fit(rng.normal(size=(20, 192)), rng.uniform(size=20)), tmp_path / "svr.pkl")
    inputs = [f"--input={weights}", f"--input={tmp_path / 'svr.pkl'}"]
    status, out, error = run("--mode=convert", *inputs, f"--workdir={work}")
    assert (status, out) == (0, ""), error
    assert "tiny, symmetric blocks (1, 0, 0, 0)" in error
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    status, out, error = run("--mode=predict", f"--workdir={work}", f"--input={tmp_path / 'a.png'}")
    assert status == 0, error
    assert json.loads(out)["status"] == "no face"
    assert_told(run("--mode=convert", *inputs, f"--workdir={work}"), work, "already")


def test_damaged_checkpoints(run, finished, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(finished, work)
    for path in work.glob("checkpoints/*/state/manifest.ocdbt"):
        path.write_bytes(b"")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    result = run("--mode=predict", f"--workdir={work}", f"--input={tmp_path / 'a.png'}")
    assert_told(result, work / "checkpoints", "damaged", "delete that folder")
    (work / "fidelity.npz").unlink()
    shutil.rmtree(work / "features")
    result = run(DEMO, f"--workdir={work}", *OPTIONS)
    assert_told(result, work / "checkpoints", "damaged")
    (work / "config.json").write_text('{"half')
    assert_told(run(DEMO, f"--workdir={work}", *OPTIONS), "config.json", "damaged")


def test_the_same_command_again_repeats_nothing(run, finished):
    """Real command, finished workdir: no file but the event log is touched."""
    watched = ["checkpoints", "features", "eval", "report", "records", "fidelity.npz",
               "metrics.jsonl", "config.json", "stages.json"]  # fmt: skip

    def stamps():
        return {
            path: path.stat().st_mtime_ns
            for name in watched
            for path in [finished / name, *(finished / name).rglob("*")]
            if path.is_file()
        }

    before, start = stamps(), time.monotonic()
    status, out, error = run(DEMO, f"--workdir={finished}", *OPTIONS)
    assert status == 0, error
    assert time.monotonic() - start < 30
    assert out == ""
    assert "frame_auc" in error
    assert "prepared" not in error
    assert stamps() == before


def test_a_finished_run_holds_what_is_promised(finished):
    place = finished / "eval" / "synthetic_faces"
    metrics = json.loads((place / "metrics.json").read_text())
    assert {
        "frame_auc", "video_auc", "frame_acc", "video_acc", "threshold", "threshold_from", "eer",
        "ap", "n_frames", "n_videos", "ci", "by_method", "by_quality", "fidelity_quality_spearman",
    } <= metrics.keys()  # fmt: skip
    header = (place / "predictions.csv").read_text().splitlines()[0]
    assert header == (
        "path,dataset,split,method,video_id,frame,label,quality,fidelity_target,fidelity,p_fake"
    )
    assert json.loads((finished / "config.json").read_text())["train"]["steps"] == 20
    for split in ("train", "validation", "test"):
        assert (finished / "features" / f"synthetic_faces-{split}.npz").is_file()
    page = (finished / "report" / "index.html").read_text(encoding="utf-8")
    assert "<link" not in page.replace('<link rel="icon" href="data:', "")
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_papers_peculiarities_are_told(command, finished, tiny, tmp_path):
    """A whole run with them: what was picked and searched on the test split says so everywhere."""
    options = {
        "data.records_dir": finished / "records",
        "data.fresh_forgeries": False,
        "train.steps": 2,
        "train.eval_every": 1,
        "train.token_mixing": "unlabelled",
        "train.token_weight": 0.0,
        "train.fidelity_weight": 0.0,
        "train.ema_warmup": False,
        "train.select_on": "test",
        "eval.official_scoring": True,
    }
    done = command(
        tmp_path, *(f"--config.{key}={value}" for key, value in options.items())
    ).finish()
    assert done.returncode == 0, done.stderr
    assert "step 2: test frame AUC" in done.stderr
    assert "picked on this very split" in done.stderr
    assert "official scoring" in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "test_frame_auc" in line] == [1, 2]
    assert not any("val_frame_auc" in line for line in lines)
    metrics = json.loads((tmp_path / "eval" / "synthetic_faces" / "metrics.json").read_text())
    assert metrics["checkpoint_picked_here"] is True
    assert metrics["official_scoring"]["threshold_from"] == "the best of 21 on these scores"
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "picked on this very split" in page
    assert "Official scoring" in page
    assert "Test AUC" in page


def draw_person(number, size=320):
    rng = np.random.default_rng(number)
    face, _ = renderer.render(
        renderer.sample_identity(rng), renderer.sample_scene(rng),
        renderer.sample_poses(rng, 1)[0], size,
    )  # fmt: skip
    ground = np.full((480, 640, 3), 120, np.uint8)
    ground[80 : 80 + size, 160 : 160 + size] = face
    return ground


def bad_files(folder):
    """What people's folders hold beside pictures; the reasons told for them."""
    (folder / "text.jpg").write_text("no picture")
    Image.fromarray(draw_person(1)).save(folder / "cut.jpg", quality=95)
    content = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    (folder / "zero.mp4").write_bytes(b"")
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    body = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return {
        "text.jpg": "not a photograph or video",
        "cut.jpg": "truncated JPEG",
        "dot.png": "1x1 pixels",
        "zero.mp4": "empty file",
        "huge.png": "30000x30000 pixels",
    }


def strict(line):
    """JSON without NaN."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(line, parse_constant=refuse)


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
    assert notes.pop("picture")["status"] in ("real", "fake")
    assert {line["status"] for line in notes.values()} == {"unreadable"}
    for name, note in (("fifo", "a FIFO"), ("dangling.jpg", "nothing"), ("circle", "circle")):
        assert note in notes[name]["note"]
    assert error.endswith(
        "left out, no photographs or videos: 2 .txt, 1 hidden, 1 without extension\n"
    )
    assert ", 0 uncertain, 0 no face, 4 unreadable;" in error
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
    Image.fromarray(draw_person(3)).save(image)
    predict = ["--mode=predict", f"--workdir={finished}", f"--input={image}"]
    status, out, error = run(*predict, "--config.faces.detector=none")
    assert status == 0, error
    assert strict(out)["faces"][0]["bbox"] == [0, 0, 640, 480]
    for options, told in (
        (["detector=magic"], "magic"),
        (["frames=0"], "0 frames"),
        (["frames=many"], "many"),
        (["detector=yunet"], "ONNX file"),
        (["detector=yunet", f"yunet={image}"], "not a YuNet ONNX file"),
        ([f"yunet={image}"], "--config.faces.detector=yunet"),
    ):
        output = f"--output={tmp_path / 'x.jsonl'}"
        result = run(*predict, output, *(f"--config.faces.{option}" for option in options))
        assert_told(result, told)
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_predict_goes_on_where_it_was_ended(number, run, command, finished, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    picture = Image.fromarray(draw_person(1).repeat(4, 0).repeat(4, 1))
    for index in range(60):
        picture.save(folder / f"{index}.bmp")
    predict = ["--mode=predict", f"--input={folder}", "--config.faces.detector=none"]
    there, whole = (f"--output={tmp_path / name}" for name in ("there.jsonl", "whole.jsonl"))
    status, _, error = run(*predict, f"--workdir={finished}", whole)
    assert status == 0, error

    output = tmp_path / "there.jsonl"
    process = command(finished, *predict, there, tiny=False).start()
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
        assert error == "deepfidelity: interrupted: the same command goes on from there\n"
    before = output.read_bytes()
    assert 0 < before.count(b"\n") < 60
    status, out, error = run(*predict, f"--workdir={finished}", there)
    assert (status, out) == (0, ""), error
    assert "inputs are in it already" in error
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_predict_tells_every_input(run, finished, tmp_path):
    """Good and bad pictures, a wall, a video: one line each, in order, and no score made up."""
    folder = tmp_path / "in"
    folder.mkdir()
    reasons = bad_files(folder)
    people = next(n for n in range(20) if _finds(draw_person(n)))
    Image.fromarray(draw_person(people)).save(folder / "person.jpg", quality=95)
    Image.new("RGB", (320, 240), (120, 110, 100)).save(folder / "wall.png")
    writer = cv2.VideoWriter(
        str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (640, 480)
    )
    for _ in range(4):
        writer.write(cv2.cvtColor(draw_person(people), cv2.COLOR_RGB2BGR))
    writer.release()
    single = tmp_path / "other.png"
    Image.fromarray(draw_person(people)).save(single)

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
        assert line["status"] == ("real" if line["fidelity"] >= line["threshold"] else "fake")
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


def test_bad_files_among_good_are_left_out(run, tmp_path):
    """A folder is prepared in spite of them, and they are named."""
    folder = tmp_path / "in"
    for label, seed in (("real", 0), ("fake", 100)):
        (folder / label).mkdir(parents=True)
        for number in range(14):
            noise = np.random.default_rng(seed + number).integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(noise).save(folder / label / f"{number}.png")
    reasons = bad_files(folder / "real")
    status, out, error = run(
        FOLDER, f"--workdir={tmp_path / 'work'}", "--mode=prepare", f"--config.data.dir={folder}",
        "--config.faces.detector=none", "--config.faces.size=48",
        "--config.data.splits=(0.4,0.3,0.3)",
    )  # fmt: skip
    assert status == 0, error
    assert out == ""
    for name, reason in reasons.items():
        assert any(f"real/{name}: " in line and reason in line for line in error.splitlines())


def test_a_process_ends_with_the_status(command, tmp_path):
    """The same in a process of its own: nothing else is on stderr."""
    done = command(tmp_path / "work", "--mode=predict", "--input=nowhere.jpg", tiny=False).finish()
    assert_told((done.returncode, done.stdout, done.stderr), "nowhere.jpg")
    help_ = command(tmp_path / "work", "--help", tiny=False).finish()
    assert help_.returncode == 0
    assert "usage: python run.py" in help_.stdout


def test_a_tilde_is_the_home_folder_in_every_path(run, tmp_path, monkeypatch):
    """A shell leaves it alone behind `--workdir=`."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for flag in ("workdir", "output", "input"):
        given = {"workdir": "w", "input": "x", "output": "o"} | {flag: "~no-such-user/x"}
        argv = [f"--{name}={path}" for name, path in given.items()]
        assert_told(
            run("--mode=predict", *argv), f"--{flag} is ~no-such-user/x: there is no such user"
        )
    assert_told(run("--mode=predict", "--workdir=~/w", "--input=~/x"), tmp_path / "home" / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == []
