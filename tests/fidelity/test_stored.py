"""fidelity.npz comes back bit for bit, or is refused in one line."""

import zipfile
from dataclasses import replace

import jax
import numpy as np
import pytest
from conftest import no_more_files

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.alternatives import METHODS as REGRESSORS
from deepfidelity_jax.fidelity.alternatives import fit_alternative
from deepfidelity_jax.fidelity.arrays import Head
from deepfidelity_jax.fidelity.calibration import METHODS, calibrate, fixed_calibration
from deepfidelity_jax.fidelity.regressor import Regressor, fit_regressor
from deepfidelity_jax.fidelity.scale import fit_scale
from deepfidelity_jax.fidelity.stored import FidelityModel, Validation, digest, load, save
from deepfidelity_jax.network.outputs import HEADS


@pytest.fixture(scope="module")
def model():
    r = np.random.default_rng(0)
    x, y = r.normal(size=(80, 32)).astype(np.float32), r.uniform(size=80)
    provenance = {"datasets": ["synthetic_faces"], "checkpoint": 120, "note": "é"}
    fitted = fit_regressor(x, y)
    return FidelityModel(
        fit_scale(r.uniform(size=80), np.arange(80) % 2),
        fitted,
        fixed_calibration("a test"),
        provenance,
    )


def test_a_digest_is_of_what_scores_depend_on_alone(model, tmp_path):
    """Other versions note more beside it, and number the validation files otherwise."""
    own = digest(model)
    rows = np.arange(4, dtype=np.int32)
    noted = replace(
        model, provenance={}, validation=Validation(np.zeros(4, np.float32), rows % 2, rows, rows)
    )
    save(noted, tmp_path / "f.npz")
    assert digest(load(tmp_path / "f.npz")) == digest(noted) == own
    arrays = model.regressor.arrays
    for other in (
        replace(model, scale=None),
        replace(model, calibration=replace(model.calibration, threshold=0.25)),
        replace(model, regressor=Regressor(arrays._replace(coefficients=2 * arrays.coefficients))),
    ):
        assert digest(other) != own


@pytest.mark.parametrize("method", REGRESSORS)
def test_every_form_comes_back_bit_for_bit(model, method, tmp_path):
    r = np.random.default_rng(1)
    x, y = r.normal(size=(60, 8)).astype(np.float32), r.uniform(size=60)
    other = replace(model, regressor=fit_alternative(method, x, y))
    save(other, tmp_path / "f.npz")
    again = load(tmp_path / "f.npz")
    assert type(again.regressor.arrays) is type(other.regressor.arrays)
    assert_equal(again, other)


def test_a_head_comes_back(model, tmp_path):
    for place in range(len(HEADS)):
        regressor = Regressor(Head(np.int32(place)), {"regressor": HEADS[place]})
        save(replace(model, regressor=regressor), tmp_path / "f.npz")
        again = load(tmp_path / "f.npz").regressor
        assert (again.arrays.name, again.settings) == (HEADS[place], regressor.settings)
    unknown = replace(model, regressor=Regressor(Head(np.int32(len(HEADS)))))
    save(unknown, tmp_path / "f.npz")
    assert_refused(tmp_path / "f.npz")


def test_arrays_of_two_forms_are_no_model(model, tmp_path):
    save(model, tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "f.npz", **arrays, value=np.ones(3, np.float32))
    assert_refused(tmp_path / "f.npz")


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


@pytest.mark.parametrize("method", METHODS)
def test_every_calibration_comes_back(model, tmp_path, method):
    r = np.random.default_rng(1)
    label = np.arange(60) % 2
    fidelity = (0.3 + 0.3 * label + 0.1 * r.normal(size=60)).astype(np.float32)
    fitted = calibrate(fidelity, label, middle=0.5, method=method)
    kept = Validation(fidelity, label, np.arange(60), np.arange(60) // 2)
    save(replace(model, calibration=fitted, validation=kept), tmp_path / "f.npz")
    found = load(tmp_path / "f.npz")
    assert found.calibration == fitted
    for name in ("fidelity", "label", "video", "file"):
        np.testing.assert_array_equal(getattr(found.validation, name), getattr(kept, name))
    with np.load(tmp_path / "f.npz") as stored:
        arrays = dict(stored)
    assert ("calibration_0" in arrays) == (method in ("isotonic", "beta"))
    for wrong in (
        {"validation_fidelity": fidelity[:-1]},
        {"validation_label": label + 1},
        {"validation_file": label[:-1]},
    ):
        np.savez(tmp_path / "f.npz", **{**arrays, **wrong})
        assert_refused(tmp_path / "f.npz")
    if method in ("isotonic", "beta"):
        for wrong in (arrays["calibration_0"] * np.nan, arrays["calibration_0"][None]):
            np.savez(tmp_path / "f.npz", **{**arrays, "calibration_0": wrong})
            assert_refused(tmp_path / "f.npz")
    if method == "isotonic":
        np.savez(tmp_path / "f.npz", **{**arrays, "calibration_1": arrays["calibration_1"][::-1]})
        assert_refused(tmp_path / "f.npz")


def test_a_file_of_an_earlier_version_is_read(model, tmp_path):
    """It has neither validation scores nor the name of a calibration."""
    save(model, tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as stored:
        assert set(stored.files) == {"meta", *model.regressor.arrays._fields}
        assert '"method"' not in str(stored["meta"])
    assert load(tmp_path / "f.npz").validation is None


def test_validation_of_an_earlier_version_is_read(model, tmp_path):
    """It has the scores, and does not tell the files."""
    kept = Validation(np.float32([0.1, 0.9]), np.array([0, 1]), np.array([0, 1]))
    save(replace(model, validation=kept), tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as stored:
        own = {name for name in stored.files if name.startswith("validation_")}
    assert own == {"validation_fidelity", "validation_label", "validation_video"}
    found = load(tmp_path / "f.npz").validation
    assert found.file is None
    np.testing.assert_array_equal(found.fidelity, kept.fidelity)


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


def test_a_file_that_cannot_be_read_is_not_called_damaged(model, tmp_path):
    path = tmp_path / "fidelity.npz"
    save(model, path)
    with no_more_files(), pytest.raises(InputError) as error:
        load(path)
    assert str(error.value) == f"{path} cannot be read: too many open files: {path}"


def test_flipped_bits_never_pass_for_another_model(model, tmp_path):
    path = tmp_path / "fidelity.npz"
    save(model, path)
    whole = path.read_bytes()
    r = np.random.default_rng(5)
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
