"""Another shot moves what it should, and the face's points with it."""

import numpy as np
import pytest
from test_families import draw_face

from deepfidelity_jax.faces.geometry import complete_landmarks
from deepfidelity_jax.forgeries import families
from deepfidelity_jax.forgeries.families import shots

DRAWS = 200


def retake(face, seed):
    return families.retake(face, np.random.default_rng(seed))


def test_a_seed_is_a_shot_and_the_picture_stays():
    face = draw_face()
    before = face.pixels.copy(), face.points.copy()
    for seed in range(20):
        one, other = retake(face, seed), retake(face, seed)
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.points, other.points)
        assert one.pixels.shape == face.pixels.shape
    np.testing.assert_array_equal(face.pixels, before[0])
    np.testing.assert_array_equal(face.points, before[1])


def test_each_change_is_in_half_of_the_draws():
    face = draw_face()
    made = [retake(face, seed) for seed in range(DRAWS)]
    moved = np.mean([not np.array_equal(one.points, face.points) for one in made])
    same = np.mean([np.array_equal(one.pixels, face.pixels) for one in made])
    assert 0.4 < moved < 0.6
    assert 0.07 < same < 0.19  # an eighth


@pytest.mark.parametrize("number", range(5))
def test_points_stay_on_what_they_mark(number):
    face = draw_face()
    y, x = np.mgrid[: face.pixels.shape[0], : face.pixels.shape[1]]
    point = face.points[number]
    spot = 255 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * 3.0**2))
    marked = families.Face(np.repeat(np.rint(spot)[..., None], 3, 2).astype(np.uint8), face.points)
    for seed in range(60):
        shot = shots._place(marked, np.random.default_rng(seed))
        weight = shot.pixels[..., 0].astype(float)
        # Near the point alone, as the border mirrors the picture.
        far = np.hypot(x - shot.points[number, 0], y - shot.points[number, 1]) > 10
        weight[far | (weight < 64)] = 0
        assert weight.any()
        found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        np.testing.assert_allclose(found, shot.points[number], atol=0.6)


def test_a_face_keeps_its_proportions_within_bounds():
    face = draw_face()
    across = np.linalg.norm(face.points[1] - face.points[0])
    for seed in range(DRAWS):
        points = shots._place(face, np.random.default_rng(seed)).points
        right = points[1] - points[0]
        assert 0.5 < np.linalg.norm(right) / across < 1.35
        assert abs(np.degrees(np.arctan2(right[1], right[0]))) < 22
        assert (points > 0).all()
        assert (points < face.pixels.shape[0]).all()


def test_light_falls_from_one_side_and_colour_has_no_place():
    grey = np.full((60, 60, 3), 90, np.uint8)
    for seed in range(20):
        lit = shots._light(grey, np.random.default_rng(seed)).mean(axis=2)
        edges = lit[:, 0].mean(), lit[:, -1].mean(), lit[0].mean(), lit[-1].mean()
        assert 1.1 < max(edges) / min(edges) < 3.2
        coloured = shots._colour(grey, np.random.default_rng(seed))
        assert (coloured == coloured[0, 0]).all()


def test_unknown_points_are_where_they_usually_are():
    face = draw_face()
    unknown = families.Face(face.pixels, np.full((5, 2), np.nan, np.float32))
    usual = families.Face(face.pixels, complete_landmarks(unknown.points, face.pixels.shape[:2]))
    for seed in range(10):
        np.testing.assert_array_equal(retake(unknown, seed).points, retake(usual, seed).points)


def test_any_shape_can_be_retaken():
    face = draw_face()
    tall = families.Face(face.pixels[:, 10:-14], face.points - np.float32([10, 0]))
    for seed in range(20):
        assert retake(tall, seed).pixels.shape == tall.pixels.shape
