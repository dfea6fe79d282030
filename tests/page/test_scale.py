"""The scale holds everything on it, in the right order, and says what validation has."""

from types import SimpleNamespace

import numpy as np
import pytest

from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.fidelity.stored import Validation
from deepfidelity_jax.page.scale import describe_scale, video_means


def known(fidelity, label, video):
    return Validation(np.float32(fidelity), np.int32(label), np.int32(video))


def model(validation=None, fake_below=0.3):
    calibration = Calibration(-5.0, 0.6, "validation", fake_below=fake_below)
    return SimpleNamespace(calibration=calibration, validation=validation)


def test_places_rise_with_fidelity_and_stay_on_the_axis():
    found = describe_scale(model(), {0: 0.7, 1: -0.4, 2: 1.3})
    (low, first), (middle, _), (high, _) = found["marks"]
    assert first == "1"
    assert 0 < low < found["limit"] < found["threshold"] < middle < high < 100
    assert found["validation"] is None
    assert describe_scale(model(fake_below=None), {0: 0.5})["limit"] is None


def test_people_at_one_place_share_a_mark():
    found = describe_scale(model(), {0: 0.9, 3: 0.5, 1: 0.51, 7: 0.505})
    assert [who for _, who in found["marks"]] == ["1, 3, 7", "0"]


def test_a_video_counts_once():
    scores = known([0.9, 0.7, 0.5, 0.1, 0.2, 0.9], [1, 1, 1, 0, 0, 0], [0, 0, 1, 2, 2, 3])
    real, fake = video_means(scores)
    np.testing.assert_allclose(real, [0.8, 0.5], atol=1e-6)
    np.testing.assert_allclose(fake, [0.15, 0.9], atol=1e-6)
    assert video_means(known([0.9], [1], [0])) is None
    shown = describe_scale(model(scores), {0: 0.5})["validation"]
    assert [(one["name"], one["count"]) for one in shown] == [("real", 2), ("fake", 2)]
    assert all(height == pytest.approx(100) for one in shown for _, height in one["bars"])
    places = [left for left, _ in shown[1]["bars"]]
    assert len(places) == 2
    assert 2 <= places[0] < places[1] < 98
