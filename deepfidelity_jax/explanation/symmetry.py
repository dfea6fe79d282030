"""What the first stage makes of a face and its mirror image: where the two halves differ to it.

Each symmetric block mixes its map A with the mirror image of A (`network.attention.mirror_mix`),

    A' = s0 A + s1 flip(A) = A + s1 (flip(A) - A),

so s1 (flip(A) - A) is what the mirror adds. The symmetry map is the length of that addition at
each position, over the channels, in units of the root mean square length of A; a mean over the
blocks. It is 0 where both halves look alike to the network, and it is itself mirror-symmetric: it
says where the halves differ, not which of them is odd.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from deepfidelity_jax.network.ssaaformer import normalise

CONVOLVED = ("conv2", "__call__")  # the layer whose output is A, in a block of the first stage


def symmetry_maps(
    detector, prepared: UInt8[np.ndarray, "n s s 3"]
) -> Float32[np.ndarray, "n p p"] | None:
    """The map of each prepared face, a number for every patch of the first stage.

    None if the detector's first stage has no symmetric block, as the plain UniFormer.
    """
    blocks = mirror_weights(detector)
    if not blocks:
        return None
    model = detector.model

    @jax.jit
    def compute(variables, faces):
        _, state = model.apply(
            variables,
            normalise(faces),
            train=False,
            capture_intermediates=lambda module, method: (module.name, method) == CONVOLVED,
        )
        stage = state["intermediates"]["stage1"]
        total = 0.0
        for i, weight in enumerate(blocks):
            (a,) = stage[f"symmetric_{i}"]["conv2"]["__call__"]
            a = a.astype(jnp.float32)
            added = weight * jnp.linalg.norm(a[..., ::-1, :] - a, axis=-1)
            length = jnp.sqrt(jnp.mean(jnp.sum(a**2, axis=-1), axis=(1, 2), keepdims=True))
            total += added / jnp.maximum(length, 1e-12)
        return total / len(blocks)

    return np.asarray(compute(detector.variables, prepared))


def mirror_weights(detector) -> list[float]:
    """s1 of each symmetric block of the first stage: the share the mirror image gets."""
    stage = detector.variables["params"]["stage1"]
    count = detector.model.config.symmetric[0]
    return [float(jax.nn.softmax(stage[f"symmetric_{i}"]["w"])[1]) for i in range(count)]
