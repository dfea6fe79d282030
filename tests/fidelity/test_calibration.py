"""High is real; the threshold and p_fake never contradict each other."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.calibration import METHODS, Calibration, calibrate, is_real, p_fake


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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(5))
def test_no_method_lets_probability_and_verdict_disagree(method, seed):
    fidelity, label = scores(gap=0.15, seed=seed)
    calibration = calibrate(fidelity, label, middle=0.45, method=method)
    assert calibration.method == method
    t = calibration.threshold
    near = np.nextafter(t, [-np.inf, np.inf]).tolist()
    for probe in (np.r_[np.linspace(-0.5, 1.5, 5001), t, near, fidelity],):
        for given in (probe, probe.astype(np.float32)):
            probability, real = p_fake(calibration, given), is_real(given, t)
            assert (probability[real] <= 0.5).all()
            assert (probability[~real] >= 0.5).all()
            assert (np.diff(probability[np.argsort(given, kind="stable")]) <= 0).all()
            assert ((probability >= 0) & (probability <= 1)).all()


def test_platt_is_the_default_and_a_sigmoid():
    fidelity, label = scores()
    found = calibrate(fidelity, label, middle=0.5)
    assert found == calibrate(fidelity, label, middle=0.5, method="platt")
    assert (found.method, found.curve) == ("platt", ())
    x = np.linspace(-1, 2, 100)
    expected = 1 / (1 + np.exp(-found.slope * (x - found.threshold)))
    np.testing.assert_allclose(p_fake(found, x), expected, rtol=1e-14)


def test_isotonic_equals_scikit_learn():
    fidelity, label = scores(gap=0.15)
    found = calibrate(fidelity, label, middle=0.5, method="isotonic")
    weight = np.where(label == 0, 0.5 / np.sum(label == 0), 0.5 / np.sum(label == 1))
    expected = IsotonicRegression(increasing=False, out_of_bounds="clip")
    expected.fit(fidelity, label == 0, sample_weight=weight)
    x = np.linspace(0, 1, 999)
    np.testing.assert_allclose(p_fake(found, x), expected.predict(x), atol=1e-9)


@pytest.mark.parametrize("method", ["platt", "beta", "temperature"])
def test_logistic_fits_have_the_smallest_loss(method):
    """By a general minimiser, of the balanced loss with scikit-learn's penalty written out."""
    fidelity, label = scores(300, 900, gap=0.15)
    found = calibrate(fidelity, label, middle=0.45, method=method)
    f, fake = np.clip(fidelity, 1e-3, 1 - 1e-3), label == 0
    weight = len(label) / (2 * np.bincount(label)[label])
    mean, spread, one = fidelity.mean(), fidelity.std(), np.ones(len(f))
    if method == "platt":
        x = np.stack([(fidelity - mean) / spread, one], 1)
        own = found.slope * spread, found.slope * (mean - found.threshold)
    elif method == "beta":
        x, own = np.stack([np.log(1 - f), -np.log(f), one], 1), found.curve[0]
    else:
        x, own = (fidelity[:, None] - 0.45) / spread, (found.slope * spread,)
    sloping = np.ptp(x, axis=0) > 0  # the intercept has no penalty

    def loss(coefficients):
        logit = x @ coefficients
        penalty = np.sum(np.square(coefficients[sloping])) / 2
        return np.sum(weight * np.logaddexp(0, np.where(fake, -logit, logit))) + penalty

    best = minimize(loss, np.zeros(x.shape[1]), method="BFGS", options={"gtol": 1e-9})
    assert loss(np.array(own)) == pytest.approx(best.fun, rel=1e-6)
    np.testing.assert_allclose(own, best.x, atol=2e-3)


def test_temperature_leaves_the_threshold_in_the_middle():
    found = calibrate(*scores(), middle=0.45, method="temperature")
    assert (found.threshold, found.threshold_from) == (0.45, "fixed")
    assert "middle" in found.note


def test_other_methods_follow_bent_curves():
    """Where the odds are not those of a sigmoid, isotonic and beta have the smaller loss."""
    r = rng(4)
    f = r.uniform(0.001, 0.999, 6000)
    truth = 1 / (1 + np.exp(-(2 * np.log(1 - f) - 0.3 * np.log(f) + 1)))
    label = (r.random(6000) >= truth).astype(int)
    weight = 1 / np.bincount(label)[label]
    losses = {}
    for method in ("platt", "isotonic", "beta"):
        p = p_fake(calibrate(f, label, middle=0.5, method=method), f)
        losses[method] = np.average((p - (label == 0)) ** 2, weights=weight)
    assert losses["beta"] < losses["platt"]
    assert losses["isotonic"] < losses["platt"]


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
@pytest.mark.parametrize("method", METHODS)
def test_without_an_order_the_threshold_is_fixed(fidelity, label, reason, method):
    calibration = calibrate(fidelity, label, middle=0.45, method=method)
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
    with pytest.raises(InputError, match="isotonic with 0 arrays"):
        replace(Calibration(-1.0, 0.5, "validation"), method="isotonic")
    with pytest.raises(InputError, match="threshold nan"):
        Calibration(-1.0, np.nan, "validation")


def test_between_the_limit_and_the_threshold_nothing_is_claimed():
    calibration = Calibration(-10.0, 0.5, "validation", fake_below=0.3)
    said = calibration.verdicts(np.array([0.1, 0.3, 0.4, 0.5, 0.9]))
    assert said.tolist() == ["fake", "uncertain", "uncertain", "real", "real"]
    assert Calibration(-10.0, 0.5, "validation").verdicts(0.49) == "fake"
    with pytest.raises(InputError, match="fake below"):
        Calibration(-10.0, 0.5, "validation", fake_below=0.6)
