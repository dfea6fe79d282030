"""Features to fidelity: a support vector regressor, fitted by scikit-learn, run by JAX."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.svm import SVR

from deepfidelity_jax.errors import InputError

FAKE, REAL = 0, 1

# Training rows whose error is reported.
ERROR_ROWS = 2000
# Megabytes of kernel rows the solver may keep, taken as they are needed; what is not kept it
# computes again. scikit-learn-intelex on two cores, 16,000 rows of 640, in double precision: 15 s,
# 34 s with the 200 that are the default.
CACHE_MB = 5000


# ------------------------------------------------------------------ feature -> fidelity


class SupportVectors(NamedTuple):
    """A fitted RBF regressor as a pytree, so that a jitted function takes it as an argument.

    `vectors` are stored relative to `centre`: squared distances come from a matmul, and a common
    offset in the features would otherwise eat the float32 digits that tell two faces apart.
    """

    vectors: Float[Array, "m d"]
    coefficients: Float[Array, " m"]
    intercept: Float[Array, ""]
    gamma: Float[Array, ""]
    centre: Float[Array, " d"]


@dataclass(frozen=True)
class Regressor:
    """Support vectors, and the settings and figures they were fitted with (JSON-able)."""

    arrays: SupportVectors
    settings: dict[str, Any] = field(default_factory=dict)


def regress(arrays: SupportVectors, features: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Fidelity of each feature: b + sum_i a_i exp(-gamma |x - v_i|^2), not clipped.

    Pure and jit-able; float32 in and out, any common offset in the features included. Within 1e-5
    of scikit-learn's double precision; on a TPU, with 47,000 vectors, within 5e-5. Memory is
    bounded: 256 rows at a time.
    """
    # Thousands of terms cancel. Off from scikit-learn, C = 1: with 8,300 vectors 1.0e-5 in single
    # and 5e-7 in double precision, with 47,000 4.2e-5 and 2e-7. TPUs have no double precision. Two
    # CPU cores, 8,000 vectors: 256 faces take 105 ms instead of 53, one takes 26 instead of 4.
    # On a GPU the time has not been measured.
    return lax.platform_dependent(
        arrays, features, cpu=regress_in_double, cuda=regress_in_double, default=regress_in_single
    )


def regress_in_double(arrays: SupportVectors, features: Float[Array, "n d"]) -> Float[Array, " n"]:
    """`regress` in double precision, whether or not JAX has it enabled elsewhere."""
    with jax.enable_x64(True):
        arrays = SupportVectors(*(jnp.asarray(a, jnp.float64) for a in arrays))

        def weigh(squared):
            return jnp.exp(-arrays.gamma * squared) @ arrays.coefficients

        return _sum_kernels(weigh, arrays, features)


def regress_in_single(arrays: SupportVectors, features: Float[Array, "n d"]) -> Float[Array, " n"]:
    """`regress` in single precision, ordered so that little of it is lost."""
    # The coefficients sum to zero, so a constant may be taken off the kernel. Far apart in many
    # dimensions all kernel values are alike, and what they share would only add rounding. Where
    # they are all near zero nothing is shared, and 10 keeps the exponential within float32.
    mean = jnp.sum(arrays.vectors**2) / max(len(arrays.vectors), 1)
    typical = jnp.minimum(2 * arrays.gamma * mean, 10)

    def weigh(squared):
        kernel = jnp.exp(-typical) * jnp.expm1(typical - arrays.gamma * squared)
        # In rows of 128: a sum of thousands one after the other rounds off twice as much.
        terms = kernel * arrays.coefficients
        return jnp.pad(terms, (0, -len(terms) % 128)).reshape(-1, 128).sum(axis=0).sum()

    return _sum_kernels(weigh, arrays, features)


def _sum_kernels(weigh, arrays, features):
    """`weigh` of each feature's squared distances to the vectors, and the intercept."""
    norms = jnp.sum(arrays.vectors**2, axis=-1)

    def one(feature):
        x = feature.astype(norms.dtype) - arrays.centre
        cross = jnp.matmul(arrays.vectors, x, precision=lax.Precision.HIGHEST)
        return weigh(jnp.maximum(jnp.sum(x**2) + norms - 2 * cross, 0))

    few = len(features) <= 256
    sums = jax.vmap(one)(features) if few else lax.map(one, features, batch_size=256)
    return (sums + arrays.intercept).astype(jnp.float32)


