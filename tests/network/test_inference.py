"""Scores of a face alone, or averaged with its mirror image."""

from functools import partial

import jax
import numpy as np
import pytest
from random_detectors import draw_crops, draw_variables

from deepfidelity_jax.network import inference
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig

NETWORK = SSAAFormer(
    SSAAFormerConfig.tiny(
        depths=(1, 0, 1, 0), symmetric=(1, 0, 0, 0), fidelity_head=True, ordinal_head=True
    )
)
FACES = draw_crops(4, 32)
MIRRORED = FACES[:, :, ::-1]


@pytest.fixture(scope="module")
def answer():
    variables = draw_variables(NETWORK, 32)
    compiled = jax.jit(partial(inference.answer, NETWORK), static_argnames="mirror_average")
    return lambda faces, mirror: compiled(variables, faces, mirror_average=mirror)


def test_the_average_is_over_each_face_and_its_own_mirror_image(answer):
    both = zip(answer(FACES, False), answer(MIRRORED, False), answer(FACES, True), strict=True)
    for alone, mirrored, average in both:
        assert np.abs(alone - mirrored).max(axis=0).min() > 1e-5  # else this would show nothing
        np.testing.assert_allclose(average, (alone + mirrored) / 2, atol=1e-5)


def test_a_mirrored_face_has_the_average_of_the_face(answer):
    for face, mirrored in zip(answer(FACES, True), answer(MIRRORED, True), strict=True):
        np.testing.assert_allclose(face, mirrored, atol=1e-5)
