"""Weights by name: read from PyTorch, .safetensors and .npz files, written to the last two."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.weight_files import torch_file

Weights = Mapping[str, np.ndarray]


def read_weights(path: Path, ema: bool = True) -> tuple[str, dict[str, np.ndarray]]:
    """The weights in a PyTorch, .safetensors or .npz file, with the key they were found under.

    Args:
      path: the file.
      ema: use the averaged weights if the file has them.

    Raises:
      InputError: the file is missing, damaged, or holds no weights.
    """
    try:
        if path.suffix == ".safetensors":
            content = safetensors.numpy.load_file(path)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                content = dict(file)
        else:
            content = torch_file.read(path)
    except InputError:
        raise
    except Exception as error:  # damage can raise anything
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    with about(path):
        return torch_file.locate(content, ema)


def write_weights(path: Path, weights: Weights) -> None:
    """Write weights as .safetensors or .npz. Raises InputError for any other suffix."""
    if path.suffix not in (".safetensors", ".npz"):
        raise InputError(f"--output={path}: give a name that ends in .safetensors or .npz")
    with written_whole(path) as file:
        if path.suffix == ".npz":
            np.savez(file, **weights)
        else:
            # safetensors writes the bytes in memory order, which is wrong for a transposed array.
            rows_first = {name: np.asarray(array, order="C") for name, array in weights.items()}
            file.write(safetensors.numpy.save(rows_first, {"format": "pt"}))


@contextlib.contextmanager
def about(path: str | Path) -> Iterator[None]:
    """Put the path in front of the message of any InputError inside."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
