"""Weights by name survive both formats, in any memory order; errors name the file."""

import numpy as np
import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.weight_files.named_tensors import about, read_weights, write_weights

WEIGHTS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    "a.bias": np.array([0.5, -1], np.float32),
    "count": np.array(7),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_what_is_written_comes_back(tmp_path, suffix):
    path = tmp_path / f"deep/weights{suffix}"
    write_weights(path, WEIGHTS)
    key, found = read_weights(path)
    assert key == ""
    assert found.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


def test_the_suffix_decides(tmp_path):
    with pytest.raises(InputError, match=r"--output=.*w\.pth: give a name that ends in"):
        write_weights(tmp_path / "w.pth", WEIGHTS)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(path, WEIGHTS)
    before = path.read_bytes()
    with pytest.raises(Exception):  # noqa: B017, PT011
        write_weights(path, {"a": np.array(["text"])})
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
def test_damage_is_one_line_that_names_the_file(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    for content in (None, b"\x08", b"PK\x03\x04"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError) as told:
            read_weights(path)
        assert str(path) in str(told.value)
        assert "\n" not in str(told.value)


def test_objects_in_an_npz_are_not_loaded(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([{}], object))
    with pytest.raises(InputError, match="w.npz cannot be read"):
        read_weights(tmp_path / "w.npz")


def test_other_errors_pass_through_about():
    with pytest.raises(InputError, match=r"^file: wrong$"), about("file"):
        raise InputError("wrong")
    with pytest.raises(KeyError), about("file"):
        raise KeyError("a")
