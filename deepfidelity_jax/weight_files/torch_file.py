"""PyTorch checkpoint files, read without PyTorch and without running code in them.

`read` returns what was saved, with tensors as read-only NumPy arrays that share the mapped file.
`locate` finds the weights in it.
"""

import io
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.weight_files.unpickle import (
    NUMPY,
    PLAIN,
    Call,
    attributes_of,
    map_file,
    unpickle,
)

# For each PyTorch dtype: the prefix of its storage class, and the NumPy dtype.
DTYPES = {
    "float32": ("Float", np.float32),
    "float64": ("Double", np.float64),
    "float16": ("Half", np.float16),
    "bfloat16": ("BFloat16", jnp.bfloat16),
    "int64": ("Long", np.int64),
    "int32": ("Int", np.int32),
    "int16": ("Short", np.int16),
    "int8": ("Char", np.int8),
    "uint8": ("Byte", np.uint8),
    "bool": ("Bool", np.bool_),
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
NO_CHECKPOINT = "no PyTorch checkpoint"

# Keys of the weights, in the order in which they are tried.
AVERAGED = ("state_dict_ema", "model_ema")
TRAINED = ("state_dict", "model")


def read(path: str | Path) -> Any:
    """What `torch.save` wrote to `path`, in the zip format or the legacy one.

    Tensors and parameters become NumPy arrays (bfloat16 as JAX's), argparse.Namespace a dict.
    Arrays are read-only and share the mapped file.

    Raises:
      InputError: the file is missing, empty, truncated, damaged or of another type, or asks for
        another class or function; the message names it.
    """
    path = Path(path)
    content = map_file(path)
    if content[:4] == b"PK\x03\x04":
        return _read_zip(path, content)
    return _read_legacy(path, content)


def locate(content: Any, ema: bool = True) -> tuple[str, dict[str, np.ndarray]]:
    """The key that the weights were found under, '' at the top level, and the weights by name.

    They are without the prefix `module.`. Averaged weights (`state_dict_ema`) come first, unless
    `ema` is False. Raises InputError if there are no weights.
    """
    under = ""
    for key in (*(AVERAGED if ema else ()), *TRAINED):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping) and content[key]:
            under, content = key, content[key]
            break
    if not isinstance(content, Mapping) or not any(_is_array(x) for x in content.values()):
        there = ", ".join(map(str, content)) if isinstance(content, Mapping) else ""
        raise InputError(
            f"the checkpoint holds no weights, bare or under {' or '.join(TRAINED)}; "
            f"it holds: {there[:100] or 'nothing'}"
        )
    other = [str(key) for key, value in content.items() if not _is_array(value)]
    if other:
        raise InputError(f"not tensors among the checkpoint's weights: {', '.join(other[:5])}")
    prefixed = all(str(name).startswith("module.") for name in content)
    return under, {
        str(k).removeprefix("module." if prefixed else ""): v for k, v in content.items()
    }


def _is_array(value) -> bool:
    return isinstance(value, np.ndarray)


# ------------------------------------------------------------------ the pickle's names


def _known(rebuild: Callable) -> dict[str, Any]:
    """The names that a checkpoint's pickle may use; `rebuild` makes a tensor from its storage."""
    dtypes = {f"torch.{name}": np.dtype(dtype) for name, (_, dtype) in DTYPES.items()}
    storages = {f"torch.{name}Storage": np.dtype(dtype) for name, dtype in DTYPES.values()}
    return {
        **PLAIN,
        **NUMPY,
        **dtypes,
        **storages,
        "torch._utils._rebuild_tensor": Call(rebuild),
        "torch._utils._rebuild_tensor_v2": Call(rebuild),
        "torch._utils._rebuild_parameter": Call(lambda tensor, *_: tensor),
        "torch.Size": Call(tuple),
        "torch.device": Call(lambda *name: ":".join(map(str, name))),
        "argparse.Namespace": attributes_of("argparse.Namespace"),
    }


