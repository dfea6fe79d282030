"""The weight-free measure: its components' known values, and the order it must follow."""

import functools
import math

import cv2
import numpy as np
import pytest

from deepfidelity_jax.forgeries.degrade import DEGRADATIONS, degrade
from deepfidelity_jax.quality import iso29794

STRENGTHS = np.linspace(0, 1, 6)
UNIFORM = np.full(256, 1 / 256)


@functools.cache
def face(seed, side=160):
    """A shaded, textured head with eyes, brows, nose, mouth and hair, drawn at four times its size.

    Good enough to have what the measure looks at: smooth skin, strong edges, fine texture.
    """
    rng = np.random.default_rng(seed)
    n = 640
    y, x = np.mgrid[:n, :n].astype(np.float32) / n
    skin = np.array([215, 165, 135]) * rng.uniform(0.75, 1.0) * rng.uniform(0.95, 1.05, 3)
    light = 0.85 + rng.uniform(-0.25, 0.25) * (x - 0.5) - 0.35 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    canvas = np.empty((n, n, 3), np.float32)
    canvas[:] = cv2.resize(rng.uniform(40, 200, (4, 4, 3)).astype(np.float32), (n, n))
    hair = rng.uniform(20, 110)
    cv2.ellipse(canvas, (320, 320), (235, 300), 0, 0, 360, [hair, hair * 0.8, hair * 0.6], -1)
    cv2.ellipse(canvas, (320, 345), (195, 250), 0, 0, 360, skin.tolist(), -1)
    for _ in range(250):
        start = np.array([rng.uniform(100, 540), rng.uniform(20, 140)])
        end = start + np.array([rng.normal(0, 40), rng.uniform(30, 110)])
        tone = np.clip(hair * rng.uniform(0.4, 1.8), 0, 255)
        colour = [tone, tone * 0.8, tone * 0.6]
        cv2.line(canvas, start.astype(int).tolist(), end.astype(int).tolist(), colour, 3)
    for sign in (-1, 1):
        centre = (320 + sign * 96, 262)
        cv2.ellipse(canvas, centre, (42, 20), 0, 0, 360, [235, 232, 228], -1)
        cv2.circle(canvas, centre, 18, [70, 50, 40], -1)
        cv2.circle(canvas, centre, 8, [10, 10, 10], -1)
        cv2.ellipse(canvas, (centre[0], 215), (52, 12), 0, 180, 360, [50, 40, 35], 9)
    cv2.line(canvas, (320, 290), (300, 390), (skin * 0.75).tolist(), 7)
    cv2.ellipse(canvas, (320, 395), (38, 14), 0, 0, 180, (skin * 0.6).tolist(), 5)
    cv2.ellipse(canvas, (320, 470), (72, 22), 0, 0, 360, [170, 80, 80], -1)
    cv2.line(canvas, (250, 470), (390, 470), [90, 30, 35], 5)
    grain = cv2.GaussianBlur(rng.normal(0, 25, (n, n)).astype(np.float32), (0, 0), 2.5)
    canvas = cv2.GaussianBlur(canvas * light[..., None], (0, 0), 2) + grain[..., None]
    image = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    return np.rint(image).clip(0, 255).astype(np.uint8)


FACES = [face(seed) for seed in range(6)]


def degraded_measures(image, kind, seed):
    return np.array(
        [
            iso29794.measure(degrade(image, kind, strength, np.random.default_rng(seed)))
            for strength in STRENGTHS
        ]
    )


# The order


@pytest.mark.parametrize("kind", sorted(DEGRADATIONS))
def test_every_degradation_lowers_the_measure_monotonically(kind):
    curves = np.array([degraded_measures(image, kind, i) for i, image in enumerate(FACES)])
    assert (np.diff(curves, axis=1) < 0).all(), curves.round(3)
    # Severe costs a quarter at least, not a rounding error.
    assert (curves[:, -1] < 0.75 * curves[:, 0]).all(), curves.round(3)


