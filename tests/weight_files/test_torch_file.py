"""PyTorch files: every nesting and type as it was saved, nothing run, damage told in a line."""

import argparse
import pickle
import struct
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest
from torch_bytes import NESTED, calls, push, tensor, write_checkpoint, write_zip

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.weight_files import torch_file

WEIGHTS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5,
    "a.bias": np.array([0.1, 0.7]),
    "a.half": np.array([1.5, -2], np.float16),
    "a.num_batches_tracked": np.array(7),
    "a.none": np.zeros((0, 3), np.float32),
}


def weights_in(content, ema=True):
    return torch_file.locate(content, ema)[1]


def assert_told(path, *parts):
    with pytest.raises(InputError) as told:
        weights_in(torch_file.read(path))
    assert "\n" not in str(told.value)
    for part in (path, *parts):
        assert str(part) in str(told.value)


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


def prefixed(weights):
    return {f"module.{name}": value for name, value in weights.items()}


# ------------------------------------------------------------------ without PyTorch


def test_reads_what_was_written(tmp_path):
    content = {"state_dict": WEIGHTS, "epoch": 3, "lr": [0.5, (1e-3, None)], "best": True}
    found = torch_file.read(write_checkpoint(tmp_path / "a.pth", content))
    assert_equal(found.pop("state_dict"), WEIGHTS)
    assert found == {"epoch": 3, "lr": [0.5, (1e-3, None)], "best": True}


def test_numbers_stay_in_the_file(tmp_path):
    path = write_checkpoint(tmp_path / "a.pth", WEIGHTS)
    array = torch_file.read(path)["a.weight"]
    assert not array.flags.writeable
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    assert type(base.obj if isinstance(base, memoryview) else base).__name__ == "mmap"


NESTINGS = {
    "bare": lambda w: w,
    "state_dict": lambda w: {"epoch": 1, "state_dict": w},
    "model": lambda w: {"model": w, "optimizer": {"state": {}}},
    "module": prefixed,
    "state_dict and module": lambda w: {"state_dict": prefixed(w)},
    "averaged": lambda w: {"state_dict": {"b": np.zeros(2)}, "state_dict_ema": w},
    "averaged and module": lambda w: {"state_dict": w, "state_dict_ema": prefixed(w)},
}


@pytest.mark.parametrize("nesting", NESTINGS)
def test_weights_are_found(tmp_path, nesting):
    path = write_checkpoint(tmp_path / "a.pth", NESTINGS[nesting](WEIGHTS))
    assert_equal(weights_in(torch_file.read(path)), WEIGHTS)


def test_averaged_weights_are_a_choice(tmp_path):
    other = {"b": np.zeros(2)}
    content = {"state_dict": WEIGHTS, "state_dict_ema": other}
    content = torch_file.read(write_checkpoint(tmp_path / "a.pth", content))
    assert_equal(weights_in(content), other)
    assert_equal(weights_in(content, ema=False), WEIGHTS)
    assert torch_file.locate(content)[0] == "state_dict_ema"
    only = {"state_dict_ema": other}
    with pytest.raises(InputError, match="no weights, bare or under state_dict"):
        weights_in(only, ema=False)


@pytest.mark.parametrize("content", [None, 3, [], {}, {"epoch": 1}, {"model": {}}, {"model": 3}])
def test_no_weights(content):
    with pytest.raises(InputError, match="no weights"):
        weights_in(content)


def test_what_is_no_tensor_is_named():
    with pytest.raises(InputError, match=r"not tensors among .*: epoch"):
        weights_in({**WEIGHTS, "epoch": 3})


def test_damage_is_reported(tmp_path):
    """Cut anywhere, or a byte changed anywhere: one line, or the numbers as they were."""
    path = write_checkpoint(tmp_path / "a.pth", {"state_dict": WEIGHTS})
    content, told, harmless = path.read_bytes(), 0, 0
    cuts = [content[:end] for end in range(0, len(content), 53)]
    flips = [bytes([*content[:i], content[i] ^ 0xFF, *content[i + 1 :]])
             for i in range(0, len(content), 7)]  # fmt: skip
    for damaged in cuts + flips:
        path.write_bytes(damaged)
        try:
            assert_equal(weights_in(torch_file.read(path)), WEIGHTS)
            harmless += 1
        except InputError as error:
            assert "\n" not in str(error)
            told += 1
    assert told > len(cuts)
    assert harmless < told