def _rebuild(storage, offset, shape, strides, *_):
    """A tensor as a view of its storage; NumPy checks that it is inside."""
    if min((offset, *shape, *strides)) < 0 or len(shape) != len(strides):
        raise ValueError(f"a tensor of shape {shape} and strides {strides}")
    size = storage.dtype.itemsize
    strides = tuple(stride * size for stride in strides)
    if not math.prod(shape):
        return np.zeros(shape, storage.dtype)
    return np.ndarray(shape, storage.dtype, storage, offset * size, strides)


def _numbers(path, content, dtype, count, start):
    """`count` numbers from byte `start` of the file, without a copy."""
    if not 0 <= count * dtype.itemsize <= len(content) - start:
        raise InputError(f"{path} is truncated: {count} numbers at byte {start} are missing")
    return np.ndarray(count, dtype, content, start)


# ------------------------------------------------------------------ the zip format


def _read_zip(path, content):
    """`data.pkl` is the pickle, `data/<key>` the numbers of each storage."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    except Exception as error:  # a damaged archive can raise anything
        raise InputError(f"{path} is damaged or truncated: {error}") from None
    if "data.pkl" not in records:
        raise InputError(f"{path} is {NO_CHECKPOINT}: a zip archive without data.pkl")

    def bytes_of(record):
        return content[slice(*_place(path, content, records[record]))]

    big = "byteorder" in records and bytes_of("byteorder") == b"big"
    storages = {}

    def load(reference):
        kind, dtype, key, _, count = reference
        if kind != "storage":
            raise ValueError(f"a reference to a {kind}")
        if key not in storages:
            start, end = _place(path, content, records[f"data/{key}"])
            if end - start < count * dtype.itemsize:
                raise ValueError(f"storage {key} is shorter than it says")
            stored_dtype = dtype.newbyteorder(">") if big else dtype
            storages[key] = _numbers(path, content, stored_dtype, count, start)
        return storages[key]

    pickled = io.BytesIO(bytes_of("data.pkl"))
    return unpickle(pickled, path, _known(_rebuild), persistent=load)


def _place(path, content, info):
    """Where the bytes of a record start and end in the file; they are not compressed."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise InputError(f"{path} holds {info.filename} compressed, which PyTorch never writes")
    # From the local header, which PyTorch pads to align the numbers, unlike the central directory.
    lengths = content[info.header_offset + 26 : info.header_offset + 30]
    start = info.header_offset + 30 + sum(np.frombuffer(lengths, "<u2").tolist())
    end = start + info.file_size
    if zlib.crc32(memoryview(content)[start:end]) != info.CRC:
        raise InputError(f"{path} is damaged: the checksum of {info.filename} does not match")
    return start, end


# ------------------------------------------------------------------ the legacy format


def _read_legacy(path, content):
    """Five pickles (magic number, version, system, content, keys), then the storages."""
    names_only = _known(lambda *_: None)
    if unpickle(content, path, names_only) != LEGACY_MAGIC:
        raise InputError(f"{path} is {NO_CHECKPOINT}: a pickle of something else")
    unpickle(content, path, names_only)
    system = unpickle(content, path, names_only)
    start, needed = content.tell(), {}

    def note(reference):
        kind, dtype, key, _, count, view = reference
        if kind != "storage":
            raise ValueError(f"a reference to a {kind}")
        needed[key] = dtype, count
        return key, view

    # The numbers come last. A first pass over the pickle finds out where they are.
    unpickle(content, path, names_only, persistent=note)
    keys = unpickle(content, path, names_only)
    storages, position = {}, content.tell()
    big = not system.get("little_endian", True)
    for key in keys:
        dtype, count = needed[key]
        (claimed,) = _numbers(
            path, content, np.dtype(">i8" if big else "<i8"), 1, position
        ).tolist()
        if claimed != count:
            raise InputError(f"{path} is damaged: a storage of {count} numbers claims {claimed}")
        dtype = dtype.newbyteorder(">") if big else dtype
        storages[key] = _numbers(path, content, dtype, count, position + 8)
        position += 8 + count * dtype.itemsize

    def load(reference):
        key, view = note(reference)
        if view is None:
            return storages[key]
        _, offset, count = view
        return storages[key][offset : offset + count]

    content.seek(start)
    return unpickle(content, path, _known(_rebuild), persistent=load)
