"""Plain data as Python reads it; a call only to what the table has."""

import collections
import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.weight_files.unpickle import (
    NUMPY,
    PLAIN,
    Call,
    Instance,
    attributes_of,
    map_file,
    unpickle,
)

PATH = Path("given.pkl")
SHARED = [1]
PLAIN_DATA = {
    "numbers": [0, -1, 255, 70_000, -(2**40), 2**100, 0.25, True, False, None],
    "texts": ["", "naïve 顔", "x" * 300, b"", b"\x00\xff", b"y" * 300],
    "containers": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, {"a": {"b": [1]}}, {1, 2}],
    "frozen": frozenset({3}),
    "twice": [SHARED, SHARED],
    "ordered": collections.OrderedDict(a=1, b=2),
}


def read(content, known=PLAIN, **options):
    return unpickle(io.BytesIO(content), PATH, known, **options)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data(protocol):
    data = dict(PLAIN_DATA)
    if protocol < 4:  # before protocol 4, a frozenset is a call that no such file needs
        del data["frozen"]
    found = read(pickle.dumps(data, protocol))
    assert found == data
    first, second = found["twice"]
    assert first is second


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("dtype", ["f8", "f4", ">f4", "i2", "?"])
def test_numpy_arrays(protocol, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for value in (array, np.asfortranarray(array), array[0, 1]):
        found = read(pickle.dumps(value, protocol), {**PLAIN, **NUMPY})
        np.testing.assert_array_equal(found, value)
        assert found.dtype == value.dtype
    with pytest.raises(InputError, match="only numbers are supported"):
        read(pickle.dumps(np.array([None]), protocol), {**PLAIN, **NUMPY})


class Thing:
    def __init__(self):
        self.size, self.name = 3, "thing"


def test_an_object_is_its_attributes():
    content = pickle.dumps([Thing(), 1], 4)
    name = f"{Thing.__module__}.Thing"
    with pytest.raises(InputError, match=f"given.pkl asks for {name}, which is not data"):
        read(content)
    known = {name: attributes_of(name)}
    thing, _ = read(content, known)
    assert isinstance(thing, Instance)
    assert thing.kind == name
    assert thing == {"size": 3, "name": "thing"}
    assert read(content, known, built=lambda instance: instance["size"]) == [3, 1]


def test_what_stands_for_an_object_stands_for_it_everywhere():
    one = Thing()
    content = pickle.dumps([one, one], 4)
    name = f"{Thing.__module__}.Thing"
    first, second = read(content, {name: attributes_of(name)}, built=lambda instance: [0])
    assert first is second


def test_values_of_the_table_cannot_be_called():
    content = b"cmine\nvalue\n)R."
    assert read(content, {"mine.value": Call(lambda: 5)}) == 5
    with pytest.raises(InputError, match="cannot be called"):
        read(content, {"mine.value": dict})


def test_references_are_resolved_by_the_caller():
    content = b"\x80\x02]q\x00(K\x01QPtwo\ne."
    assert read(content, persistent=lambda reference: (reference, "found")) == [
        (1, "found"),
        ("two", "found"),
    ]
    with pytest.raises(InputError, match="a reference outside it"):
        read(content)


def test_the_file_is_left_behind_its_pickle():
    file = io.BytesIO(pickle.dumps([1], 2) + pickle.dumps("two", 4) + b"rest")
    assert unpickle(file, PATH, PLAIN) == [1]
    assert unpickle(file, PATH, PLAIN) == "two"
    assert file.read() == b"rest"


def test_every_cut_is_told():
    content = pickle.dumps(PLAIN_DATA, 4)
    for end in range(len(content)):
        with pytest.raises(InputError, match=r"^given\.pkl is damaged or of another type"):
            read(content[:end])


def test_mapping_a_file(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(InputError, match="cannot be read: No such file"):
        map_file(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        map_file(path)
    path.write_bytes(b"abc")
    assert map_file(path)[:] == b"abc"