@pytest.mark.parametrize("side", [96, 128, 224])
@pytest.mark.parametrize("kind", sorted(DEGRADATIONS))
def test_the_order_holds_at_other_sizes_on_average(kind, side):
    curves = [degraded_measures(face(seed, side), kind, seed) for seed in range(3)]
    assert (np.diff(np.mean(curves, axis=0)) < 0).all(), np.mean(curves, axis=0).round(3)


def test_jpeg_off_the_grid_is_still_seen():
    for image in FACES:
        shifted = degrade(image, "jpeg", 0.8, np.random.default_rng(0))[3:-5, 5:-3]
        assert iso29794.measure(shifted) < 0.75 * iso29794.measure(image[3:-5, 5:-3])


def test_the_measure_is_spread_and_not_saturated():
    values = [iso29794.measure(image) for image in FACES]
    assert max(values) < 0.95
    assert np.std(values) > 0.005


# Range and invariances


def test_the_range_holds_for_anything():
    rng = np.random.default_rng(0)
    images = [
        np.zeros((128, 128, 3), np.uint8),
        np.full((128, 128, 3), 255, np.uint8),
        rng.integers(0, 256, (128, 128, 3), np.uint8),
        rng.integers(0, 256, (1, 1, 3), np.uint8),
        rng.integers(0, 256, (17, 9, 3), np.uint8),
        *FACES,
    ]
    for image in images:
        scalars = iso29794.components(image)
        assert set(scalars) == set(iso29794.WEIGHTS)
        assert all(0 <= scalar <= 100 for scalar in scalars.values())
        assert 0 <= iso29794.measure(image) <= 1


def test_a_mirror_image_is_as_good():
    for image in FACES:
        mirrored = np.ascontiguousarray(image[:, ::-1])
        assert iso29794.measure(mirrored) == pytest.approx(iso29794.measure(image), abs=1e-3)


def test_mirrored_landmarks_are_as_good():
    landmarks = np.array([[56, 66], [104, 64], [80, 95], [62, 118], [99, 117]], np.float32)
    mirrored = landmarks[[1, 0, 2, 4, 3]] * [-1, 1] + [159, 0]
    for image in FACES:
        other = iso29794.measure(np.ascontiguousarray(image[:, ::-1]), mirrored.astype(np.float32))
        assert other == pytest.approx(iso29794.measure(image, landmarks), abs=0.01)


def test_the_size_of_the_crop_hardly_matters():
    for seed in range(3):
        values = [iso29794.measure(face(seed, side)) for side in (112, 128, 160, 224, 320)]
        assert max(values) - min(values) < 0.1, values


def test_a_small_face_is_worth_less():
    for seed in range(3):
        assert iso29794.measure(face(seed, 48)) < iso29794.measure(face(seed, 128)) - 0.05


def test_usual_landmarks_change_nothing_and_unknown_ones_neither():
    usual = np.array([[55.5, 65.1], [103.5, 65.1], [80, 95], [62, 118], [98, 118]], np.float32)
    unknown = np.full((5, 2), np.nan, np.float32)
    half_known = usual.copy()
    half_known[1] = np.nan
    for image in FACES:
        expected = iso29794.measure(image)
        assert iso29794.measure(image, usual) == pytest.approx(expected, abs=0.01)
        assert iso29794.measure(image, unknown) == expected
        assert iso29794.measure(image, half_known) == expected


def test_landmarks_say_where_the_face_is():
    pair = np.concatenate([face(0, 96), face(0, 96)], axis=1)
    image = np.concatenate([pair, pair])
    noisy = degrade(np.ascontiguousarray(image[:, 96:]), "noise", 1.0, np.random.default_rng(0))
    spoilt = np.concatenate([image[:, :96], noisy], axis=1)
    left = np.array([[34, 39], [62, 39], [48, 57], [37, 71], [59, 71]], np.float32)
    right = left + np.array([96, 0], np.float32)
    clean = iso29794.components(image, left)["noise"]
    assert iso29794.components(spoilt, left)["noise"] == pytest.approx(clean, abs=1)
    assert iso29794.components(spoilt, right)["noise"] < clean - 30


