"""From quality to fidelity, and from a feature back to it.

The paper's idea in three steps, each a pure function:

    `scale`    f = low_c + (high_c - low_c) * (q - q_min_c) / (q_max_c - q_min_c)
    `regress`  f(x) = b + sum_i a_i exp(-gamma |x - v_i|^2)
    `p_fake`   sigmoid(slope * (f - threshold)), and real when f >= threshold

with q the face's quality, c its class, [low, high] = [0, 0.4] for fakes and [0.6, 1] for real faces
(DeepFidelity, arXiv 2312.04961). scikit-learn fits the regressor once; JAX evaluates it.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.svm import SVR

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole

FAKE, REAL = 0, 1

# Training rows whose error is reported.
ERROR_ROWS = 2000
# Megabytes of kernel rows the solver may keep, taken as they are needed; what is not kept it
# computes again. scikit-learn-intelex on two cores, 16,000 rows of 640, in double precision: 15 s,
# 34 s with the 200 that are the default.
CACHE_MB = 5000


# ------------------------------------------------------------------ quality -> fidelity target


@dataclass(frozen=True)
class FidelityScale:
    """The class-wise quality range of a training split, and the fidelity range it is mapped into.

    `fake` and `real` are target ranges inside [0, 1], fakes below; `fake_quality` and
    `real_quality` the fitted (low, high) of the raw quality. Raises InputError for ranges that are
    out of order or overlap. The paper's equation for the fidelity score.
    """

    fake_quality: tuple[float, float]
    real_quality: tuple[float, float]
    fake: tuple[float, float] = (0.0, 0.4)
    real: tuple[float, float] = (0.6, 1.0)

    def __post_init__(self):
        ends = (0.0, *self.fake, *self.real, 1.0)
        if any(a > b for a, b in pairwise(ends)) or self.fake == self.real:
            raise InputError(
                f"fidelity ranges fake {self.fake} and real {self.real} must be ordered, lie "
                "inside [0, 1] and not overlap, fake below real"
            )
        for name, (low, high) in (("fake", self.fake_quality), ("real", self.real_quality)):
            if not (np.isfinite([low, high]).all() and low <= high):
                raise InputError(f"quality range of {name} faces is not a range: {(low, high)}")

    @property
    def middle(self) -> float:
        """The middle of the gap between the two ranges: the threshold before any calibration."""
        return (self.fake[1] + self.real[0]) / 2

    def to_dict(self) -> dict[str, list[float]]:
        """The four ranges as JSON-able lists."""
        return {name: list(ends) for name, ends in asdict(self).items()}

    @classmethod
    def from_dict(cls, ranges: dict[str, Any]) -> "FidelityScale":
        """What `to_dict` gave; raises InputError when it is anything else."""
        try:
            pairs = {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
            return cls(**pairs)
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f"not a fidelity scale: {ranges!r}") from error


def fit_scale(
    quality: Float[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    *,
    fake: tuple[float, float] = (0.0, 0.4),
    real: tuple[float, float] = (0.6, 1.0),
    percentile: float = 0.0,
) -> FidelityScale:
    """The quality range of each class, from the training split alone.

    Args: raw quality [n]; label [n], 0 fake and 1 real; the two target ranges; `percentile` p takes
    the p-th and (100 - p)-th percentile for the ends, so that a few outliers do not set the scale.
    Raises InputError for non-finite qualities, a class without faces or an impossible percentile.
    """
    check_finite(quality)
    if not 0 <= percentile < 50:
        raise InputError(f"percentile must be in [0, 50), not {percentile}")
    ends = {}
    for value, name in ((FAKE, "fake"), (REAL, "real")):
        own = quality[label == value]
        if own.size == 0:
            raise InputError(f"no {name} face in the training split: fidelity needs both classes")
        low, high = np.percentile(own, [percentile, 100 - percentile])
        ends[name] = (float(low), float(high))
    return FidelityScale(ends["fake"], ends["real"], _pair(fake), _pair(real))


def scale(
    fitted: FidelityScale, quality: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Fidelity targets [n] float32 of faces with this quality and label, min-max within the class.

    Qualities outside the fitted range land on its end. A class whose quality was constant in
    training (no quality measure, or a single face) has no order to keep: it gets the outer end of
    its range, so that constant quality in both classes gives the plain labels 0 and 1.
    Raises InputError for non-finite qualities.
    """
    check_finite(quality)
    fidelity = np.empty(quality.shape, np.float64)
    for value, (q_low, q_high), (low, high), outer in (
        (FAKE, fitted.fake_quality, fitted.fake, fitted.fake[0]),
        (REAL, fitted.real_quality, fitted.real, fitted.real[1]),
    ):
        own = label == value
        if q_low == q_high:
            fidelity[own] = outer
        else:
            share = np.clip((quality[own].astype(np.float64) - q_low) / (q_high - q_low), 0, 1)
            fidelity[own] = low + (high - low) * share
    return fidelity.astype(np.float32)


def outside(
    fitted: FidelityScale, quality: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"]
) -> int:
    """How many faces have a quality beyond their class's fitted range (`scale` clips those)."""
    low, high = np.where(
        (label == REAL)[None],
        np.array(fitted.real_quality)[:, None],
        np.array(fitted.fake_quality)[:, None],
    )
    return int(np.sum((quality < low) | (quality > high)))


def check_finite(quality: Float[np.ndarray, " n"]) -> None:
    """Raises InputError that counts the non-finite qualities."""
    bad = int(np.sum(~np.isfinite(quality)))
    if bad:
        raise InputError(
            f"quality is not a finite number for {bad} of {quality.size} faces: give every face a "
            "quality or leave these faces out"
        )


