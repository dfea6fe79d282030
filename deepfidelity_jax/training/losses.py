"""The losses of the class, token, fidelity, ordinal, ranking and mask outputs, and their sum."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from deepfidelity_jax.network.layers import THRESHOLDS
from deepfidelity_jax.network.outputs import Outputs
from deepfidelity_jax.training.token_mixing import exchange


def cross_entropy(
    logits: Float[Array, "*b k"], labels: Int[Array, "*b"], smoothing: float
) -> Float[Array, "*b"]:
    """Cross-entropy with label smoothing: (1 - s) on the label, s spread over all classes."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def token_loss(logits: Float[Array, "n t 2"], forged: Float[Array, "n t"]) -> Float[Array, "n"]:
    """Cross-entropy of each token with the forged share of its pixels, averaged over tokens.

    Token labelling (Jiang et al., "All Tokens Matter", 2021) with the mask of the forgery in place
    of a teacher's map.
    """
    targets = jnp.stack([forged, 1 - forged], axis=-1)
    return optax.softmax_cross_entropy(logits, targets).mean(axis=-1)


def ordinal_loss(logits: Float[Array, "n g"], fidelity: Float[Array, "n"]) -> Float[Array, "n"]:
    """Mean cross-entropy of the logits, each with whether fidelity is above its threshold.

    Cao et al., "Rank consistent ordinal regression", 2020.
    """
    above = (fidelity[:, None] > THRESHOLDS).astype(logits.dtype)
    return optax.sigmoid_binary_cross_entropy(logits, above).mean(axis=-1)


def shrink_mask(mask: Float[Array, "n h w"], positions: int) -> Float[Array, "n {positions}"]:
    """The mask averaged over `positions` square cells, row by row."""
    n, side = len(mask), math.isqrt(positions)
    cell = mask.shape[1] // side
    return mask.reshape(n, side, cell, side, cell).mean(axis=(2, 4)).reshape(n, -1)


def ranking_loss(logits: Float[Array, "n 2"], label: Int[Array, "n"]) -> Float[Array, ""]:
    """log(1 + exp(s_fake - s_real)), averaged over every pair of a fake and a real face.

    s is the logit of real minus that of fake. A smooth form of 1 - AUC; 0 if a class is missing
    from the batch. Burges et al., "Learning to rank using gradient descent", 2005.
    """
    s = logits[:, 1] - logits[:, 0]
    compared = (label == 0)[:, None] & (label == 1)[None, :]
    losses = jax.nn.softplus(s[:, None] - s[None, :])
    return jnp.where(compared, losses, 0).sum() / jnp.maximum(compared.sum(), 1)


def training_loss(
    outputs: Outputs,
    batch: dict[str, Array],
    weights: Mapping[str, float],
    *,
    label_smoothing: float,
    box: Bool[Array, "g g"] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The weighted sum of the losses, and each loss by name, averaged over the batch.

      class: cross-entropy of the class head; its weight is 1.
      token: cross-entropy of the token head.
      fidelity: squared error of the fidelity head given the true class, which makes the feature
        carry quality as well as the class.
      ordinal: cross-entropy of the ordinal head, over all thresholds.
      ranking: ranking loss of the class head.
      mask: cross-entropy of the mask heads with the forged share of each position, added over
        stages 2 and 3.

    `weights` are by these names. Of the last four, one without a weight, or whose head the network
    lacks, is not computed.

    `box` is the box of tokens that the images exchanged (`token_mixing.exchange`). With it, tokens
    return to their own images, and an image has both classes, each weighted by its share of the
    area; ranking and mask take no account of it.
    """
    weights = {"class": 1.0, **weights}
    weighed = {name for name, weight in weights.items() if weight}

    def of_whole(label, target):
        terms = {"class": cross_entropy(outputs.class_logits, label, label_smoothing)}
        if "fidelity" in weighed and outputs.fidelity is not None:
            says = jnp.take_along_axis(outputs.fidelity, label[:, None], axis=1)[:, 0]
            terms["fidelity"] = jnp.square(says - target)
        if "ordinal" in weighed and outputs.ordinal_logits is not None:
            terms["ordinal"] = ordinal_loss(outputs.ordinal_logits, target)
        return terms

    parts, tokens = of_whole(batch["label"], batch["fidelity"]), outputs.token_logits
    if box is not None:
        other, share = of_whole(batch["label"][::-1], batch["fidelity"][::-1]), 1 - box.mean()
        parts = jax.tree.map(lambda a, b: share * a + (1 - share) * b, parts, other)
        tokens = exchange(tokens.reshape(-1, *box.shape, 2), box).reshape(tokens.shape)
    parts = {name: losses.mean() for name, losses in parts.items()}
    parts["token"] = token_loss(tokens, batch["forged"]).mean()
    if "ranking" in weighed:
        parts["ranking"] = ranking_loss(outputs.class_logits, batch["label"])
    if "mask" in weighed and outputs.mask_logits:
        parts["mask"] = sum(
            token_loss(logits, shrink_mask(batch["mask"], logits.shape[1])).mean()
            for logits in outputs.mask_logits
        )
    return sum(weights.get(name, 0.0) * part for name, part in parts.items()), parts
