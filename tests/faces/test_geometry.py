"""The similarity fit is the best there is, and patches are mirrored at the border."""

import math

import cv2
import numpy as np
import pytest

from deepfidelity_jax.faces.geometry import (
    AVERAGE_FACE,
    complete_landmarks,
    cut_patch,
    fit_similarity,
    move,
)

SIZE = 128
FACE = (AVERAGE_FACE * 112).astype(np.float64)


def similar(scale, degrees, shift):
    """Rows of a similarity transform."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


@pytest.mark.parametrize("known", [[0, 1], [0, 2, 4], [0, 1, 2, 3, 4]])
def test_similarity_is_found_from_the_landmarks_there_are(known):
    true = similar(0.7, -25, (12, -4))
    points = np.full((5, 2), np.nan)
    inverse = cv2.invertAffineTransform(true)
    points[known] = move(inverse, FACE)[known]
    np.testing.assert_allclose(fit_similarity(points, FACE), true, atol=1e-9)


def test_similarity_is_the_best():
    """No small change of turn, scale or shift brings jittered points nearer; none is mirrored."""
    rng = np.random.default_rng(3)
    points = 1.5 * FACE + rng.normal(0, 6, (5, 2))
    found = fit_similarity(points, FACE)

    def error(matrix):
        return np.square(move(matrix, points) - FACE).sum()

    (a, minus_b, x), (b, same_a, y) = found
    assert (a, b) == (same_a, -minus_b)
    for change in np.concatenate([np.eye(4), -np.eye(4)]) * 1e-3:
        da, db, dx, dy = change * [1, 1, 100, 100]
        other = np.array([[a + da, -b - db, x + dx], [b + db, a + da, y + dy]])
        assert error(other) > error(found)
    mirrored = FACE * [-1, 1]
    assert np.linalg.det(fit_similarity(mirrored, FACE)[:, :2]) > 0


def test_landmarks_on_one_place_determine_nothing():
    one_place = np.full((5, 2), 30.1)
    assert fit_similarity(one_place, FACE) is None
    assert fit_similarity(FACE, one_place) is None
    half = np.full((5, 2), np.nan)
    half[0], half[1, 0] = 30, 50  # the y of the second is unknown
    assert fit_similarity(half, FACE) is None
    assert fit_similarity(FACE, half) is None


def test_unknown_points_stay_unknown():
    points = FACE.copy()
    points[2] = np.nan
    moved = move(similar(2, 90, (10, 20)), points)
    assert np.isnan(moved[2]).all()
    np.testing.assert_allclose(moved[0], [10 - 2 * points[0, 1], 20 + 2 * points[0, 0]])


def test_unknown_landmarks_follow_the_known():
    turn = np.deg2rad(20)
    matrix = 0.7 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    placed = (AVERAGE_FACE * SIZE @ matrix.T + [30, 12]).astype(np.float32)
    for known in ([0, 1], [1, 4], [0, 2, 3]):
        given = np.full((5, 2), np.nan, np.float32)
        given[known] = placed[known]
        np.testing.assert_allclose(complete_landmarks(given, (SIZE, SIZE)), placed, atol=1e-2)
    np.testing.assert_array_equal(complete_landmarks(placed, (SIZE, SIZE)), placed)
    one = np.full((5, 2), np.nan, np.float32)
    one[2] = 3
    expected = AVERAGE_FACE * np.float32([80, 60])
    np.testing.assert_allclose(complete_landmarks(one, (60, 80)), expected)
    for given in (one, np.full((5, 2), 30, np.float32)):  # known, but on one place
        np.testing.assert_allclose(complete_landmarks(given, (60, 80)), expected)


@pytest.mark.parametrize(
    ("left", "top", "side"),
    [(2, 3, 4), (-3, -2, 9), (5, 4, 12), (-20, 30, 7), (-9, 2, 12), (-14, -20, 44), (10, 7, 2)],
)
def test_patches_are_mirrored_at_the_border(left, top, side):
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    padded = np.pad(image, ((45, 45), (45, 45), (0, 0)), mode="reflect")
    expected = padded[top + 45 : top + 45 + side, left + 45 : left + 45 + side]
    np.testing.assert_array_equal(cut_patch(image, left, top, side), expected)
