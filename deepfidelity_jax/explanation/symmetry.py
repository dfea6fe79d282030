"""Where the first stage's output for a face differs from its output for the mirror image.

Each symmetric block of the first stage mixes its map A with the mirror image of A, A' = s0 A + s1
flip(A) (`network.attention.mirror_mix`). The symmetry map compares A' of the face with A' of the
mirrored face, position by position: the length of their difference over the channels, in units of
the root mean square length of A' of the face; a mean over the blocks. It is 0 for a face that is
its own mirror image. flip(A) - A would not be 0, as the network's filters are not symmetric, and
would show the filters more than the face.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from deepfidelity_jax.network.attention import mirror_mix
from deepfidelity_jax.network.ssaaformer import SSAAFormer, normalise

CONVOLVED = ("conv2", "__call__")  # the layer whose output is A, in a block of the first stage


def symmetry_maps(
    detector, prepared: UInt8[np.ndarray, "n s s 3"]
) -> Float32[np.ndarray, "n p p"] | None:
    """The map of each prepared face, one number per patch of the first stage.

    None if the detector's first stage has no symmetric block, as in the plain UniFormer.
    """
    if not detector.network.config.symmetric[0]:
        return None
    return np.asarray(_compare(detector.network, detector.variables, prepared))


@partial(jax.jit, static_argnames="network")
def _compare(network: SSAAFormer, variables, faces):
    """The distance between A' of a face and A' of its mirror image, mean over the blocks."""
    total = 0.0
    pairs = zip(
        _mixed(network, variables, faces),
        _mixed(network, variables, faces[:, :, ::-1]),
        strict=True,
    )
    for original, mirrored in pairs:
        apart = jnp.linalg.norm(original - mirrored, axis=-1)
        length = jnp.sqrt(jnp.mean(jnp.sum(original**2, axis=-1), axis=(1, 2), keepdims=True))
        total += apart / jnp.maximum(length, 1e-12)
    return total / network.config.symmetric[0]


def _mixed(network: SSAAFormer, variables, faces):
    """A' of each symmetric block of the first stage."""
    _, state = network.apply(
        variables,
        normalise(faces),
        train=False,
        capture_intermediates=lambda module, method: (module.name, method) == CONVOLVED,
    )
    stage, params = state["intermediates"]["stage1"], variables["params"]["stage1"]
    for name in (f"symmetric_{i}" for i in range(network.config.symmetric[0])):
        (a,) = stage[name]["conv2"]["__call__"]
        yield mirror_mix(a.astype(jnp.float32), params[name]["w"])
