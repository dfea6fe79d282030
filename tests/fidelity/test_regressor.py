"""The fit is scikit-learn's."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from problems import problem, rng, solved
from sklearn.svm import SVR

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import regressor
from deepfidelity_jax.fidelity.arrays import regress
from deepfidelity_jax.fidelity.regressor import balance, choose_solver, fit_regressor


@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize(("C", "gamma"), [(1.0, 1.0), (5.0, 1.0), (10.0, 50.0)])
def test_the_fit_is_scikit_learns(offset, C, gamma):
    x, y = problem(offset=offset, noise=0.2)
    unit = 1 / (x.shape[1] * x.astype(np.float64).var())
    reference = solved(x, y, C=C, gamma=gamma * unit)[0]
    fitted = fit_regressor(x, y, C=C, gamma=gamma)
    assert fitted.settings["support_vectors"] == len(fitted.arrays.vectors)
    own = choose_solver() is SVR
    if own:
        assert fitted.settings["support_vectors"] == len(reference.support_)
    got = np.asarray(regress(fitted.arrays, jnp.asarray(x)))
    atol = 1e-5 if own else 2e-3
    np.testing.assert_allclose(got, reference.predict(x.astype(np.float64)), atol=atol, rtol=0)


def test_the_fast_solver_takes_the_same_fit():
    fast = pytest.importorskip("sklearnex.svm").SVR
    assert choose_solver() is fast
    x, y = problem(noise=0.2)
    weights = np.where(y > np.median(y), 1.5, 0.5)
    fitted = fit_regressor(x, y, weights=weights)
    assert fitted.settings["solver"] == "sklearnex"
    reference = SVR().fit(x.astype(np.float64), y, weights)
    got = np.asarray(regress(fitted.arrays, jnp.asarray(x)))
    np.testing.assert_allclose(got, reference.predict(x.astype(np.float64)), atol=2e-3, rtol=0)


def test_a_constant_target_is_answered_with_itself():
    x, _ = problem(20)
    for features in (x, np.ones_like(x)):
        fitted = fit_regressor(features, np.full(20, 0.3))
        got = regress(fitted.arrays, jnp.asarray(features))
        np.testing.assert_allclose(got, 0.3, atol=0.1 + 1e-6)


@pytest.mark.slow
def test_tuning_finds_a_better_setting_and_says_which(monkeypatch):
    """A steep, nearly noiseless function: C 1 with a wide tube is too stiff for it."""
    r = rng(3)
    x = r.uniform(-2, 2, (400, 2)).astype(np.float32)
    y = (0.5 + 0.5 * np.sin(3 * x[:, 0]) * np.cos(2 * x[:, 1])).astype(np.float64)
    train, test = slice(0, 250), slice(250, None)
    groups = np.arange(250) // 5
    plain = fit_regressor(x[train], y[train])
    monkeypatch.setattr(regressor, "TUNED_ROWS", 200)
    tuned = fit_regressor(x[train], y[train], tune=True, groups=groups)
    again = fit_regressor(x[train], y[train], tune=True, groups=groups)

    def error(fitted):
        return float(
            np.mean((np.asarray(regress(fitted.arrays, jnp.asarray(x[test]))) - y[test]) ** 2)
        )

    assert tuned.settings["C"] > 1
    assert error(tuned) < 0.7 * error(plain)
    assert tuned.settings == again.settings
    assert tuned.settings["cv_rows"] == 200
    assert json.loads(json.dumps(tuned.settings)) == tuned.settings


@pytest.mark.slow
def test_balanced_weights_make_up_for_a_class_that_is_rare():
    """A third as many reals, weighed: the regressor of each real three times over."""
    x, y = problem(120)
    label = (np.arange(120) % 4 == 0).astype(int)  # 30 reals, 90 fakes
    weights = balance(label)
    assert weights.mean() == pytest.approx(1)
    assert weights[label == 1].sum() == pytest.approx(weights[label == 0].sum())
    np.testing.assert_array_equal(balance(np.ones(5, int)), np.ones(5))
    np.testing.assert_allclose(balance(label, 0.0), np.ones(len(label)))
    half = balance(label, 0.5)
    assert half[label == 1][0] / half[label == 0][0] == pytest.approx(
        (weights.max() / weights.min()) ** 0.5
    )
    weighed = fit_regressor(x, y, C=0.05, weights=np.where(label, 3.0, 1.0))
    times = np.where(label, 3, 1)
    repeated = fit_regressor(np.repeat(x, times, 0), np.repeat(y, times), C=0.05)
    new = jnp.asarray(problem(50, seed=9)[0])
    got, expected = regress(weighed.arrays, new), regress(repeated.arrays, new)
    np.testing.assert_allclose(got, expected, atol=5e-3)
    plain = fit_regressor(x, y, C=0.05)
    assert np.abs(regress(plain.arrays, new) - expected).max() > 2e-2


@pytest.mark.slow
def test_tuning_keeps_a_video_inside_one_fold():
    """Features carry nothing but the video, and targets belong to videos: across videos the best
    is to answer flatly. Folds that split a video would see an easy problem instead."""
    r = rng(1)
    centres, answers = r.normal(size=(30, 8)) * 3, r.uniform(size=30)
    groups = np.repeat(np.arange(30), 10)
    x = (centres[groups] + 0.01 * r.normal(size=(300, 8))).astype(np.float32)
    y = answers[groups]
    honest = fit_regressor(x, y, tune=True, groups=groups).settings["cv_mse"]
    leaking = fit_regressor(x, y, tune=True).settings["cv_mse"]
    assert leaking < 0.02
    assert honest > 0.5 * answers.var()


def test_two_faces_are_enough():
    fitted = fit_regressor(np.eye(2), np.array([0.0, 1.0]), C=100.0)
    low, high = np.asarray(regress(fitted.arrays, jnp.eye(2)))
    assert high - low > 0.5


def test_impossible_fits_are_refused():
    x, y = problem(20)
    with pytest.raises(InputError, match="1 features"):
        fit_regressor(x[:1], y[:1])
    broken = x.copy()
    broken[[2, 4]] = np.nan
    with pytest.raises(InputError, match="2 of 20"):
        fit_regressor(broken, y)
    with pytest.raises(InputError, match="single video"):
        fit_regressor(x, y, tune=True, groups=np.zeros(20, int))
