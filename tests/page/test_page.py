"""A page says what predict says, holds all it shows, and is written whatever the file is."""

import base64
import copy
import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest
import trees
from browsing import change_screen, cut_off, is_too_wide, open_browser, violations
from pages import Page, assert_sound
from PIL import Image

import deepfidelity_jax as df
from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.detector import bundled
from deepfidelity_jax.detector.predict import predict
from deepfidelity_jax.export.hub import make_card
from deepfidelity_jax.page.page import write_page
from deepfidelity_jax.page.wording import number

pytestmark = pytest.mark.slow

NASTY = '<script>alert(1)</script>"&\u202egpj.png'


@pytest.fixture(scope="module")
def detector():
    """The bundled one, for ready crops."""
    found = df.load()
    found.faces = replace(found.faces, detector="none", frames=6)
    return found


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    rng = np.random.default_rng(3)
    who, where = renderer.sample_identity(rng), renderer.sample_scene(rng)
    (pose,) = renderer.sample_poses(rng, 1)
    path = tmp_path_factory.mktemp("photo") / "anna.png"
    Image.fromarray(renderer.render(who, where, pose, 160)[0]).save(path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    trees.write_video(path, trees.film(1, count=20, side=96, shape=(140, 140)))
    return path


@pytest.fixture(scope="module")
def video_page(detector, clip):
    output = clip.with_suffix(".html")
    write_page(detector, clip, output)
    return output


def test_a_photograph(detector, photo, tmp_path):
    steps = []
    found = write_page(
        detector, photo, tmp_path / "a.html", lambda step, share: steps.append((step, share))
    )
    assert found == predict(detector, photo)
    page = Page(tmp_path / "a.html")
    assert_sound(page)
    assert f"fidelity {number(found.fidelity)}" in page.text
    assert {"real": "Real:", "fake": "Fake:", "uncertain": "Uncertain:"}[found.status] in page.text
    for words in (
        "How certain the verdict is, and why", "What makes it less certain", "fake ones,",
        "Size of the face", "Unlike the training data", "What the verdict is based on",
        "Its mirror image", "What it cannot do", "SHA-256", "deepfidelity predict", found.detector,
        "Fake below",
    ):  # fmt: skip
        assert words in page.text
    assert hashlib.sha256(photo.read_bytes()).hexdigest() in page.text
    assert "Over time" not in page.text
    # The photograph, and the face, its heat map, its mirror image and its symmetry map.
    assert len(page.sources) == 5
    assert steps[0] == ("finding and scoring faces", 0.0)
    assert steps[-1] == ("done", 1.0)
    assert all(0 <= share <= 1 for _, share in steps)
    # Once more, to the byte.
    write_page(detector, photo, tmp_path / "b.html")
    assert (tmp_path / "b.html").read_bytes() == (tmp_path / "a.html").read_bytes()


def test_a_video_has_a_timeline_that_leads_to_faces(video_page):
    page = Page(video_page)
    assert_sound(page)
    assert "Over time" in page.text
    faces = [name for name in page.ids if name.startswith("person-0-frame-")]
    assert 2 <= len(faces) <= 3
    for name in faces:
        assert page.links.count(f"#{name}") == 2, "from the timeline and from the table"
    assert page.links.count("#timeline-0") == len(faces)
    text = page.text
    for words in ("lowest fidelity", "highest fidelity", "All 6 frames as a table"):
        assert words in text
    assert video_page.stat().st_size < 500_000


def test_a_file_without_a_verdict_has_a_page(detector, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    found = write_page(detector, tmp_path / "broken.jpg", tmp_path / "broken.html")
    assert found.status == "unreadable"
    page = Page(tmp_path / "broken.html")
    assert_sound(page)
    assert "No verdict: the file cannot be read" in page.text
    assert found.note in page.text
    assert not page.sources
    Image.new("RGB", (200, 200), "white").save(tmp_path / "wall.png")
    finder = df.load()
    found = write_page(finder, tmp_path / "wall.png", tmp_path / "wall.html")
    assert found.status == "no face"
    assert "No verdict: there is no face to score" in Page(tmp_path / "wall.html").text
    found = write_page(detector, tmp_path / "none.jpg", tmp_path / "none.html")
    assert found.status == "unreadable"
    assert found.note in Page(tmp_path / "none.html").text


def test_the_time_of_a_copy_is_when_the_file_was_received(detector, tmp_path):
    path, output = tmp_path / "-", tmp_path / "a.html"
    path.write_bytes(b"\xff\xd8\xff no picture")
    found = write_page(detector, path, output, shown=path.name)
    assert found.input == "-"
    assert "Received" in Page(output).text
    assert "deepfidelity predict ./-" in Page(output).text, "no standard input"
    assert "Last modified" not in Page(output).text
    assert write_page(detector, path, output).input == str(path)
    assert "Last modified" in Page(output).text


def test_the_card_of_a_folder_for_a_hub_is_shown(detector, tmp_path):
    text = "# Model card\n\n## What it cannot do\n\n- Forgeries of sound.\n"
    (tmp_path / "README.md").write_text(make_card(text, "face_folder", ""))
    for name in ("model.safetensors", "fidelity.npz"):
        shutil.copy(bundled.folder() / name, tmp_path)
    other = copy.copy(detector)
    other.folder = tmp_path
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    write_page(other, tmp_path / "broken.jpg", tmp_path / "a.html")
    page = Page(tmp_path / "a.html")
    assert "Forgeries of sound." in page.text
    assert "pipeline_tag" not in page.text


def test_a_name_is_shown_and_never_run(detector, photo, tmp_path):
    path = tmp_path / NASTY.replace("/", "∕")
    shutil.copy(photo, path)
    write_page(detector, path, tmp_path / "a.html")
    page = Page(tmp_path / "a.html")
    assert_sound(page)
    assert "<script>alert(1)" in page.text
    assert "⟨U+202E⟩gpj.png" in page.text
    assert "\u202e" not in page.html


def test_a_failed_page_leaves_the_one_before(detector, photo, tmp_path):
    (tmp_path / "a.html").write_text("before")

    def fail(step, share):
        if step == "reading frames":
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_page(detector, photo, tmp_path / "a.html", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    assert (tmp_path / "a.html").read_text() == "before"


def test_a_browser_shows_it_on_a_phone_and_prints_it(video_page, tmp_path_factory):
    """No sideways scroll, every picture decoded, links in the tab order, light and dark; a PDF."""
    driver = open_browser(tmp_path_factory.mktemp("browser"))
    try:
        driver.get(video_page.as_uri())
        for width, scheme in ((1280, "light"), (360, "dark")):
            change_screen(driver, width, scheme)
            assert not is_too_wide(driver)
            assert cut_off(driver) == []
            assert violations(driver) == []
        pictures, decoded, focused = driver.execute_script(
            """const dot = document.querySelector("a.dot"), pictures = [...document.images];
            dot.focus();
            return [pictures.length, pictures.filter((p) => p.naturalWidth > 0).length,
              document.activeElement === dot]"""
        )
        assert pictures == decoded >= 8
        assert focused
        printed = base64.b64decode(driver.print_page())
    finally:
        driver.quit()
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Subtype /Image") >= 8


def test_a_finder_that_was_chosen_is_in_the_command(tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no picture")
    box = shutil.copytree(bundled.folder(), tmp_path / "box")
    (box / "yunet.onnx").touch()
    other = df.load(box)
    for finder, told in ((tmp_path / "finder.onnx", True), (box / "yunet.onnx", False)):
        other.faces = replace(other.faces, detector="yunet", yunet=str(finder))
        write_page(other, broken, tmp_path / "a.html")
        assert ("--config.faces.yunet=finder.onnx" in Page(tmp_path / "a.html").text) == told


@pytest.mark.parametrize("given", [".", "hub"])
def test_the_command_names_the_detector_however_it_was_given(tmp_path, monkeypatch, given):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no picture")
    place = shutil.copytree(bundled.folder(), tmp_path / "hub")
    monkeypatch.chdir(place if given == "." else tmp_path)
    write_page(df.load(given), broken, tmp_path / "a.html")
    assert "--workdir=hub" in Page(tmp_path / "a.html").text
