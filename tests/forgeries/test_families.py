"""A forgery differs from its twin by what is foreign, and a twin from the picture by little."""

from functools import partial

import cv2
import numpy as np
import pytest

from deepfidelity_jax.faces.geometry import AVERAGE_FACE
from deepfidelity_jax.forgeries import families
from deepfidelity_jax.forgeries.families import (
    FAMILIES,
    Face,
    colours,
    joins,
    kinds,
    masks,
    textures,
    video_coding,
    warps,
)
from deepfidelity_jax.forgeries.families import treatments as treat

SIZE = 128
POINTS = (AVERAGE_FACE * SIZE).astype(np.float32)
UNKNOWN = np.full((5, 2), np.nan, np.float32)
TREATMENTS = (
    treat.resample,
    treat.blur,
    treat.grain,
    treat.compress,
    treat.compress_video,
    treat.sharpen,
    treat.smooth_skin,
    treat.expose,
    treat.lose_detail,
    treat.change_detail,
    treat.wear,
    treat.live,
)


def draw_face(seed=0, height=SIZE, width=SIZE, points=POINTS):
    """Smooth colours and fine texture: every alteration shows on it."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(60, 200, (6, 6, 3)).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = image + cv2.GaussianBlur(rng.normal(0, 16, image.shape), (0, 0), 0.8)
    return Face(np.clip(image, 0, 255).astype(np.uint8), points)


def change(a, b):
    return np.abs(a.astype(int) - b).max(axis=-1)


def rng(*seed):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_changes_inside_its_mask_and_nothing_outside(family):
    face, donor = draw_face(), draw_face(1)
    for seed in range(16):
        fake, mask = families.forge(family, face, donor, rng(seed))
        assert (fake.dtype, fake.shape) == (np.uint8, face.pixels.shape)
        assert (mask.dtype, mask.shape) == (np.float32, face.pixels.shape[:2])
        assert mask.min() >= 0
        assert 0.5 < mask.max() <= 1
        changed = change(fake, face.pixels)
        assert changed[mask > 0.5 * mask.max()].mean() > 1, seed
        assert changed[mask == 0].max(initial=0) == 0, seed


@pytest.mark.parametrize("family", FAMILIES)
def test_is_a_function_of_the_generator_and_leaves_its_input(family):
    face, donor = draw_face(), draw_face(1)
    before = face.pixels.copy(), donor.pixels.copy()
    first, again, other = (families.forge(family, face, donor, rng(s)) for s in (7, 7, 8))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()
    pairs = [families.make_pair(family, face, donor, rng(3)) for _ in range(2)]
    for one, same in zip(*pairs, strict=True):
        np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(before[0], face.pixels)
    np.testing.assert_array_equal(before[1], donor.pixels)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_twin_has_nothing_foreign(family):
    """It stays near the picture, nearer than the forgery of the same draw, and in its place."""
    face, donor = draw_face(), draw_face(1)
    # Softened, sharpened or moved by 0.7 pixels: no more than this texture can change by that.
    near, nearer = [], []
    for seed in range(16):
        fake, mask = families.forge(family, face, donor, rng(seed))
        twin = families.make_twin(family, face, rng(seed))
        assert (twin.dtype, twin.shape) == (np.uint8, face.pixels.shape)
        coarse = [cv2.GaussianBlur(v, (0, 0), 4) for v in (face.pixels, twin, fake)]
        inside = mask > 0.5 * mask.max()
        near.append(change(coarse[0], coarse[1]).max())
        changed = [change(face.pixels, made)[inside].mean() for made in (twin, fake)]
        nearer.append(changed[0] < changed[1])
    assert max(near) <= 8
    assert np.mean(nearer) > 0.6


@pytest.mark.parametrize("family", FAMILIES)
def test_a_twin_takes_the_same_part_of_the_face_in_the_same_way(family):
    face, donor = draw_face(), draw_face(1)
    for seed in range(40):
        forged = families._layers(family, face, donor, rng(seed), twin=False)
        twin = families._layers(family, face, face, rng(seed), twin=True)
        assert forged.join == twin.join
        np.testing.assert_array_equal(forged.mask, twin.mask)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_those_in_need_of_a_donor_take_from_it(family):
    face, donors = draw_face(), (draw_face(1), draw_face(2))
    made = [
        [families.forge(family, face, donor, rng(seed))[0] for seed in range(6)] for donor in donors
    ]
    takes = not np.array_equal(*made)
    assert takes == (family in families.NEED_DONOR), "see NEED_DONOR"


def draw_ramp():
    """A picture whose red and green tell where each pixel came from, and the levels of a pixel."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    image = np.stack([columns, rows, np.full_like(rows, 60)], axis=-1) * 1.8
    return Face(np.rint(image).astype(np.uint8), POINTS), 1.8


