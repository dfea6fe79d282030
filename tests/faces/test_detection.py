"""Each face is found once, with its eyes; what is no face is not."""

import json
import math

import cv2
import numpy as np
import pytest
from cartoons import CASCADE, NONE, draw_face, face, scene

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces import detection
from deepfidelity_jax.faces.detection import FaceSettings


def test_settings_are_checked_and_travel_as_json():
    settings = FaceSettings(detector="yunet", yunet="a.onnx", margin=1.5, size=96, frames=4)
    assert FaceSettings(**json.loads(json.dumps(settings.to_dict()))) == settings
    for wrong in (
        {"detector": "hog"},
        {"detector": "yunet"},
        {"margin": 0.1},
        {"size": 4},
        {"frames": 0},
    ):
        with pytest.raises(InputError):
            FaceSettings(**wrong)
    with pytest.raises(InputError, match="no such file"):
        detection.detect(scene(), settings)


def test_a_network_file_that_is_none_is_named(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match="not a YuNet"):
        detection.detect(scene(), FaceSettings("yunet", str(tmp_path / "a.onnx")))


def test_cascade_finds_each_face_once_with_its_eyes():
    found = detection.detect(scene((200, 180, 140, 8), (460, 180, 110, -8)), CASCADE)
    assert len(found) == 2
    assert all(one.score >= detection.CONFIDENT for one in found)
    left, right = sorted(found, key=lambda one: one.centre[0])
    for one, x, size, tilt in ((left, 200, 140, 8), (right, 460, 110, -8)):
        assert math.dist(one.centre, (x, 180)) < 0.15 * size
        assert 0.9 * size < one.size < 1.6 * size
        turn = math.radians(tilt)
        for row, side in enumerate((-1, 1)):
            u, v = side * 0.19, -0.08
            eye = (
                x + size * (u * math.cos(turn) - v * math.sin(turn)),
                180 + size * (u * math.sin(turn) + v * math.cos(turn)),
            )
            assert math.dist(one.landmarks[row], eye) < 0.06 * size
        assert np.isnan(one.landmarks[2:]).all()


def test_a_small_face_in_a_large_frame_is_found_in_its_pixels():
    image = np.full((1080, 1920, 3), 120, np.uint8)
    image = draw_face(image, 1500, 700, 130)
    (found,) = detection.detect(image, CASCADE)
    assert math.dist(found.centre, (1500, 700)) < 20


def test_no_face_no_confidence():
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
    for image in (scene(), noise, cv2.GaussianBlur(noise, (0, 0), 4)):
        assert all(one.score < detection.CONFIDENT for one in detection.detect(image, CASCADE))


@pytest.mark.parametrize("shape", [(16, 16, 3), (16, 4000, 3), (30000, 20, 3)])
def test_odd_shapes_give_no_detections(shape):
    assert detection.detect(np.full(shape, 90, np.uint8), CASCADE) == []


def test_a_name_that_is_no_finder_is_never_the_cascade():
    settings = FaceSettings()
    object.__setattr__(settings, "detector", "hog")
    for search in (detection.detect, detection.search_bordered):
        with pytest.raises(ValueError, match="'hog' is not a face detector"):
            search(scene(), settings)


def test_one_face_per_place():
    kept = detection._keep_best(
        [face(100, 100, 100, 0.6), face(300, 100, 80, 0.7), face(110, 95, 40, 0.9)]
    )
    assert [one.score for one in kept] == [0.9, 0.7]


def test_without_a_finder_the_whole_picture_is_the_face():
    (whole,) = detection.detect(scene(), NONE)
    assert (whole.box, whole.score, whole.size, whole.centre) == (
        (0, 0, 640, 360), 1.0, 640, (320, 180),
    )  # fmt: skip
    assert np.isnan(whole.landmarks).all()


def test_a_border_shows_a_face_cut_tight():
    """In pixels of the picture without the border."""
    tight = np.full((400, 400, 3), 120, np.uint8)
    tight = np.ascontiguousarray(draw_face(tight, 200, 200, 200)[120:280, 120:280])
    found = detection.search_bordered(tight, CASCADE)
    assert found[0].score >= detection.CONFIDENT
    assert math.dist(found[0].centre, (80, 80)) < 12
