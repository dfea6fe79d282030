"""JAX gives scikit-learn's predictions, in every form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import problem, rng, solved
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.tree import DecisionTreeRegressor

from deepfidelity_jax.fidelity.alternatives import METHODS, round_down, to_trees
from deepfidelity_jax.fidelity.arrays import (
    FORMS,
    Head,
    Neighbours,
    SupportVectors,
    consistent,
    deviation,
    name_of,
    regress,
    regress_in_double,
    regress_in_single,
)
from deepfidelity_jax.fidelity.regressor import fit_regressor
from deepfidelity_jax.network.outputs import HEADS

PRECISIONS = {"chosen here": regress, "double": regress_in_double, "single": regress_in_single}


@pytest.mark.parametrize("form", PRECISIONS)
@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("C", [1.0, 5.0])
def test_jax_equals_scikit_learn(offset, C, form):
    x, y = problem(offset=offset, noise=0.2)
    reference, arrays = solved(x, y, C=C)
    new = problem(700, offset=offset, seed=9)[0]  # more than one block of 256, and a remainder
    got = np.asarray(jax.jit(PRECISIONS[form])(arrays, new))
    assert got.dtype == np.float32
    assert got.std() > 0.1
    np.testing.assert_allclose(got, reference.predict(new.astype(np.float64)), atol=1e-5, rtol=0)
    one = np.asarray(PRECISIONS[form](arrays, jnp.asarray(new[:1])))
    np.testing.assert_allclose(one, got[:1], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("form", PRECISIONS)
def test_twelve_thousand_vectors_add_up(form):
    """Those of one sign one after the other, so that a running sum grows large."""
    r = rng(4)
    vectors = r.normal(size=(12_000, 64)).astype(np.float32)
    coefficients = np.sort(r.uniform(-1, 1, len(vectors)))
    coefficients = (coefficients - coefficients.mean()).astype(np.float32)
    one, zero = np.float32(1.0), np.float32(0.0)
    numbers = (vectors, coefficients, zero, one / 64, np.zeros(64, np.float32))
    new = r.normal(size=(50, 64)).astype(np.float32)
    got = jax.jit(PRECISIONS[form])(SupportVectors(*map(jnp.asarray, numbers)), new)
    squared = ((new[:, None].astype(np.float64) - vectors) ** 2).sum(-1)
    expected = np.exp(-squared / 64) @ coefficients.astype(np.float64)
    assert np.abs(expected).max() > 1
    atol = 1e-5 if form == "single" else 5e-7
    np.testing.assert_allclose(got, expected, atol=atol, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("form", PRECISIONS)
@pytest.mark.parametrize("gamma", [1.0, 1500.0])
def test_many_vectors_of_large_weight_stay_exact(gamma, form):
    """Kernel values all near one (1: the columns' means set the unit) or all near zero."""
    r = rng(2)
    x = (r.normal(size=(1500, 64)) + 5 * r.normal(size=64)).astype(np.float32)
    y = r.uniform(size=1500)
    unit = 1 / (x.shape[1] * x.astype(np.float64).var())
    reference, arrays = solved(x, y, C=10.0, gamma=gamma * unit)
    got = np.asarray(PRECISIONS[form](arrays, jnp.asarray(x[:200])))
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


def weighed(n=300, **own):
    """A problem with weights, in double precision as the fit has it."""
    x, y = problem(n, **own)
    return x.astype(np.float64), y, np.where(y > 0.5, 1.5, 0.75)


@functools.cache
def solution(method, offset=0.0):
    """scikit-learn's solution by a method with its usual settings; found once."""
    own = METHODS[method]
    settings = own.usual | ({"gamma": 1 / 32} if "gamma" in own.grid else {})
    return own.fit(*weighed(offset=offset), 0, **settings)


@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("method", METHODS)
def test_every_form_equals_scikit_learn(method, offset):
    """An offset uses up the digits of a form that does not subtract it first."""
    solved = solution(method, offset)
    new = problem(700, offset=offset, seed=9)[0]  # more than one block of 256, and a remainder
    expected = solved.predict(new.astype(np.float64))
    arrays = jax.device_put(solved.arrays())
    got = np.asarray(jax.jit(regress)(arrays, new))
    assert got.dtype == np.float32
    assert got.std() > 0.05
    np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(regress(arrays, jnp.asarray(new[:1])), got[:1], atol=1e-6)
    assert consistent(solved.arrays())


@pytest.mark.parametrize("method", ["kernel_ridge", "gaussian_process", "nearest_neighbours"])
def test_forms_of_an_accelerator_without_double_precision(method):
    """Coefficients that do not sum to zero: what the kernel values share has to be added."""
    solved = solution(method)
    new = problem(300, seed=9)[0]
    got = np.asarray(jax.jit(regress_in_single)(jax.device_put(solved.arrays()), new))
    np.testing.assert_allclose(got, solved.predict(new.astype(np.float64)), atol=1e-5, rtol=0)


def test_a_threshold_is_compared_as_in_double_precision():
    """Features right at, just below and just above thresholds that float32 cannot hold."""
    middle = np.float32(0.1)
    near = np.array(
        [np.nextafter(middle, np.float32(-1)), middle, np.nextafter(middle, np.float32(1))]
    )
    threshold = np.concatenate([near.astype(np.float64) + shift for shift in (-1e-10, 0, 1e-10)])
    rounded = round_down(threshold)
    assert rounded.dtype == np.float32
    for x in near:
        np.testing.assert_array_equal(x <= rounded, np.float64(x) <= threshold)
    # Two values a rounding apart: their middle, the threshold, rounds to the upper one.
    x = np.stack([near, near[::-1]], axis=1)
    for seed in range(5):
        tree = DecisionTreeRegressor(random_state=seed).fit(x, [0.0, 1.0, 2.0])
        got = regress(to_trees([tree.tree_], 1.0, 0.0), jnp.asarray(x))
        np.testing.assert_array_equal(got, tree.predict(x))


def test_trees_of_different_sizes_add_up():
    x, y = problem(200)
    fitted = [DecisionTreeRegressor(max_depth=depth).fit(x, y) for depth in (None, 1, 4)]
    stump = DecisionTreeRegressor().fit(x, np.full(200, 0.3))  # a single leaf
    new = problem(50, seed=9)[0]
    got = regress(to_trees([t.tree_ for t in (*fitted, stump)], 0.5, 0.1), jnp.asarray(new))
    expected = 0.1 + 0.5 * sum(tree.predict(new) for tree in (*fitted, stump))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_neighbours_vote_by_weight():
    """The two nearest of four, one of which counts three times."""
    vectors = np.array([[0.0], [1.0], [5.0], [9.0]], np.float32)
    targets, weights = (np.array(a, np.float32) for a in ([0.2, 0.6, 0.0, 1.0], [1, 3, 7, 7]))
    arrays = Neighbours(vectors, targets, weights, np.full(2, 0.5, np.float32))
    got = regress(arrays, jnp.asarray([[0.4], [8.0]], jnp.float32))
    np.testing.assert_allclose(got, [(0.2 + 3 * 0.6) / 4, 0.5], atol=1e-6)


def test_a_gaussian_process_knows_what_it_does_not_know():
    """scikit-learn's standard deviation; small among training faces, that of targets far away."""
    x, y, weights = weighed(200, d=4)
    arrays = METHODS["gaussian_process"].fit(x, y, weights, 0, gamma=0.25, noise=0.3).arrays()
    spread = np.average((y - np.average(y, weights=weights)) ** 2, weights=weights) ** 0.5
    reference = GaussianProcessRegressor(RBF(2**0.5), alpha=0.3 / weights, optimizer=None)
    reference.fit(x, y)
    new = np.concatenate([problem(300, d=4, seed=9)[0], np.full((1, 4), 100, np.float32)])
    got = np.asarray(jax.jit(deviation)(jax.device_put(arrays), new))
    _, expected = reference.predict(new.astype(np.float64), return_std=True)
    np.testing.assert_allclose(got, spread * expected, atol=1e-5, rtol=0)
    assert got[-1] == pytest.approx(spread, rel=1e-5)
    assert np.median(got[:-1]) < 0.5 * got[-1]


def test_the_mean_of_a_gaussian_process_leaves_its_whitener_alone():
    """It has as many numbers as the kernel matrix, and would be most of an exported program."""
    arrays = solution("gaussian_process").arrays()
    new = problem(3, d=arrays.vectors.shape[1], seed=9)[0]
    traced = jax.make_jaxpr(lambda x: regress(arrays, x))(jnp.asarray(new))
    assert arrays.whitener.shape not in {np.shape(constant) for constant in traced.consts}
    assert str(list(arrays.whitener.shape)).replace(" ", "") not in str(traced)


def test_what_is_no_form_is_found():
    for method in METHODS:
        arrays = solution(method).arrays()
        for name, array in arrays._asdict().items():
            wrong = [array.astype(np.float64), array[None]]
            wrong += [array[1:]] if array.ndim and len(array) > 1 and name != "shares" else []
            wrong += [array * np.float32(np.nan)]
            for other in wrong:
                assert not consistent(arrays._replace(**{name: other})), (method, name)
    trees = solution("random_forest").arrays()
    for node in (0, trees.children.shape[1], -1):  # a loop, no node, no node
        children = trees.children.copy()
        children[0, 1, 0] = node
        assert not consistent(trees._replace(children=children))
    assert not consistent(trees._replace(feature=trees.feature - 1))
    assert len({form._fields for form in FORMS}) == len(FORMS), "told apart in a file"


def test_a_head_gives_its_own_answer_in_one_program():
    answers = jnp.asarray(rng(0).uniform(size=(7, len(HEADS))), jnp.float32)
    count = []
    traced = jax.jit(lambda a, x, y: (count.append(1), regress(a, x, y))[1])
    for place, name in enumerate(HEADS):
        arrays = Head(np.int32(place))
        assert consistent(arrays)
        assert name_of(arrays) == name
        np.testing.assert_array_equal(traced(arrays, jnp.zeros((7, 3)), answers), answers[:, place])
    assert len(count) == 1
    with pytest.raises(ValueError, match="not a function of the feature"):
        regress(arrays, jnp.zeros((7, 3)))
    for wrong in (np.int32(-1), np.int32(len(HEADS)), np.float32(1), np.zeros(1, np.int32)):
        assert not consistent(Head(wrong))
