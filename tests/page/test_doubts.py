"""What makes a verdict less certain is told where it is so, and only there."""

from types import SimpleNamespace

import numpy as np
import pytest

from deepfidelity_jax.detector.predict import Evidence, PersonScore, Prediction
from deepfidelity_jax.fidelity.arrays import Head, Linear, SupportVectors
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.fidelity.stored import Validation
from deepfidelity_jax.page.doubts import list_doubts, list_grounds, unfamiliarity
from deepfidelity_jax.scoring import controls


def vectors(count=200):
    cloud = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)
    zeros = np.zeros(count, np.float32)
    centre = np.full(8, 5, np.float32)
    return SupportVectors(cloud, zeros, np.float32(0), np.float32(1), centre)


def detector(validation=None, fake_below=0.3, **provenance):
    scale = FidelityScale((0.2, 0.8), (0.4, 0.9))
    fitted = SimpleNamespace(
        calibration=Calibration(-8.0, 0.6, "validation", fake_below=fake_below),
        validation=validation,
        provenance=provenance,
        scale=scale,
        regressor=SimpleNamespace(arrays=vectors()),
    )
    return SimpleNamespace(fidelity_model=fitted, threshold=0.6)


def states(fidelity, *, width=80.0, quality=0.6, frames=32):
    values = np.array(fidelity, np.float64)
    person = PersonScore(
        0, float(values.mean()), 0.5, quality, 0.0, len(values), [0.0, 0.0, width, 99.0], 0.0
    )
    own = Evidence((), values, np.full(len(values), np.nan))
    features = np.full((len(values), 8), 5, np.float32)
    prediction = Prediction("a", "real", frames=frames)
    doubts = list_doubts(detector(), prediction, person, own, features)
    return {doubt.what: doubt.state for doubt in doubts}


def test_a_good_video_raises_no_doubt():
    found = states([0.9] * 32)
    assert set(found.values()) == {"fine"}
    assert len(found) == 6


@pytest.mark.parametrize(
    ("what", "given"),
    [
        ("Size of the face", {"width": 31.0}),
        ("Quality of the pictures", {"quality": 0.3}),
        ("Number of frames", {"frames": 200}),
        ("Frames that disagree", {"fidelity": [0.9] * 20 + [0.5] * 12}),
        ("Between the thresholds", {"fidelity": [0.5] * 32}),
    ],
)
def test_each_doubt_is_told(what, given):
    found = states(**{"fidelity": [0.9] * 32, **given})
    assert [name for name, state in found.items() if state == "caution"] == [what]


def test_a_photograph_has_no_doubts_about_frames_and_unknown_is_not_fine():
    found = states([0.9], frames=1, quality=None)
    assert "Number of frames" not in found
    assert found["Quality of the pictures"] == "not known"


def test_a_face_far_from_all_training_faces_is_unfamiliar():
    arrays = vectors()
    near, far = np.full((1, 8), 5, np.float32), np.full((1, 8), 50, np.float32)
    assert unfamiliarity(arrays, far) == 1.0
    assert unfamiliarity(arrays, arrays.vectors[:1] + arrays.centre) == 0.0
    assert unfamiliarity(arrays, near) < 0.9
    none = Linear(np.zeros(8, np.float32), np.float32(0), np.zeros(8, np.float32))
    assert unfamiliarity(none, near) is None
    assert unfamiliarity(Head(np.int32(2)), near) is None


def test_grounds_say_what_validation_had_and_when_it_is_not_known():
    person = PersonScore(0, 0.5, 0.7, None, 0.0, 1, [0.0] * 4, 0.0)
    assert "is not known: the" in list_grounds(detector(), person)[-1]
    real, fake = [0.9, 0.8, 0.7, 0.5, 0.4], [0.5, 0.3, 0.2, 0.1]
    labels = np.repeat(np.int32([1, 0]), [5, 4])
    known = Validation(np.float32(real + fake), labels, np.arange(9))
    said = list_grounds(detector(known), person)
    assert "5 real videos or photographs, 40% have this fidelity or less" in said[-1]
    assert "4 fake ones, 25% have this fidelity or more" in said[-1]


def test_the_shares_below_the_lower_threshold_are_those_that_it_was_set_to():
    person = PersonScore(0, 0.5, 0.7, None, 0.0, 1, [0.0] * 4, 0.0)
    said = " ".join(list_grounds(detector(allowed=controls.ALLOWED), person))
    for share in ("1% of unaltered", "1% after", "0.1% of simulated retakes"):
        assert f"at most {share}" in said
    earlier = " ".join(list_grounds(detector(), person))
    assert "Below 0.300, the lower threshold, a face is called fake." in earlier
    assert "at most" not in earlier
    assert "called fake" not in " ".join(list_grounds(detector(fake_below=None), person))