def test_every_reenactment_moves_what_its_mask_shows():
    face, level = draw_ramp()
    for seed in range(150):
        layers = families._layers("reenactment", face, face, rng(seed), twin=False)
        moved = change(layers.inner, face.pixels)[layers.mask > 0.5 * layers.mask.max()] / level
        assert np.percentile(moved, 95) > 1.2, seed


def test_resampling_moves_nothing_by_more_than_two_pixels():
    """So that a face stays under the mask of what was forged."""
    face, level = draw_ramp()
    for seed in range(200):
        moved = change(treat.resample(face.pixels, rng(seed)), face.pixels) / level
        assert moved[16:-16, 16:-16].max() < 2.0, seed


def test_a_donor_comes_to_lie_on_the_face_wherever_it_was():
    """A dot amid its features, within four standard deviations of the intended miss."""
    middle = POINTS.mean(0)
    turn = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), 40, 1.0)
    points = (POINTS @ turn[:, :2].T + turn[:, 2] + [25, -20]).astype(np.float32)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    cv2.circle(image, np.rint(points.mean(0)).astype(int).tolist(), 5, (255, 255, 255), -1)
    for seed in range(60):
        inner = kinds._align(draw_face(), Face(image, points), rng(seed), twin=False)
        rows, columns = np.nonzero(inner[..., 0] > 100)
        assert np.hypot(columns - middle[0], rows - middle[1]).min() < 0.08 * SIZE


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (97, 97), (96, 160)])
def test_any_size_and_unknown_points(family, height, width):
    face, donor = draw_face(0, height, width, UNKNOWN), draw_face(1, 50, 40, UNKNOWN)
    for seed in range(6):
        fake, mask = families.forge(family, face, donor, rng(seed))
        twin = families.make_twin(family, face, rng(seed))
        assert fake.shape == twin.shape == face.pixels.shape
        assert mask.shape == (height, width)
        pair = families.make_pair(family, face, donor, rng(seed))
        assert pair.real.shape == pair.fake.shape == face.pixels.shape


def test_families_are_known():
    assert len(FAMILIES) >= 8
    assert set(families.SHARES) == set(FAMILIES), "give each a share in SHARES"
    assert min(families.SHARES.values()) > 0
    with pytest.raises(ValueError, match="unknown forgery 'cartoon'"):
        families.forge("cartoon", draw_face(), draw_face(1), rng(0))


def test_a_pair_lives_one_life():
    """Where nothing was forged, a pair's two pictures are the same whatever they went through."""
    face, same = draw_face(), 0
    for seed in range(12):
        draws = dict(twins=0.0, worn=0.0, retouched=0.0)
        pair = families.make_pair("part_swap", face, draw_face(1), rng(seed), **draws)
        far = cv2.dilate(pair.mask, np.ones((41, 41))) == 0
        same += not far.any() or change(pair.real, pair.fake)[far].mean() < 1.0
    assert same == 12


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_treatments_draw_alike_for_any_pixels(treatment):
    """The generator is left in the same state by a picture and its forgery."""
    for seed in range(12):
        used = []
        for face in (draw_face(0), draw_face(1)):
            own = rng(seed)
            image = treatment(face.pixels, own)
            assert (image.dtype, image.shape) == (np.uint8, face.pixels.shape)
            used.append(own.random())
        assert used[0] == used[1]


def test_touching_inside_stays_inside_and_seamless():
    face = draw_face()
    mask = masks.soften(masks.draw(POINTS, (SIZE, SIZE), rng(1), masks.WHOLE), 0.02 * SIZE)
    for seed in range(12):
        touched = treat.touch_inside(face.pixels, mask, rng(seed))
        assert change(touched, face.pixels)[mask == 0].max() == 0
        coarse = cv2.GaussianBlur(touched, (0, 0), 4), cv2.GaussianBlur(face.pixels, (0, 0), 4)
        assert change(*coarse).max() <= 6


def test_a_real_inside_is_as_soft_as_the_controls_are():
    """Training shows real faces out of focus inside as far as the control "detail lost inside"."""
    face, mask = draw_face(), np.ones((SIZE, SIZE), np.float32)

    def detail(image):
        return cv2.Laplacian(image.astype(np.float32), cv2.CV_32F).std()

    drawn = [detail(treat.touch_inside(face.pixels, mask, rng(seed))) for seed in range(40)]
    softest = detail(cv2.GaussianBlur(face.pixels, (0, 0), 2.0))
    assert min(drawn) < softest < detail(face.pixels) < max(drawn)


