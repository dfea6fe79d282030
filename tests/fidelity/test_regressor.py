"""JAX gives scikit-learn's predictions, and the fit is scikit-learn's."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.svm import SVR

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.regressor import (
    SupportVectors,
    balance,
    choose_solver,
    fit_regressor,
    regress,
    regress_in_double,
    regress_in_single,
    to_arrays,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def problem(n=300, d=32, offset=0.0, seed=0, noise=0.05):
    """Features with a smooth target in two bands, as fidelity has."""
    r = rng(seed)
    x = r.normal(size=(n, d)) + offset
    y = np.where(x[:, 0] > offset, 0.8, 0.2) + 0.15 * np.tanh(x[:, 1] - offset)
    return x.astype(np.float32), np.clip(y + r.normal(size=n) * noise, 0, 1)


FORMS = {"chosen here": regress, "double": regress_in_double, "single": regress_in_single}


def solved(x, y, **settings):
    """scikit-learn's own solution, and the same as our arrays."""
    x = x.astype(np.float64)
    reference = SVR(**settings).fit(x, y)
    numbers = (reference.support_vectors_, reference.dual_coef_[0], reference.intercept_[0])
    gamma = settings.get("gamma", 1 / (x.shape[1] * x.var()))
    return reference, to_arrays(*numbers, gamma, x.mean(axis=0))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("C", [1.0, 5.0])
def test_jax_equals_scikit_learn(offset, C, form):
    x, y = problem(offset=offset, noise=0.2)
    reference, arrays = solved(x, y, C=C)
    new = problem(700, offset=offset, seed=9)[0]  # more than one block of 256, and a remainder
    got = np.asarray(jax.jit(FORMS[form])(arrays, new))
    assert got.dtype == np.float32
    assert got.std() > 0.1
    np.testing.assert_allclose(got, reference.predict(new.astype(np.float64)), atol=1e-5, rtol=0)
    one = np.asarray(FORMS[form](arrays, jnp.asarray(new[:1])))
    np.testing.assert_allclose(one, got[:1], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_twelve_thousand_vectors_add_up(form):
    """Those of one sign one after the other, so that a running sum grows large."""
    r = rng(4)
    vectors = r.normal(size=(12_000, 64)).astype(np.float32)
    coefficients = np.sort(r.uniform(-1, 1, len(vectors)))
    coefficients = (coefficients - coefficients.mean()).astype(np.float32)
    one, zero = np.float32(1.0), np.float32(0.0)
    numbers = (vectors, coefficients, zero, one / 64, np.zeros(64, np.float32))
    new = r.normal(size=(50, 64)).astype(np.float32)
    got = jax.jit(FORMS[form])(SupportVectors(*map(jnp.asarray, numbers)), new)
    squared = ((new[:, None].astype(np.float64) - vectors) ** 2).sum(-1)
    expected = np.exp(-squared / 64) @ coefficients.astype(np.float64)
    assert np.abs(expected).max() > 1
    atol = 1e-5 if form == "single" else 5e-7
    np.testing.assert_allclose(got, expected, atol=atol, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gamma", [1.0, 1500.0])
def test_many_vectors_of_large_weight_stay_exact(gamma, form):
    """Kernel values all near one (1: the columns' means set the unit) or all near zero."""
    r = rng(2)
    x = (r.normal(size=(1500, 64)) + 5 * r.normal(size=64)).astype(np.float32)
    y = r.uniform(size=1500)
    unit = 1 / (x.shape[1] * x.astype(np.float64).var())
    reference, arrays = solved(x, y, C=10.0, gamma=gamma * unit)
    got = np.asarray(FORMS[form](arrays, jnp.asarray(x[:200])))
    expected = reference.predict(x[:200].astype(np.float64))
    np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_double_precision_stays_inside():
    """What is computed beside it, before and after and in the same program, is as it was."""
    arrays = solved(*problem())[1]
    x = jnp.asarray(problem(4, seed=9)[0])

    @jax.jit
    def both(arrays, x):
        return regress(arrays, x) * 2, jnp.arange(3) / 2, x.sum()

    assert {a.dtype for a in both(arrays, x)} == {np.dtype(np.float32)}
    assert jnp.ones(3).dtype == np.float32


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


def test_half_precision_features_are_widened():
    x, y = problem()
    fitted = fit_regressor(x, y)
    half = jnp.asarray(x[:5], jnp.bfloat16)
    got = regress(fitted.arrays, half)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, regress(fitted.arrays, half.astype(jnp.float32)), atol=1e-6)


def test_one_compilation_serves_regressors_of_equal_size():
    x, y = problem()
    count = []
    traced = jax.jit(lambda a, f: (count.append(1), regress(a, f))[1])
    arrays = fit_regressor(x, y).arrays
    first = traced(arrays, x[:4])
    second = traced(arrays._replace(intercept=arrays.intercept + 1), x[:4])
    np.testing.assert_allclose(second - first, 1, atol=1e-6)
    assert len(count) == 1


def test_a_constant_target_is_answered_with_itself():
    x, _ = problem(20)
    for features in (x, np.ones_like(x)):
        fitted = fit_regressor(features, np.full(20, 0.3))
        got = regress(fitted.arrays, jnp.asarray(features))
        np.testing.assert_allclose(got, 0.3, atol=0.1 + 1e-6)


@pytest.mark.slow
def test_tuning_finds_a_better_setting_and_says_which():
    """A steep, nearly noiseless function: C 1 with a wide tube is too stiff for it."""
    r = rng(3)
    x = r.uniform(-2, 2, (400, 2)).astype(np.float32)
    y = (0.5 + 0.5 * np.sin(3 * x[:, 0]) * np.cos(2 * x[:, 1])).astype(np.float64)
    train, test = slice(0, 250), slice(250, None)
    groups = np.arange(250) // 5
    plain = fit_regressor(x[train], y[train])
    tuned = fit_regressor(x[train], y[train], tune=True, groups=groups, tune_rows=200)
    again = fit_regressor(x[train], y[train], tune=True, groups=groups, tune_rows=200)

    def error(fitted):
        return float(
            np.mean((np.asarray(regress(fitted.arrays, jnp.asarray(x[test]))) - y[test]) ** 2)
        )

    assert tuned.settings["C"] > 1
    assert error(tuned) < 0.7 * error(plain)
    assert tuned.settings == again.settings
    assert tuned.settings["cv_rows"] == 200
    assert json.loads(json.dumps(tuned.settings)) == tuned.settings


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
