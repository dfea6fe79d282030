"""The renderer: same person, same face; same arguments, same bytes; what moves, moves smoothly."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from deepfidelity_datasets.synthetic_faces.renderer import (
    Identity,
    Pose,
    Scene,
    render,
    sample_identity,
    sample_poses,
    sample_scene,
)
from deepfidelity_datasets.synthetic_faces.renderer.person import FACIAL_HAIR, HAIR_STYLES

SIZE = 96
NOSE, MOUTH = 2, slice(3, 5)


def person(seed: int) -> Identity:
    return sample_identity(np.random.default_rng([seed, 1]))


def place(seed: int) -> Scene:
    return sample_scene(np.random.default_rng([seed, 2]))


def poses(seed: int, n: int) -> list[Pose]:
    return sample_poses(np.random.default_rng([seed, 3]), n)


def difference(a, b) -> float:
    return float(np.abs(a.astype(np.float32) - b.astype(np.float32)).mean())


def test_same_arguments_give_same_bytes():
    first, marks = render(person(0), place(0), poses(0, 3)[2], SIZE)
    for seed in range(1, 4):  # others in between must not leak through the caches
        render(person(seed), place(seed), Pose(), SIZE)
    again, marks_again = render(person(0), place(0), poses(0, 3)[2], SIZE)
    assert first.shape == (SIZE, SIZE, 3)
    assert first.dtype == np.uint8
    assert first.tobytes() == again.tobytes()
    assert marks.tobytes() == marks_again.tobytes()


def test_people_scenes_and_frames_differ():
    base, _ = render(person(0), place(0), Pose(), SIZE)
    assert difference(base, render(person(1), place(0), Pose(), SIZE)[0]) > 5
    assert difference(base, render(person(0), place(1), Pose(), SIZE)[0]) > 5
    assert difference(base, render(person(0), place(0), Pose(smile=1, yaw=0.3), SIZE)[0]) > 2


def test_geometry_belongs_to_the_person_not_to_the_scene():
    def ratios(seed, scene):
        _, marks = render(person(seed), place(scene), Pose(), SIZE)
        across = np.linalg.norm(marks[1] - marks[0])
        middle = marks[:2].mean(0)
        return np.array([
            np.linalg.norm(marks[4] - marks[3]) / across,
            np.linalg.norm(marks[NOSE] - middle) / across,
            np.linalg.norm(marks[MOUTH].mean(0) - middle) / across,
        ])  # fmt: skip

    np.testing.assert_array_equal(ratios(0, 0), ratios(0, 5))
    assert np.ptp([ratios(seed, 0) for seed in range(8)], axis=0).min() > 0.02


@pytest.mark.slow
def test_landmarks_of_any_person_in_any_pose():
    for seed in range(40):
        for pose in poses(seed, 3):
            _, marks = render(person(seed), place(seed), pose, 32)
            left, right, nose, *mouth = marks
            assert (marks > 0).all()
            assert (marks < 31).all()
            assert left[0] < right[0]
            assert mouth[0][0] < mouth[1][0]
            assert max(left[1], right[1]) < nose[1] < min(mouth[0][1], mouth[1][1])


def test_frontal_face_is_framed_as_an_aligned_crop():
    for seed in range(20):
        _, marks = render(replace(person(seed), asymmetry=0.0), place(seed), Pose(), 100)
        left, right, nose, *mouth = marks
        assert left[0] == pytest.approx(35, abs=2.5)
        assert right[0] == pytest.approx(64, abs=2.5)
        assert left[1] == pytest.approx(41, abs=1.5)
        assert nose[0] == pytest.approx(49.5, abs=0.1)
        assert mouth[0][1] == pytest.approx(70, abs=4)


def test_landmarks_lie_on_what_they_name():
    """Irises are darker than the skin below the eyes; a lipstick's lips redder than the chin."""
    odd = replace(
        person(0),
        skin=0.1,
        eye_rgb=(0.1, 0.1, 0.1),
        lip_colour=1.0,
        facial_hair="none",
        hair_style="short",
    )
    scene = replace(place(0), light=(0.0, -0.3, 1.0), tint=(1.0, 1.0, 1.0))
    for pose in (
        Pose(),
        Pose(yaw=0.3),
        Pose(pitch=0.15, roll=-0.15),
        Pose(x=0.03, y=-0.03, scale=1.08),
    ):
        image, marks = render(odd, scene, pose, 160)
        image = image.astype(np.float32)

        def patch(point, image=image):
            x, y = np.rint(point).astype(int)
            return image[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1))

        down = marks[MOUTH].mean(0) - marks[:2].mean(0)
        for eye in marks[:2]:
            assert patch(eye).mean() < 0.6 * patch(eye + 0.35 * down).mean()
        mouth, chin = (
            patch(marks[MOUTH].mean(0) + 0.12 * down),
            patch(marks[MOUTH].mean(0) + 0.5 * down),
        )
        assert mouth[0] / mouth[1] > 1.15 * chin[0] / chin[1]


def test_landmarks_follow_the_pose_continuously():
    who, where = person(3), place(3)
    previous = None
    for step in np.linspace(-1, 1, 41):
        pose = Pose(
            yaw=0.35 * step, pitch=0.15 * step, smile=0.4 + 0.4 * step, mouth_open=0.3 + 0.3 * step
        )
        _, marks = render(who, where, pose, 32)
        if previous is not None:
            moved = np.linalg.norm(marks - previous, axis=1)
            assert moved.max() < 0.5
            assert moved[NOSE] > 1e-3
        previous = marks


