"""High is real; the threshold and p_fake never contradict each other."""

import numpy as np
import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.calibration import Calibration, calibrate, is_real, p_fake


def rng(seed=0):
    return np.random.default_rng(seed)


def scores(n_fake=30, n_real=90, gap=0.3, seed=0):
    r = rng(seed)
    label = np.repeat([0, 1], [n_fake, n_real])
    return r.normal(0.5 + gap * (label - 0.5), 0.1), label


def test_high_is_real_and_the_threshold_itself_is_real():
    verdicts = is_real(np.array([0.2, 0.5, 0.8]), 0.5)
    assert verdicts.tolist() == [False, True, True]
    assert is_real(0.5, 0.5)
    assert not is_real(0.49, 0.5)
    assert is_real(np.array([0.3, 0.5]), np.array([[0.4], [0.3]])).tolist() == [
        [False, True],
        [True, True],
    ]


def test_a_threshold_is_not_rounded_to_the_scores():
    """The float32 nearest to 0.7 is below 0.7, and p_fake says fake as well."""
    score = np.array([0.7], np.float32)
    assert not is_real(score, 0.7)[0]
    assert p_fake(Calibration(-10.0, 0.7, "fixed"), score)[0] > 0.5


def test_probability_and_verdict_never_disagree():
    fidelity, label = scores()
    calibration = calibrate(fidelity, label, middle=0.5)
    assert calibration.threshold_from == "validation"
    t = calibration.threshold
    near = np.nextafter(t, [-np.inf, np.inf]).tolist()
    probe = np.concatenate([np.linspace(-0.5, 1.5, 5001), [t], near, fidelity])
    probability, real = p_fake(calibration, probe), is_real(probe, t)
    assert (probability[real] <= 0.5).all()
    assert (probability[~real] >= 0.5).all()
    assert (np.diff(probability[:5001]) <= 0).all()
    assert p_fake(calibration, np.array([t]))[0] == 0.5
    logit = calibration.slope * (probe - t)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logit)), atol=1e-9)


def test_calibration_balances_the_classes():
    """Nine times as many real videos must not move the threshold off the middle."""
    thresholds = [
        calibrate(*scores(n_fake=400, n_real=n), middle=0.5).threshold for n in (400, 3600)
    ]
    assert thresholds == pytest.approx([0.5, 0.5], abs=0.02)
    fidelity, label = scores(2000, 2000)
    probability = p_fake(calibrate(fidelity, label, middle=0.5), fidelity)
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (probability >= low) & (probability < low + 0.2)
        assert np.mean(label[inside] == 0) == pytest.approx(low + 0.1, abs=0.09)


def test_shifted_scores_shift_the_threshold():
    fidelity, label = scores()
    there, here = (
        calibrate(fidelity + 0.2, label, middle=0.5),
        calibrate(fidelity, label, middle=0.5),
    )
    assert there.threshold - here.threshold == pytest.approx(0.2, abs=1e-3)
    assert there.slope == pytest.approx(here.slope, rel=1e-3)


@pytest.mark.parametrize(
    ("fidelity", "label", "reason"),
    [
        (np.array([0.8, 0.9, 0.2, 0.1]), np.array([0, 0, 1, 1]), "no lower"),
        (np.array([0.1, 0.9]), np.array([1, 1]), "one class"),
        (np.array([]), np.array([], int), "one class"),
        (np.array([0.4, 0.4]), np.array([0, 1]), "equal"),
    ],
)
def test_without_an_order_the_threshold_is_fixed(fidelity, label, reason):
    calibration = calibrate(fidelity, label, middle=0.45)
    assert calibration.threshold_from == "fixed"
    assert calibration.threshold == 0.45
    assert reason in calibration.note
    probability = p_fake(calibration, np.array([0.15, 0.45, 0.75]))
    np.testing.assert_allclose(probability, [0.9, 0.5, 0.1], atol=1e-9)


def test_impossible_calibrations_are_refused():
    with pytest.raises(InputError, match="1 of 2"):
        calibrate(np.array([np.nan, 1.0]), np.array([0, 1]), middle=0.5)
    with pytest.raises(InputError, match="slope"):
        Calibration(1.0, 0.5, "validation")
    with pytest.raises(InputError, match="threshold nan"):
        Calibration(-1.0, np.nan, "validation")


def test_between_the_limit_and_the_threshold_nothing_is_claimed():
    calibration = Calibration(-10.0, 0.5, "validation", fake_below=0.3)
    said = calibration.verdicts(np.array([0.1, 0.3, 0.4, 0.5, 0.9]))
    assert said.tolist() == ["fake", "uncertain", "uncertain", "real", "real"]
    assert Calibration(-10.0, 0.5, "validation").verdicts(0.49) == "fake"
    with pytest.raises(InputError, match="fake below"):
        Calibration(-10.0, 0.5, "validation", fake_below=0.6)