def _pair(ends) -> tuple[float, float]:
    low, high = ends
    return float(low), float(high)


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


# ------------------------------------------------------------------ fidelity -> verdict


@dataclass(frozen=True)
class Calibration:
    """p_fake = sigmoid(slope * (fidelity - threshold)), slope < 0; real at or above the threshold.

    Written around the threshold, so that p_fake passes 0.5 exactly where the verdict changes.
    `threshold_from` is 'validation' or 'fixed', and `note` says why it had to be fixed.
    """

    slope: float
    threshold: float
    threshold_from: str
    note: str = ""

    def __post_init__(self):
        if not (self.slope < 0 and np.isfinite([self.slope, self.threshold]).all()):
            raise InputError(f"not a calibration: slope {self.slope}, threshold {self.threshold}")

    @property
    def intercept(self) -> float:
        """The b of sigmoid(slope * fidelity + b)."""
        return -self.slope * self.threshold


def p_fake(calibration: Calibration, fidelity: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Probability of being fake, float64, when both classes are equally likely beforehand."""
    distance = np.asarray(fidelity, np.float64) - calibration.threshold
    return np.asarray(expit(calibration.slope * distance))


def is_real(calibration: Calibration, fidelity: Float[np.ndarray, "*n"]) -> np.ndarray:
    """The verdict, bool: fidelity at or above the threshold, that is p_fake at most 0.5."""
    return np.asarray(fidelity, np.float64) >= calibration.threshold


def fixed_calibration(note: str, middle: float = 0.5) -> Calibration:
    """The threshold in the middle of the gap, and p_fake 0.9 and 0.1 at 0.3 below and above it.

    With the paper's ranges these are the centres of the fake and of the real range.
    """
    return Calibration(-float(np.log(9)) / 0.3, float(middle), "fixed", note)


def calibrate(
    fidelity: Float[np.ndarray, " n"], label: Int[np.ndarray, " n"], *, middle: float = 0.5
) -> Calibration:
    """Platt scaling of the validation videos' mean fidelities, both classes weighing the same.

    Falls back to `fixed_calibration(middle=...)` where validation cannot place a threshold: one
    class only, all fidelities equal, or fakes that score no lower than real faces.
    Raises InputError for non-finite fidelities. Platt, "Probabilistic outputs for SVMs", 1999.
    """
    f = np.asarray(fidelity, np.float64)
    if not np.isfinite(f).all():
        raise InputError(f"{int(np.sum(~np.isfinite(f)))} of {f.size} fidelities are not finite")
    if len(np.unique(label)) < 2:
        return fixed_calibration("validation has faces of one class only", middle)
    if f.std() < 1e-9:
        return fixed_calibration("all validation fidelities are equal", middle)
    z = (f - f.mean()) / f.std()
    fitted = LogisticRegression(class_weight="balanced").fit(z[:, None], label == FAKE)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope >= -1e-6:
        return fixed_calibration("validation fakes score no lower than real faces", middle)
    threshold = float(f.mean() - f.std() * intercept / slope)
    return Calibration(slope / float(f.std()), threshold, "validation")


# ------------------------------------------------------------------ the whole, on disk


@dataclass(frozen=True)
class FidelityModel:
    """Everything between a feature and a verdict: what `fidelity.npz` holds.

    `scale` is None where the quality range is not known, as with a regressor fitted elsewhere.
    `provenance` is any JSON-able dict: what the model was fitted on, by which checkpoint.
    """

    scale: FidelityScale | None
    regressor: Regressor
    calibration: Calibration
    provenance: dict[str, Any] = field(default_factory=dict)


FORMAT = "deepfidelity regressor 1"


def save(model: FidelityModel, path: str | os.PathLike[str]) -> None:
    """Writes the model as an npz of plain arrays (no pickle), in one step: whole or not at all."""
    text = json.dumps(
        {
            "format": FORMAT,
            "scale": None if model.scale is None else model.scale.to_dict(),
            "settings": model.regressor.settings,
            "calibration": asdict(model.calibration),
            "provenance": model.provenance,
        },
        sort_keys=True,
    )
    arrays = {name: np.asarray(a) for name, a in model.regressor.arrays._asdict().items()}
    with written_whole(path) as file:
        np.savez(file, meta=np.array(text), **arrays)


def load(path: str | os.PathLike[str]) -> FidelityModel:
    """What `save` wrote, bit for bit. Raises InputError: missing, damaged, truncated or foreign."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no fidelity regressor at {path}: fit one first")
    try:
        with np.load(path, allow_pickle=False) as stored:
            meta = json.loads(str(stored["meta"]))
            arrays = SupportVectors(*(stored[name] for name in SupportVectors._fields))
        if meta["format"] != FORMAT or not _consistent(arrays):
            raise ValueError("format")
        return FidelityModel(
            None if meta["scale"] is None else FidelityScale.from_dict(meta["scale"]),
            Regressor(arrays, meta["settings"]),
            Calibration(**meta["calibration"]),
            meta["provenance"],
        )
    except Exception as error:  # damage surfaces as anything; for the user it is one thing
        raise InputError(
            f"{path} is not a fidelity regressor, or is damaged: delete it and fit again"
        ) from error


def _consistent(arrays: SupportVectors) -> bool:
    m, d = arrays.vectors.shape
    shapes = [(m, d), (m,), (), (), (d,)]
    return all(
        a.dtype == np.float32 and a.shape == shape and np.isfinite(a).all()
        for a, shape in zip(arrays, shapes, strict=True)
    )
