"""The network's outputs for faces: their features, and the answer of each head."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from deepfidelity_jax.network.layers import max_over_tokens

# The heads whose answer can be the fidelity, in the order of `Outputs.head_fidelities`.
HEADS = ("logits", "class_head", "fidelity_head", "ordinal_head")


class Outputs(NamedTuple):
    """Outputs for n images, float32; class 0 is fake, 1 is real.

    Attributes:
        features: [n, d] mean over tokens + 0.5 * max over tokens, the input of the regressor.
        class_logits: [n, classes], from the mean over tokens.
        token_logits: [n, tokens, classes], from each token, row by row.
        fidelity: [n, 2], the fidelity if the face is fake and if it is real; None without a
            fidelity head.
        ordinal_logits: [n, thresholds] that the fidelity is above each threshold of
            `layers.OrdinalHead`, from the features; None without that head.
        mask_logits: [n, positions, classes] for stages 2 and 3, row by row; empty without those
            heads and in the folded form.
    """

    features: Float[Array, "n d"]
    class_logits: Float[Array, "n k"]
    token_logits: Float[Array, "n t k"]
    fidelity: Float[Array, "n 2"] | None
    ordinal_logits: Float[Array, "n g"] | None = None
    mask_logits: tuple[Float[Array, "n _ k"], ...] = ()

    @property
    def logits(self) -> Float[Array, "n k"]:
        """Both heads, as used in evaluation: class logits + 0.5 * max over token logits."""
        return self.class_logits + 0.5 * max_over_tokens(self.token_logits)

    @property
    def head_fidelities(self) -> Float[Array, "n h"]:
        """The fidelity by each of HEADS, in 0 to 1 except for the third; NaN for a missing head.

        logits: the probability of a real face by class head and token head, softmax of `logits`.
        class_head: the same by the class head alone.
        fidelity_head: its fidelity for each class, weighted by the probabilities of `logits`.
        ordinal_head: the mean fidelity: the probability of being above a threshold, averaged.
        """
        missing = jnp.full(self.features.shape[:1], jnp.nan)
        probabilities = jax.nn.softmax(self.logits)
        by_class, by_grade = self.fidelity, self.ordinal_logits
        by_head = (
            probabilities[:, 1],
            jax.nn.softmax(self.class_logits)[:, 1],
            missing if by_class is None else jnp.sum(probabilities * by_class, axis=1),
            missing if by_grade is None else jnp.mean(jax.nn.sigmoid(by_grade), axis=1),
        )
        return jnp.stack(by_head, axis=1)
