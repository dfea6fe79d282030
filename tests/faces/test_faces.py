import json
import math

import cv2
import numpy as np
import pytest
from PIL import Image

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces import cropping, detection, tracking
from deepfidelity_jax.faces.detection import Face, FaceSettings
from deepfidelity_jax.images import formats, pictures, videos

CASCADE = FaceSettings()
NONE = FaceSettings(detector="none", size=64)


def draw_face(image, x, y, size, tilt=0.0):
    """A cartoon that the cascades take for a face, its middle at (x, y), tilted in degrees."""
    turn = math.radians(tilt)

    def oval(u, v, a, b, colour):
        u, v = u * math.cos(turn) - v * math.sin(turn), u * math.sin(turn) + v * math.cos(turn)
        centre = (round(x + size * u), round(y + size * v))
        axes = (max(1, round(a * size)), max(1, round(b * size)))
        cv2.ellipse(image, centre, axes, tilt, 0, 360, colour, -1, cv2.LINE_AA)

    oval(0, -0.12, 0.52, 0.62, (60, 40, 30))
    oval(0, 0, 0.42, 0.58, (215, 170, 140))
    for side in (-1, 1):
        oval(side * 0.19, -0.19, 0.13, 0.025, (70, 45, 35))
        oval(side * 0.19, -0.08, 0.12, 0.075, (175, 125, 100))
        oval(side * 0.19, -0.08, 0.09, 0.045, (240, 235, 230))
        oval(side * 0.19, -0.08, 0.045, 0.045, (40, 25, 20))
        oval(side * 0.06, 0.13, 0.03, 0.02, (140, 90, 70))
    oval(0, 0.02, 0.04, 0.12, (230, 188, 160))
    oval(0, 0.3, 0.16, 0.045, (150, 60, 60))
    return cv2.GaussianBlur(image, (0, 0), size * 0.012)


def scene(*people):
    image = np.full((360, 640, 3), 120, np.uint8)
    for person in people:
        image = draw_face(image, *person)
    return image


def write_video(path, images, rate=10):
    size = (images[0].shape[1], images[0].shape[0])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def face(x, y, size=100.0, score=1.0, eyes=None):
    landmarks = np.full((5, 2), np.nan, np.float32)
    if eyes is not None:
        landmarks[:2] = eyes
    size = float(size)
    return Face((x - size / 2, y - size / 2, size, size), landmarks, score)


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
def test_odd_shapes_hold_nobody(shape):
    assert detection.detect(np.full(shape, 90, np.uint8), CASCADE) == []


def test_one_face_per_place():
    kept = detection._keep_best(
        [face(100, 100, 100, 0.6), face(300, 100, 80, 0.7), face(110, 95, 40, 0.9)]
    )
    assert [one.score for one in kept] == [0.9, 0.7]


@pytest.mark.parametrize("tilt", [-35, -10, 0, 20])
def test_the_crop_levels_the_eyes_and_centres_the_axis(tilt):
    turn = math.radians(tilt)
    middle = np.array([300.0, 200.0])
    along = np.array([math.cos(turn), math.sin(turn)])
    eyes = np.array([middle - 30 * along, middle + 30 * along])
    image = np.zeros((400, 640, 3), np.uint8)
    for eye in eyes:
        cv2.circle(image, tuple(np.round(eye * 16).astype(int).tolist()), 5 * 16, (255,) * 3, -1,
                   cv2.LINE_AA, 4)  # fmt: skip
    # The box is off the axis, as detectors' boxes are.
    crop, landmarks = cropping.crop_face(image, face(312, 222, 150, eyes=eyes), CASCADE)
    assert crop.shape == (160, 160, 3)
    assert landmarks[0, 1] == pytest.approx(landmarks[1, 1], abs=1e-3)
    assert landmarks[:2, 0].mean() == pytest.approx(79.5, abs=1e-3)
    scale = 160 / (1.3 * 150)
    assert landmarks[1, 0] - landmarks[0, 0] == pytest.approx(60 * scale, abs=1e-2)
    # What is drawn lies where the landmarks say.
    for side, landmark in ((slice(0, 80), landmarks[0]), (slice(80, 160), landmarks[1])):
        weight = crop[:, side, 0].astype(float)
        x = (weight.sum(0) @ np.arange(160)[side]) / weight.sum()
        y = (weight.sum(1) @ np.arange(160)) / weight.sum()
        assert math.dist((x, y), landmark) < 0.5


