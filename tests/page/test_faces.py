"""Pictures of faces stay small; colours and words say where on the face something is."""

import base64
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from deepfidelity_jax.detector.predict import Evidence
from deepfidelity_jax.faces.cropping import Crop
from deepfidelity_jax.faces.geometry import AVERAGE_FACE
from deepfidelity_jax.forgeries.augment import center_crop
from deepfidelity_jax.images.pictures import decode_image, encode_image
from deepfidelity_jax.page import faces, people
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


def test_evidence_for_a_forgery_is_orange_and_for_a_real_face_blue_where_it_is():
    heat = np.zeros((64, 64))
    heat[8:20, 40:56], heat[40:56, 8:20] = 0.5, -0.5
    drawn = faces._draw_heat(np.full((64, 64, 3), 128, np.uint8), heat).astype(int)

    def warmth(row, column):
        red, _, blue = drawn[round(row * SIDE / 64), round(column * SIDE / 64)]
        return red - blue

    assert warmth(14, 48) > 50
    assert warmth(48, 14) < -50
    for row, column in ((14, 16), (48, 50), (32, 32)):
        assert warmth(row, column) == 0


def test_words_say_where_the_evidence_is_and_what_for():
    heat = np.zeros((100, 100))
    heat[40, 66], heat[74, 50] = 0.2, -0.1
    assert faces._describe_heat(heat, POINTS) == (
        "Strongest evidence for a forgery: the eye at image right "
        "(blurring it changes fidelity by +0.200). "
        "Strongest evidence for a real face: the mouth "
        "(blurring it changes fidelity by −0.100)."
    )
    only = faces._describe_heat(np.maximum(heat, 0), POINTS)
    assert only.endswith("+0.200). No part is evidence for a real face.")


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_landmarks_are_where_the_network_sees_them(share):
    """A bright spot at each landmark of a crop, found again in the prepared face."""
    model = SimpleNamespace(eval_crop=share, image_size=96)
    detector = SimpleNamespace(config=SimpleNamespace(model=model))
    landmarks = np.float32(AVERAGE_FACE * 70 + [20, 25])
    blank = np.zeros((120, 120, 3), np.uint8)
    crop = Crop(0, 0.0, encode_image(blank), blank, np.zeros(4, np.float32), landmarks, 0.9)
    found = faces._prepared_landmarks(detector, crop)
    rows, columns = np.mgrid[:120, :120]
    for (x, y), place in zip(landmarks, found, strict=True):
        spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
        seen = center_crop(np.repeat(spot[..., None], 3, 2).astype(np.uint8), 96, share)
        weight = seen[..., 0].astype(float)
        v, u = (np.sum(axis * weight) / weight.sum() for axis in np.mgrid[:96, :96])
        assert place == pytest.approx([u, v], abs=0.3)


def test_the_score_without_the_strongest_evidence_is_beside_that_without_a_random_part():
    """To this detector, what is bright is forged."""
    face = np.zeros((25, 25, 3), np.uint8)
    face[3:14, 5:16] = 255
    detector = SimpleNamespace(
        fidelity_of_prepared=lambda images: np.float32(1 - images.mean(axis=(1, 2, 3)) / 255)
    )
    said = faces._test(detector, face, face[..., 0] / 255.0)
    before, without, random = map(float, re.findall(r"\d\.\d{3}", said))
    assert before == pytest.approx(1 - 121 / 625, abs=1e-3)
    assert without > 0.95
    assert random != before
    assert random == pytest.approx(before, abs=0.1)


@pytest.mark.parametrize(("side", "most"), [(SIDE, BYTES), (people.FRAME, people.BYTES)])
def test_pictures_stay_within_their_bytes(side, most):
    """Noise is what compresses worst."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    encoded = base64.b64decode(encode_within(noise, most).partition(",")[2])
    assert 0.3 * most < len(encoded) <= most
    assert decode_image(encoded).shape == noise.shape


def test_a_page_cannot_hold_5_megabytes():
    """Pictures of as many people as are shown; a dot in each lane and a row for each frame."""
    box, points = np.zeros(4, np.float32), np.zeros((5, 2), np.float32)
    blank = np.zeros((8, 8, 3), np.uint8)
    crops = tuple(Crop(frame, float(frame), b"", blank, box, points, 0.9) for frame in range(4))
    own = Evidence(crops, np.array([0.9, 0.1, 0.52, 0.5]), np.full(4, np.nan))
    chosen = people.choose_faces(own).values()
    frames = sum("lowest" in why or "highest" in why for why in chosen)
    lanes = len(people.draw_lanes(own, 0.5, 4.0, 1))
    template = Path(faces.__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    pictures = template.count('src="{{ face.shown.')
    assert (len(chosen), frames, lanes, pictures) == (3, 2, 3, 4)
    each = len(chosen) * pictures * BYTES + frames * people.BYTES
    text = people.DOTS * (lanes * 150 + 250)
    assert people.PEOPLE * (4 / 3 * each + text) < 4_800_000
