"""A forgery changes the face inside its mask and nothing else."""

import cv2
import numpy as np
import pytest

from deepfidelity_jax.faces.geometry import AVERAGE_FACE
from deepfidelity_jax.forgeries import forge
from deepfidelity_jax.forgeries.forge import KINDS, face_mask

SIZE = 128
POINTS = (AVERAGE_FACE * SIZE).astype(np.float32)


def draw_face(seed=0, height=SIZE, width=SIZE):
    """Smooth colours and fine texture: every alteration shows on it."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(60, 200, (6, 6, 3)).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def forged(kind, seed, image=None, points=POINTS, donor=None):
    image = draw_face() if image is None else image
    if kind == "swap" and donor is None:
        donor = draw_face(1), POINTS
    return forge.forge(kind, image, points, np.random.default_rng(seed), donor)


@pytest.mark.parametrize("kind", KINDS)
def test_changes_inside_the_mask_and_nothing_outside(kind):
    image, exact = draw_face(), 0
    for seed in range(24):
        fake, mask = forged(kind, seed)
        assert mask.dtype == np.float32
        assert mask.shape == (SIZE, SIZE)
        assert mask.min() >= 0
        assert 0.4 < mask.max() <= 1
        assert fake.dtype == np.uint8
        change = np.abs(fake.astype(int) - image).max(axis=-1)
        inside, outside = mask > 0.5 * mask.max(), mask == 0
        assert outside.any()
        assert change[inside].mean() > 1, seed
        # Multi-band blending mixes coarse bands beyond the mask; the other blends keep to it.
        exact += change[outside].max() == 0
        assert change[outside].mean() < 0.15 * change[inside].mean() + 1, seed
    assert exact >= 24 * 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_is_a_function_of_the_generator(kind):
    first, again, other = forged(kind, 7), forged(kind, 7), forged(kind, 8)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (97, 97), (96, 160)])
def test_any_size(kind, height, width):
    image = draw_face(0, height, width)
    unknown = np.full((5, 2), np.nan, np.float32)
    for seed in range(8):
        fake, mask = forged(kind, seed, image, unknown, (draw_face(1, 50, 40), unknown))
        assert fake.shape == image.shape
        assert mask.shape == (height, width)
        assert mask.max() > 0.3


def test_the_input_stays_as_it_was():
    image = draw_face()
    before = image.copy()
    for kind in KINDS:
        forged(kind, 3, image)
    np.testing.assert_array_equal(image, before)


def test_swap_needs_a_donor_and_kinds_are_known():
    with pytest.raises(ValueError, match="donor"):
        forge.forge("swap", draw_face(), POINTS, np.random.default_rng(0))
    with pytest.raises(ValueError, match="unknown forgery 'morph'"):
        forge.forge("morph", draw_face(), POINTS, np.random.default_rng(0))


def test_swap_lays_the_donor_on_the_landmarks():
    """Wherever the donor's face lies in its picture, it ends in the same place."""
    donor, shift = draw_face(1, 256, 256), (40, 24)

    def cut(corner):
        x, y = corner
        return np.ascontiguousarray(donor[y : y + 160, x : x + 160])

    points = POINTS + 16
    for seed in range(6):
        here, mask = forged("swap", seed, donor=(cut((0, 0)), points + 40))
        there, _ = forged("swap", seed, donor=(cut(shift), points + 40 - np.float32(shift)))
        inside = mask > 0.5 * mask.max()
        change = np.abs(here.astype(int) - there)[inside]
        assert np.median(change) <= 6, seed  # two faces apart by 40


def test_masks_follow_the_face():
    """Moved landmarks move the mask; turned by a quarter, they turn it."""
    rng = np.random.default_rng
    centred = POINTS - POINTS.mean(0) + SIZE / 2
    for seed in range(10):
        mask = face_mask(centred, (SIZE, SIZE), rng(seed))
        moved = face_mask(centred + np.float32([8, -4]), (SIZE, SIZE), rng(seed))
        np.testing.assert_allclose(np.roll(mask, (-4, 8), (0, 1))[16:-16, 16:-16],
                                   moved[16:-16, 16:-16], atol=0.02)  # fmt: skip
        turned = np.stack([SIZE - 1 - centred[:, 1], centred[:, 0]], -1)
        np.testing.assert_allclose(
            np.rot90(mask, -1), face_mask(turned, (SIZE, SIZE), rng(seed)), atol=0.35
        )


def test_blends_by_hand():
    """A constant difference: bands show it by the blurred mask, gradients not at all."""
    outer = np.clip(draw_face(), 0, 200)
    inner = outer + np.uint8(40)
    mask = face_mask(POINTS, (SIZE, SIZE), np.random.default_rng(2))
    for levels in (2, 4):
        blurred = mask
        for level in range(levels):
            blurred = cv2.GaussianBlur(blurred, (0, 0), 1.5 * 2**level)
        blended = forge._blend_pyramid(inner, outer, mask, levels)
        np.testing.assert_allclose(
            blended - outer, np.repeat(40 * blurred[..., None], 3, 2), atol=0.1
        )
    np.testing.assert_allclose(forge._blend_poisson(inner, outer, mask), outer, atol=3)