def test_without_eyes_or_in_profile_the_crop_stands_upright_on_the_box():
    image = np.zeros((400, 640, 3), np.uint8)
    image[190:210, 290:310] = 255
    together = [[296, 192], [304, 208]]  # closer than a face's two eyes: a profile's
    for one in (face(300, 200, 100), face(300, 200, 100, eyes=together)):
        crop, landmarks = cropping.crop_face(image, one, CASCADE)
        weight = crop[..., 0].astype(float)
        assert weight.sum(0) @ np.arange(160) / weight.sum() == pytest.approx(79.5, abs=0.2)
        assert weight.sum(1) @ np.arange(160) / weight.sum() == pytest.approx(79.5, abs=0.2)
        assert np.isnan(landmarks[2:]).all()
        # 20 pixels of a crop 130 wide.
        bright = (crop[80, :, 0] > 127).sum()
        assert bright == pytest.approx(20 * 160 / 130, abs=1)


def test_shrinking_averages_and_the_border_mirrors():
    checks = np.indices((800, 800)).sum(0) % 2 * 255
    image = np.repeat(checks[..., None], 3, 2).astype(np.uint8)
    crop, _ = cropping.crop_face(image, face(400, 400, 500), FaceSettings(size=100))
    assert abs(crop.astype(int) - 127).max() < 12  # a pixel-wise checker becomes grey
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 200, 0).repeat(3, 2)
    crop, _ = cropping.crop_face(ramp, face(0, 100, 80), FaceSettings(size=104))
    np.testing.assert_allclose(crop[:, 8:52].astype(int), crop[:, 95:51:-1].astype(int), atol=2)
    # Far beyond a narrow image, still mirrored.
    crop, _ = cropping.crop_face(ramp[:20, :20], face(10, 10, 100), FaceSettings(size=64))
    assert crop.max() < 20


def test_ready_crops_are_only_resized():
    image = scene((320, 180, 200))
    (whole,) = detection.detect(image, NONE)
    assert whole.box == (0, 0, 640, 360)
    crop, landmarks = cropping.crop_face(image, whole, NONE)
    np.testing.assert_array_equal(crop, cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA))
    assert np.isnan(landmarks).all()


def test_two_people_are_kept_apart():
    # They sway, their order changes from frame to frame, one is missed twice.
    detections = []
    for number in range(10):
        sway = 25 * math.sin(number)
        pair = [face(200 + sway, 150, 90), face(330 - sway, 160, 110)]
        if number in (3, 4):
            pair = pair[1:]
        detections.append(pair[::-1] if number % 2 else pair)
    first, second = tracking.track(detections)
    assert len(first) == 10
    assert len(second) == 8
    for person, size in ((first, 110), (second, 90)):
        assert all(detections[frame][number].size == size for frame, number in person)
        assert [frame for frame, _ in person] == sorted(frame for frame, _ in person)


def test_a_false_alarm_is_no_person():
    steady = [[face(100 + number, 100)] for number in range(12)]
    steady[5].append(face(400, 300, 60))  # once
    for number in (1, 3, 6, 8, 9):
        steady[number].append(face(500, 100, 60, score=0.2))  # often, but never confidently
    (person,) = tracking.track(steady)
    assert len(person) == 12
    assert all(number == 0 for _, number in person)


def test_a_doubtful_face_continues_a_person():
    detections = [[face(100, 100, score=0.9 if number % 3 == 0 else 0.2)] for number in range(9)]
    (person,) = tracking.track(detections)
    assert len(person) == 9


def test_persistence_grows_with_the_video_and_a_photograph_needs_none():
    twice = [[face(100, 100)] if number in (4, 30) else [] for number in range(60)]
    assert tracking.track(twice) == []
    assert len(tracking.track(twice[:10])) == 0
    assert len(tracking.track([[face(100, 100)], [face(104, 100)], []])) == 1
    assert len(tracking.track([[face(100, 100), face(300, 100), face(500, 100, score=0.3)]])) == 2
    assert tracking.track([[], []]) == []


