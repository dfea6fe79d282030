"""Quality learnt from degraded copies: it orders what it has not seen, and can be fitted anew."""

import numpy as np
import pytest

from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.forgeries.degrade import DEGRADATIONS, degrade
from deepfidelity_jax.images.pictures import encode_image
from deepfidelity_jax.quality import learned
from deepfidelity_jax.quality.measure import Measure

NOWHERE = np.full((5, 2), np.nan, np.float32)


def portrait(identity, side=112):
    rng = np.random.default_rng([9, identity])
    person, scene = renderer.sample_identity(rng), renderer.sample_scene(rng)
    (pose,) = renderer.sample_poses(rng, 1)
    return renderer.render(person, scene, pose, side)[0]


FACES = [portrait(identity) for identity in range(8)]


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_what_is_degraded_more_has_less_quality(kind):
    """Mean over faces the function was not fitted to, at strengths 0, .3, .6 and 1."""
    curve = [
        np.mean([
            learned.measure(degrade(face, kind, strength, np.random.default_rng(seed)))
            for seed, face in enumerate(FACES)
        ])
        for strength in (0.0, 0.3, 0.6, 1.0)
    ]  # fmt: skip
    assert curve[0] > curve[2] > curve[3]
    assert curve[0] - curve[3] > 0.15, curve


def test_the_order_is_that_of_the_copies_it_is_fitted_to():
    """Fitted to copies whose blur was called good: the order is turned round."""
    order = learned.fit(FACES[:6])
    assert all(np.isfinite(part).all() for part in order)
    again = learned.fit(FACES[:6])
    assert all(np.array_equal(a, b) for a, b in zip(order, again, strict=True)), "no chance in it"

    def score(face):
        return float(learned._expand(learned.describe(face)[None], order)[0] @ order.weights)

    blurred = degrade(FACES[7], "blur", 0.8, np.random.default_rng(0))
    assert score(FACES[7]) > score(blurred)
    rows = np.arange(4)
    strength, kind, person = np.array([0.0, 0.9, 0.1, 0.5]), np.array(["blur"] * 4), rows // 2
    better, worse = learned._pairs(strength, kind, person, np.random.default_rng(0))
    assert (strength[worse] - strength[better] > learned.APART).all()


@pytest.mark.parametrize("side", [64, 97, 224])
def test_any_size_has_a_quality(side):
    value = learned.measure(portrait(3, side))
    assert 0 <= value <= 1
    assert np.isfinite(learned.describe(np.zeros((side, side, 3), np.uint8))).all(), (
        "a black picture"
    )


def test_records_say_what_measured_them():
    from ml_collections import ConfigDict

    own = Measure.from_config(ConfigDict({"measure": "learned", "csv": "", "weights": ""}))
    assert own.can_remeasure
    assert own.of_pixels(FACES[0], NOWHERE) == learned.measure(FACES[0])
    note = own.note()
    assert len(note["weights"]) == 64, "the digest of what was learnt"
    again = Measure.from_note(note)
    assert again.digest == own.digest
    assert again.of_pixels(FACES[0], NOWHERE) == learned.measure(FACES[0])
    earlier = Measure.from_note(note | {"weights": "0" * 64})
    assert not earlier.can_remeasure, "another order would be on another scale"
    assert np.isnan(earlier(encode_image(FACES[0]), NOWHERE))
