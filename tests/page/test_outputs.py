"""Every input has a page of its own, none is made twice, and wrong places are told first."""

import copy
import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trees
from conftest import assert_told
from pages import Page
from PIL import Image

import deepfidelity_jax as df
from deepfidelity_jax.detector.finding import Input
from deepfidelity_jax.detector.predict import Examination, Prediction, examine_all
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.page.annotate import WITHOUT_PYAV
from deepfidelity_jax.page.outputs import Outputs, is_current, place_pages
from deepfidelity_jax.page.page import write_page
from deepfidelity_jax.progress import Progress

CROPS = ("--mode=predict", "--config.faces.detector=none")


def write_noise(path, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_names_are_unique_and_fit(tmp_path):
    paths = [Path("a/clip.mp4"), Path("b/clip.mp4"), Path("b/CLIP.mp4"), Path("c/é.jpg")]
    paths.append(Path("c") / ("ü" * 120 + ".jpg"))
    paths.append(Path(os.fsdecode(b"c/\xff.jpg")))
    placed = place_pages(str(tmp_path / "pages"), paths)
    names = [page.name for page in placed.values()]
    assert len({name.casefold() for name in names}) == len(paths)
    assert placed[paths[3]].name == "é.jpg.html"
    assert all(len(os.fsencode(name)) <= 210 for name in names)
    for page in placed.values():
        page.parent.mkdir(exist_ok=True)
        page.write_text("x")
    assert place_pages(str(tmp_path / "a.html"), paths[:1]) == {paths[0]: tmp_path / "a.html"}


def test_one_page_is_for_one_input(tmp_path):
    with pytest.raises(InputError, match="is one page, but --input has 2 files"):
        place_pages(str(tmp_path / "a.html"), [Path("a"), Path("b")])
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="neither a folder nor a page"):
        place_pages(str(tmp_path / "file"), [Path("a")])


@pytest.mark.slow
def test_a_page_is_current_while_file_and_detector_are(tmp_path):
    detector = df.load()
    detector.faces = replace(detector.faces, detector="none")
    path, page = write_noise(tmp_path / "a.png"), tmp_path / "a.html"
    assert not is_current(page, path, detector)
    write_page(detector, path, page)
    assert is_current(page, path, detector)
    other = copy.copy(detector)
    other.faces = replace(detector.faces, margin=1.5)
    assert not is_current(page, path, other), "finds faces in another way"
    write_noise(path, 1)
    os.utime(path, (1, 1))
    assert not is_current(page, path, detector)