def balance(label: Int[np.ndarray, " n"], degree: float = 1.0) -> Float[np.ndarray, " n"]:
    """Weights [n], 1 on average: under degree 1 both classes count the same, under 0 all faces do.

    Where each real face has several forgeries, an unweighted fit gives a face it is unsure of the
    fidelity of a fake. That costs some of the classes' separation and gains some of the order by
    quality within the fakes, whose worst pictures are the ones it is unsure of.
    """
    count = np.bincount(label, minlength=2).astype(np.float64)
    weights = count[label] ** -degree
    return weights / weights.mean()


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
    tune_rows: int = 2000,
    seed: int = 0,
) -> Regressor:
    """Support vector regression (RBF) from features to fidelity targets, with scikit-learn.

    `gamma` is in units of scikit-learn's 'scale', 1 / (d * variance of all feature values); no
    feature is scaled. The defaults are the paper's. `tune` picks C, epsilon and gamma by
    cross-validation on at most `tune_rows` rows, drawn by `seed`; `groups` [n] (one id a video)
    keeps a video inside one fold; `weights` [n] multiply C row by row. Fitting time grows with n
    squared, see `benchmarks/regressor.py`; `settings` of the result name the solver.
    Raises InputError for non-finite values, mismatched rows or too few of them.
    """
    x, y = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    if len(x) != len(y) or len(x) < 2:
        raise InputError(f"cannot fit a regressor to {len(x)} features and {len(y)} targets")
    bad = int(np.sum(~np.isfinite(x).all(axis=1) | ~np.isfinite(y)))
    if bad:
        raise InputError(f"{bad} of {len(x)} features or targets are not finite numbers")

    variance = float(x.var())
    unit = 1 / (x.shape[1] * variance) if variance > 0 else 1.0
    settings: dict[str, Any] = {"C": float(C), "epsilon": float(epsilon), "gamma": gamma * unit}
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    if tune:
        rows = np.random.default_rng(seed).permutation(len(x))[:tune_rows]
        own_groups = None if groups is None else np.asarray(groups)[rows]
        settings |= _tune(x[rows], y[rows], weights[rows], unit, own_groups, seed)
    # Targets that all fit in the tube need no support vector, which Intel's solver cannot do.
    estimator = SVR if np.ptp(y) <= 2 * settings["epsilon"] else svr_class()
    own = {name: settings[name] for name in ("C", "epsilon", "gamma")}
    centre = x.mean(axis=0)
    # The fast solver computes in the precision of what it is given, scikit-learn's in double. By
    # how much their predictions differ, the tolerance of the solvers decides: 16,000 rows, 6.5e-4
    # in single and 6.1e-4 in double precision. 100,000 rows: 8 minutes instead of over 16.
    rows = x if estimator is SVR else (x - centre).astype(np.float32)
    svr = estimator(**own, cache_size=CACHE_MB)
    svr.fit(rows, y.astype(rows.dtype), sample_weight=weights.astype(rows.dtype))
    arrays = support_vectors(
        x[svr.support_],
        svr.dual_coef_[0],
        float(np.ravel(svr.intercept_)[0]),
        settings["gamma"],
        centre,
    )
    # Not on all rows: at full size predicting them takes as long as fitting.
    some = np.linspace(0, len(x) - 1, min(len(x), ERROR_ROWS)).astype(int)
    settings |= {
        "solver": estimator.__module__.partition(".")[0],
        "tuned": tune,
        "seed": seed,
        "rows": len(x),
        "support_vectors": len(svr.support_),
        "train_mae": float(np.mean(np.abs(regress(arrays, jnp.asarray(x[some])) - y[some]))),
    }
    return Regressor(arrays, settings)


def svr_class() -> type[SVR]:
    """scikit-learn's SVR, or scikit-learn-intelex's of the same interface where it is installed.

    Both solve to the same tolerance; their predictions differ by less than 1e-3.
    """
    try:
        from sklearnex.svm import SVR as FastSVR
    except ImportError:
        return SVR
    return FastSVR


def support_vectors(
    vectors: Float[np.ndarray, "m d"],
    coefficients: Float[np.ndarray, " m"],
    intercept: float,
    gamma: float,
    centre: Float[np.ndarray, " d"],
) -> SupportVectors:
    """A regressor fitted in double precision as the float32 that `regress` takes."""
    centre = centre.astype(np.float32)
    return SupportVectors(
        vectors=(vectors - centre).astype(np.float32),
        coefficients=coefficients.astype(np.float32),
        intercept=np.asarray(intercept, np.float32),
        gamma=np.asarray(gamma, np.float32),
        centre=centre,
    )


def _tune(x, y, weights, unit: float, groups: np.ndarray | None, seed: int) -> dict[str, Any]:
    """C, epsilon and gamma with the least cross-validated squared error."""
    folds = min(5, len(x) if groups is None else len(np.unique(groups)))
    if folds < 2:
        raise InputError("cannot tune the regressor on a single video: cross-validation needs two")
    cv = KFold(folds, shuffle=True, random_state=seed) if groups is None else GroupKFold(folds)
    grid = {"C": [0.1, 0.3, 1.0, 3.0, 10.0, 30.0], "epsilon": [0.05, 0.1]}
    best: dict[str, Any] = {"cv_mse": np.inf}
    for gamma in (0.1, 0.3, 1.0, 3.0):
        # The kernel is shared by every C, epsilon and fold: the distances cost more than the fit.
        kernel = rbf_kernel(x, gamma=gamma * unit)
        search = GridSearchCV(
            SVR(kernel="precomputed"), grid, cv=cv, scoring="neg_mean_squared_error", refit=False
        ).fit(kernel, y, groups=groups, sample_weight=weights)
        if -search.best_score_ < best["cv_mse"]:
            best = {
                **search.best_params_,
                "gamma": gamma * unit,
                "cv_mse": float(-search.best_score_),
                "cv_rows": len(x),
                "cv_folds": folds,
            }
    return best
