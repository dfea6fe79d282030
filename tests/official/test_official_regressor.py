"""scikit-learn's SVR files: the same predictions in JAX, and nothing run."""

import json
import pickle

import jax.numpy as jnp
import joblib
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.svm import SVR
from torch_bytes import NESTED, Raw, call, calls, push

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.arrays import regress
from deepfidelity_jax.official.regressor import WRAPPER, read


def make_data(n=300, d=40, offset=3.0):
    rng = np.random.default_rng(0)
    x = offset + rng.normal(size=(n, d))
    return x, np.where(x[:, 0] > offset, 0.8, 0.2) + 0.1 * np.tanh(x[:, 1] - offset)


@pytest.fixture(scope="module")
def fitted():
    return SVR().fit(*make_data())


def assert_told(path, *parts):
    with pytest.raises(InputError) as told:
        read(path)
    assert "\n" not in str(told.value)
    for part in (path, *parts):
        assert str(part) in str(told.value)


def assert_predicts_alike(path, svr, offset=3.0):
    x = make_data(50, offset=offset)[0] + 0.1
    regressor = read(path)
    found = regress(regressor.arrays, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, svr.predict(x.astype(np.float32)), atol=1e-5, rtol=0)
    assert np.ptp(found) > 0.1
    return regressor


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dump", [joblib.dump, pickle.dump], ids=["joblib", "pickle"])
def test_predicts_as_scikit_learn(fitted, tmp_path, dump, protocol):
    path = tmp_path / "svr_model.pkl"
    with path.open("wb") as file:
        dump(fitted, file, protocol=protocol)
    regressor = assert_predicts_alike(path, fitted)
    assert regressor.settings["C"] == 1.0
    assert regressor.settings["epsilon"] == 0.1
    assert regressor.settings["rows"] == 300
    assert regressor.settings["support_vectors"] == len(fitted.support_)


@pytest.mark.parametrize(
    "options", [{"C": 30, "gamma": 0.003}, {"gamma": "auto"}, {"epsilon": 0.01, "C": 0.5}]
)
def test_other_settings(tmp_path, options):
    svr = SVR(**options).fit(*make_data(offset=-20.0))
    joblib.dump(svr, tmp_path / "a.pkl")
    assert_predicts_alike(tmp_path / "a.pkl", svr, offset=-20.0)


def test_settings_that_a_search_chose_can_be_stored(tmp_path):
    svr = SVR(C=np.int64(3), epsilon=np.float32(0.25)).fit(*make_data(20))
    svr.shape_fit_ = tuple(np.int64(side) for side in svr.shape_fit_)
    joblib.dump(svr, tmp_path / "a.pkl")
    settings = read(tmp_path / "a.pkl").settings
    assert json.loads(json.dumps(settings)) == settings
    assert (settings["C"], settings["epsilon"], settings["rows"]) == (3, 0.25, 20)


def test_single_precision_and_column_order(tmp_path):
    x, y = make_data()
    svr = SVR().fit(np.asfortranarray(x, np.float32), y)
    svr.support_vectors_ = np.asfortranarray(svr.support_vectors_)
    joblib.dump(svr, tmp_path / "a.pkl")
    svr.support_vectors_ = np.ascontiguousarray(svr.support_vectors_)
    assert_predicts_alike(tmp_path / "a.pkl", svr)


def write_old(path, svr, module, wrapper, drop):
    """As joblib before 1.2 and scikit-learn before 0.22 did: other names, no alignment."""
    double = call("numpy.dtype", "f8", 0, 1, state=(3, "<", None, None, None, -1, -1, 0))
    package, _, name = wrapper.rpartition(".")
    code = f"c{module}\nSVR\n".encode() + b")\x81}("
    for key in sorted(vars(svr).keys() - set(drop)):
        value = getattr(svr, key)
        if isinstance(value, np.ndarray) and value.dtype == np.float64:
            state = {"subclass": Raw(b"cnumpy\nndarray\n"), "shape": value.shape, "order": "C"}
            code += push(key) + f"c{package}\n{name}\n".encode() + b")\x81"
            code += push(state | {"dtype": double, "allow_mmap": True}) + b"b" + value.tobytes()
        elif isinstance(value, (str, bool, int, float)):
            code += push(key) + push(value)
    path.write_bytes(b"\x80\x03" + code + b"ub.")


