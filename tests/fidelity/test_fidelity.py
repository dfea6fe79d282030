import json
import zipfile
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.svm import SVR

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.calibration import (
    Calibration,
    calibrate,
    fixed_calibration,
    is_real,
    p_fake,
)
from deepfidelity_jax.fidelity.regressor import (
    SupportVectors,
    balance,
    fit_regressor,
    regress,
    regress_in_double,
    regress_in_single,
    support_vectors,
    svr_class,
)
from deepfidelity_jax.fidelity.scale import FidelityScale, fit_scale, outside, scale
from deepfidelity_jax.fidelity.stored import FidelityModel, load, save


def rng(seed=0):
    return np.random.default_rng(seed)


def faces(n=200, seed=0):
    """Qualities and labels whose classes differ in range."""
    label = rng(seed).integers(0, 2, n)
    quality = rng(seed + 1).normal(50 + 20 * label, 10)
    return quality, label


def problem(n=300, d=32, offset=0.0, seed=0, noise=0.05):
    """Features with a smooth target in two bands, as fidelity has."""
    r = rng(seed)
    x = r.normal(size=(n, d)) + offset
    y = np.where(x[:, 0] > offset, 0.8, 0.2) + 0.15 * np.tanh(x[:, 1] - offset)
    return x.astype(np.float32), np.clip(y + r.normal(size=n) * noise, 0, 1)


# ---------------------------------------------------------------- the scale


def test_each_class_is_spread_over_its_own_range():
    quality, label = faces()
    fitted = fit_scale(quality, label)
    fidelity = scale(fitted, quality, label)
    for value, (low, high) in ((0, (0.0, 0.4)), (1, (0.6, 1.0))):
        own, q = fidelity[label == value], quality[label == value]
        assert own[np.argmin(q)] == pytest.approx(low)
        assert own[np.argmax(q)] == pytest.approx(high)
        middle = (own - low) / (high - low)
        np.testing.assert_allclose(middle, (q - q.min()) / np.ptp(q), atol=1e-6)
    assert outside(fitted, quality, label) == 0
    assert fitted.middle == pytest.approx(0.5)


def test_the_range_is_the_training_splits_and_the_rest_is_clipped_and_counted():
    fitted = fit_scale(np.array([1.0, 3.0, 10.0, 20.0]), np.array([0, 0, 1, 1]))
    quality, label = np.array([0.0, 2.0, 4.0, 5.0, 15.0, 30.0]), np.array([0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(scale(fitted, quality, label), [0, 0.2, 0.4, 0.6, 0.8, 1], atol=1e-6)
    assert outside(fitted, quality, label) == 4


def test_percentiles_keep_outliers_from_setting_the_scale():
    quality, label = faces(1000)
    quality[np.argmax(label == 1)] = 1e6
    fitted = fit_scale(quality, label, percentile=1.0)
    assert fitted.real_quality[1] < 120
    spread = scale(fitted, quality, label)[label == 1]
    assert np.std(spread) > 0.05
    assert 10 <= outside(fitted, quality, label) <= 30
    assert np.std(scale(fit_scale(quality, label), quality, label)[label == 1]) < 0.02


def test_constant_quality_gives_plain_labels():
    label = np.array([0, 1, 1, 0])
    fitted = fit_scale(np.full(4, 3.0), label)
    np.testing.assert_array_equal(scale(fitted, np.full(4, 3.0), label), label)


def test_other_ranges_are_honoured():
    quality, label = faces()
    fitted = fit_scale(quality, label, fake=(0.1, 0.3), real=(0.5, 0.9))
    fidelity = scale(fitted, quality, label)
    assert fidelity[label == 0].max() == pytest.approx(0.3)
    assert fidelity[label == 1].min() == pytest.approx(0.5)
    assert fitted.middle == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        ((0.4, 0.0), (0.6, 1.0)),
        ((0.0, 0.7), (0.6, 1.0)),
        ((0.6, 1.0), (0.0, 0.4)),
        ((-0.1, 0.4), (0.6, 1.0)),
        ((0.0, 0.4), (0.6, 1.1)),
        ((0.5, 0.5), (0.5, 0.5)),
    ],
)
def test_impossible_ranges_are_refused(fake, real):
    with pytest.raises(InputError, match="ordered"):
        fit_scale(*faces(), fake=fake, real=real)


