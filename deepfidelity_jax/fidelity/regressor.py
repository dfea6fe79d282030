"""The paper's regressor from features to fidelity: support vector regression.

    f(x) = b + sum_i a_i exp(-gamma |x - v_i|^2)

`fit_regressor` lets scikit-learn find the support vectors v_i, the coefficients a_i and the
intercept b (Smola and Schoelkopf, "A tutorial on support vector regression", 2004).
`arrays.regress` computes f on the device.
"""

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.arrays import Arrays, SupportVectors, regress

# Training rows for train_mae; at full size, using all rows would take as long as the fit.
ERROR_ROWS = 2000
TUNED_ROWS = 2000  # random rows that cross-validation uses at most
# Megabytes of kernel rows that the solver may cache. It allocates them as needed and recomputes
# what does not fit; scikit-learn's default of 200 makes large fits slow.
CACHE_MB = 5000
# What `tune` tries; gamma in units of 'scale'.
GRID = {"C": [0.1, 0.3, 1.0, 3.0, 10.0, 30.0], "epsilon": [0.05, 0.1]}
GAMMAS = (0.1, 0.3, 1.0, 3.0)
# What config.fidelity.regressor may be; `alternatives` fits all but the first.
METHODS = (
    "svr", "kernel_ridge", "gaussian_process", "ridge", "gradient_boosting", "random_forest",
    "nearest_neighbours", "mlp",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Regressor:
    """What was fitted, and how: its arrays, and settings and figures that JSON can hold."""

    arrays: Arrays
    settings: dict[str, Any] = field(default_factory=dict)


def fit_regressor(
    features: Float[np.ndarray, "n d"],
    targets: Float[np.ndarray, " n"],
    *,
    C: float = 1.0,
    epsilon: float = 0.1,
    gamma: float = 1.0,
    tune: bool = False,
    groups: np.ndarray | None = None,
    weights: Float[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Regressor:
    """Fit support vector regression with an RBF kernel; features are not scaled.

    Fitting time grows with the square of n, see `benchmarks/regressor.py`. The defaults are the
    paper's.

    Args:
      features: exported features.
      targets: fidelity targets.
      C: penalty of an error outside the tube.
      epsilon: half width of the tube inside which an error costs nothing.
      gamma: kernel width in units of scikit-learn's 'scale', 1 / (d * variance of all values).
      tune: choose C, epsilon and gamma by cross-validation instead.
      groups: the video of each row; cross-validation keeps a video inside one fold.
      weights: factor of C for each row.
      seed: draws the rows of cross-validation, and the folds if there are no groups.

    Returns:
      The regressor. Its settings name the solver and hold `train_mae`, the mean absolute error on
      at most 2000 training rows.

    Raises:
      InputError: a value is not finite, rows do not match or are too few.
    """
    from sklearn.svm import SVR  # imported here because scikit-learn is slow to import

    x, y = checked_rows(features, targets)
    unit = gamma_unit(x)
    settings: dict[str, Any] = {"C": float(C), "epsilon": float(epsilon), "gamma": gamma * unit}
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    if tune:
        rows = np.random.default_rng(seed).permutation(len(x))[:TUNED_ROWS]
        tuned_groups = None if groups is None else np.asarray(groups)[rows]
        settings |= _tune(x[rows], y[rows], weights[rows], unit, tuned_groups, seed)
    # If all targets fit into the tube there is no support vector, and Intel's solver fails.
    solver = SVR if np.ptp(y) <= 2 * settings["epsilon"] else choose_solver()
    centre = x.mean(axis=0)
    # Intel's solver works in the precision of its input. In single precision it is as close to
    # scikit-learn's solution as in double (6e-4 at 16,000 rows, within the solvers' tolerance), and
    # faster. scikit-learn's always works in double.
    rows = x if solver is SVR else (x - centre).astype(np.float32)
    parameters = {name: settings[name] for name in ("C", "epsilon", "gamma")}
    svr = solver(**parameters, cache_size=CACHE_MB)
    svr.fit(rows, y.astype(rows.dtype), sample_weight=weights.astype(rows.dtype))
    arrays = to_arrays(
        x[svr.support_],
        svr.dual_coef_[0],
        float(np.ravel(svr.intercept_)[0]),
        settings["gamma"],
        centre,
    )
    settings |= {
        "solver": solver.__module__.partition(".")[0],
        "tuned": tune,
        "seed": seed,
        "rows": len(x),
        "support_vectors": len(svr.support_),
        "train_mae": training_error(arrays, x, y),
    }
    return Regressor(arrays, settings)


def checked_rows(features, targets) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """Both in double precision; InputError if no regressor can be fitted to them."""
    x, y = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    if len(x) != len(y) or len(x) < 2:
        raise InputError(f"cannot fit a regressor to {len(x)} features and {len(y)} targets")
    bad = int(np.sum(~np.isfinite(x).all(axis=1) | ~np.isfinite(y)))
    if bad:
        raise InputError(f"{bad} of {len(x)} features or targets are not finite numbers")
    return x, y


def gamma_unit(x: Float[np.ndarray, "n d"]) -> float:
    """scikit-learn's 'scale': 1 / (d * variance of all values), or 1 if there is no variance."""
    variance = float(x.var())
    return 1 / (x.shape[1] * variance) if variance > 0 else 1.0


def training_error(
    arrays: Arrays, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]
) -> float:
    """Mean absolute error on at most 2000 of the rows."""
    some = np.linspace(0, len(x) - 1, min(len(x), ERROR_ROWS)).astype(int)
    return float(np.mean(np.abs(regress(arrays, jnp.asarray(x[some])) - y[some])))


def balance(label: Int[np.ndarray, " n"], degree: float = 1.0) -> Float[np.ndarray, " n"]:
    """Weights with mean 1: degree 1 gives both classes the same total, degree 0 all faces 1.

    If each real face has several forgeries, an unweighted fit gives uncertain faces the fidelity of
    a fake. That separates the classes a little worse, and ranks fakes by quality a little better,
    because the uncertain fakes are the poorest pictures.
    """
    count = np.bincount(label, minlength=2).astype(np.float64)
    weights = count[label] ** -degree
    return weights / weights.mean()


def choose_solver() -> type:
    """scikit-learn-intelex's SVR where it is installed, else scikit-learn's.

    Both have the same interface and solve to the same tolerance; predictions differ by less than
    1e-3.
    """
    try:
        from sklearnex.svm import SVR
    except ImportError:
        from sklearn.svm import SVR
    return SVR


def to_arrays(
    vectors: Float[np.ndarray, "m d"],
    coefficients: Float[np.ndarray, " m"],
    intercept: float,
    gamma: float,
    centre: Float[np.ndarray, " d"],
) -> SupportVectors:
    """The float32 arrays of `regress` from a regressor fitted in double precision."""
    centre = centre.astype(np.float32)
    return SupportVectors(
        vectors=(vectors - centre).astype(np.float32),
        coefficients=coefficients.astype(np.float32),
        intercept=np.asarray(intercept, np.float32),
        gamma=np.asarray(gamma, np.float32),
        centre=centre,
    )


def _tune(x, y, weights, unit: float, groups: np.ndarray | None, seed: int) -> dict[str, Any]:
    """C, epsilon and gamma with the lowest mean squared error in cross-validation."""
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVR

    cv = choose_folds(len(x), groups, seed)
    best: dict[str, Any] = {"cv_mse": np.inf}
    for gamma in GAMMAS:
        # One kernel for every C, epsilon and fold, because distances cost more than fits.
        kernel = rbf_kernel(x, gamma=gamma * unit)
        search = GridSearchCV(
            SVR(kernel="precomputed"), GRID, cv=cv, scoring="neg_mean_squared_error", refit=False
        ).fit(kernel, y, groups=groups, sample_weight=weights)
        if -search.best_score_ < best["cv_mse"]:
            best = {
                **search.best_params_,
                "gamma": gamma * unit,
                "cv_mse": float(-search.best_score_),
                "cv_rows": len(x),
                "cv_folds": cv.n_splits,
            }
    return best


def choose_folds(rows: int, groups: np.ndarray | None, seed: int) -> Any:
    """scikit-learn's splitter into five folds, or fewer if there are fewer rows or groups.

    Each group is inside one fold.

    Raises:
      InputError: there is only one group.
    """
    from sklearn.model_selection import GroupKFold, KFold

    folds = min(5, rows if groups is None else len(np.unique(groups)))
    if folds < 2:
        raise InputError("cannot tune the regressor on a single video: cross-validation needs two")
    return KFold(folds, shuffle=True, random_state=seed) if groups is None else GroupKFold(folds)
