"""Pictures of faces stay small, and words say where on the face something is."""

import base64

import cv2
import numpy as np
import pytest

from deepfidelity_jax.faces.geometry import AVERAGE_FACE
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.page import people
from deepfidelity_jax.page.faces import BYTES, SIDE, encode_within, name_place

POINTS = AVERAGE_FACE * 100.0


@pytest.mark.parametrize(
    ("spot", "place"),
    [
        ((34, 42), "the eye at image left"),
        ((66, 40), "the eye at image right"),
        ((50, 59), "the nose"),
        ((52, 74), "the mouth"),
        ((50, 92), "the chin"),
        ((50, 16), "the forehead"),
        ((27, 62), "the cheek at image left"),
        ((1, 2), "the edge of the picture"),
    ],
)
def test_places_have_names_also_on_a_turned_face(spot, place):
    assert name_place(np.array(spot, float), POINTS) == place
    turn = cv2.getRotationMatrix2D((50, 50), 25, 0.8)
    turned = POINTS @ turn[:, :2].T + turn[:, 2]
    assert name_place(turn[:, :2] @ spot + turn[:, 2], turned) == place


@pytest.mark.parametrize(("side", "most"), [(SIDE, BYTES), (people.FRAME, people.BYTES)])
def test_pictures_stay_within_their_bytes(side, most):
    """Noise is what compresses worst."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    encoded = base64.b64decode(encode_within(noise, most).partition(",")[2])
    assert 0.3 * most < len(encoded) <= most
    assert decode_image(encoded).shape == noise.shape


def test_a_page_cannot_hold_5_megabytes():
    """Pictures of as many people as are shown; a dot in each lane and a row for each frame."""
    faces, pictures, frames, lanes = 3, 4, 2, 3
    each = faces * pictures * BYTES + frames * people.BYTES
    text = people.DOTS * (lanes * 150 + 250)
    assert people.PEOPLE * (4 / 3 * each + text) < 4_800_000