@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e6])
def test_absurd_landmarks_are_survived(scale):
    landmarks = np.array([[-1, 0], [1, 0], [0, 1], [-1, 2], [1, 2]], np.float32) * scale
    assert 0 < iso29794.measure(FACES[0], landmarks) < 1


# Known values of the components


def spike(**shares):
    histogram = np.zeros(256)
    for level, share in shares.items():
        histogram[int(level[1:])] = share
    return histogram


def test_luminance_follows_srgb():
    codes = np.array([[[0, 0, 0], [255, 255, 255], [10, 10, 10], [128, 128, 128]]], np.uint8)
    # 10/255 lies on the linear piece: 255 * (10/255) / 12.92 = 0.77; 128 is linear 0.2159.
    np.testing.assert_array_equal(iso29794.luminance(codes), [[0, 255, 1, 55]])
    pure = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_array_equal(iso29794.luminance(pure), [[54, 182, 18]])


def test_histogram_is_normalised():
    histogram = iso29794.histogram(np.array([[0, 0], [255, 7]], np.uint8))
    np.testing.assert_array_equal(histogram, spike(_0=0.5, _7=0.25, _255=0.25))


def test_luminance_mean():
    assert iso29794.luminance_mean(UNIFORM).native == pytest.approx(0.5)
    expected = 100 / (1 + math.exp(-6)) * (1 - 1 / (1 + math.exp(6)))
    assert iso29794.luminance_mean(UNIFORM).scalar == pytest.approx(expected)
    dark = iso29794.luminance_mean(spike(_51=1.0))
    assert dark.native == pytest.approx(0.2)
    assert dark.scalar == pytest.approx(50, abs=0.01)


def test_luminance_variance():
    assert iso29794.luminance_variance(spike(_90=1.0)) == pytest.approx((0, 0), abs=1e-9)
    # Black and white in equal parts: v = 1/4, 60 v / (60 v + 1) = 15/16.
    harsh = iso29794.luminance_variance(spike(_0=0.5, _255=0.5))
    assert harsh.native == pytest.approx(0.25)
    assert harsh.scalar == pytest.approx(100 * math.sin(math.pi * 15 / 16))


def test_exposure():
    assert iso29794.under_exposure(spike(_26=1.0)).native == 0
    assert iso29794.under_exposure(spike(_26=1.0)).scalar == pytest.approx(99.84, abs=0.01)
    assert iso29794.under_exposure(spike(_25=1.0)) == pytest.approx((1, 0), abs=0.01)
    assert iso29794.over_exposure(spike(_246=1.0)) == pytest.approx((0, 100))
    assert iso29794.over_exposure(spike(_247=0.01, _100=0.99)) == pytest.approx((0.01, 50))
    assert iso29794.over_exposure(spike(_255=1.0)).scalar == pytest.approx(1 / 1.01)


def test_dynamic_range():
    assert iso29794.dynamic_range(UNIFORM) == pytest.approx((8, 100))
    assert iso29794.dynamic_range(spike(_3=0.5, _200=0.5)) == pytest.approx((1, 12.5))
    assert iso29794.dynamic_range(spike(_3=1.0)) == pytest.approx((0, 0))


def test_illumination_uniformity():
    assert iso29794.illumination_uniformity(UNIFORM, UNIFORM) == pytest.approx((1, 100))
    apart = iso29794.illumination_uniformity(spike(_10=1.0), spike(_200=1.0))
    assert apart == pytest.approx((0, 0))
    half = iso29794.illumination_uniformity(spike(_10=1.0), spike(_10=0.5, _90=0.5))
    assert half.scalar == pytest.approx(100 * 0.5**0.3)


