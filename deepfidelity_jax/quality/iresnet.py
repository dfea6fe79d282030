"""iResNet, ArcFace's network: from an aligned face to an embedding of 512 numbers.

For inference only, with the user's weights (PyTorch checkpoints of insightface). Modules have the
same names as in insightface, so that `from_torch` is one rule instead of a list.

Duta, Liu, Zhu and Shao, "Improved Residual Networks for Image and Video Recognition", 2020; Deng,
Guo, Xue and Zafeiriou, "ArcFace", 2019.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from deepfidelity_jax.errors import InputError

SIDE = 112  # pixels
MAP = 7  # side of the last feature map
WIDTHS = (64, 128, 256, 512)
EMBEDDING = 512
INPUTS = MAP * MAP * WIDTHS[-1]  # inputs of the last layer
DEPTHS = {"iResNet-50": (3, 4, 14, 3), "iResNet-100": (3, 13, 30, 3)}


class IResNet(nn.Module):
    """A stem, four stages of residual blocks that each halve the map, and one dense layer.

    Attributes:
        depths: blocks of each stage, as in DEPTHS.
    """

    depths: tuple[int, ...]

    @nn.compact
    def __call__(
        self, images: Float[Array, "n 112 112 3"], factors: Float[Array, "t d"] | None = None
    ) -> Float[Array, "n 512"] | Float[Array, "n t 512"]:
        """Embed RGB faces in [-1, 1], aligned for ArcFace; not scaled to unit length.

        With `factors` the last layer runs t times, its inputs (rows, columns, channels of the last
        map, in this order) multiplied by one row of factors each time. All other layers run once.
        """
        x = PReLU(name="prelu")(norm("bn1")(conv(WIDTHS[0], 3, 1, "conv1")(images)))
        for stage, (depth, width) in enumerate(zip(self.depths, WIDTHS, strict=True), start=1):
            for i in range(depth):
                x = Block(width, 1 if i else 2, name=f"layer{stage}.{i}")(x)
        x = norm("bn2")(x)
        x = Dense(name="fc")(x.reshape(x.shape[0], INPUTS), factors)
        return norm("features")(x)


class Block(nn.Module):
    """Two convolutions with a norm before, between and after; the second has the stride."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n _ _ d"]:
        """Add the convolutions' output to the input, which is projected where its shape changes."""
        y = conv(self.width, 3, 1, "conv1")(norm("bn1")(x))
        y = PReLU(name="prelu")(norm("bn2")(y))
        y = norm("bn3")(conv(self.width, 3, self.stride, "conv2")(y))
        if self.stride > 1:
            x = norm("downsample.1")(conv(self.width, 1, self.stride, "downsample.0")(x))
        return x + y


