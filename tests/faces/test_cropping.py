"""Crops are level and centred, and their landmarks lie where the face does."""

import math

import cv2
import numpy as np
import pytest
from cartoons import CASCADE, NONE, face, scene

from deepfidelity_jax.faces import cropping, detection
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.images import pictures, videos


@pytest.mark.parametrize("tilt", [-35, -10, 0, 20])
def test_the_crop_levels_the_eyes_and_centres_the_axis(tilt):
    turn = math.radians(tilt)
    middle = np.array([300.0, 200.0])
    along = np.array([math.cos(turn), math.sin(turn)])
    eyes = np.array([middle - 30 * along, middle + 30 * along])
    image = np.zeros((400, 640, 3), np.uint8)
    for eye in eyes:
        cv2.circle(image, tuple(np.round(eye * 16).astype(int).tolist()), 5 * 16, (255,) * 3, -1,
                   cv2.LINE_AA, 4)  # fmt: skip
    # The box is off the axis, as detectors' boxes are.
    crop, landmarks = cropping.crop_face(image, face(312, 222, 150, eyes=eyes), CASCADE)
    assert crop.shape == (160, 160, 3)
    assert landmarks[0, 1] == pytest.approx(landmarks[1, 1], abs=1e-3)
    assert landmarks[:2, 0].mean() == pytest.approx(79.5, abs=1e-3)
    scale = 160 / (1.3 * 150)
    assert landmarks[1, 0] - landmarks[0, 0] == pytest.approx(60 * scale, abs=1e-2)
    # What is drawn lies where the landmarks say.
    for side, landmark in ((slice(0, 80), landmarks[0]), (slice(80, 160), landmarks[1])):
        weight = crop[:, side, 0].astype(float)
        x = (weight.sum(0) @ np.arange(160)[side]) / weight.sum()
        y = (weight.sum(1) @ np.arange(160)) / weight.sum()
        assert math.dist((x, y), landmark) < 0.5


def test_without_eyes_or_in_profile_the_crop_stands_upright_on_the_box():
    image = np.zeros((400, 640, 3), np.uint8)
    image[190:210, 290:310] = 255
    together = [[296, 192], [304, 208]]  # closer than a face's two eyes: a profile's
    for one in (face(300, 200, 100), face(300, 200, 100, eyes=together)):
        crop, landmarks = cropping.crop_face(image, one, CASCADE)
        weight = crop[..., 0].astype(float)
        assert weight.sum(0) @ np.arange(160) / weight.sum() == pytest.approx(79.5, abs=0.2)
        assert weight.sum(1) @ np.arange(160) / weight.sum() == pytest.approx(79.5, abs=0.2)
        assert np.isnan(landmarks[2:]).all()
        # 20 pixels of a crop 130 wide.
        bright = (crop[80, :, 0] > 127).sum()
        assert bright == pytest.approx(20 * 160 / 130, abs=1)


def test_shrinking_averages_and_the_border_mirrors():
    checks = np.indices((800, 800)).sum(0) % 2 * 255
    image = np.repeat(checks[..., None], 3, 2).astype(np.uint8)
    crop, _ = cropping.crop_face(image, face(400, 400, 500), FaceSettings(size=100))
    assert abs(crop.astype(int) - 127).max() < 12  # a pixel-wise checker becomes grey
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 200, 0).repeat(3, 2)
    crop, _ = cropping.crop_face(ramp, face(0, 100, 80), FaceSettings(size=104))
    np.testing.assert_allclose(crop[:, 8:52].astype(int), crop[:, 95:51:-1].astype(int), atol=2)
    # Far beyond a narrow image, still mirrored.
    crop, _ = cropping.crop_face(ramp[:20, :20], face(10, 10, 100), FaceSettings(size=64))
    assert crop.max() < 20


def test_ready_crops_are_only_resized():
    image = scene((320, 180, 200))
    (whole,) = detection.detect(image, NONE)
    assert whole.box == (0, 0, 640, 360)
    crop, landmarks = cropping.crop_face(image, whole, NONE)
    np.testing.assert_array_equal(crop, cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA))
    assert np.isnan(landmarks).all()


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_the_box_is_turned_back(turn):
    """A mark in the frame as it is lies in the box found after turning."""
    frame = np.zeros((300, 500, 3), np.uint8)
    frame[40:70, 100:150] = 255
    turned = np.ascontiguousarray(np.rot90(frame, turn))
    rows, columns = np.nonzero(turned[..., 0])
    x, y = columns.min(), rows.min()
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    seen = detection.Face(
        (float(x), float(y), float(width), float(height)), face(0, 0).landmarks, 0.75
    )
    crop = cropping.cut_crop(videos.Frame(3, 0.5, turned), seen, CASCADE, turn)
    assert crop.bbox.tolist() == [100, 40, 50, 30]
    assert (crop.frame, crop.time, crop.score) == (3, 0.5, 0.75)
    assert crop.image == pictures.encode_image(crop.pixels)


@pytest.mark.parametrize("side", [32, 50, 64, 200])
def test_ready_crops_are_enlarged_smoothly(side):
    """Blocks would look like a generator's repeated pixels."""
    ramp = np.linspace(0, 250, side)[None, :, None].repeat(side, 0).repeat(3, 2)
    one = face(side / 2, side / 2, side)
    crop, _ = cropping.crop_face(np.rint(ramp).astype(np.uint8), one, NONE)
    steps = np.diff(crop[32, 4:-4, 0].astype(float))
    assert np.abs(steps - 250 / 64).max() < 2.5