def test_warps_take_points_to_points():
    shape = (SIZE, SIZE)
    target = (POINTS + rng(0).normal(0, 4, (5, 2))).astype(np.float32)
    source, aim = (np.vstack([p, warps.anchors(shape)]) for p in (POINTS, target))
    dots = np.zeros((*shape, 3), np.uint8)
    for x, y in POINTS:
        cv2.circle(dots, (round(float(x)), round(float(y))), 2, (255, 255, 255), -1)
    dots = cv2.GaussianBlur(dots, (0, 0), 1.5)
    moved = warps.warp_points(dots, source, aim, shape, cv2.INTER_LINEAR)
    for x, y in target:
        column, row = round(float(x)), round(float(y))
        patch = moved[row - 4 : row + 5, column - 4 : column + 5, 0]
        assert np.hypot(*(np.array(np.unravel_index(patch.argmax(), patch.shape)) - 4)) <= 1.6
    still = warps.warp_points(dots, source, source, shape, cv2.INTER_LINEAR)
    assert change(still, dots).max() <= 4


def test_masks_lie_where_they_are_named_for():
    """Every shape covers its feature, and covers different areas from draw to draw."""
    covered = {"mouth": POINTS[3:].mean(0), "nose": POINTS[2], "face": POINTS[2], "eyes": POINTS[0]}
    for name, (x, y) in covered.items():
        drawn = [masks.draw(POINTS, (SIZE, SIZE), rng(s), (name,)) for s in range(20)]
        assert np.mean([m[round(float(y)), round(float(x))] > 0.3 for m in drawn]) > 0.8
        assert len({round(float(m.sum())) for m in drawn}) > 15


@pytest.mark.parametrize("how", joins.JOINS)
def test_joins_keep_a_picture_laid_on_itself(how):
    face = draw_face().pixels
    mask = masks.draw(POINTS, (SIZE, SIZE), rng(2), masks.WHOLE)
    joined, share = joins.join(how, face, face, mask)
    assert change(joined, face).max() <= (3 if how == "gradient" else 1)
    assert (share.dtype, share.shape) == (np.float32, mask.shape)


def test_the_mask_is_what_a_hard_join_replaces():
    outer, inner = draw_face().pixels, draw_face(1).pixels
    mask = 0.7 * masks.draw(POINTS, (SIZE, SIZE), rng(2), masks.WHOLE)
    joined, share = joins.join("hard", inner, outer, mask)
    assert set(np.unique(share)) == {0, 1}
    np.testing.assert_array_equal(joined[share == 1], inner[share == 1])
    np.testing.assert_array_equal(joined[share == 0], outer[share == 0])


def test_gradient_join_takes_away_a_difference_in_light():
    outer = np.clip(draw_face().pixels, 0, 200)
    mask = masks.draw(POINTS, (SIZE, SIZE), rng(2), masks.WHOLE)
    joined = joins.gradient(outer + np.uint8(40), outer, mask)
    np.testing.assert_allclose(joined.astype(int), outer, atol=4)


def test_a_picture_cloned_onto_itself_keeps_its_levels():
    """Rounding down would mark forgeries alone."""
    face = draw_face().pixels
    mask = masks.draw(POINTS, (SIZE, SIZE), rng(2), masks.WHOLE)
    difference = joins.gradient(face, face, mask)[mask > 0].astype(float) - face[mask > 0]
    assert abs(difference.mean()) < 0.05


def test_gradient_join_reaches_the_border_but_for_three_pixels():
    """Two that OpenCV needs, and the one whose colours it keeps."""
    outer, inner = draw_face().pixels, draw_face(1).pixels
    changed = change(joins.gradient(inner, outer, np.ones((SIZE, SIZE), np.float32)), outer) > 0
    for edge in (changed, changed[::-1], changed.T, changed.T[::-1]):
        assert not edge[:3].any()
        assert edge[3].mean() > 0.5


def test_colours_meet_their_target():
    inner, outer = draw_face(3).pixels, draw_face(4).pixels
    inside = np.ones((SIZE, SIZE), bool)
    for matched in (
        colours.match_statistics(inner, outer, inside),
        colours.match_histogram(inner, outer, inside),
    ):
        before, after = (
            np.abs(v.mean((0, 1)) - outer.mean((0, 1))).mean() for v in (inner, matched)
        )
        assert after < 0.35 * before + 1.5
    np.testing.assert_array_equal(colours.relight(inner, rng(0), 0.0), inner)
    assert change(colours.relight(inner, rng(0), 1.0), inner).mean() > 2


