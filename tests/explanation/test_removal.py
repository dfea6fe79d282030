"""What is removed is gone without an edge, and what stays is untouched."""

import numpy as np

from deepfidelity_jax.explanation import removal


def noisy(seed=0, side=24):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


def test_what_stays_is_untouched_and_what_goes_says_nothing_of_itself():
    face, gone = noisy(), np.zeros((24, 24), bool)
    gone[5:15, 8:20] = True
    found = removal.remove(face, gone, np.random.default_rng(0))
    np.testing.assert_array_equal(found[~gone], face[~gone])
    other = face.copy()
    other[gone] = 255 - other[gone]
    np.testing.assert_array_equal(removal.remove(other, gone, np.random.default_rng(0)), found)
    np.testing.assert_array_equal(
        removal.remove(face, gone & False, np.random.default_rng(0)), face
    )


def test_a_hole_in_a_slope_is_filled_with_the_slope(monkeypatch):
    """The neighbours' mean keeps what is linear, so no edge shows."""
    monkeypatch.setattr(removal, "NOISE", 0.0)
    slope = np.arange(24)[:, None] * 4 + np.arange(24) * 3
    face, gone = np.repeat(slope[..., None], 3, axis=2).astype(np.uint8), np.zeros((24, 24), bool)
    gone[4:20, 6:18] = True
    found = removal.remove(face, gone, np.random.default_rng(0))
    np.testing.assert_allclose(found.astype(int), face.astype(int), atol=1)


def test_the_hottest_share_is_that_many_pixels():
    heat = np.random.default_rng(0).normal(size=(20, 20))
    found = removal.hottest(heat, 0.1)
    assert found.sum() == 40
    assert heat[found].min() > heat[~found].max()
    assert removal.hottest(np.zeros((20, 20)), 0.25).sum() == 100, "ties count as well"


class Bright:
    """Stands for a detector: the fidelity of a face is how bright its upper left corner is."""

    def fidelity_of_prepared(self, faces):
        return faces[:, :8, :8].mean(axis=(1, 2, 3)).astype(np.float32) / 255


def test_removal_in_the_right_order_changes_the_score_most():
    face = np.full((32, 32, 3), 60, np.uint8)
    face[2:6, 2:6] = 250
    right = np.zeros((32, 32), np.float32)
    right[:8, :8] = 1
    rng = np.random.default_rng(0)
    before = Bright().fidelity_of_prepared(face[None])[0]
    by_map = removal.scores_after_removal(Bright(), face, right, rng)
    random = removal.random_map((32, 32), rng, 2.0)
    at_random = removal.scores_after_removal(Bright(), face, random, rng)
    assert len(by_map) == len(removal.SHARES)
    assert np.abs(by_map - before).mean() > 2 * np.abs(at_random - before).mean()


def test_a_random_map_is_smooth_and_repeats_by_its_generator():
    one, same = (removal.random_map((48, 48), np.random.default_rng(3), 3.0) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert np.corrcoef(one[:, 1:].ravel(), one[:, :-1].ravel())[0, 1] > 0.9