def test_files_of_other_kinds(tmp_path):
    path = tmp_path / "a.pth"
    assert_told(path, "cannot be read", "No such file")
    assert_told(tmp_path, "cannot be read")
    path.write_bytes(b"")
    assert_told(path, "is empty")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert_told(path, "of another type")
    path.write_bytes(pickle.dumps([1, 2]))
    assert_told(path, "a pickle of something else")
    np.savez(path.with_suffix(".npz"), a=np.zeros(3))
    assert_told(path.with_suffix(".npz"), "a zip archive without data.pkl")


def write_tensor(path, **options):
    write_zip(
        path, b"\x80\x02" + push({"a": tensor(**options)}) + b".", [np.arange(4.0, dtype="f4")]
    )
    return path


def test_views_of_a_storage(tmp_path):
    path = write_tensor(tmp_path / "a.pth", offset=1, shape=(2, 2), strides=(1, 1))
    np.testing.assert_array_equal(torch_file.read(path)["a"], [[1, 2], [2, 3]])
    path = write_tensor(tmp_path / "a.pth", shape=(3,), strides=(0,))
    np.testing.assert_array_equal(torch_file.read(path)["a"], [0, 0, 0])


@pytest.mark.parametrize(
    "options",
    [
        {"offset": 3},
        {"offset": -1},
        {"shape": (5,)},
        {"shape": (-1,)},
        {"strides": (4,)},
        {"strides": (-1,), "offset": 1},
        {"strides": (1, 1)},
        {"count": 5},
        {"count": 2**31 - 1},
        {"count": -1},
        {"key": "1"},
    ],
)
def test_tensors_outside_their_storage(tmp_path, options):
    assert_told(write_tensor(tmp_path / "a.pth", **options))


# ------------------------------------------------------------------ nothing is run


@pytest.mark.parametrize("nesting", NESTED)
@pytest.mark.parametrize("name", calls(""))
def test_refused_by_name_and_not_run(tmp_path, name, nesting):
    canary = tmp_path / "canary"
    code = NESTED[nesting](calls(canary)[name])
    zipped, legacy, bare = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    write_zip(zipped, b"\x80\x04" + code + b".", [bytes(16)])
    assert_told(zipped, name, "refused")
    if nesting != "after a tensor":  # which looks otherwise there
        legacy.write_bytes(legacy_head() + b"\x80\x02" + code + b".")
        assert_told(legacy, name, "refused")
        bare.write_bytes(code + b".")
        assert_told(bare, name, "refused")
    assert not canary.exists()


def legacy_head():
    return b"".join(
        pickle.dumps(value, 2)
        for value in (
            torch_file.LEGACY_MAGIC,
            1001,
            {"little_endian": True, "protocol_version": 1001},
        )
    )


def test_the_canary_would_sing(tmp_path):
    """The same bytes, read by Python itself, do run: the test above could fail."""
    canary = tmp_path / "canary"
    pickle.loads(calls(canary)["posix.system"] + b".")
    assert canary.exists()