def test_matched_colours_have_no_tint_of_their_own():
    """A face matched to itself out of focus keeps its mean in every channel."""
    face, mask = draw_face(3).pixels, np.ones((SIZE, SIZE), np.float32)
    soft = cv2.GaussianBlur(face, (0, 0), 3)
    shifts = [
        (colours.match(face, soft, mask, rng(seed)).astype(float) - soft).mean((0, 1))
        for seed in range(30)
    ]
    assert np.abs(shifts).max() < 0.3


def test_upsampling_leaves_a_grid_and_its_twin_none():
    """Beside a smooth picture's own, the spectrum has peaks at the stride's frequency."""
    flat = np.full((96, 96, 3), 120, np.uint8)
    peaks = []
    for twin in (False, True):
        grids = [textures.upsampled(flat, rng(seed), twin=twin) for seed in range(12)]
        peaks.append(np.mean([grid[8:-8, 8:-8].astype(float).std() for grid in grids]))
    assert peaks[0] > 1.0
    assert peaks[1] < 0.1


def blockiness(pictures):
    """How much larger steps are at JPEG's block edges than half a block on, relative to all."""
    grey = np.stack(pictures).astype(float).mean(-1)
    steps = np.abs(np.diff(grey, axis=2)).mean((0, 1)), np.abs(np.diff(grey, axis=1)).mean((0, 2))
    return np.mean([(own[7::8].mean() - own[3::8].mean()) / own.mean() for own in steps])


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_has_the_blocks_that_jpeg_gives_to_real_pictures_too(family):
    """A generator's grid of 2 or 4 pixels is at both places; one of 8 is JPEG's."""
    face, donor = draw_face(6), draw_face(7)
    fakes = [families.forge(family, face, donor, rng(seed))[0] for seed in range(24)]
    assert abs(blockiness(fakes) - blockiness([face.pixels])) < 0.06


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_an_even_transposed_convolution_is_linear_interpolation(stride):
    """Up to the border, and without a shift: only the taps tell a generator's from a twin's."""
    small = rng(stride).uniform(0, 255, (9, 12, 3)).astype(np.float32)
    taps = np.zeros((3, stride + 1, stride + 1), np.float32)
    size = 12 * stride, 9 * stride
    expected = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(textures._transposed(small, stride, taps), expected, atol=0.01)


def test_scrambled_detail_is_as_strong_and_another():
    face = draw_face(5).pixels
    for seed in range(6):
        made, own = (textures.scrambled(face, rng(seed), twin=twin) for twin in (False, True))
        detail = [v - cv2.GaussianBlur(v, (0, 0), 0.8) for v in (made * 1.0, own * 1.0)]
        strengths = [v.std() for v in detail]
        assert 0.5 < strengths[0] / strengths[1] < 2
        assert abs(np.corrcoef(detail[0].ravel(), detail[1].ravel())[0, 1]) < 0.75


def test_scrambled_detail_keeps_how_colours_vary_together():
    """Grey detail on its own is what JPEG leaves of a real picture."""
    face = treat.grain(draw_face(5).pixels, rng(0))
    for seed in range(6):
        made, own = (textures.scrambled(face, rng(seed), twin=twin) for twin in (False, True))
        detail = [v - cv2.GaussianBlur(v * 1.0, (0, 0), 0.8) for v in (made, own)]
        fake, real = (np.corrcoef(v[..., 0].ravel(), v[..., 2].ravel())[0, 1] for v in detail)
        assert abs(fake - real) < 0.15


def test_what_fills_a_hole_is_as_grainy_and_sharp_as_its_twin():
    """Grain and sharpness occur in real pictures, so they must not tell a filled part from one."""
    noise = treat.grain(draw_face(8).pixels, rng(0))
    hole, frame = np.zeros((SIZE, SIZE), np.float32), warps.axes(POINTS)
    hole[40:90, 40:90] = 1
    filled, twins = (
        [finest(textures.filled(noise, hole, frame, rng(seed), twin=twin)) for seed in range(60)]
        for twin in (False, True)
    )
    assert 0.8 < np.mean(filled) / np.mean(twins) < 1.25


