"""The symmetry map is 0 for a face that is its own mirror image, and large where it is not."""

import numpy as np
import pytest

import deepfidelity_jax as df
from deepfidelity_jax.explanation.symmetry import symmetry_maps


@pytest.fixture(scope="module")
def detector():
    return df.load()


@pytest.fixture(scope="module")
def even():
    """A face that is its own mirror image."""
    half = np.random.default_rng(0).integers(0, 256, (96, 48, 3)).astype(np.uint8)
    return np.concatenate([half, half[:, ::-1]], axis=1)


def test_it_is_hot_where_the_halves_differ_and_there_alone(detector, even):
    odd = even.copy()
    odd[20:32, 60:72] = 255  # rows 5 to 7 and columns 15 to 17 of the patches
    blank, found = symmetry_maps(detector, np.stack([even, odd]))
    assert blank.shape == (24, 24)
    np.testing.assert_allclose(blank, 0, atol=1e-4)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert 3 <= row <= 9, "a convolution of 5 x 5 lies in between"
    assert min(abs(column - 16), abs(23 - column - 16)) <= 3
    assert found[14:].max() < 1e-3 * found.max(), "the network's reach there is a few patches"


def test_a_detector_without_the_mirror_has_no_map():
    class Plain:
        class model:
            class config:
                symmetric = (0, 0, 0, 0)

    assert symmetry_maps(Plain, np.zeros((1, 96, 96, 3), np.uint8)) is None