@pytest.mark.parametrize("code", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"])
def test_registered_extensions_are_refused(tmp_path, code):
    write_zip(tmp_path / "a.pth", b"\x80\x02" + code + b".")
    assert_told(tmp_path / "a.pth", "opcode EXT")


@pytest.mark.parametrize(
    "code",
    [
        b"",
        b"(",
        b"0",
        b"NN",
        b"h\x00",
        b"NR",
        b")R",
        b"K\x01)R",
        b"ctorch\nFloatStorage\n)R",
        b"K\x01Q",
        b"N}b",
        b"]N}b",
        b"cnumpy\nndarray\n}b",
        b"}(K\x01u",
        b"}](K\x01s",
        b"ccollections\nOrderedDict\nK\x01R",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x06\x00\x00\x00rot-13tR",
        b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8tR",
        b"B\xff\xff\xff\x7f",
        b"\x8e" + b"\xff" * 7 + b"\x7f",
        b"L" + b"9" * 9999 + b"L\n",
        b"\xff",
    ],
)
def test_pickles_that_make_no_sense(tmp_path, code):
    write_zip(tmp_path / "a.pth", b"\x80\x02" + code + b".")
    assert_told(tmp_path / "a.pth", "damaged or of another type")


def test_a_build_changes_no_class(tmp_path):
    """Attributes given to a class or function of the table would be there for the next file."""
    for target in (b"cargparse\nNamespace\n", b"ccollections\nOrderedDict\n", b"cnumpy\ndtype\n"):
        code = target + b"}" + push("make") + b"Nsb"
        write_zip(tmp_path / "a.pth", b"\x80\x02" + code + b".")
        assert_told(tmp_path / "a.pth", "attributes for a Call")


def test_a_dictionary_in_itself_ends(tmp_path):
    write_zip(tmp_path / "a.pth", b"\x80\x02}q\x00" + push("model") + b"h\x00s.")
    with pytest.raises(InputError, match="no weights"):
        weights_in(torch_file.read(tmp_path / "a.pth"))


def test_names_with_line_ends_stay_on_the_line(tmp_path):
    code = push("os\nrm") + push("x" * 1000) + b"\x93"
    write_zip(tmp_path / "a.pth", b"\x80\x04" + code + b".")
    assert_told(tmp_path / "a.pth", "refused")


# ------------------------------------------------------------------ as PyTorch itself writes


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_pytorch_weights(torch, tmp_path, nesting, zipped):
    def tensors(tree):
        if isinstance(tree, dict):
            return OrderedDict((name, tensors(value)) for name, value in tree.items())
        return torch.from_numpy(tree.copy()) if isinstance(tree, np.ndarray) else tree

    content = NESTINGS[nesting](WEIGHTS)
    path = tmp_path / "a.pth"
    torch.save(tensors(content), path, _use_new_zipfile_serialization=zipped)
    assert_equal(weights_in(torch_file.read(path)), WEIGHTS)


@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_training_checkpoint(torch, tmp_path, zipped):
    """Everything a training script keeps beside the weights, and tensors of every kind."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "transposed": whole.t(),
        "strided": whole[1:, ::2],
        "shared": whole,
        "expanded": torch.ones(1, 3).expand(4, 3),
        "bfloat16": torch.tensor([1.5, -3.0]).bfloat16(),
        "long": torch.tensor([2**40]),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(0.25),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "channels last": torch.randn(1, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    content = {
        "epoch": 4,
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=1e-3, sizes=[1, 2], nested=argparse.Namespace(a="b")),
        "metric": np.float64(0.75),
        "curve": np.arange(6.0).reshape(2, 3).T,
        "shape": whole.shape,
        "dtype": torch.float16,
        "device": torch.device("cuda:1"),
        "tensors": tensors,
    }
    path = tmp_path / "a.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = torch_file.read(path)
    weights = {name: x.numpy() for name, x in model.state_dict().items()}
    assert_equal(weights_in(found), weights)
    for name, value in tensors.items():
        assert found["tensors"][name].shape == value.shape
        np.testing.assert_array_equal(
            found["tensors"][name].astype(np.float64), value.detach().to(torch.float64).numpy()
        )
    assert found["tensors"]["bfloat16"].dtype == jnp.bfloat16
    first = optimizer.state_dict()["state"][0]["exp_avg"].numpy()
    np.testing.assert_array_equal(found["optimizer"]["state"][0]["exp_avg"], first)
    assert found["args"] == {"lr": 1e-3, "sizes": [1, 2], "nested": {"a": "b"}}
    assert found["metric"] == 0.75
    np.testing.assert_array_equal(found["curve"], content["curve"])
    assert found["shape"] == (4, 6)
    assert found["dtype"] == np.float16
    assert found["device"] == "cuda:1"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_module_is_refused(torch, tmp_path, zipped):
    path = tmp_path / "a.pth"
    torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=zipped)
    assert_told(path, "torch.nn.modules.linear.Linear", "refused")


def test_pytorch_legacy_damage(torch, tmp_path):
    path = tmp_path / "a.pth"
    weights = {"a": torch.arange(8.0), "b": torch.ones(3)}
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for end in range(0, len(content), 11):
        path.write_bytes(content[:end])
        assert_told(path)
    place = content.rindex(struct.pack("<q", 3))
    path.write_bytes(content[:place] + struct.pack("<q", 4) + content[place + 8 :])
    assert_told(path, "a storage of 3 numbers claims 4")