def test_natural_colour():
    def patch(colour):
        return np.full((4, 4, 3), colour, np.uint8)

    assert iso29794.natural_colour(patch([215, 165, 135])) == (0, 100)
    # Grey has a = b = 0: the nearest corner of the box is (5, 5).
    grey = iso29794.natural_colour(patch([128, 128, 128]))
    assert grey.native == pytest.approx(math.hypot(5, 5), abs=0.02)
    assert grey.scalar == pytest.approx(200 * (1 - 1 / (1 + math.exp(-grey.native / 10))))
    assert iso29794.natural_colour(patch([0, 0, 255])).scalar < 1


EVERYWHERE = np.ones((128, 128), bool)


def test_grain_is_known_in_white_noise_and_blind_to_edges():
    rng = np.random.default_rng(0)
    for deviation in (2, 6, 20):
        noise = rng.normal(128, deviation, (128, 128)).astype(np.float32)
        assert iso29794.grain(noise, EVERYWHERE) == pytest.approx(0.55 * deviation, rel=0.1)
    y, x = np.mgrid[:128, :128].astype(np.float32)
    assert iso29794.grain(x + 0.5 * y, EVERYWHERE) < 1e-3
    assert iso29794.grain(np.where(x < 60, 20, 220).astype(np.float32), EVERYWHERE) < 1e-3


def test_noise_and_texture_read_grain_from_opposite_ends():
    assert iso29794.noise(0.0).scalar == 100
    assert iso29794.noise(3.0).scalar == pytest.approx(50, abs=1)
    assert iso29794.texture(0.0).scalar == 0
    assert iso29794.texture(0.25).scalar == iso29794.texture(9.0).scalar == 100


def test_sharpness_knows_a_blurred_edge_from_a_sharp_one_whatever_its_contrast():
    stripes = (np.arange(128) // 16 % 2).astype(np.float32)
    sharp = np.tile(60 + 120 * stripes, (128, 1))
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2)
    value = iso29794.sharpness(sharp, EVERYWHERE).native
    assert iso29794.sharpness(blurred, EVERYWHERE).native < 0.5 * value
    assert iso29794.sharpness(60 + (sharp - 60) / 2, EVERYWHERE).native == pytest.approx(
        value, rel=0.1
    )


@pytest.mark.parametrize("deviation", [5, 10, 20])
def test_noise_does_not_make_a_blurred_edge_sharp(deviation):
    stripes = np.tile(60 + 120 * (np.arange(128) // 16 % 2), (128, 1)).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, deviation, (128, 128)).astype(np.float32)
    sharp = iso29794.sharpness(stripes + noise, EVERYWHERE)
    blurred = iso29794.sharpness(cv2.GaussianBlur(stripes, (0, 0), 2) + noise, EVERYWHERE)
    assert blurred.native < 0.5 * sharp.native


def test_compression_finds_blocks_of_any_phase_and_only_blocks():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :128]
    smooth = (x + y) // 2 + rng.integers(0, 4, (128, 128))
    blocks = rng.integers(0, 16, (18, 18)).repeat(8, axis=0).repeat(8, axis=1)
    assert iso29794.compression(smooth.astype(np.uint8)).scalar > 90
    for shift in (0, 3, 7):
        blocky = smooth + blocks[shift : shift + 128, shift : shift + 128]
        assert iso29794.compression(blocky.astype(np.uint8)).native > 2


def test_clipping_sees_burnt_areas_even_darkened():
    ramp = np.tile(np.linspace(0, 255, 128), (128, 1))[..., None].repeat(3, axis=2)
    burnt = np.minimum(2 * ramp, 255)
    for gain in (1, 0.5):
        found = iso29794.clipping((gain * burnt).astype(np.uint8), EVERYWHERE)
        assert found.native == pytest.approx(0.5, abs=0.02)
    assert iso29794.clipping(ramp.astype(np.uint8), EVERYWHERE).native < 0.03
