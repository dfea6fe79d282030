"""Other regressors from features to fidelity, for comparison with the paper's.

scikit-learn fits each of them; `arrays.regress` computes them on the device. Targets, weights, seed
and the choice of settings by cross-validation are as in `regressor.fit_regressor`.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import ParameterGrid
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from deepfidelity_jax.fidelity import arrays as forms
from deepfidelity_jax.fidelity.regressor import (
    GAMMAS,
    TUNED_ROWS,
    Regressor,
    checked_rows,
    choose_folds,
    gamma_unit,
    training_error,
)
from deepfidelity_jax.progress import Progress


class Solution(NamedTuple):
    """A fitted estimator: scikit-learn's prediction, and the arrays of the same function."""

    predict: Callable[[np.ndarray], np.ndarray]
    arrays: Callable[[], forms.Arrays]


class Method(NamedTuple):
    """A way to fit.

    fit: a function of (x, y, weights, seed, **settings). usual: the settings without tuning. grid:
    the settings that tuning tries, gamma in units of 'scale'. most: the most rows it can take
    before time or memory grows too large.
    """

    fit: Callable[..., Solution]
    usual: dict[str, Any]
    grid: dict[str, tuple]
    most: int | None = None


def fit_alternative(
    method: str,
    features: Float[np.ndarray, "n d"],
    targets: Float[np.ndarray, " n"],
    *,
    gamma: float = 1.0,
    tune: bool = False,
    groups: np.ndarray | None = None,
    weights: Float[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Regressor:
    """Fit one of `METHODS`; the other arguments are as in `regressor.fit_regressor`.

    `gamma` is the kernel width of kernel ridge and the Gaussian process. Methods that cannot take
    all rows are fitted to a random subset.

    Returns:
      The regressor. Its settings hold `rows`, how many it was fitted to, and `rows_given`.

    Raises:
      InputError: a value is not finite, rows do not match or are too few.
    """
    x, y = checked_rows(features, targets)
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    entry, unit = METHODS[method], gamma_unit(x)
    order = np.random.default_rng(seed).permutation(len(x))
    settings = entry.usual | ({"gamma": gamma * unit} if "gamma" in entry.grid else {})
    chosen: dict[str, Any] = {}
    if tune:
        some = order[:TUNED_ROWS]
        tuned_groups = None if groups is None else np.asarray(groups)[some]
        settings, chosen = _tune(entry, x[some], y[some], weights[some], unit, tuned_groups, seed)
    rows = np.arange(len(x)) if entry.most is None else np.sort(order[: entry.most])
    arrays = entry.fit(x[rows], y[rows], weights[rows], seed, **settings).arrays()
    return Regressor(
        arrays,
        {
            "regressor": method,
            **settings,
            **chosen,
            "solver": "sklearn",
            "tuned": tune,
            "seed": seed,
            "rows": len(rows),
            "rows_given": len(x),
            "train_mae": training_error(arrays, x[rows], y[rows]),
        },
    )


def _tune(method: Method, x, y, weights, unit, groups, seed) -> tuple[dict, dict]:
    """The settings with the lowest mean squared error in cross-validation, and its figures."""
    cv = choose_folds(len(x), groups, seed)
    grid = list(ParameterGrid(method.grid))
    progress = Progress(len(grid) * cv.n_splits, 0, "fits of the regressor", "done")
    best, least = {}, np.inf
    for settings in grid:
        if "gamma" in settings:
            settings = settings | {"gamma": settings["gamma"] * unit}
        errors = []
        for fit, test in cv.split(x, y, groups):
            solution = method.fit(x[fit], y[fit], weights[fit], seed, **settings)
            errors.append(np.mean((solution.predict(x[test]) - y[test]) ** 2))
            progress.advance()
        if np.mean(errors) < least:
            best, least = settings, float(np.mean(errors))
    progress.end()
    return best, {"cv_mse": least, "cv_rows": len(x), "cv_folds": cv.n_splits}


# ------------------------------------------------------------------ the methods


def fit_kernel_ridge(x, y, weights, seed, *, gamma: float, alpha: float) -> Solution:
    """Least squares in the space of an RBF kernel, around the mean target."""
    centre, mean = find_centre(x), np.average(y, weights=weights)
    fitted = KernelRidge(kernel="rbf", gamma=gamma, alpha=alpha)
    fitted.fit(x - centre, y - mean, sample_weight=weights)
    numbers = (x - centre, fitted.dual_coef_, mean, gamma, centre, fitted.dual_coef_.sum())
    return Solution(
        lambda new: fitted.predict(new - centre) + mean,
        lambda: _single(forms.KernelRidge, *numbers),
    )


def fit_gaussian_process(x, y, weights, seed, *, gamma: float, noise: float) -> Solution:
    """Posterior of a Gaussian process with an RBF kernel, and mean and variance of the targets.

    noise: the noise variance in units of the targets' variance; for a row, divided by its weight.
    """
    centre, mean = find_centre(x), np.average(y, weights=weights)
    spread = np.average((y - mean) ** 2, weights=weights) ** 0.5 or 1.0
    # Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1. Rows
    # of one video are not independent: the marginal likelihood would choose too little noise.
    fitted = GaussianProcessRegressor(
        RBF((2 * gamma) ** -0.5), alpha=noise / weights, optimizer=None
    ).fit(x - centre, (y - mean) / spread)

    def arrays():
        coefficients = spread * fitted.alpha_
        whitener = solve_triangular(fitted.L_, np.eye(len(x)), lower=True)
        numbers = (coefficients, mean, gamma, centre, coefficients.sum(), whitener, spread)
        return _single(forms.GaussianProcess, x - centre, *numbers)

    return Solution(lambda new: spread * fitted.predict(new - centre) + mean, arrays)


def fit_ridge(x, y, weights, seed, *, alpha: float) -> Solution:
    """Linear least squares on standardised features."""
    centre = find_centre(x)
    scaler = StandardScaler().fit(x - centre)
    fitted = Ridge(alpha=alpha).fit(scaler.transform(x - centre), y, sample_weight=weights)
    coefficients = fitted.coef_ / scaler.scale_
    intercept = fitted.intercept_ - scaler.mean_ @ coefficients
    return Solution(
        lambda new: fitted.predict(scaler.transform(new - centre)),
        lambda: _single(forms.Linear, coefficients, intercept, centre),
    )


def fit_gradient_boosting(x, y, weights, seed, *, learning_rate: float, max_depth: int) -> Solution:
    """Small trees, each fitted to the residuals of the previous ones, on half of the rows."""
    fitted = GradientBoostingRegressor(
        n_estimators=200, learning_rate=learning_rate, max_depth=max_depth, subsample=0.5,
        max_features="sqrt", min_samples_leaf=10, random_state=seed,
    ).fit(x, y, sample_weight=weights)  # fmt: skip
    trees = [tree.tree_ for tree in fitted.estimators_[:, 0]]
    start = float(fitted.init_.constant_.item())
    return Solution(fitted.predict, lambda: to_trees(trees, learning_rate, start))


def fit_random_forest(x, y, weights, seed, *, min_samples_leaf: int) -> Solution:
    """Mean over large trees, each fitted to other rows; at most 512 leaves keep arrays small."""
    fitted = RandomForestRegressor(
        n_estimators=200, max_features="sqrt", max_leaf_nodes=512,
        min_samples_leaf=min_samples_leaf, random_state=seed,
    ).fit(x, y, sample_weight=weights)  # fmt: skip
    trees = [tree.tree_ for tree in fitted.estimators_]
    return Solution(fitted.predict, lambda: to_trees(trees, 1 / len(trees), 0.0))


def fit_nearest_neighbours(x, y, weights, seed, *, neighbours: int) -> Solution:
    """Weighted mean of the targets of the nearest faces, or of all faces if there are too few."""
    count = min(neighbours, len(x))
    # scikit-learn's weights depend on the distance alone: its means of both products are divided.
    fitted = KNeighborsRegressor(count, algorithm="brute")
    fitted.fit(x, np.stack([weights * y, weights], axis=1))

    def predict(new):
        weighed, weight = fitted.predict(new).T
        return weighed / weight

    return Solution(
        predict, lambda: _single(forms.Neighbours, x, y, weights, np.full(count, 1 / count))
    )


def fit_mlp(x, y, weights, seed, *, alpha: float) -> Solution:
    """64 rectified units, trained by Adam for 50 epochs on standardised features."""
    centre = find_centre(x)
    scaler = StandardScaler().fit(x - centre)
    fitted = MLPRegressor(hidden_layer_sizes=(64,), alpha=alpha, max_iter=50, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops early on purpose
        fitted.fit(scaler.transform(x - centre), y, sample_weight=weights)
    (hidden, output), (hidden_intercept, intercept) = fitted.coefs_, fitted.intercepts_
    hidden = hidden / scaler.scale_[:, None]
    numbers = (hidden_intercept - scaler.mean_ @ hidden, output[:, 0], intercept[0], centre)
    return Solution(
        lambda new: fitted.predict(scaler.transform(new - centre)),
        lambda: _single(forms.Perceptron, hidden, *numbers),
    )


METHODS: Mapping[str, Method] = {
    "kernel_ridge": Method(
        fit_kernel_ridge,
        {"alpha": 1.0},
        {"alpha": (0.1, 0.3, 1.0, 3.0, 10.0), "gamma": GAMMAS},
        5000,
    ),
    "gaussian_process": Method(
        fit_gaussian_process,
        {"noise": 1.0},
        {"noise": (0.1, 0.3, 1.0, 3.0, 10.0), "gamma": GAMMAS},
        2000,
    ),
    "ridge": Method(fit_ridge, {"alpha": 300.0}, {"alpha": (1.0, 10.0, 100.0, 1e3, 1e4)}),
    "gradient_boosting": Method(
        fit_gradient_boosting,
        {"learning_rate": 0.1, "max_depth": 4},
        {"learning_rate": (0.03, 0.1), "max_depth": (2, 4, 6)},
    ),
    "random_forest": Method(
        fit_random_forest, {"min_samples_leaf": 5}, {"min_samples_leaf": (2, 5, 10, 20)}
    ),
    "nearest_neighbours": Method(
        fit_nearest_neighbours, {"neighbours": 30}, {"neighbours": (5, 10, 20, 50, 100)}, 20_000
    ),
    "mlp": Method(fit_mlp, {"alpha": 1.0}, {"alpha": (0.01, 0.1, 1.0, 10.0)}),
}


# ------------------------------------------------------------------ to arrays


def find_centre(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " d"]:
    """The mean feature rounded to single precision, so that both sides subtract the same value."""
    return x.mean(axis=0).astype(np.float32).astype(np.float64)


def to_trees(trees: list, share: float, intercept: float) -> forms.Trees:
    """scikit-learn's trees, with `share` of every value, as one set of arrays."""
    size = (len(trees), max(tree.node_count for tree in trees))
    feature, threshold = np.zeros(size, np.int32), np.zeros(size, np.float32)
    value = np.zeros(size, np.float32)
    # The padding of a smaller tree is never reached.
    children = np.tile(np.arange(size[1], dtype=np.int32)[:, None], (size[0], 1, 2))
    for row, tree in enumerate(trees):
        inner = np.flatnonzero(tree.children_left >= 0)
        feature[row, inner] = tree.feature[inner]
        threshold[row, inner] = round_down(tree.threshold[inner])
        children[row, inner, 0] = tree.children_left[inner]
        children[row, inner, 1] = tree.children_right[inner]
        value[row, : tree.node_count] = share * tree.value[:, 0, 0]
    return forms.Trees(feature, threshold, children, value, np.float32(intercept))


def round_down(threshold: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The largest float32 that is not above each float64.

    scikit-learn compares a float32 feature with a float64 threshold. A float32 feature is at or
    below one exactly if it is at or below the other.
    """
    nearest = threshold.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest > threshold, below, nearest)


def _single(form, *numbers) -> Any:
    """The arrays of a form in single precision."""
    return form(*(np.asarray(number, np.float32) for number in numbers))
