"""The exported view of a crop is the one that prediction takes."""

import jax.numpy as jnp
import numpy as np
import pytest
from random_detectors import draw_crops

from deepfidelity_jax.export.view import make_view, take
from deepfidelity_jax.forgeries.augment import center_crop


@pytest.mark.parametrize(
    ("crop", "size", "share"),
    [
        (108, 96, 96 / 108),  # cut out
        (107, 64, 64 / 107),  # an odd border
        (96, 96, 1.0),
        (71, 64, 0.95),  # shrunk
        (100, 64, 1.0),
        (128, 64, 1.0),  # by two: halves are rounded up
        (128, 32, 1.0),
    ],
)
def test_cutting_and_shrinking_give_the_same_pixels(crop, size, share):
    crops = draw_crops(3, crop)
    found = np.asarray(take(make_view(crop, size, share), jnp.asarray(crops)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [center_crop(image, size, share) for image in crops])


@pytest.mark.parametrize(("crop", "size", "share"), [(80, 96, 0.9), (40, 64, 1.0), (90, 96, 1.0)])
def test_enlarging_is_one_level_off_where_opencv_may_be(crop, size, share):
    crops = draw_crops(4, crop)
    found = np.asarray(take(make_view(crop, size, share), jnp.asarray(crops))).astype(int)
    wanted = np.stack([center_crop(image, size, share) for image in crops])
    assert np.abs(found - wanted).max() <= 1
    # A build of OpenCV without Intel's library differs in 3%.
    assert np.mean(found != wanted) < 0.05


@pytest.mark.parametrize(("crop", "size"), [(150, 96), (40, 96), (128, 64)])
def test_weights_of_a_row_are_shares_of_one(crop, size):
    weights = make_view(crop, size, 1.0).weights
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-6)