def test_who_is_seldom_found_and_never_surely_is_no_person():
    """A lonely weak detection in a long video: a patch of wall that looks a little like a face."""

    def video(count, score, frames=20):
        return [[face(100 + n, 100, score=score)] if n < count else [] for n in range(frames)]

    assert tracking.track(video(5, score=0.55), sure=0.6) == []
    assert len(tracking.track(video(5, score=0.65), sure=0.6)) == 1
    assert len(tracking.track(video(12, score=0.55), sure=0.6)) == 1, "weak, but steady"


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_pixels_that_lie_sideways_give_upright_crops(tmp_path, turn):
    image = scene((200, 180, 140, 8))
    Image.fromarray(image).save(tmp_path / "upright.png")
    Image.fromarray(np.rot90(image, turn)).save(tmp_path / "turned.png")
    (expected,) = tracking.extract(tmp_path / "upright.png", CASCADE).people
    found = tracking.extract(tmp_path / "turned.png", CASCADE)
    assert found.note == ("lies upside down" if turn == 2 else "lies sideways")
    (one,), (other,) = expected.crops, found.people[0].crops
    assert np.abs(one.pixels.astype(int) - other.pixels).mean() < 4
    # The box lies where the face does in the pixels given.
    mask = np.zeros(image.shape[:2])
    x, y, width, height = np.round(one.bbox).astype(int)
    mask[y : y + height, x : x + width] = 1
    x, y, width, height = np.round(other.bbox).astype(int)
    turned = np.rot90(mask, turn)
    assert turned[y : y + height, x : x + width].sum() > 0.9 * mask.sum()
    assert width * height < 1.1 * mask.sum()


def test_a_sideways_video_is_turned_as_a_whole(tmp_path):
    upright = [scene((200 + 4 * n, 180, 140)) for n in range(12)]
    path = write_video(tmp_path / "a.mp4", [np.ascontiguousarray(np.rot90(i)) for i in upright])
    found = tracking.extract(path, FaceSettings(size=96, frames=6))
    assert found.note == "lies sideways"
    (person,) = found.people
    assert [crop.frame for crop in person.crops] == [1, 3, 5, 7, 9, 11]
    for crop in person.crops:
        x, y, width, height = crop.bbox
        assert x + width / 2 == pytest.approx(180, abs=20)
        assert y + height / 2 == pytest.approx(640 - (200 + 4 * crop.frame), abs=20)
    # A few turned frames are no reason to turn the others.
    mixed = [*upright[:9], *(np.rot90(image, 2) for image in upright[9:])]
    path = write_video(tmp_path / "b.mp4", mixed)
    found = tracking.extract(path, FaceSettings(size=96, frames=6))
    assert found.note == ""
    assert [crop.frame for crop in found.people[0].crops] == [1, 3, 5, 7]


def test_upright_frames_are_read_and_searched_once(monkeypatch):
    images = [scene((200 + 4 * n, 180, 140)) for n in range(6)]
    reads, searches = [], []
    inner = detection.search_bordered
    monkeypatch.setattr(
        detection, "search_bordered", lambda *given: searches.append(1) or inner(*given)
    )

    def read():
        reads.append(1)
        return [videos.Frame(n, 0.0, image) for n, image in enumerate(images)]

    assert len(tracking.follow(read, 6, CASCADE).people) == 1
    assert (len(reads), len(searches)) == (1, 0)


@pytest.mark.parametrize("turn", [0, 1])
def test_faces_cut_tight_are_found_with_a_border(tmp_path, turn):
    image = draw_face(np.full((400, 400, 3), 120, np.uint8), 200, 200, 200)[120:280, 120:280]
    image = np.ascontiguousarray(np.rot90(image, turn))
    assert not any(one.score >= detection.CONFIDENT for one in detection.detect(image, CASCADE))
    Image.fromarray(image).save(tmp_path / "a.png")
    (person,) = tracking.extract(tmp_path / "a.png", CASCADE).people
    x, y, width, height = person.crops[0].bbox
    assert math.dist((x + width / 2, y + height / 2), (80, 80)) < 12
    assert 150 < width < 260
    path = write_video(tmp_path / "a.mp4", [image] * 5)
    assert [len(person.crops) for person in tracking.extract(path, CASCADE).people] == [5]


