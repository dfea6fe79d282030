"""Degradations of known strength: identity at 0, stronger further away, alike at every size."""

import cv2
import numpy as np
import pytest

from deepfidelity_jax.forgeries.degrade import DEGRADATIONS, degrade

KINDS = sorted(DEGRADATIONS)


def textured(side=128, seed=0):
    """Smooth colours with fine detail, within the range that exposure can move either way."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(
        rng.uniform(60, 200, (5, 5, 3)), (side, side), interpolation=cv2.INTER_CUBIC
    )
    detail = cv2.resize(rng.normal(0, 25, (64, 64)), (side, side), interpolation=cv2.INTER_CUBIC)
    return (coarse + detail[..., None]).clip(0, 255).astype(np.uint8)


def error(image, degraded):
    return float(np.sqrt(np.mean((image.astype(float) - degraded) ** 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_is_an_equal_copy(kind):
    image = textured()
    degraded = degrade(image, kind, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(degraded, image)
    assert not np.shares_memory(degraded, image)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(128, 128), (97, 64), (320, 320), (1, 1)])
def test_shape_and_type_stay_and_the_input_is_untouched(kind, shape):
    image = cv2.resize(textured(), shape[::-1])
    before = image.copy()
    degraded = degrade(image, kind, 1.0, np.random.default_rng(0))
    assert degraded.shape == image.shape
    assert degraded.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_the_error_grows_with_strength(kind, seed):
    image = textured(seed=seed)
    errors = [
        error(image, degrade(image, kind, strength, np.random.default_rng(seed)))
        for strength in np.linspace(0, 1, 6)
    ]
    assert (np.diff(errors) > 0).all(), errors


@pytest.mark.parametrize(
    ("kind", "strength"),
    [("blur", 0.7), ("darkness", 0.7), ("downscale", 1.0), ("overexposure", 0.7)],
)
def test_a_strength_means_the_same_at_every_size(kind, strength):
    large, small = (
        textured(256),
        cv2.resize(textured(256), (128, 128), interpolation=cv2.INTER_AREA),
    )
    first = degrade(large, kind, strength, np.random.default_rng(0))
    first = cv2.resize(first, (128, 128), interpolation=cv2.INTER_AREA)
    second = degrade(small, kind, strength, np.random.default_rng(0))
    assert error(first, second) < 0.15 * error(small, second)


def test_noise_keeps_its_level_at_every_size():
    levels = [
        np.std(degrade(np.full((side, side, 3), 128, np.uint8), "noise", 0.5, rng)[..., 0])
        for side, rng in ((128, np.random.default_rng(0)), (256, np.random.default_rng(0)))
    ]
    assert levels[0] == pytest.approx(20, rel=0.05)
    assert levels[1] == pytest.approx(levels[0], rel=0.25)


def test_the_same_seed_gives_the_same_noise_and_another_seed_another():
    image = textured()
    first, again, other = (
        degrade(image, "noise", 0.5, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert error(first, other) > 10


def test_only_noise_draws_random_numbers():
    for kind in set(KINDS) - {"noise"}:
        rng = np.random.default_rng(0)
        degrade(textured(), kind, 0.5, rng)
        assert rng.random() == np.random.default_rng(0).random(), kind


def test_darkness_takes_light_in_stops():
    # Half of the light of linear 0.5 (sRGB 188) is linear 0.25 (sRGB 137).
    image = np.full((8, 8, 3), 188, np.uint8)
    assert abs(int(degrade(image, "darkness", 0.25, np.random.default_rng(0))[0, 0, 0]) - 137) <= 1


def test_overexposure_burns_the_stated_share():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    burnt = degrade(np.ascontiguousarray(ramp), "overexposure", 0.5, np.random.default_rng(0))
    middle = burnt[64:192, 64:192]
    assert np.mean(middle == 255) == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ValueError, match="strength"):
        degrade(textured(), "blur", strength, np.random.default_rng(0))
