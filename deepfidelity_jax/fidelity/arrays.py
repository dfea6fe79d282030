"""From a feature to fidelity on the device: what was fitted, as plain arrays.

    f(x) = b + sum_i a_i exp(-gamma |x - v_i|^2)    svr, kernel ridge, Gaussian process
    f(x) = b + (x - c) . a                          ridge
    f(x) = b + sum_t value of the leaf of x in t    gradient boosting, random forest
    f(x) = mean over the k nearest v_i              nearest neighbours
    f(x) = b + max(0, (x - c) W + h) . a            mlp
    f(x) = what a head of the network says          logits, class, fidelity and ordinal head

`regress` computes each. A form is a named tuple and so a pytree, which a jitted function takes as
an argument. `regressor` and `alternatives` fit all but the last.
"""

from typing import NamedTuple, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from deepfidelity_jax.network.outputs import HEADS

ROWS = 256  # features whose kernel values are held at once


class SupportVectors(NamedTuple):
    """A fitted RBF regressor, whose coefficients sum to zero.

    `vectors` are stored relative to `centre`. Squared distances come from a matrix product, where a
    common offset of all features would use up the float32 digits that tell two faces apart.
    """

    vectors: Float[Array, "m d"]
    coefficients: Float[Array, " m"]
    intercept: Float[Array, ""]
    gamma: Float[Array, ""]
    centre: Float[Array, " d"]


class KernelRidge(NamedTuple):
    """The same with `total`, the sum of the coefficients, rounded once instead of m times."""

    vectors: Float[Array, "m d"]
    coefficients: Float[Array, " m"]
    intercept: Float[Array, ""]
    gamma: Float[Array, ""]
    centre: Float[Array, " d"]
    total: Float[Array, ""]


class GaussianProcess(NamedTuple):
    """The posterior mean as in `KernelRidge`, and what its standard deviation needs.

    A vector of kernel values k has variance scale^2 (1 - |whitener k|^2), where `whitener` is the
    inverse of the Cholesky factor of the kernel matrix with noise.
    """

    vectors: Float[Array, "m d"]
    coefficients: Float[Array, " m"]
    intercept: Float[Array, ""]
    gamma: Float[Array, ""]
    centre: Float[Array, " d"]
    total: Float[Array, ""]
    whitener: Float[Array, "m m"]
    scale: Float[Array, ""]


class Linear(NamedTuple):
    """A weighted sum of the numbers of a feature."""

    coefficients: Float[Array, " d"]
    intercept: Float[Array, ""]
    centre: Float[Array, " d"]


class Trees(NamedTuple):
    """Decision trees whose leaves add up, padded to the nodes of the largest.

    A face goes to the first child if element `feature` of its feature is at or below `threshold`,
    otherwise to the second. A leaf is its own child, and children come after their parent.
    """

    feature: Int[Array, "t n"]
    threshold: Float[Array, "t n"]
    children: Int[Array, "t n 2"]
    value: Float[Array, "t n"]
    intercept: Float[Array, ""]


class Neighbours(NamedTuple):
    """Faces with known targets and weights; `shares`: a factor for each rank of nearness."""

    vectors: Float[Array, "m d"]
    targets: Float[Array, " m"]
    weights: Float[Array, " m"]
    shares: Float[Array, " k"]


class Perceptron(NamedTuple):
    """One hidden layer of rectified units."""

    hidden: Float[Array, "d h"]
    hidden_intercept: Float[Array, " h"]
    coefficients: Float[Array, " h"]
    intercept: Float[Array, ""]
    centre: Float[Array, " d"]


class Head(NamedTuple):
    """The place of a head in HEADS, whose answer is the fidelity; nothing was fitted."""

    head: Int[Array, ""]

    @property
    def name(self) -> str:
        """Which of HEADS it is."""
        return HEADS[int(self.head)]


FORMS = (SupportVectors, KernelRidge, GaussianProcess, Linear, Trees, Neighbours, Perceptron, Head)
Arrays = (
    SupportVectors | KernelRidge | GaussianProcess | Linear | Trees | Neighbours | Perceptron | Head
)