@pytest.mark.slow
def test_a_command_writes_lines_and_pages_and_goes_on(run, tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    write_noise(folder / "a.png")
    (folder / "b.jpg").write_bytes(b"broken")
    argv = [*CROPS, f"--input={folder}", f"--report={tmp_path / 'pages'}"]
    argv.append(f"--output={tmp_path / 'lines'}")
    status, _, error = run(*argv)
    assert status == 0, error
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    pages = {path.name: path for path in (tmp_path / "pages").iterdir()}
    assert pages.keys() == {"a.png.html", "b.jpg.html"}
    assert f"{lines[0]['fidelity']:.3f}".replace("-", "−") in Page(pages["a.png.html"]).text
    assert "cannot be read" in Page(pages["b.jpg.html"]).text
    # A page that is gone is made again; a line that is there is not written twice.
    before = pages["b.jpg.html"].stat().st_mtime_ns
    pages["a.png.html"].unlink()
    shown = []
    monkeypatch.setattr(Progress, "end", lambda self: shown.append((self.done, self.total)))
    assert run(*argv)[0] == 0
    assert shown == [(2, 2)]
    assert pages["a.png.html"].exists()
    assert pages["b.jpg.html"].stat().st_mtime_ns == before
    assert len((tmp_path / "lines").read_text().splitlines()) == 2


def test_wrong_places_are_told_before_any_work(run, tmp_path):
    photo = f"--input={write_noise(tmp_path / 'a.png')}"
    other = f"--input={write_noise(tmp_path / 'b.png')}"
    annotate = f"--annotate={tmp_path / 'out.mp4'}"
    page = f"--report={tmp_path / 'a.html'}"
    assert_told(run(*CROPS, photo, other, page), "a.html is one page", "2 files")
    assert_told(run(*CROPS, photo, annotate), "--annotate takes a video", "a photograph")
    assert_told(run(*CROPS, photo, other, annotate), "--annotate takes one video", "2 files")
    assert_told(run(*CROPS, photo, f"--annotate={tmp_path / 'out.avi'}"), "ends in .mp4")
    clip = tmp_path / "clip.mp4"
    trees.write_numbered(clip, 0, 4)
    assert_told(run(*CROPS, f"--input={clip}", f"--annotate={clip}"), "the input itself")
    assert_told(run("--mode=fit", "--workdir=w", page), "--report is not for --mode=fit")
    for place in ("/proc/x", "/proc/x.html"):
        assert_told(run(*CROPS, photo, f"--report={place}"), "cannot be written", "/proc")
    told = run(*CROPS, f"--input={clip}", "--annotate=/proc/x.mp4")
    assert_told(told, "--annotate=/proc/x.mp4 cannot be written", "/proc")


def test_what_an_annotated_video_lacks_is_noted(tmp_path, monkeypatch):
    """The command prints the notes once all is written."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # as if without PyAV
    clip, output = tmp_path / "clip.mp4", tmp_path / "out.mp4"
    trees.write_numbered(clip, 0, 4)
    outputs = Outputs([Input(clip, named=True)], None, str(output))
    nobody = Examination(Prediction(str(clip), "no face", threshold=0.5, frames=4), [])
    assert list(outputs.write_each(None, [Input(clip)], [nobody])) == [nobody.prediction]
    assert outputs.notes == [f"{output}: {WITHOUT_PYAV}"]
    assert output.exists()


def test_a_video_that_cannot_be_read_has_its_line_and_a_note(tmp_path):
    clip, output = tmp_path / "clip.mp4", tmp_path / "out.mp4"
    trees.write_numbered(clip, 0, 4)
    clip.write_bytes(clip.read_bytes()[:200])
    outputs = Outputs([Input(clip, named=True)], None, str(output))
    output.write_bytes(b"of an earlier command")
    # As it was read, and as it would be if it was damaged later.
    for status, note in (("unreadable", "cannot be decoded"), ("no face", "")):
        found = Examination(Prediction(str(clip), status, threshold=0.5, note=note), [])
        assert list(outputs.write_each(None, [Input(clip)], [found])) == [found.prediction]
    first, second = outputs.notes
    assert first == f"{output}: not written: cannot be decoded"
    assert second.startswith(f"{output}: not written: ")
    assert outputs.failed
    assert not output.exists(), "it would pass for a new one"


@pytest.mark.slow
def test_a_command_that_writes_no_video_fails_and_says_so_even_if_quiet(run, tmp_path):
    clip, output = tmp_path / "clip.mp4", tmp_path / "out.mp4"
    trees.write_numbered(clip, 0, 4)
    clip.write_bytes(clip.read_bytes()[:200])
    status, out, error = run(*CROPS, f"--input={clip}", f"--annotate={output}", "--quiet")
    assert (status, json.loads(out)["status"]) == (1, "unreadable")
    assert error.startswith(f"{output}: not written: ")


@pytest.mark.slow
def test_a_file_that_goes_after_its_score_has_no_page_and_the_next_one_has(tmp_path):
    detector = df.load()
    detector.faces = replace(detector.faces, detector="none")
    (tmp_path / "b.jpg").write_bytes(b"broken")
    inputs = [Input(write_noise(tmp_path / "a.png")), Input(tmp_path / "b.jpg")]
    outputs = Outputs(inputs, str(tmp_path), None)
    gone, there = outputs.pages.values()
    gone.write_text("of an earlier command")
    found = list(examine_all(detector, inputs))
    inputs[0].path.unlink()
    assert list(outputs.write_each(detector, inputs, found)) == [one.prediction for one in found]
    assert outputs.notes == [f"{gone}: not written: no such file"]
    assert outputs.failed
    assert not gone.exists()
    assert found[1].prediction.detector in Page(there).text


@pytest.mark.slow
def test_a_page_that_cannot_be_written_ends_the_command(tmp_path):
    given = Input(write_noise(tmp_path / "a.png"))
    outputs = Outputs([given], str(tmp_path / "pages"), None)
    (tmp_path / "pages").write_text("no folder any more")
    (found,) = examine_all(df.load(), [given])
    with pytest.raises(FileExistsError):
        list(outputs.write_each(df.load(), [given], [found]))