def test_what_is_odd_about_a_photograph_is_noted(tmp_path, recwarn):
    exif = Image.Exif()
    exif[0x010F] = "x" * 40
    Image.fromarray(scene((200, 180, 140))).save(tmp_path / "a.jpg", exif=exif)
    data = (tmp_path / "a.jpg").read_bytes()
    where = data.index(b"x" * 40) - 18  # the entry of the tag that it belongs to
    at = data.index(bytes([0x01, 0x0F]), where - 8)
    (tmp_path / "a.jpg").write_bytes(data[: at + 4] + b"\0\xff\xff\xff" + data[at + 8 :])
    found = tracking.extract(tmp_path / "a.jpg", CASCADE)
    assert len(found.people) == 1
    assert "271" in found.note
    assert not recwarn.list


def test_a_photograph_gives_its_people(tmp_path):
    image = scene((200, 180, 140, 8), (460, 180, 110, -8))
    Image.fromarray(image).save(tmp_path / "two.png")
    found = tracking.extract(tmp_path / "two.png", CASCADE)
    assert (len(found.people), found.frames, found.unreadable, found.note) == (2, 1, 0, "")
    for person in found.people:
        (crop,) = person.crops
        assert (crop.frame, crop.time) == (0, 0.0)
        assert crop.bbox.shape == (4,)
        assert crop.bbox.dtype == np.float32
        # What is coded is what was cut, and the cut levels the drawn tilt.
        assert crop.image == pictures.encode_image(crop.pixels)
        assert pictures.decode_image(crop.image).shape == (160, 160, 3)
        assert abs(crop.landmarks[0, 1] - crop.landmarks[1, 1]) < 1e-3
    assert found.people[0].crops[0].bbox[2] > found.people[1].crops[0].bbox[2]

    Image.fromarray(scene()).save(tmp_path / "none.png")
    nobody = tracking.extract(tmp_path / "none.png", CASCADE)
    assert (nobody.people, nobody.note) == ((), "no face")
    with pytest.raises(formats.MediaError):
        tracking.extract(tmp_path / "missing.png", CASCADE)


def test_a_video_gives_its_people_the_same_each_time(tmp_path):
    images = [scene((200 + 2 * n, 180, 140), (480, 170 + n, 110)) for n in range(12)]
    images[5] = scene((212, 180, 140), (480, 175, 110), (340, 60, 60))  # passes once
    path = write_video(tmp_path / "a.mp4", images)
    settings = FaceSettings(size=96, frames=6)
    found = tracking.extract(path, settings)
    assert found.frames == 6
    assert [len(person.crops) for person in found.people] == [6, 6]
    for person, slope in zip(found.people, ((2, 0), (0, 1)), strict=True):
        assert [crop.frame for crop in person.crops] == [1, 3, 5, 7, 9, 11]
        np.testing.assert_allclose([c.time for c in person.crops], [0.1, 0.3, 0.5, 0.7, 0.9, 1.1])
        centres = np.array([crop.bbox[:2] + crop.bbox[2:] / 2 for crop in person.crops])
        np.testing.assert_allclose((centres[-1] - centres[0]) / 10, slope, atol=0.8)
    again = tracking.extract(path, settings)
    for before, after in zip(found.people, again.people, strict=True):
        for a, b in zip(before.crops, after.crops, strict=True):
            assert (a.frame, a.time, a.image) == (b.frame, b.time, b.image)
            np.testing.assert_array_equal(a.bbox, b.bbox)
            np.testing.assert_array_equal(a.landmarks, b.landmarks)


def test_ready_crops_in_a_video_are_one_person(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(5)]
    path = write_video(tmp_path / "a.mp4", images)
    found = tracking.extract(path, NONE)
    assert [len(person.crops) for person in found.people] == [5]


def test_a_video_without_a_face_says_so_and_an_empty_one_raises(tmp_path):
    path = write_video(tmp_path / "a.mp4", [scene()] * 4)
    found = tracking.extract(path, CASCADE)
    assert (found.people, found.frames, found.note) == ((), 4, "no face")
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(formats.MediaError, match="empty file"):
        tracking.extract(tmp_path / "empty.mp4", CASCADE)