def regress(
    arrays: Arrays, features: Float[Array, "n d"], answers: Float[Array, "n h"] | None = None
) -> Float[Array, " n"]:
    """Fidelity of each feature (float32), not clipped to [0, 1].

    `answers` are `Outputs.head_fidelities`. Only a `Head` needs them, because the class heads do
    not depend on the feature alone.

    Pure and jittable. Within 1e-5 of scikit-learn's double precision; on a TPU, with 47,000
    vectors, within 5e-5. Memory is bounded: 256 features at a time.
    """
    match arrays:
        case Linear():
            return _multiply(_relative(features, arrays), arrays.coefficients) + arrays.intercept
        case Perceptron():
            product = _multiply(_relative(features, arrays), arrays.hidden)
            units = jax.nn.relu(product + arrays.hidden_intercept)
            return _multiply(units, arrays.coefficients) + arrays.intercept
        case Trees():
            return _drop_through(arrays, features)
        case Head():
            if answers is None:
                raise ValueError("a head's answer is not a function of the feature: give `answers`")
            return answers[:, arrays.head]
        case GaussianProcess():
            arrays = KernelRidge(*arrays[: len(KernelRidge._fields)])  # the rest is for `deviation`
    # Thousands of terms of both signs cancel, so CPU and GPU add them in double precision, which a
    # TPU does not have. docs/speed.md has the cost.
    return lax.platform_dependent(
        arrays, features, cpu=regress_in_double, cuda=regress_in_double, default=regress_in_single
    )


def regress_in_double(arrays: Arrays, features: Float[Array, "n d"]) -> Float[Array, " n"]:
    """`regress` in double precision, whether or not JAX has it enabled elsewhere."""
    with jax.enable_x64(True):
        arrays = type(arrays)(*(jnp.asarray(a, jnp.float64) for a in arrays))
        if isinstance(arrays, Neighbours):
            return _ask_neighbours(arrays, features)

        def weigh(squared):
            return jnp.exp(-arrays.gamma * squared) @ arrays.coefficients

        return _sum_kernels(weigh, arrays, features)


def regress_in_single(arrays: Arrays, features: Float[Array, "n d"]) -> Float[Array, " n"]:
    """`regress` in single precision, ordered so that little precision is lost."""
    if isinstance(arrays, Neighbours):
        return _ask_neighbours(arrays, features)
    # A constant may be subtracted from every kernel value if it is added back times the sum of the
    # coefficients, which is zero for support vectors. In many dimensions all distances are similar,
    # and the common part of the values would only add rounding. If all values are near zero there
    # is no common part, and the limit of 10 keeps exp within float32.
    mean = jnp.sum(arrays.vectors**2) / max(len(arrays.vectors), 1)
    typical = jnp.minimum(2 * arrays.gamma * mean, 10)
    shared = 0.0 if isinstance(arrays, SupportVectors) else jnp.exp(-typical) * arrays.total

    def weigh(squared):
        kernel = jnp.exp(-typical) * jnp.expm1(typical - arrays.gamma * squared)
        # In rows of 128: one running sum over thousands of terms has twice the rounding error.
        terms = kernel * arrays.coefficients
        return jnp.pad(terms, (0, -len(terms) % 128)).reshape(-1, 128).sum(axis=0).sum() + shared

    return _sum_kernels(weigh, arrays, features)