@pytest.mark.parametrize("drop", [(), ("_dual_coef_", "_intercept_"), ("dual_coef_", "intercept_")])
@pytest.mark.parametrize("module", ["sklearn.svm._classes", "sklearn.svm.classes"])
@pytest.mark.parametrize("wrapper", WRAPPER)
def test_files_of_older_versions(fitted, tmp_path, module, wrapper, drop):
    write_old(tmp_path / "a.pkl", fitted, module, wrapper, drop)
    assert_predicts_alike(tmp_path / "a.pkl", fitted)


def test_other_models_and_files(fitted, tmp_path):
    path = tmp_path / "a.pkl"
    assert_told(path, "cannot be read")
    path.write_bytes(b"")
    assert_told(path, "is empty")
    path.write_bytes(b"\x00\x01")
    assert_told(path, "of another type")
    joblib.dump(fitted, path, compress=3)
    assert_told(path, "compressed")
    joblib.dump(SVR(), path)
    assert_told(path, "not fitted")
    joblib.dump(SVR(kernel="linear").fit(*make_data(20)), path)
    assert_told(path, "'linear'")
    joblib.dump(Ridge(), path)
    assert_told(path, "sklearn.linear_model._ridge.Ridge", "refused")
    joblib.dump({"a": 1}, path)
    assert_told(path, "no scikit-learn SVR")
    joblib.dump(np.array([print, None]), path)
    assert_told(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dual_coef_", np.zeros((1, 3))),
        ("dual_coef_", "text"),
        ("support_vectors_", np.zeros(3)),
        ("support_vectors_", np.array([[np.nan]])),
        ("intercept_", np.zeros(2)),
        ("_gamma", [1, 2]),
        ("C", "text"),
        ("shape_fit_", ()),
    ],
)
def test_attributes_that_do_not_fit(tmp_path, name, value):
    svr = SVR().fit(*make_data(20))
    setattr(svr, name, value)
    joblib.dump(svr, tmp_path / "a.pkl")
    assert_told(tmp_path / "a.pkl", "damaged")


def test_cut_anywhere(tmp_path):
    joblib.dump(SVR().fit(*make_data(20)), tmp_path / "a.pkl")
    content = (tmp_path / "a.pkl").read_bytes()
    for end in range(0, len(content) - 1, 97):
        (tmp_path / "a.pkl").write_bytes(content[:end])
        assert_told(tmp_path / "a.pkl")


@pytest.mark.parametrize("nesting", [name for name in NESTED if "tensor" not in name])
@pytest.mark.parametrize("name", calls(""))
def test_refused_by_name_and_not_run(tmp_path, name, nesting):
    canary = tmp_path / "canary"
    code = NESTED[nesting](calls(canary)[name])
    if nesting == "as a state":
        code = code.replace(b"argparse\nNamespace", b"sklearn.svm._classes\nSVR")
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04" + code + b".")
    assert_told(tmp_path / "a.pkl", name, "refused")
    assert not canary.exists()


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return eval, (f"open({str(self.canary)!r}, 'w').close()",)


def test_a_joblib_file_with_code(fitted, tmp_path):
    """Where joblib itself would run it: among an SVR's attributes, and in an array of objects."""
    svr = SVR().fit(*make_data(20))
    canary = tmp_path / "canary"
    for name, value in (("extra", Bomb(canary)), ("extra", np.array([Bomb(canary)]))):
        setattr(svr, name, value)
        joblib.dump(svr, tmp_path / "a.pkl")
        with pytest.raises(InputError) as told:
            read(tmp_path / "a.pkl")
        assert "eval" in str(told.value) or "object" in str(told.value)
        assert not canary.exists()
    joblib.load(tmp_path / "a.pkl")
    assert canary.exists()
