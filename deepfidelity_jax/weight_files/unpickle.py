"""The data in a pickle, without running it.

A pickle is a program that can call anything. `unpickle` interprets that program itself: opcodes
build plain values, and classes and functions come only from the caller's table. Nothing is
imported, no method of a built object is called, and any other name is refused.
"""

import mmap
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepfidelity_jax.errors import InputError


class Instance(dict):
    """The attributes of an object; `kind` is the name of its class, which is never imported."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind


@dataclass(frozen=True)
class Call:
    """A class or function that a pickle may call; `make` takes the arguments, returns the value."""

    make: Callable


def attributes_of(kind: str) -> Call:
    """A replacement for a class of which only the attributes are needed."""
    return Call(lambda *arguments: Instance(kind))


def _latin1(text, encoding):
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


# What every pickle may call: containers, and bytes as protocol 2 writes them.
PLAIN: Mapping[str, Any] = {
    "collections.OrderedDict": Call(dict),
    "builtins.set": Call(set),
    "__builtin__.set": Call(set),
    "__builtin__.bytes": Call(lambda: b""),
    "_codecs.encode": Call(_latin1),
}


def unpickle(
    file,
    path: Path,
    known: Mapping[str, Any],
    *,
    persistent: Callable | None = None,
    built: Callable[[Instance], Any] | None = None,
) -> Any:
    """Read the next pickle in `file`, up to its end.

    Args:
      file: has read, readline and tell.
      path: for messages.
      known: from 'module.name' to a value or a `Call`.
      persistent: resolves references to something outside the pickle.
      built: takes an instance whose attributes are complete, and returns the value to use instead.
        It may continue to read `file`.

    Raises:
      InputError: the pickle is damaged, or asks for a class or function that is not in `known`; the
        message names it.
    """
    try:
        return _run(file, path, known, persistent, built)
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path} is damaged or of another type: {reason}") from None


def map_file(path: Path) -> mmap.mmap:
    """The bytes of a file without a copy. Raises InputError if it is missing or empty."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise InputError(f"{path} is empty") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


# ------------------------------------------------------------------ the interpreter


def _run(file, path, known, persistent, built):
    stack, marks, memo = [], [], {}

    def since_mark():
        mark = marks.pop()
        items = stack[mark:]
        del stack[mark:]
        return items

    def look_up(module, name):
        full = f"{module}.{name}"
        if full not in known:
            shown = (full if full.isprintable() else repr(full))[:100]
            raise InputError(
                f"{path} asks for {shown}, which is not data: refused, and nothing in it was run"
            )
        return known[full]

    def call(function, arguments):
        if not isinstance(function, Call) or not isinstance(arguments, (tuple, list)):
            raise ValueError("a call to something that cannot be called")
        return function.make(*arguments)

    def set_items(target, items):
        if not isinstance(target, dict):
            raise ValueError("items for something that is not a dictionary")
        target.update(zip(items[::2], items[1::2], strict=True))

    for opcode, value, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                (result,) = stack
                return result
            # Values inside the opcode.
            case "NONE":
                stack.append(None)
            case "NEWTRUE":
                stack.append(True)
            case "NEWFALSE":
                stack.append(False)
            case (
                "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4"
                | "FLOAT" | "BINFLOAT" | "STRING" | "BINSTRING" | "SHORT_BINSTRING"
                | "UNICODE" | "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8"
                | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8"
            ):  # fmt: skip
                stack.append(value)
            # Containers.
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_SET":
                stack.append(set())
            case "LIST":
                stack.append(since_mark())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "DICT":
                items = since_mark()
                stack.append({})
                set_items(stack[-1], items)
            case "FROZENSET":
                stack.append(frozenset(since_mark()))
            case "APPEND":
                item = stack.pop()
                list.append(stack[-1], item)
            case "APPENDS":
                items = since_mark()
                list.extend(stack[-1], items)
            case "SETITEM":
                items = [stack.pop(-2), stack.pop()]
                set_items(stack[-1], items)
            case "SETITEMS":
                items = since_mark()
                set_items(stack[-1], items)
            case "ADDITEMS":
                items = since_mark()
                set.update(stack[-1], items)
            # The stack and the memo.
            case "POP":
                if marks and marks[-1] == len(stack):
                    marks.pop()
                else:
                    stack.pop()
            case "POP_MARK":
                since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[value] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            # Classes, functions and objects: only those in the table.
            case "GLOBAL":
                stack.append(look_up(*value.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(look_up(module, name))
            case "REDUCE" | "NEWOBJ":
                arguments = stack.pop()
                stack.append(call(stack.pop(), arguments))
            case "INST":
                function = look_up(*value.split(" ", 1))
                stack.append(call(function, since_mark()))
            case "OBJ":
                function, *arguments = since_mark()
                stack.append(call(function, arguments))
            case "BUILD":
                state, old = stack.pop(), stack[-1]
                new = _build(old, state)
                if isinstance(new, Instance) and built is not None:
                    new = built(new)
                if new is not old:
                    stack[-1] = new
                    for key in [key for key, seen in memo.items() if seen is old]:
                        memo[key] = new
            case "PERSID" | "BINPERSID":
                reference = value if opcode.name == "PERSID" else stack.pop()
                if persistent is None:
                    raise ValueError(f"a reference outside it, {str(reference)[:60]}")
                stack.append(persistent(reference))
            case other:
                raise InputError(f"{path} uses the pickle opcode {other}, which no such file needs")
    raise ValueError("it ends too early")


# ------------------------------------------------------------------ attributes and arrays


def _build(value, state):
    """The value with its attributes, as the opcode BUILD sets them."""
    if isinstance(value, Instance):
        if isinstance(state, tuple):  # attributes, and those kept in slots
            state = (state[0] or {}) | (state[1] or {})
        value.update(state)
        return value
    if isinstance(value, dict):  # an OrderedDict's attributes, such as PyTorch's _metadata
        return value
    if isinstance(value, np.dtype):
        return value.newbyteorder(state[1].replace("|", "="))
    if isinstance(value, np.ndarray):
        _, shape, dtype, by_column, content = state
        return np.ndarray(shape, dtype, content, order="F" if by_column else "C")
    raise ValueError(f"attributes for a {type(value).__name__}")


def _dtype(name, *_):
    dtype = np.dtype(name) if isinstance(name, str) else np.dtype(object)
    if dtype.kind not in "biufc":
        raise ValueError(f"a NumPy array of {dtype.name}: only numbers are supported")
    return dtype


# What NumPy arrays and scalars call, under the module names of NumPy 1 and 2.
NUMPY: Mapping[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": Call(_dtype),
    **{
        f"numpy.{core}.multiarray.{name}": Call(make)
        for core in ("core", "_core")
        for name, make in (
            ("_reconstruct", lambda kind, shape, code: np.empty(0)),
            ("scalar", lambda dtype, content: np.frombuffer(content, dtype)[0]),
        )
    },
    **{
        f"numpy.{core}.numeric._frombuffer": Call(
            lambda content, dtype, shape, order: np.ndarray(shape, dtype, content, order=order)
        )
        for core in ("core", "_core")
    },
}
