"""People are followed, turned upright where needed, and the same each time."""

import math

import numpy as np
import pytest
from cartoons import CASCADE, NONE, draw_face, face, scene, write_video
from PIL import Image

from deepfidelity_jax.faces import detection, tracking
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.images import formats, pictures, videos


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


def test_beside_a_portrait_only_what_is_sure_or_as_large_is_a_face():
    """In a photograph; in a video false alarms do not repeat."""

    def found(*others, frames=1):
        picture = [face(100, 100, 80, score=0.99), *others]
        return len(tracking.track([picture] * frames, sure=0.98))

    assert found(face(300, 100, 39, score=0.97)) == 1  # a seal on a flag
    assert found(face(300, 100, 39, score=0.98)) == 2
    assert found(face(300, 100, 41, score=0.55)) == 2
    assert found(face(300, 100, 39, score=0.97), frames=3) == 2
    group = [face(x, 100, 20, score=0.7) for x in (100, 200, 300)]
    assert len(tracking.track([group], sure=0.98)) == 3, "nobody is sure"


def test_who_is_seldom_found_and_never_surely_is_no_person():
    """A lonely weak detection in a long video: a patch of wall that looks a little like a face."""

    def video(count, score, frames=20):
        return [[face(100 + n, 100, score=score)] if n < count else [] for n in range(frames)]

    assert tracking.track(video(5, score=0.55), sure=0.6) == []
    assert len(tracking.track(video(5, score=0.65), sure=0.6)) == 1
    assert len(tracking.track(video(12, score=0.55), sure=0.6)) == 1, "weak, but steady"


def follow_faces(monkeypatch, detections, turned=False):
    """What `follow` finds in frames where these faces are; `turned`, only after a quarter turn."""

    def find(image, settings):
        high, wide = image.shape[:2]
        return detections[image[0, 0, 0]] if (high > wide) == turned else []

    monkeypatch.setattr(tracking, "detect", find)
    monkeypatch.setattr(tracking, "search_bordered", find)
    frames = [
        videos.Frame(n, n / 25, np.full((200, 1200, 3), n, np.uint8))
        for n in range(len(detections))
    ]
    return tracking.follow(lambda: frames, len(frames), CASCADE)


def elsewhere(number, score=1.0):
    return face(60 + 105 * number, 100, score=score)


BRIEF = "seen in too few frames to be scored"


@pytest.mark.parametrize(
    ("detections", "turned", "people", "note"),
    [
        ([[elsewhere(0)] + [elsewhere(5)] * (3 < n < 7) for n in range(32)], False, 1,
         f"1 person was {BRIEF}"),
        ([[elsewhere(n // 3)] for n in range(33)], False, 0, f"11 people were {BRIEF}"),
        ([[], [elsewhere(0)]], False, 0, f"1 person was {BRIEF}"),
        ([[elsewhere(n)] for n in range(4)], True, 0, f"4 people were {BRIEF}, turned sideways"),
        ([[elsewhere(0, 0.55)] * (n == 3) for n in range(20)], False, 0,
         "no face (below about 36 pixels none is looked for)"),
        ([[elsewhere(0)] + [elsewhere(5, 0.55)] * (n == 3) for n in range(20)], False, 1, ""),
    ],
)  # fmt: skip
def test_who_is_surely_seen_but_too_briefly_is_counted(
    monkeypatch, detections, turned, people, note
):
    found = follow_faces(monkeypatch, detections, turned)
    assert (len(found.people), found.note) == (people, note)


@pytest.mark.parametrize(
    ("size", "frames", "scores", "people", "looks"),
    [
        (95, 1, [1.0, 1.0], 1, [1]),
        (60, 1, [1.0, 1.0], 2, [1, detection.CLOSER]),
        (60, 2, [1.0, 1.0], 1, [1, 1]),
        (60, 1, [1.0, 1.0, 0.5, 0.5], 1, [1, detection.CLOSER]),  # as faces that lie sideways
    ],
)
def test_a_photograph_without_a_large_face_is_looked_at_more_closely(
    monkeypatch, size, frames, scores, people, looks
):
    looked = []

    def find(image, settings, closer=1):
        looked.append(closer)
        if closer == 1:
            return [face(100, 100, size)]
        return [elsewhere(n, score) for n, score in enumerate(scores)]

    monkeypatch.setattr(tracking, "detect", find)
    film = [videos.Frame(n, n / 25, np.zeros((200, 1200, 3), np.uint8)) for n in range(frames)]
    assert len(tracking.follow(lambda: film, frames, CASCADE).people) == people
    assert looked == looks


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_pixels_that_lie_sideways_give_upright_crops(tmp_path, turn):
    image = scene((200, 180, 140, 8))
    Image.fromarray(image).save(tmp_path / "upright.png")
    Image.fromarray(np.rot90(image, turn)).save(tmp_path / "turned.png")
    (expected,) = tracking.extract(tmp_path / "upright.png", CASCADE).people
    found = tracking.extract(tmp_path / "turned.png", CASCADE)
    assert found.note == ("turned upside down" if turn == 2 else "turned sideways")
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


@pytest.mark.slow
def test_a_sideways_video_is_turned_as_a_whole(tmp_path):
    upright = [scene((200 + 4 * n, 180, 140)) for n in range(12)]
    path = write_video(tmp_path / "a.mp4", [np.ascontiguousarray(np.rot90(i)) for i in upright])
    found = tracking.extract(path, FaceSettings("cascade", size=96, frames=6))
    assert found.note == "turned sideways"
    (person,) = found.people
    assert [crop.frame for crop in person.crops] == [1, 3, 5, 7, 9, 11]
    for crop in person.crops:
        x, y, width, height = crop.bbox
        assert x + width / 2 == pytest.approx(180, abs=20)
        assert y + height / 2 == pytest.approx(640 - (200 + 4 * crop.frame), abs=20)
    # A few turned frames are no reason to turn the others.
    mixed = [*upright[:9], *(np.rot90(image, 2) for image in upright[9:])]
    path = write_video(tmp_path / "b.mp4", mixed)
    found = tracking.extract(path, FaceSettings("cascade", size=96, frames=6))
    assert found.note == ""
    assert [crop.frame for crop in found.people[0].crops] == [1, 3, 5, 7]


@pytest.mark.parametrize(("people", "probes"), [(1, 0), (0, 3)])
def test_frames_are_read_once_and_searched_in_every_way_where_nobody_is(
    monkeypatch, people, probes
):
    """Of six frames without a face every second one is searched after each turn."""
    images = [scene(*[(200 + 4 * n, 180, 140)] * people) for n in range(6)]
    reads, searches = [], []
    inner = tracking.search_bordered
    monkeypatch.setattr(
        tracking, "search_bordered", lambda *given: searches.append(1) or inner(*given)
    )

    def read():
        reads.append(1)
        return [videos.Frame(n, 0.0, image) for n, image in enumerate(images)]

    assert len(tracking.follow(read, 6, CASCADE).people) == people
    assert (len(reads), len(searches)) == (1, probes * len(tracking.TURNS))


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
    settings = FaceSettings("cascade", size=96, frames=6)
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
