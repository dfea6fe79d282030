"""Trace: a picture is told by what more of the same damage would still change."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from reliability import small_run

from deepfidelity_jax.forgeries.degrade import degrade
from deepfidelity_jax.images.pictures import encode_image
from deepfidelity_jax.quality import trace
from deepfidelity_jax.quality.measure import Measure


@pytest.fixture(scope="module")
def measure():
    return trace.load()


def qualities(measure, faces):
    encoded = [encode_image(face) for face in faces]
    return measure(encoded, [np.full((5, 2), np.nan, np.float32)] * len(encoded))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["blur", "noise"])
def test_damage_takes_the_trace_away(measure, kind):
    """Of one face: blur and noise, the two that leave least for more of the same to change."""
    faces = [small_run.portrait(number) for number in range(4)]
    rng = np.random.default_rng(0)
    means = [
        qualities(measure, [degrade(face, kind, strength, rng) for face in faces]).mean()
        for strength in (0.0, 0.4, 0.8)
    ]
    assert means == sorted(means, reverse=True)


def test_a_face_is_measured_alone(measure):
    faces = [small_run.portrait(number) for number in range(3)]
    together = qualities(measure, faces)
    assert [qualities(measure, [face])[0] for face in faces] == together.tolist()
    assert np.isfinite(together).all()
    assert (together > 0).all()


def test_it_is_named_by_the_weights_it_goes_by():
    own = Measure.from_config(ConfigDict({"measure": "trace", "csv": "", "weights": ""}))
    assert own.digest
    assert Measure.from_note(own.note()).digest == own.digest
    assert not own.can_remeasure
