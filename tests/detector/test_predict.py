"""Files to lines: what is found in folders, what a line says, and who gives the verdict."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from deepfidelity_jax.detector.finding import Found, Input, stamp
from deepfidelity_jax.detector.predict import (
    AT_ONCE,
    STATUSES,
    Counts,
    PersonScore,
    Prediction,
    decide,
    examine_all,
    examine_found,
    predict,
    write_all,
)
from deepfidelity_jax.faces.cropping import Crop
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.faces.tracking import Person
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.images.pictures import encode_image


class Stand:
    """Stands for a detector: the fidelity of a crop is its mean grey value."""

    fingerprint, threshold, measure = "stand", 0.5, None
    faces = FaceSettings(detector="none", size=64)
    fidelity_model = SimpleNamespace(calibration=Calibration(-10.0, 0.5, "fixed"), scale=None)

    def fidelity(self, images):
        return (images.mean(axis=(1, 2, 3)) / 255).astype(np.float32)

    def p_fake(self, scores):
        return 1 - scores

    def quality(self, images, landmarks):
        return np.full(len(images), np.nan), "not here"


def write_grey(path, value):
    cv2.imwrite(str(path), np.full((64, 64, 3), value, np.uint8))
    return path


@pytest.mark.parametrize(("value", "status"), [(200, "real"), (60, "fake")])
def test_one_picture(tmp_path, value, status):
    path = write_grey(tmp_path / "a.png", value)
    found = predict(Stand(), path)
    assert found.status == status
    assert found.fidelity == pytest.approx(value / 255, abs=0.01)
    assert found.p_fake == pytest.approx(1 - found.fidelity)
    assert (found.threshold, found.detector, found.frames) == (0.5, "stand", 1)
    assert found.note == "quality not measured: not here"
    (person,) = found.faces
    assert (person.person, person.quality, person.spread, person.frames) == (0, None, 0, 1)
    assert {"bytes": found.bytes, "modified": found.modified} == stamp(path)


def test_a_face_at_the_threshold_is_real(tmp_path):
    path = write_grey(tmp_path / "a.png", 128)
    stand, fidelity = Stand(), predict(Stand(), path).fidelity
    for threshold, status in ((fidelity, "real"), (float(np.nextafter(fidelity, 1)), "fake")):
        calibration = Calibration(-10.0, threshold, "fixed")
        stand.fidelity_model = SimpleNamespace(calibration=calibration, scale=None)
        assert predict(stand, path).status == status


def test_what_cannot_be_read_has_no_score(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    given = (Input(tmp_path / "a.jpg", True), Input(tmp_path / "none.jpg", True))
    known = Input(tmp_path / "b", reason="a reason")
    for each in examine_all(Stand(), [*given, known]):
        found = each.prediction
        assert found.status == "unreadable"
        assert found.fidelity is None
        assert found.faces == []
        assert found.note
    assert found.note == "a reason"


def test_a_line_is_strict_json():
    person = PersonScore(0, 1 / 3, float("nan"), None, 0.0, 2, [1.0, 2.0, 3.0, 4.0], 0.04)
    values = json.loads(Prediction("a.jpg", "real", 2 / 3, faces=[person]).to_json())
    assert values["fidelity"] == 0.666667
    assert values["faces"][0]["fidelity"] == 0.333333
    assert values["faces"][0]["p_fake"] is None
    assert list(values) == [
        "input", "status", "fidelity", "p_fake", "threshold", "frames", "faces", "note", "detector",
        "bytes", "modified",
    ]  # fmt: skip


def test_many_files_get_the_verdicts_of_single_ones(tmp_path):
    """Whoever finds the faces, whatever is scored together, and in the order of the inputs."""
    paths = [write_grey(tmp_path / f"{n:02}.png", 13 * n) for n in range(AT_ONCE + 5)]
    (tmp_path / "bad.png").write_bytes(b"bad")
    paths.insert(3, tmp_path / "bad.png")

    def verdicts(inputs, **options):
        return [found.prediction for found in examine_all(Stand(), inputs, **options)]

    alone = [predict(Stand(), path) for path in paths]
    inputs = [Input(path) for path in paths]
    assert verdicts(inputs) == alone
    assert verdicts(inputs, workers=2) == alone


def test_the_network_always_gets_as_many_faces(tmp_path):
    """So the score of a face does not depend on how many others there are."""
    sizes, stand = [], Stand()
    stand.fidelity = lambda images: sizes.append(len(images)) or Stand.fidelity(stand, images)
    paths = [write_grey(tmp_path / f"{n}.png", 20 * n) for n in range(AT_ONCE + 1)]
    list(examine_all(stand, [Input(path) for path in paths], workers=2))
    predict(stand, paths[0])
    assert set(sizes) == {AT_ONCE}


@pytest.mark.parametrize(
    ("seen", "status"),
    [(["real"], 0), (["real", "uncertain"], 4), (["no face"], 4), (["fake", "uncertain"], 3)],
)
def test_exit_status_says_the_worst(seen, status):
    counts = Counts()
    counts.statuses.update(seen)
    assert counts.exit_status == status


def test_all_are_counted_and_none_is_scored_twice(tmp_path):
    """A file that is no media: left out where it was found, told where it was named."""
    for name, value in (("dark.png", 50), ("light.png", 220), ("known.png", 220)):
        write_grey(tmp_path / name, value)
    for name in ("found.txt", "named.txt"):
        (tmp_path / name).write_text("text")
    written, steps = [], []
    lines = SimpleNamespace(kept={str(tmp_path / "known.png"): "fake"}, write=written.append)
    progress = SimpleNamespace(
        clear=lambda: None, advance=lambda: steps.append(1), end=lambda: steps.append("end")
    )
    names = ("known.png", "dark.png", "light.png", "found.txt")
    inputs = [Input(tmp_path / name) for name in names] + [Input(tmp_path / "named.txt", True)]
    todo = inputs[1:]
    predictions = (found and found.prediction for found in examine_all(Stand(), todo))
    counts = write_all(inputs, todo, predictions, lines, progress)
    assert [line.status for line in written] == ["fake", "real", "unreadable"]
    assert counts.statuses == {"fake": 2, "real": 1, "unreadable": 1}
    assert counts.left_out == {".txt": 1}
    assert steps == [1, 1, 1, 1, "end"]
    text = "1 real, 2 fake, 0 uncertain, 0 no face, 1 unreadable; not scored"
    assert counts.describe() == f"{text}: 1 .txt"
    assert Counts().describe() == ", ".join(f"0 {status}" for status in STATUSES)


def person(fidelity, side=80.0, quality=0.5):
    return PersonScore(0, fidelity, 0.5, quality, 0.0, 1, [0.0, 0.0, side, side], 0.0)


def decided(fake_below, seen):
    calibration = Calibration(-10.0, 0.5, "validation", fake_below=fake_below)
    return decide(calibration, FidelityScale((0.1, 0.9), (0.2, 0.9)), seen)


@pytest.mark.parametrize(
    ("seen", "status", "words"),
    [
        (person(0.7), "real", ""),
        (person(0.2), "fake", ""),
        (person(0.4), "uncertain", "not below the lower one, 0.3000"),
        (person(0.2, side=20.0), "uncertain", "20 pixels wide"),
        (person(0.2, side=31.7), "uncertain", "31 pixels wide"),
        (person(0.7, quality=0.1), "uncertain", "quality is below"),
        (person(0.4, quality=0.1), "uncertain", "quality is below"),
        (person(0.2, quality=0.1), "fake", ""),  # a forgery may have made it poor
        (person(0.7, quality=None), "real", ""),
    ],
)
def test_where_nothing_can_be_claimed_nothing_is(seen, status, words):
    found, reason, judged = decided(0.3, seen)
    assert found == status
    assert judged == ("pixels wide" not in reason and "quality" not in reason)
    assert words in reason
    assert bool(reason) == (status == "uncertain")


def test_without_a_band_every_verdict_is_real_or_fake():
    for seen in (person(0.4), person(0.4, side=20.0), person(0.4, quality=0.1)):
        assert decided(None, seen) == ("fake", "", True)


@pytest.mark.parametrize(("width", "height"), [(31.0, 90.0), (90.0, 31.0), (32.0, 90.0)])
def test_a_face_is_as_small_as_its_shorter_side(width, height):
    seen = replace(person(0.7), bbox=[5.0, 9.0, width, height])
    status, reason, judged = decided(0.3, seen)
    assert judged == (min(width, height) >= 32)
    assert status == ("real" if judged else "uncertain")
    assert ("31 pixels wide" in reason) == (not judged)


def crop(fidelity, box, time=0.0):
    """A grey face that the stand gives this fidelity."""
    pixels, points = np.full((16, 16, 3), round(255 * fidelity), np.uint8), np.zeros((5, 2))
    image = encode_image(pixels)
    return Crop(0, time, image, pixels, np.float32(box), points.astype(np.float32), 0.9)


def test_a_person_is_summed_up_over_all_frames():
    """Mean, spread, the quality where it is known; the box and its time where it is largest."""
    crops = (
        crop(0.2, [1, 2, 20, 20], time=0.0),
        crop(0.4, [3, 4, 60, 60], time=1.0),
        crop(0.9, [5, 6, 40, 40], time=2.0),
    )
    found = Found(
        {"bytes": 1, "modified": ""}, (Person(crops),), 3, qualities=[[0.1, float("nan"), 0.5]]
    )
    (examination,) = examine_found(Stand(), [(Input(Path("a.mp4")), found)])
    (seen,) = examination.prediction.faces
    assert seen.frames == 3
    assert seen.fidelity == pytest.approx(0.5, abs=0.01)
    assert seen.spread == pytest.approx(np.std([0.2, 0.4, 0.9]), abs=0.01)
    assert seen.quality == pytest.approx(0.3)
    assert (seen.bbox, seen.time) == ([3.0, 4.0, 60.0, 60.0], 1.0)
    assert examination.prediction.note == "", "some frames have a quality"


def examined(people):
    """What is said of an input that shows people of this (fidelity, side, quality)."""
    stand, found = Stand(), []
    stand.fidelity_model = SimpleNamespace(
        calibration=Calibration(-10.0, 0.5, "validation", fake_below=0.3),
        scale=FidelityScale((0.1, 0.9), (0.2, 0.9)),
    )
    for fidelity, side, _ in people:
        found.append(Person((crop(fidelity, [0, 0, side, side]),)))
    stamped, qualities = {"bytes": 1, "modified": ""}, [[quality] for *_, quality in people]
    (examination,) = examine_found(
        stand, [(Input(Path("a.jpg")), Found(stamped, tuple(found), 1, qualities=qualities))]
    )
    return examination


# Every verdict, and whatever can stand in the background: tiny or bad, of any fidelity.
ANYONE = list(itertools.product((0.05, 0.2, 0.4, 0.7), (20.0, 80.0), (0.1, 0.5)))


def test_an_input_gets_the_worst_verdict_of_those_who_can_be_judged():
    """Nobody who joins a fake hides it; a face in the background puts nobody in doubt."""
    alone = {person: examined([person]).prediction.status for person in ANYONE}
    assert set(alone.values()) == {"real", "uncertain", "fake"}
    judged = {
        (fidelity, side, quality)
        for fidelity, side, quality in ANYONE
        if side == 80.0 and (quality == 0.5 or fidelity < 0.3)  # a poor face can still be fake
    }
    for people in itertools.product(ANYONE, repeat=2):
        seen = {alone[person] for person in people if person in judged} or {"uncertain"}
        worst = next(status for status in ("fake", "uncertain", "real") if status in seen)
        found = examined(people).prediction
        assert found.status == worst, people
        aside = sum(person not in judged for person in people)
        assert ("1 of 2 faces" in found.note) == (aside == 1)
    crowd = examined(ANYONE).prediction
    assert crowd.status == "fake"
    assert len(crowd.faces) == len(ANYONE)


def test_scores_and_reason_are_those_of_whoever_decides():
    tiny, bad, fake = (0.05, 20.0, 0.5), (0.45, 80.0, 0.1), (0.2, 80.0, 0.5)
    poor_fake = (0.1, 80.0, 0.1)
    doubtful = (0.4, 80.0, 0.5)
    for people, decides, words in (
        ([fake, doubtful], 0, ""),
        ([tiny, bad, fake, doubtful], 2, "2 of 4 faces too small or too poor to judge"),
        ([doubtful, bad, (0.7, 80.0, 0.5)], 0, "not below the lower one"),
        ([(0.7, 80.0, 0.5), tiny], 0, "1 of 2 faces"),
        ([(0.7, 80.0, 0.5), poor_fake], 1, ""),
        ([(0.7, 20.0, 0.5), bad], 1, "quality is below"),
        ([(0.7, 40.0, 0.5), bad], 1, "quality is below"),  # not a face in the background
        ([(0.2, 40.0, 0.5), bad], 0, ""),
    ):
        found = examined(people)
        own = found.prediction.faces[decides]
        assert found.decides == decides
        assert (found.prediction.fidelity, found.prediction.p_fake) == (own.fidelity, own.p_fake)
        assert words in found.prediction.note
        assert bool(words) == bool(found.prediction.note)
    assert examined([]).decides is None