def test_unusable_qualities_are_refused_with_their_number():
    quality, label = faces(20)
    quality[[3, 5]], quality[7] = np.nan, np.inf
    fitted = fit_scale(*faces())
    for act in (lambda: fit_scale(quality, label), lambda: scale(fitted, quality, label)):
        with pytest.raises(InputError, match="3 of 20"):
            act()
    with pytest.raises(InputError, match="no fake face"):
        fit_scale(np.ones(3), np.ones(3, int))
    with pytest.raises(InputError, match="percentile"):
        fit_scale(*faces(), percentile=50.0)


def test_the_scale_travels_as_json():
    fitted = fit_scale(*faces(), fake=(0.0, 0.3), percentile=2.0)
    assert FidelityScale.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    for foreign in ({}, {"fake": 1}, {"quality": [0, 1]}, {"fake_quality": [2, 1]}):
        with pytest.raises(InputError):
            FidelityScale.from_dict(foreign)


# ---------------------------------------------------------------- the regressor


FORMS = {"chosen here": regress, "double": regress_in_double, "single": regress_in_single}


def solved(x, y, **settings):
    """scikit-learn's own solution, and the same as our arrays."""
    x = x.astype(np.float64)
    reference = SVR(**settings).fit(x, y)
    numbers = (reference.support_vectors_, reference.dual_coef_[0], reference.intercept_[0])
    gamma = settings.get("gamma", 1 / (x.shape[1] * x.var()))
    return reference, support_vectors(*numbers, gamma, x.mean(axis=0))


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
    own = svr_class() is SVR
    if own:
        assert fitted.settings["support_vectors"] == len(reference.support_)
    got = np.asarray(regress(fitted.arrays, jnp.asarray(x)))
    atol = 1e-5 if own else 2e-3
    np.testing.assert_allclose(got, reference.predict(x.astype(np.float64)), atol=atol, rtol=0)


def test_the_fast_solver_takes_the_same_fit():
    fast = pytest.importorskip("sklearnex.svm").SVR
    assert svr_class() is fast
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


# ---------------------------------------------------------------- calibration


def scores(n_fake=30, n_real=90, gap=0.3, seed=0):
    r = rng(seed)
    label = np.repeat([0, 1], [n_fake, n_real])
    return r.normal(0.5 + gap * (label - 0.5), 0.1), label


def test_probability_and_verdict_never_disagree():
    fidelity, label = scores()
    calibration = calibrate(fidelity, label)
    assert calibration.threshold_from == "validation"
    t = calibration.threshold
    near = np.nextafter(t, [-np.inf, np.inf]).tolist()
    probe = np.concatenate([np.linspace(-0.5, 1.5, 5001), [t], near, fidelity])
    probability, real = p_fake(calibration, probe), is_real(calibration, probe)
    assert (probability[real] <= 0.5).all()
    assert (probability[~real] >= 0.5).all()
    assert (np.diff(probability[:5001]) <= 0).all()
    assert p_fake(calibration, np.array([t]))[0] == 0.5
    logit = calibration.slope * probe + calibration.intercept
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logit)), atol=1e-9)


def test_calibration_balances_the_classes():
    """Nine times as many real videos must not move the threshold off the middle."""
    thresholds = [calibrate(*scores(n_fake=400, n_real=n)).threshold for n in (400, 3600)]
    assert thresholds == pytest.approx([0.5, 0.5], abs=0.02)
    fidelity, label = scores(2000, 2000)
    probability = p_fake(calibrate(fidelity, label), fidelity)
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (probability >= low) & (probability < low + 0.2)
        assert np.mean(label[inside] == 0) == pytest.approx(low + 0.1, abs=0.09)


