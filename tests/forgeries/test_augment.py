from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.forgeries.augment import (
    AugmentSettings,
    augment,
    center_crop,
    flip,
    lose_quality,
    random_erasing,
    random_resized_crop,
    recompress,
)
from deepfidelity_jax.forgeries.operations import OPERATIONS, color_jitter, operate, rand_augment

GEOMETRY = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
COLOUR = tuple(o for o in OPERATIONS if o not in GEOMETRY)
# Of the colour operations, those that do nothing at level 0.
GRADED = ("solarize", "solarize_add", "color", "contrast", "brightness", "sharpness")


def rng(seed=0):
    return np.random.default_rng(seed)


def picture(seed=0, h=120, w=120):
    """Smooth blobs: natural enough for interpolation and JPEG to be near lossless."""
    noise = cv2.GaussianBlur(rng(seed).standard_normal((h, w, 3)), (0, 0), 6)
    return np.uint8(np.clip(128 + 45 * noise / noise.std(), 0, 255))


def masked_pair(h=120, w=120):
    """An image whose brightness is its mask."""
    mask = np.zeros((h, w), np.float32)
    cv2.ellipse(mask, (w // 3, h // 2), (w // 5, h // 4), 20, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 3)
    return np.repeat(np.uint8(np.rint(mask * 255))[..., None], 3, axis=2), mask


def assert_follows(image, mask):
    assert mask.dtype == np.float32
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert np.abs(image[..., 0] / 255 - mask).max() < 0.015


def distance(a, b):
    return np.abs(a.astype(float) - b).mean()


# ---------------------------------------------------------------- the recipe


def test_off_is_the_identity():
    image, mask = picture(), masked_pair()[1]
    out, out_mask = augment(image, mask, AugmentSettings.off(), 120, rng())
    np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(out_mask, mask)


def test_off_of_another_size_is_the_evaluation_view():
    image = picture(h=140, w=100)
    out, _ = augment(image, None, AugmentSettings.off(), 100, rng())
    np.testing.assert_array_equal(out, center_crop(image, 100))


@pytest.mark.parametrize("settings", [AugmentSettings(), AugmentSettings.paper()])
def test_every_view_has_the_size_and_type_and_the_seed_decides(settings):
    views = []
    for seed in range(20):
        image, mask = augment(picture(), masked_pair()[1], settings, 64, rng(seed))
        again, mask_again = augment(picture(), masked_pair()[1], settings, 64, rng(seed))
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        assert mask.shape == (64, 64)
        np.testing.assert_array_equal(image, again)
        np.testing.assert_array_equal(mask, mask_again)
        views.append(image.tobytes())
    assert len(set(views)) == 20
    assert augment(picture(), None, settings, 64, rng())[1] is None


@pytest.mark.parametrize("settings", [AugmentSettings(), AugmentSettings.paper()])
def test_a_pair_gets_one_draw(settings):
    """What is drawn depends on no pixel: afterwards both generators stand at the same place,
    and where the two pictures agree locally their views agree too."""
    real = picture()
    forged = real.copy()
    forged[40:60, 40:60] = 255 - forged[40:60, 40:60]
    where = np.zeros((120, 120), np.float32)
    where[40:60, 40:60] = 1
    for seed in range(40):
        a, b = rng(seed), rng(seed)
        for image, generator in ((picture(), a), (np.zeros_like(real), b)):
            augment(lose_quality(image, settings, generator), None, settings, 64, generator)
        assert a.bit_generator.state == b.bit_generator.state
    geometry = replace(AugmentSettings(), jitter=0.0)
    for seed in range(40):
        a, _ = augment(real, None, geometry, 64, rng(seed))
        b, mask = augment(forged, where, geometry, 64, rng(seed))
        outside = cv2.dilate(mask, np.ones((13, 13))) == 0
        assert np.abs(a.astype(int) - b)[outside].max() <= 1


def test_the_mask_follows_the_whole_geometry():
    image, mask = masked_pair()
    moves = replace(AugmentSettings.off(), crop_scale=(0.2, 1.0), crop_ratio=(0.7, 1.4), flip_p=0.5)
    for seed in range(30):
        assert_follows(*augment(image, mask, moves, 64, rng(seed)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip_p": 1.5},
        {"erase_p": -0.1},
        {"crop_scale": (0.9, 0.2)},
        {"crop_scale": (0.0, 1.0)},
        {"crop_scale": (0.5, 1.5)},
        {"recompress_quality": (30, 101)},
        {"jitter": -1.0},
        {"rand_layers": -1},
    ],
)
def test_a_wrong_setting_is_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        AugmentSettings(**wrong)


# ---------------------------------------------------------------- geometry


def test_the_mask_follows_each_geometric_transform():
    image, mask = masked_pair()
    assert_follows(*flip(image, mask))
    for seed in range(30):
        assert_follows(*random_resized_crop(image, mask, 60, rng(seed)))
        assert_follows(*random_resized_crop(image, mask, 200, rng(seed)))
    for name in GEOMETRY:
        for sign in (-1, 1):
            for interpolation in (cv2.INTER_LINEAR, cv2.INTER_CUBIC):
                moved, moved_mask = operate(
                    name, image, mask, 0.9, sign=sign, interpolation=interpolation, fill=0
                )
                assert_follows(moved, moved_mask)
                assert distance(moved, image) > 5


def test_colour_operations_leave_the_mask():
    mask = masked_pair()[1]
    for name in COLOUR:
        assert operate(name, picture(), mask, 0.9)[1] is mask


def test_flip_undoes_itself():
    image, mask = picture(), masked_pair()[1]
    once = flip(image, mask)
    np.testing.assert_array_equal(once[0], image[:, ::-1])
    np.testing.assert_array_equal(flip(*once)[1], mask)


def test_crops_cover_the_range_of_areas_and_ratios():
    """The two channels of a ramp tell the box's corners, hence its area and its ratio."""
    ramp = np.zeros((200, 200, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(200), np.arange(200)[:, None]
    areas, ratios = [], []
    for seed in range(400):
        box, _ = random_resized_crop(ramp, None, 50, rng(seed), (0.1, 0.9), (0.5, 2.0))
        corners = box[[0, -1], [0, -1]].astype(float)
        width = float(corners[1, 0] - corners[0, 0]) * 50 / 49
        height = float(corners[1, 1] - corners[0, 1]) * 50 / 49
        areas.append(width * height / 200**2)
        ratios.append(width / height)
    assert 0.08 < min(areas) < 0.15
    assert 0.8 < max(areas) < 0.95
    assert 0.4 < np.mean(areas) < 0.52  # uniform gives 0.5, boxes that do not fit take a little
    assert 0.45 < min(ratios) < 0.6
    assert 1.7 < max(ratios) < 2.2
    assert abs(np.mean(np.log(ratios))) < 0.1


def test_a_crop_that_cannot_fit_takes_the_centre():
    image = picture(h=30, w=120)
    out, _ = random_resized_crop(image, None, 30, rng(), (1.0, 1.0), (1.0, 1.0))
    np.testing.assert_array_equal(out, image[:, 45:75])


def test_center_crop_takes_the_share_of_the_shorter_side():
    image = picture(h=120, w=200)
    np.testing.assert_array_equal(center_crop(image, 120), image[:, 40:160])
    np.testing.assert_array_equal(center_crop(image, 90, share=0.75), image[15:105, 55:145])
    np.testing.assert_array_equal(
        center_crop(image, 60)[5, 7], np.rint(image[10:12, 54:56].mean((0, 1)))
    )
    assert center_crop(image, 224).shape == (224, 224, 3)
    assert center_crop(picture(h=1, w=1), 8).shape == (8, 8, 3)


# ---------------------------------------------------------------- RandAugment


def test_graded_operations_vanish_at_level_zero():
    image = picture()
    for name in GRADED + GEOMETRY:
        for sign in (-1, 1):
            out, _ = operate(name, image, None, 0.0, sign=sign)
            assert np.abs(out.astype(int) - image).max() <= 1, name


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_shape_and_grow_with_the_level(name):
    image = picture()
    steps = [distance(operate(name, image, None, level)[0], image) for level in (0.1, 0.5, 0.9)]
    out, _ = operate(name, image, None, 0.9)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert steps[-1] > 0
    if name in (*GRADED, "posterize", "rotate", "shear_x", "shear_y"):
        assert steps == sorted(steps)
        assert steps[0] < steps[-1]


def test_operations_do_what_they_say():
    image = picture()
    np.testing.assert_array_equal(operate("invert", image, None, 0.0)[0], 255 - image)
    np.testing.assert_array_equal(operate("posterize", image, None, 0.9)[0], image & 0x80)
    np.testing.assert_array_equal(
        operate("solarize", image, None, 0.5)[0], np.where(image < 128, image, 255 - image)
    )
    np.testing.assert_array_equal(
        operate("solarize_add", image, None, 0.5)[0], np.where(image < 128, image + 55, image)
    )
    stretched = operate("auto_contrast", image // 2 + 40, None, 0.0)[0]
    assert (stretched.min((0, 1)) == 0).all()
    assert (stretched.max((0, 1)) == 255).all()
    grey = operate("color", image, None, 1.0, sign=-1)[0]
    assert np.ptp(grey, axis=2).mean() < 0.15 * np.ptp(image, axis=2).mean()
    flat = operate("contrast", image, None, 1.0, sign=-1)[0]
    assert flat.std() < 0.15 * image.std()
    dark = operate("brightness", image, None, 0.9, sign=-1)[0]
    assert dark.mean() == pytest.approx(0.19 * image.mean(), rel=0.02)
    noisy = np.clip(image + rng().normal(0, 8, image.shape), 0, 255).astype(np.uint8)
    edges = [operate("sharpness", noisy, None, 0.9, sign=sign)[0] for sign in (-1, 1)]
    energy = [cv2.Laplacian(e, cv2.CV_64F).var() for e in (edges[0], noisy, edges[1])]
    assert energy == sorted(energy)
    pillow = np.asarray(ImageEnhance.Sharpness(Image.fromarray(noisy)).enhance(0.19))
    assert np.abs(edges[0].astype(int) - pillow).max() <= 1
    spread = operate("equalize", image, None, 0.0)[0]
    share = np.histogram(spread[..., 0], bins=4, range=(0, 256))[0] / spread[..., 0].size
    assert np.abs(share - 0.25).max() < 0.05
    shifted = operate("translate_x", image, None, 1 / 0.45 / 12)[0]
    np.testing.assert_array_equal(shifted[:, :110], image[:, 10:])
    assert (shifted[:, 110:] == 128).all()


def test_not_increasing_reads_the_level_the_other_way():
    """There posterize and solarize grow weaker with the level, and colours pass 1 in the middle."""
    image = picture()
    for name in ("posterize", "solarize"):
        weak = distance(operate(name, image, None, 0.99, increasing=False)[0], image)
        assert weak < distance(operate(name, image, None, 0.3, increasing=False)[0], image)
    out, _ = operate("brightness", image, None, 0.5, increasing=False)
    np.testing.assert_array_equal(out, image)


def test_constant_images_survive_every_operation():
    for value in (0, 128, 255):
        for name in OPERATIONS:
            operate(name, np.full((16, 16, 3), value, np.uint8), None, 0.9)


def test_half_of_the_layers_are_applied():
    image = picture()

    def share_kept(layers):
        made = (rand_augment(image, None, rng(s), 9.0, 0.5, layers=layers)[0] for s in range(300))
        return np.mean([np.array_equal(one, image) for one in made])

    assert 0.42 < share_kept(1) < 0.58
    assert 0.18 < share_kept(2) < 0.33


# ---------------------------------------------------------------- colour, noise, compression


def test_colour_jitter_scales_with_its_strength():
    image = picture()
    np.testing.assert_array_equal(color_jitter(image, rng(), 0.0), image)
    changes = [
        np.mean([distance(color_jitter(image, rng(s), strength), image) for s in range(20)])
        for strength in (0.1, 0.2, 0.4)
    ]
    assert changes == sorted(changes)
    brightness = [color_jitter(image, rng(s), 0.4).mean() / image.mean() for s in range(200)]
    assert 0.58 < min(brightness) < 0.7
    assert 1.3 < max(brightness) < 1.42


def test_recompression_keeps_channels_and_follows_quality():
    image = picture()
    lost = [distance(recompress(image, rng(), (q, q)), image) for q in (100, 60, 10)]
    assert lost == sorted(lost)
    assert lost[0] < 2  # would be large with red and blue exchanged


def test_quality_is_lost_as_often_and_as_much_as_asked():
    image = picture()

    def lost(strength, p=1.0):
        s = replace(AugmentSettings.off(), degrade_p=p, degrade_strength=strength)
        return [distance(lose_quality(image, s, rng(seed)), image) for seed in range(60)]

    assert max(lost(0.0)) == 0
    assert 0 < np.mean(lost(0.2)) < np.mean(lost(0.8))
    assert 0.3 < np.mean(np.array(lost(0.8, p=0.5)) > 0) < 0.7


def test_erasing_replaces_a_box_with_noise():
    image = np.full((100, 100, 3), 7, np.uint8)
    shares, corners, erased = [], [], 0
    for seed in range(400):
        out = random_erasing(image, rng(seed), 0.25, (0.02, 1 / 3))
        changed = (out != 7).any(axis=2)
        erased += bool(changed.any())
        if changed.any():
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.mean() > 0.98
            shares.append(changed.mean())
            corners.append((rows[0], columns[0]))
            assert 100 < out[changed].mean() < 155
    assert 0.19 < erased / 400 < 0.31
    assert (np.std(corners, axis=0) > 10).all()
    assert min(shares) < 0.05
    assert 0.25 < max(shares) < 0.345
    assert (image == 7).all()
    assert random_erasing(image, rng(), 0.0) is image
