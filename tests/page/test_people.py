"""Who and what is shown of many people and frames, and how a timeline is drawn."""

import base64
from dataclasses import replace

import numpy as np
import pytest
import trees

from deepfidelity_jax.detector.predict import Evidence, PersonScore
from deepfidelity_jax.faces.cropping import Crop
from deepfidelity_jax.images import videos
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.page import people


def crop(frame, time=None):
    blank = np.zeros((8, 8, 3), np.uint8)
    box, points = np.float32([10, 14, 30, 30]), np.zeros((5, 2), np.float32)
    return Crop(frame, frame / 25 if time is None else time, b"", blank, box, points, 0.9)


def evidence(fidelity, frames=None, quality=None):
    frames = range(0, 10 * len(fidelity), 10) if frames is None else frames
    unknown = np.full(len(fidelity), np.nan) if quality is None else np.array(quality)
    return Evidence(tuple(map(crop, frames)), np.array(fidelity, np.float64), unknown)


def test_the_least_real_people_are_shown_in_their_order():
    scores = [
        PersonScore(i, (i * 7 % 12) / 12, 0.5, None, 0.0, 1, [0.0] * 4, 0.0) for i in range(12)
    ]
    shown = people.choose_people(scores)
    assert shown == sorted(shown)
    assert len(shown) == people.PEOPLE
    left = set(range(12)) - set(shown)
    assert min(scores[i].fidelity for i in left) > max(scores[i].fidelity for i in shown)
    most_real = max(left, key=lambda i: scores[i].fidelity)
    shown = people.choose_people(scores, decides=most_real)
    assert len(shown) == people.PEOPLE
    assert most_real in shown, "whoever decides is always shown"


def test_lowest_highest_and_typical_faces_are_shown_once_each():
    assert people.choose_faces(evidence([0.5])) == {0: "the only frame"}
    found = people.choose_faces(evidence([0.9, 0.1, 0.52, 0.5]))
    assert found == {0: "highest fidelity", 1: "lowest fidelity", 3: "nearest to the mean"}
    assert people.choose_faces(evidence([0.2, 0.2])) == {
        0: "lowest fidelity, highest fidelity, nearest to the mean"
    }


def test_a_line_breaks_where_the_person_was_not_found():
    own = evidence([0.2, 0.8, 0.5, 0.4], frames=[5, 15, 45, 55], quality=[0.3, np.nan, 0.5, 0.4])
    fidelity, quality, detection = people.draw_lanes(own, 0.6, 4.0, 10)
    assert [lane.name for lane in (fidelity, quality, detection)] == [
        "fidelity", "quality", "detection"
    ]  # fmt: skip
    assert [line.count(",") for line in fidelity.lines] == [2, 2]
    assert quality.points[1] is None
    assert [line.count(",") for line in quality.lines] == [1, 2]
    x, y = zip(*fidelity.points, strict=True)
    assert list(x) == sorted(x)
    assert x[0] == pytest.approx(1 + 98 * 0.2 / 4)
    assert y[1] < y[2] < y[3] < y[0], "high is up"
    assert all(0 <= value <= 100 for value in (*x, *y))


def test_a_line_of_a_person_found_everywhere_is_unbroken():
    """Steps of one and two frames alternate where nearly all frames are looked at."""
    frames = videos.spread_indices(40, 32)
    own = evidence(np.linspace(0, 1, 32), frames=frames)
    lane = people.draw_lanes(own, 0.6, 4.0, people.widest_step(40, 32))[0]
    assert len(lane.lines) == 1


def test_values_beyond_0_and_1_stay_on_the_axis():
    lane = people.draw_lanes(evidence([-0.3, 1.4]), 0.6, 1.0, 10)[0]
    assert lane.ends == (1.4, -0.3)
    assert all(0 <= y <= 100 for _, y in lane.points)


def test_frames_are_those_of_the_crops_with_a_box(tmp_path):
    clip = tmp_path / "clip.mp4"
    trees.write_video(clip, [trees.numbered(0, number, side=240) for number in range(12)])
    box = np.float32([60, 150, 60, 60])
    wanted = {(0, 1): crop(3), (2, 0): crop(9), (0, 5): crop(99)}
    wanted = {key: replace(own, bbox=box) for key, own in wanted.items()}
    found = people.read_frames(clip, wanted, videos.video_info(clip).constant)
    assert found.keys() == {(0, 1), (2, 0)}
    for key, url in found.items():
        shown = decode_image(base64.b64decode(url.partition(",")[2]))
        assert shown.shape == (240, 240, 3)
        assert trees.told(shown) == wanted[key].frame
        assert shown[180, 60].min() > 150, "the left side of the box"


def test_a_box_is_white_and_stays_within_the_picture():
    plain = np.full((48, 48, 3), 120, np.uint8)
    people.draw_box(plain, [10.0, 20.0, 20.0, 20.0], "7")
    assert plain[30, 10].min() > 200
    assert (plain[40:, 40:] == 120).all()
    people.draw_box(plain, [-50.0, -50.0, 500.0, 500.0], "beyond every border")