def test_shifted_scores_shift_the_threshold():
    fidelity, label = scores()
    there, here = calibrate(fidelity + 0.2, label), calibrate(fidelity, label)
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
def test_without_an_order_the_threshold_is_fixed(fidelity, label, reason):
    calibration = calibrate(fidelity, label, middle=0.45)
    assert calibration.threshold_from == "fixed"
    assert calibration.threshold == 0.45
    assert reason in calibration.note
    probability = p_fake(calibration, np.array([0.15, 0.45, 0.75]))
    np.testing.assert_allclose(probability, [0.9, 0.5, 0.1], atol=1e-9)


def test_impossible_calibrations_are_refused():
    with pytest.raises(InputError, match="1 of 2"):
        calibrate(np.array([np.nan, 1.0]), np.array([0, 1]))
    with pytest.raises(InputError, match="slope"):
        Calibration(1.0, 0.5, "validation")


# ---------------------------------------------------------------- on disk


@pytest.fixture(scope="module")
def model():
    x, y = problem(80)
    provenance = {"datasets": ["synthetic_faces"], "checkpoint": 120, "note": "é"}
    fitted = fit_regressor(x, y)
    return FidelityModel(fit_scale(*faces()), fitted, fixed_calibration("a test"), provenance)


def assert_equal(a, b):
    for left, right in zip(a.regressor.arrays, b.regressor.arrays, strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    assert a.regressor.settings == b.regressor.settings
    assert (a.scale, a.calibration, a.provenance) == (b.scale, b.calibration, b.provenance)


def test_a_model_comes_back_bit_for_bit(model, tmp_path):
    path = tmp_path / "deep" / "fidelity.npz"
    save(model, path)
    assert_equal(load(path), model)
    first = path.read_bytes()
    save(load(path), path)
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == ["fidelity.npz"]


def test_device_arrays_are_saved_alike(model, tmp_path):
    on_device = replace(
        model,
        regressor=replace(model.regressor, arrays=jax.device_put(model.regressor.arrays)),
    )
    save(on_device, tmp_path / "f.npz")
    assert_equal(load(tmp_path / "f.npz"), model)


def test_the_file_holds_no_pickle(model, tmp_path):
    save(model, tmp_path / "f.npz")
    with zipfile.ZipFile(tmp_path / "f.npz") as archive:
        for name in archive.namelist():
            assert name.endswith(".npy")
            assert b"'O'" not in archive.read(name)[:128]


def test_a_failed_save_leaves_the_old_file(model, tmp_path):
    path = tmp_path / "f.npz"
    save(model, path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save(replace(model, provenance={"x": object()}), path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def assert_refused(path):
    with pytest.raises(InputError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_and_foreign_files_are_refused_in_one_line(model, tmp_path):
    path = tmp_path / "fidelity.npz"
    assert_refused(path)
    save(model, path)
    whole = path.read_bytes()
    for share in (0.0, 0.01, 0.3, 0.7, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert_refused(path)
    path.write_text("not a model")
    assert_refused(path)
    np.savez(path, features=np.ones(3))
    assert_refused(path)
    np.savez(path, meta=np.array({"a": object()}, dtype=object))
    assert_refused(path)
    path.write_bytes(whole)
    with np.load(path) as stored:
        arrays = dict(stored)
    for wrong in (
        {"vectors": arrays["vectors"][:-1]},
        {"centre": arrays["centre"].astype(np.float64)},
        {"coefficients": arrays["coefficients"] * np.float32(np.nan)},
        {"meta": np.array(str(arrays["meta"]).replace("regressor 1", "regressor 9"))},
    ):
        np.savez(path, **{**arrays, **wrong})
        assert_refused(path)


def test_flipped_bits_never_pass_for_another_model(model, tmp_path):
    path = tmp_path / "fidelity.npz"
    save(model, path)
    whole = path.read_bytes()
    r = rng(5)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[r.integers(len(whole))] ^= 1 << int(r.integers(8))
        path.write_bytes(damaged)
        try:
            assert_equal(load(path), model)  # a bit that carries nothing, a date for one
        except InputError:
            refused += 1
    assert refused > 100
