"""Weights by name, from files of PyTorch, .safetensors and .npz, and into the last two."""

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
    """The state dict in a PyTorch, .safetensors or .npz file, after the key it was found under.

    Raises InputError.
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
    except Exception as error:  # damage surfaces as anything
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    with about(path):
        return torch_file.locate(content, ema)


def write_weights(path: Path, weights: Weights) -> None:
    """A state dict as .safetensors or .npz, whole or not at all. InputError for other names."""
    if path.suffix not in (".safetensors", ".npz"):
        raise InputError(f"--output={path}: give a name that ends in .safetensors or .npz")
    with written_whole(path) as file:
        if path.suffix == ".npz":
            np.savez(file, **weights)
        else:
            # It writes the bytes as they lie, so those of a transposed array in a wrong order.
            laid = {name: np.asarray(array, order="C") for name, array in weights.items()}
            file.write(safetensors.numpy.save(laid, {"format": "pt"}))


@contextlib.contextmanager
def about(path: str | Path) -> Iterator[None]:
    """Errors begin with the file they are about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