@pytest.mark.parametrize(
    ("change", "sign"),
    [
        ({"yaw": 0.3}, (1, 0)),
        ({"yaw": -0.3}, (-1, 0)),
        ({"pitch": 0.2}, (0, -1)),
        ({"pitch": -0.2}, (0, 1)),
    ],
)
def test_the_nose_leads_when_the_head_turns(change, sign):
    def lead(pose):
        _, marks = render(person(4), place(4), pose, 100)
        return marks[NOSE] - (marks[:2].sum(0) + marks[MOUTH].sum(0)) / 4

    assert (lead(Pose(**change)) - lead(Pose())) @ np.array(sign) > 1


def test_a_smile_lifts_and_widens_the_mouth():
    _, calm = render(person(5), place(5), Pose(), 100)
    _, smiling = render(person(5), place(5), Pose(smile=1), 100)
    assert np.ptp(smiling[MOUTH, 0]) > np.ptp(calm[MOUTH, 0]) + 2
    assert smiling[MOUTH, 1].mean() < calm[MOUTH, 1].mean() - 1
    np.testing.assert_allclose(smiling[:3], calm[:3], atol=0.5)


def test_mirrored_light_and_pose_mirror_the_face():
    who = replace(person(6), asymmetry=0.0, facial_hair="none", freckles=0.0, hair_style="buzz")
    scene = replace(place(6), light=(0.6, -0.4, 0.7))
    pose = Pose(yaw=0.25, roll=0.1, x=0.01, gaze_x=0.5, smile=0.5)
    image, marks = render(who, scene, pose, 160)
    other, other_marks = render(
        who,
        replace(scene, light=(-0.6, -0.4, 0.7)),
        replace(pose, yaw=-0.25, roll=-0.1, x=-0.01, gaze_x=-0.5),
        160,
    )
    flipped = other_marks[[1, 0, 2, 4, 3]] * (-1, 1) + (159, 0)
    np.testing.assert_allclose(flipped, marks, atol=0.01)

    def face(image):  # without the grain, which is nobody's mirror image
        return cv2.GaussianBlur(image, (0, 0), 4)[50:120, 50:110]

    assert difference(face(image), face(other[:, ::-1])) < 3
    assert difference(face(image), face(other)) > 9


def test_skin_runs_from_light_to_dark():
    """In even steps, though the camera makes up for most of it, as cameras do."""

    def cheek(skin):
        who = replace(person(7), skin=skin, facial_hair="none", freckles=0.0, asymmetry=0.0)
        image, marks = render(who, replace(place(7), light=(0.0, -0.3, 1.0)), Pose(), SIZE)
        x, y = np.rint((marks[0] + marks[NOSE]) / 2).astype(int)
        return image[y - 3 : y + 4, x - 3 : x + 4].mean()

    tones = [cheek(skin) for skin in np.linspace(0, 1, 6)]
    assert (np.diff(tones) < -3).all()
    assert tones[0] > 1.25 * tones[-1]
    assert np.ptp([person(seed).skin for seed in range(30)]) > 0.8


def test_skin_has_texture_of_its_own_that_moves_with_the_head():
    """High frequencies on a cheek: there, different by person and by scene, and attached."""

    def detail(who, scene, pose):
        image, marks = render(who, scene, pose, 160)
        grey = image.astype(np.float32).mean(2)
        fine = grey - cv2.GaussianBlur(grey, (0, 0), 1.5)
        x, y = (marks[1] + marks[4]) / 2
        return cv2.getRectSubPix(fine, (17, 17), (float(x) + 6, float(y)))

    who, scene = (
        replace(person(8), facial_hair="none", skin=0.3),
        replace(place(8), light=(0.0, -0.3, 1.0)),
    )
    base = detail(who, scene, Pose())
    assert base.std() > 1

    def alike(other):
        return np.corrcoef(base.ravel(), other.ravel())[0, 1]

    assert alike(detail(who, scene, Pose(x=0.053, y=0.027))) > 0.8
    assert alike(detail(replace(who, seed=who.seed + 1), scene, Pose())) < 0.4
    assert alike(detail(who, replace(scene, seed=scene.seed + 1), Pose())) < 0.95


def test_poses_are_smooth_and_vary():
    track = np.array([[p.yaw, p.pitch, p.roll, p.x, p.y, p.scale - 1] for p in poses(9, 60)])
    assert np.abs(np.diff(track, axis=0)).max() < 0.1
    assert (np.ptp(track, axis=0) > 1e-3).all()
    assert len(poses(9, 1)) == 1


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_every_hair_style_can_be_drawn_at_the_extremes(style):
    hair = FACIAL_HAIR[HAIR_STYLES.index(style) % len(FACIAL_HAIR)]
    who = replace(person(10), hair_style=style, facial_hair=hair, age=1.0, hair_wave=1.0)
    for sign in (-1, 1):
        pose = Pose(
            smile=1, mouth_open=1, eye_open=0.0, yaw=0.5 * sign, pitch=0.25 * sign, roll=0.3 * sign
        )
        image, marks = render(who, place(10), pose, 64)
        assert np.isfinite(marks).all()
        assert 10 < image.mean() < 245


def test_a_face_detector_takes_them_for_faces():
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = 0
    for seed in range(20):
        image, _ = render(person(seed), place(seed), poses(seed, 1)[0], 128)
        grey = cv2.cvtColor(
            cv2.copyMakeBorder(image, 24, 24, 24, 24, cv2.BORDER_REPLICATE), cv2.COLOR_RGB2GRAY
        )
        found += len(cascade.detectMultiScale(grey, 1.1, 4, minSize=(64, 64))) == 1
    assert found >= 17