class Dense(nn.Module):
    """The last layer: the whole map to an embedding, once or for each row of factors."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "n d"], factors: Float[Array, "t d"] | None
    ) -> Float[Array, "n 512"] | Float[Array, "n t 512"]:
        """(x * factors) @ kernel + bias"""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (INPUTS, EMBEDDING))
        bias = self.param("bias", nn.initializers.zeros, (EMBEDDING,))
        if factors is None:
            return jnp.matmul(x, kernel, precision="highest") + bias

        # One position of the map at a time, so that the products of inputs and factors stay in the
        # CPU's cache and n x t x d numbers are never in memory.
        def add_place(total, place):
            x, factors, kernel = place
            return total + jnp.matmul(x[:, None] * factors, kernel, precision="highest"), None

        places, (n, t) = MAP * MAP, (len(x), len(factors))
        x = x.reshape(n, places, -1).swapaxes(0, 1)
        factors = factors.reshape(t, places, -1).swapaxes(0, 1)
        kernel = kernel.reshape(places, -1, EMBEDDING)
        total, _ = jax.lax.scan(add_place, jnp.zeros((n, t, EMBEDDING)), (x, factors, kernel))
        return total + bias


class PReLU(nn.Module):
    """ReLU with a learnt slope below zero, one per channel."""

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """max(x, 0) + slope * min(x, 0)"""
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],))
        return jnp.where(x > 0, x, slope * x)


def conv(width: int, size: int, stride: int, name: str) -> nn.Conv:
    """A convolution without bias, padded on both sides so that stride 1 keeps the size."""
    # In full float32 on every device: a score must not depend on the machine.
    return nn.Conv(
        width,
        (size, size),
        stride,
        padding=size // 2,
        use_bias=False,
        precision="highest",
        name=name,
    )


def norm(name: str) -> nn.BatchNorm:
    """BatchNorm with its running statistics."""
    return nn.BatchNorm(use_running_average=True, epsilon=1e-5, name=name)


# ------------------------------------------------------------------ insightface's checkpoints

TORCH_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def from_torch(
    tensors: Mapping[str, np.ndarray],
) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Depths and float32 variables of the iResNet in an insightface state dict.

    The variant is the one whose names fit best. Raises InputError with a list of all tensors that
    are missing, unexpected or of another shape.
    """
    weights = {name: x for name, x in tensors.items() if not name.endswith("num_batches_tracked")}
    tables = {name: _table(depths) for name, depths in DEPTHS.items()}
    variant = min(tables, key=lambda name: len(weights.keys() ^ tables[name].keys()))
    table = tables[variant]
    if not weights.keys() & table.keys():
        raise InputError(
            f"none of its {len(weights)} tensors is named as in an iResNet of insightface"
        )
    wrong = [f"{name} is missing" for name in table if name not in weights]
    wrong += [f"{name} is unexpected" for name in weights if name not in table]
    wrong += [
        f"{name} has shape {list(np.shape(weights[name]))} where {list(shape)} is expected"
        for name, (_, shape) in table.items()
        if name in weights and tuple(np.shape(weights[name])) != shape
    ]
    if wrong:
        raise InputError(f"not the {variant} of insightface: {'; '.join(wrong)}")
    variables = {path: _from_torch(path, weights[name]) for name, (path, _) in table.items()}
    return DEPTHS[variant], unflatten_dict(variables)


def name_of(depths: tuple[int, ...]) -> str:
    """iResNet-50 or -100."""
    return next(name for name, blocks in DEPTHS.items() if blocks == tuple(depths))


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `from_torch`: a state dict with insightface's names and layouts."""
    return {
        _torch_name(path): _to_torch(path, np.asarray(value))
        for path, value in flatten_dict(variables).items()
    }


@functools.cache  # it traces the network
def _table(depths) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """For each tensor name in a checkpoint: its path in our variables, its shape there."""
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    ours = jax.eval_shape(IResNet(depths).init, jax.random.key(0), images)
    return {
        _torch_name(path): (path, _torch_shape(path, leaf.shape))
        for path, leaf in flatten_dict(ours).items()
    }


def _torch_name(path):
    _, *modules, leaf = path
    return ".".join([*modules, TORCH_NAMES[leaf]])


def _torch_shape(path, shape):
    """The shape in a checkpoint, by converting a broadcast zero, which takes no memory."""
    return _to_torch(path, np.broadcast_to(np.float32(0), shape)).shape


def _from_torch(path, tensor):
    tensor = np.asarray(tensor)
    if path[-2:] == ("fc", "kernel"):
        # insightface flattens the map with channels first.
        tensor = tensor.reshape(EMBEDDING, WIDTHS[-1], MAP, MAP)
        tensor = tensor.transpose(2, 3, 1, 0).reshape(INPUTS, EMBEDDING)
    elif path[-1] == "kernel":
        tensor = tensor.transpose(2, 3, 1, 0)
    return np.array(tensor, np.float32, order="C")  # a copy: the file may change


def _to_torch(path, array):
    if path[-2:] == ("fc", "kernel"):
        array = array.reshape(MAP, MAP, WIDTHS[-1], EMBEDDING)
        return array.transpose(3, 2, 0, 1).reshape(EMBEDDING, INPUTS)
    return array.transpose(3, 2, 0, 1) if path[-1] == "kernel" else array
