"""scikit-learn's support vector regressor, read from its joblib file as data.

A pickle can run any code when it is loaded. This one is not loaded: `weight_files.unpickle` reads
the attributes of the SVR without scikit-learn or joblib.
"""

import math
from pathlib import Path

import numpy as np

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.regressor import Regressor, to_arrays
from deepfidelity_jax.weight_files.unpickle import (
    NUMPY,
    PLAIN,
    Instance,
    attributes_of,
    map_file,
    unpickle,
)

SVR = ("sklearn.svm._classes.SVR", "sklearn.svm.classes.SVR")
WRAPPER = (
    "joblib.numpy_pickle.NumpyArrayWrapper",
    "sklearn.externals.joblib.numpy_pickle.NumpyArrayWrapper",
)
KNOWN = {**PLAIN, **NUMPY, **{name: attributes_of(name) for name in (*SVR, *WRAPPER)}}
COMPRESSED = (b"x", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"]\x00")  # zlib, gzip, bz2, xz, lzma


def read(path: str | Path) -> Regressor:
    """The regressor that `joblib.dump` or `pickle.dump` wrote, by any version of scikit-learn.

    Raises:
      InputError: the file is missing, empty, damaged or compressed, asks for a class or function
        that an SVR does not need, or holds another model than an SVR with an RBF kernel.
    """
    path = Path(path)
    content = map_file(path)
    if content[:6].startswith(COMPRESSED):
        raise InputError(f"{path} is compressed: write it again with joblib.dump, without compress")

    def complete(instance):
        return _read_array(content, instance) if instance.kind in WRAPPER else instance

    svr = unpickle(content, path, KNOWN, built=complete)
    if not isinstance(svr, Instance) or svr.kind not in SVR:
        raise InputError(f"{path} holds no scikit-learn SVR")
    if svr.get("kernel") != "rbf":
        raise InputError(
            f"{path} holds an SVR with kernel {svr.get('kernel')!r}: only rbf is supported"
        )
    try:
        return _regressor(svr)
    except KeyError as error:
        raise InputError(f"{path} holds an SVR that was not fitted: it has no {error}") from None
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path} is damaged: its arrays do not fit together: {error}") from None


def _read_array(content, wrapper):
    """The array whose bytes follow its description in the file."""
    dtype, shape = wrapper["dtype"], tuple(wrapper["shape"])
    if "numpy_array_alignment_bytes" in wrapper:  # joblib 1.2 and later
        content.seek(content.read(1)[0], 1)
    raw = content.read(math.prod(shape) * dtype.itemsize)
    return np.ndarray(shape, dtype, raw, order="F" if wrapper["order"] == "F" else "C")


def _regressor(svr):
    def numbers(name):
        # Older versions store them under a name with a leading underscore.
        value = np.asarray(svr[name if name in svr else f"_{name}"], np.float64)
        if not np.isfinite(value).all():
            raise ValueError(f"{name} is not finite")
        return value

    vectors, coefficients = numbers("support_vectors_"), numbers("dual_coef_").reshape(-1)
    (intercept,) = numbers("intercept_").tolist()
    gamma = float(numbers("_gamma" if "_gamma" in svr else "gamma"))
    if vectors.ndim != 2 or not vectors.size or len(vectors) != len(coefficients):
        raise ValueError(f"{vectors.shape} vectors and {len(coefficients)} coefficients")
    # A search over settings leaves NumPy's scalars, which JSON does not take.
    chosen = ("C", "epsilon")
    settings = {name: float(svr[name]) if name in svr else None for name in chosen} | {
        "gamma": gamma,
        "tuned": False,
        "rows": int(svr["shape_fit_"][0]) if "shape_fit_" in svr else None,
        "support_vectors": len(vectors),
    }
    arrays = to_arrays(vectors, coefficients, intercept, gamma, vectors.mean(axis=0))
    return Regressor(arrays, settings)
