"""Other regressors: the right targets, weights, rows and settings for each."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TREE
from problems import problem, rng

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import regressor
from deepfidelity_jax.fidelity.alternatives import METHODS, fit_alternative
from deepfidelity_jax.fidelity.arrays import regress


def error(fitted, x, y):
    return float(np.mean((np.asarray(regress(fitted.arrays, jnp.asarray(x))) - y) ** 2))


def test_all_methods_but_the_papers_are_here():
    assert ("svr", *METHODS) == regressor.METHODS


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_fit_learns_repeats_and_says_what_it_is(method):
    x, y = problem(600, d=8)
    new, truth = problem(300, d=8, seed=9)
    fitted, again = (fit_alternative(method, x, y, seed=3) for _ in range(2))
    assert error(fitted, new, truth) < 0.5 * truth.var()
    for one, other in zip(fitted.arrays, again.arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    assert fitted.settings == again.settings
    assert json.loads(json.dumps(fitted.settings)) == fitted.settings
    assert fitted.settings["regressor"] == method
    assert (fitted.settings["rows"], fitted.settings["rows_given"]) == (600, 600)
    assert fitted.settings["train_mae"] < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_weights_shift_what_the_features_leave_open(method):
    """Features say nothing, and a quarter of the targets is 1, which weigh threefold."""
    r = rng(5)
    x, y = r.normal(size=(400, 3)).astype(np.float32), (np.arange(400) % 4 == 0).astype(float)
    new = jnp.asarray(r.normal(size=(200, 3)), jnp.float32)
    plain = fit_alternative(method, x, y)
    weighed = fit_alternative(method, x, y, weights=regressor.balance(y.astype(int)))
    usual, raised = (float(np.mean(regress(fit.arrays, new))) for fit in (plain, weighed))
    assert usual == pytest.approx(0.25, abs=0.05)
    # Trees follow single targets, and what lies between them belongs to the many.
    least = usual + 0.08 if method in ("gradient_boosting", "random_forest") else 0.42
    assert least < raised < 0.58


@pytest.mark.parametrize("method", ["gaussian_process", "kernel_ridge", "nearest_neighbours"])
def test_a_method_that_cannot_take_all_rows_takes_some_and_says_so(method, monkeypatch):
    x, y = problem(150, d=4)
    monkeypatch.setitem(METHODS, method, METHODS[method]._replace(most=50))
    fits = [fit_alternative(method, x, y, seed=seed) for seed in (0, 0, 1)]
    for fitted in fits:
        assert (fitted.settings["rows"], fitted.settings["rows_given"]) == (50, 150)
        assert len(fitted.arrays.vectors) == 50
    np.testing.assert_array_equal(fits[0].arrays.vectors, fits[1].arrays.vectors)
    assert (fits[0].arrays.vectors != fits[2].arrays.vectors).any()


def test_the_kernels_have_the_width_that_is_given():
    x, y = problem(100, d=4)
    unit = 1 / (4 * x.astype(np.float64).var())
    for method in ("kernel_ridge", "gaussian_process"):
        fitted = fit_alternative(method, x, y, gamma=3.0)
        assert fitted.arrays.gamma == pytest.approx(3 * unit)
        assert fitted.settings["gamma"] == pytest.approx(3 * unit)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kernel_ridge", "ridge", "nearest_neighbours"])
def test_tuning_keeps_a_video_inside_one_fold(method):
    """Features carry nothing but the video: folds that split a video would see an easy problem."""
    r = rng(1)
    centres, answers = r.normal(size=(30, 8)) * 3, r.uniform(size=30)
    groups = np.repeat(np.arange(30), 10)
    x = (centres[groups] + 0.01 * r.normal(size=(300, 8))).astype(np.float32)
    honest = fit_alternative(method, x, answers[groups], tune=True, groups=groups).settings
    leaking = fit_alternative(method, x, answers[groups], tune=True).settings
    assert leaking["cv_mse"] < 0.9 * honest["cv_mse"]
    assert honest["cv_mse"] > 0.5 * answers.var()
    assert (honest["cv_rows"], honest["cv_folds"], honest["tuned"]) == (300, 5, True)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_tuning_is_no_worse_than_the_usual_settings(method):
    """A steep, nearly noiseless function, on which the usual settings are too stiff."""
    x = rng(3).uniform(-2, 2, (400, 2)).astype(np.float32)
    y = 0.5 + 0.5 * np.sin(3 * x[:, 0]) * np.cos(2 * x[:, 1])
    train, test = slice(0, 250), slice(250, None)
    plain = fit_alternative(method, x[train], y[train])
    tuned = fit_alternative(method, x[train], y[train], tune=True, groups=np.arange(250) // 5)
    assert error(tuned, x[test], y[test]) < 1.1 * error(plain, x[test], y[test])
    grid = METHODS[method].grid
    assert all(tuned.settings[name] in grid[name] for name in grid if name != "gamma")


def test_impossible_fits_are_refused():
    x, y = problem(20)
    with pytest.raises(InputError, match="1 features"):
        fit_alternative("ridge", x[:1], y[:1])
    broken = x.copy()
    broken[[2, 4]] = np.nan
    with pytest.raises(InputError, match="2 of 20"):
        fit_alternative("mlp", broken, y)
    with pytest.raises(InputError, match="single video"):
        fit_alternative("ridge", x, y, tune=True, groups=np.zeros(20, int))


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_target_is_answered_with_itself(method):
    x, _ = problem(40, d=4)
    for features in (x, np.ones_like(x)):
        fitted = fit_alternative(method, features, np.full(40, 0.3))
        tolerance = 0.2 if method == "mlp" else 1e-5
        np.testing.assert_allclose(
            regress(fitted.arrays, jnp.asarray(features)), 0.3, atol=tolerance
        )


def test_tuning_tries_what_the_documents_say():
    text = (TREE / "docs" / "scoring.md").read_text(encoding="utf-8")
    rows = re.search(r"\| regressor \| tried \|\n\|---\|---\|\n((?:\|.*\n)+)", text)[1]
    said = {}
    for name, settings in re.findall(r"\| `(\w+)` \| (.*) \|", rows):
        grid = re.findall(r"`(\w+)` ([\d., ]+)", settings)
        said[name] = {key: tuple(map(float, values.split(","))) for key, values in grid}
    tried = {name: method.grid for name, method in METHODS.items()}
    tried["svr"] = regressor.GRID | {"gamma": regressor.GAMMAS}
    assert said == {name: {k: tuple(v) for k, v in grid.items()} for name, grid in tried.items()}
