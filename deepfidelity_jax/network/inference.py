"""What scoring takes from the network: for a face alone, or averaged with its mirror image."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, UInt8

from deepfidelity_jax.network.ssaaformer import SSAAFormer, normalise


class Answers(NamedTuple):
    """Outputs for n faces, of one image each or the mean over a face and its mirror image.

    Attributes:
        features: [n, d] the input of the regressor.
        head_fidelities: [n, h] fidelity by each head, see `outputs.Outputs`.
        logits: [n, classes] of class head and token head.
        class_logits: [n, classes] of the class head alone.
    """

    features: Float[Array, "n d"]
    head_fidelities: Float[Array, "n h"]
    logits: Float[Array, "n k"]
    class_logits: Float[Array, "n k"]


def answer(
    network: SSAAFormer, variables, images: UInt8[Array, "n h w 3"], *, mirror_average: bool
) -> Answers:
    """The network's answers for faces, pure and jittable.

    Args:
      network: in its inference form.
      variables: its parameters and statistics.
      images: faces at the network's size, RGB.
      mirror_average: show it the mirror image of each face as well, and average.
    """
    shown = images
    if mirror_average:  # each beside its mirror image, so that a sharded batch stays where it is
        pairs = jnp.stack([images, images[:, :, ::-1]], axis=1)
        shown = pairs.reshape(-1, *images.shape[1:])
    outputs = network.apply(variables, normalise(shown), train=False)
    answers = Answers(
        outputs.features, outputs.head_fidelities, outputs.logits, outputs.class_logits
    )
    return jax.tree.map(_mean_of_pairs, answers) if mirror_average else answers


def _mean_of_pairs(values: Float32[Array, "m d"]) -> Float32[Array, "n d"]:
    return values.reshape(-1, 2, values.shape[1]).mean(axis=1)