@pytest.mark.parametrize("block", [4, 8, 16])
def test_video_coding_transforms_blocks_as_opencv_does(block):
    values = rng(block).normal(size=(block, block)).astype(np.float32)
    cosines = video_coding._cosines(block)
    np.testing.assert_allclose(cosines @ values @ cosines.T, cv2.dct(values), atol=1e-5)
    np.testing.assert_allclose(cosines @ cosines.T, np.eye(block), atol=1e-6)


@pytest.mark.parametrize("block", [4, 8, 16])
def test_video_coding_loses_more_with_a_coarser_step(block):
    grey = cv2.cvtColor(draw_face().pixels, cv2.COLOR_RGB2GRAY)
    face = np.dstack([grey] * 3)
    lost = [
        change(video_coding.code_frame(face, step, block, deblocks=True), face).mean()
        for step in (1e-3, 5.0, 20.0, 80.0)
    ]
    assert lost[0] < 0.01
    assert lost == sorted(lost)
    assert lost[-1] > 2


def test_video_coding_predicts_lines_that_go_on():
    """They are kept however coarse the step; what begins inside a block is not."""
    rows, columns = np.mgrid[:64, :64]
    for lines in (rows, columns):
        plane = np.where(lines % 8 < 3, 40, 200).astype(np.float32)
        blocks = plane.reshape(8, 8, 8, 8).swapaxes(1, 2)
        predicted = video_coding._predict(blocks)
        np.testing.assert_array_equal(predicted[1:, 1:], blocks[1:, 1:])
    dots = np.where((rows % 8 == 4) & (columns % 8 == 4), 200, 40).astype(np.float32)
    blocks = dots.reshape(8, 8, 8, 8).swapaxes(1, 2)
    np.testing.assert_array_equal(video_coding._predict(blocks)[1:, 1:], 40)


def test_video_coding_repeats_colour_for_two_pixels():
    face = draw_face().pixels
    coded = {
        smooth: cv2.cvtColor(
            video_coding.code_frame(face, 1e-3, 4, deblocks=False, smooth_colour=smooth),
            cv2.COLOR_RGB2YCrCb,
        )[..., 1:].astype(int)
        for smooth in (False, True)
    }
    within, across = (
        {smooth: np.abs(np.diff(c, axis=1))[:, start::2].mean() for smooth, c in coded.items()}
        for start in (0, 1)
    )
    assert within[False] < 0.5 * across[False], "but for rounding"
    assert within[True] > 0.75 * across[True]


@pytest.mark.parametrize("corner", [(0, 0), (3, 1)])
def test_video_coding_has_edges_between_blocks_unless_they_are_smoothed(corner):
    face = draw_face().pixels

    def edges(deblocks):
        code = partial(video_coding.code_frame, step=60.0, block=8, deblocks=deblocks)
        coded = treat._off_grid(face, np.array(corner), code)
        steps = np.abs(np.diff(coded.astype(float).mean(-1), axis=1)).mean(0)
        return [steps[offset - corner[1] :: 8].mean() for offset in (7, 11)]

    (raw, inside), (smoothed, _) = edges(False), edges(True)
    assert raw > 2 * inside
    assert smoothed < 0.6 * raw


def finest(picture):
    """Mean size of the differences along both axes, which only the finest detail has."""
    grey = picture.astype(float).mean(-1)
    return np.abs(np.diff(np.diff(grey, axis=0), axis=1))[16:-16, 16:-16].mean()


def test_twins_keep_as_much_of_the_finest_detail_as_forgeries():
    """A shift of all pixels by half a pixel would take it from the twin alone."""
    noise = np.clip(128 + 30 * rng(0).standard_normal((SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
    donor = np.roll(noise, 31, 0)
    moves = {
        "displace": lambda seed, twin: warps.displace(noise, rng(seed), twin=twin),
        "stitched": lambda seed, twin: textures.stitched(noise, donor, rng(seed), twin=twin),
    }
    for name, move in moves.items():
        twin, fake = (np.mean([finest(move(s, t)) for s in range(24)]) for t in (True, False))
        assert 0.75 < twin / fake < 1.1, name


def test_a_morph_has_the_contrast_of_the_face():
    """An average of two faces has less, and a real picture may be flat, too."""
    face, donor, ratios = draw_face(6), draw_face(7), []
    for seed in range(24):
        fake, mask = families.forge("morph", face, donor, rng(seed))
        inside = mask > 0.5
        ratios.append(fake[inside].std(axis=0).mean() / face.pixels[inside].std(axis=0).mean())
    assert np.mean(ratios) > 0.85