def deviation(arrays: GaussianProcess, features: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Standard deviation of a Gaussian process at each feature, in units of fidelity (float32).

    This is the uncertainty of the mean given the training faces, without the noise of a single
    target. Far from all training faces it grows to `scale`, the spread of the training targets.
    """

    def compute(arrays, features):
        def weigh(squared):
            white = _multiply(arrays.whitener, jnp.exp(-arrays.gamma * squared))
            return arrays.scale * jnp.sqrt(jnp.maximum(1 - jnp.sum(white**2), 0))

        return _map_distances(weigh, arrays, features).astype(jnp.float32)

    def in_double(arrays, features):
        with jax.enable_x64(True):
            arrays = GaussianProcess(*(jnp.asarray(a, jnp.float64) for a in arrays))
            return compute(arrays, features)

    return lax.platform_dependent(arrays, features, cpu=in_double, cuda=in_double, default=compute)


def consistent(arrays: Arrays) -> bool:
    """Whether types and shapes match the form, numbers are finite, and trees have no loops."""
    sizes: dict[str, int] = {}
    for array, hint in zip(arrays, get_type_hints(type(arrays)).values(), strict=True):
        names = hint.dim_str.split()
        if array.dtype not in (np.float32, np.int32) or array.dtype.name not in hint.dtypes:
            return False
        if array.ndim != len(names) or not np.isfinite(array).all():
            return False
        for name, size in zip(names, array.shape, strict=True):
            if sizes.setdefault(name, int(name) if name.isdigit() else size) != size:
                return False
    if isinstance(arrays, Head):
        return bool(0 <= arrays.head < len(HEADS))
    if not isinstance(arrays, Trees):
        return True
    node = np.arange(arrays.children.shape[1])[:, None]
    leaf = (arrays.children == node).all(axis=2)
    after = (arrays.children > node).all(axis=2)
    within = arrays.children < len(node)
    return bool((leaf | after).all() and within.all() and (arrays.feature >= 0).all())


def name_of(arrays: Arrays) -> str:
    """The readable name of the form or of the head."""
    return arrays.name if isinstance(arrays, Head) else type(arrays).__name__


def _multiply(a, b):
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _relative(features, arrays):
    return features.astype(jnp.float32) - arrays.centre


def _drop_through(arrays: Trees, features):
    """Move each feature down all trees at once, one level per step, until all are in leaves."""
    arrays = Trees(*map(jnp.asarray, arrays))
    tree = jnp.arange(len(arrays.value))

    def one(feature):
        x = feature.astype(jnp.float32)

        def fall(node):
            beyond = x[arrays.feature[tree, node]] > arrays.threshold[tree, node]
            return arrays.children[tree, node, beyond.astype(jnp.int32)]

        def inside(node):
            return jnp.any(arrays.children[tree, node, 0] != node)

        leaf = lax.while_loop(inside, fall, jnp.zeros(len(tree), jnp.int32))
        return jnp.sum(arrays.value[tree, leaf])

    return _map_rows(one, features) + arrays.intercept


def _ask_neighbours(arrays: Neighbours, features):
    """Weighted mean of the nearest targets."""
    centre = arrays.vectors.mean(axis=0)

    def ask(squared):
        # Rounding keeps the order except for ties, so twice the number are picked. On a CPU, XLA
        # picks from float32 values 70 times as fast as from float64 values, which it sorts.
        count = len(arrays.shares)
        _, near = lax.top_k(-squared.astype(jnp.float32), min(2 * count, len(squared)))
        _, nearest = lax.top_k(-squared[near], count)
        nearest = near[nearest]
        weights = arrays.shares * arrays.weights[nearest]
        return weights @ arrays.targets[nearest] / jnp.sum(weights)

    around = Around(arrays.vectors - centre, centre)
    return _map_distances(ask, around, features).astype(jnp.float32)


class Around(NamedTuple):
    """Vectors relative to their centre."""

    vectors: Float[Array, "m d"]
    centre: Float[Array, " d"]


def _sum_kernels(weigh, arrays, features):
    """Intercept plus `weigh` of the squared distances from a feature to all vectors."""
    return (_map_distances(weigh, arrays, features) + arrays.intercept).astype(jnp.float32)


def _map_distances(weigh, arrays, features):
    """`weigh` of the squared distances from a feature to all vectors, for each feature."""
    norms = jnp.sum(arrays.vectors**2, axis=-1)

    def one(feature):
        x = feature.astype(norms.dtype) - arrays.centre
        cross = _multiply(arrays.vectors, x)
        return weigh(jnp.maximum(jnp.sum(x**2) + norms - 2 * cross, 0))

    return _map_rows(one, features)


def _map_rows(one, features):
    count = features.shape[0]
    # In an exported program with an open batch size, the batch is taken in one piece.
    few = not isinstance(count, int) or count <= ROWS
    return jax.vmap(one)(features) if few else lax.map(one, features, batch_size=ROWS)
