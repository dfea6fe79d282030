"""The first patch embedding started as a whitening of the patches it will see.

Neighbouring pixels are nearly alike: of the variance of a 4 x 4 patch of a face all but a few
percent is its mean colour, and a fresh network sees little else for its first thousands of images.
The traces of a forgery lie in the rest. With W = V diag(lambda + floor)^(-1/2), V and lambda the
eigenvectors and eigenvalues of the patches' covariance, every direction starts with the same say.

Trained on 16,000 images of 297 photographs (tiny, 128 px, forged afresh), frame AUC on 95 others:
0.83 instead of 0.80, and after the first 8,000 images 0.77 instead of 0.70; one run each.

Coates, Lee and Ng, "An analysis of single-layer networks in unsupervised feature learning", 2011.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from deepfidelity_jax.network.ssaaformer import cut_patches, normalise

# Variance of what is hardly more than rounding and JPEG: a deviation of 2 grey levels.
FLOOR = 3e-4


def whiten(
    images: UInt8[np.ndarray, "n h w 3"], patch: int
) -> tuple[Float32[np.ndarray, "i o"], Float32[np.ndarray, "o"]]:
    """Kernel and bias that whiten the patches of images, the strongest direction first.

    `patch` divides the sides; i = o = 3 * patch^2. Each output has mean 0 and a variance of
    lambda / (lambda + FLOOR), and no two are correlated.
    """
    patches = np.asarray(cut_patches(normalise(jnp.asarray(images)), patch), np.float64)
    patches = patches.reshape(-1, patches.shape[-1])
    mean = patches.mean(axis=0)
    variance, directions = np.linalg.eigh(np.cov(patches.T))
    kernel = (directions / np.sqrt(np.maximum(variance, 0) + FLOOR))[:, ::-1]
    # The sign of an eigenvector is the library's choice: fixed here, so that all agree.
    kernel = kernel * np.sign(kernel[np.argmax(np.abs(kernel), axis=0), np.arange(len(kernel))])
    return kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)


def start_whitened(params: dict, images: UInt8[np.ndarray, "n h w 3"]) -> dict:
    """Parameters whose first patch embedding whitens, as many of its outputs as there are."""
    stage = params["stage1"]
    proj = stage["patch_embed"]["proj"]
    kernel, bias = whiten(images, patch=4)
    count = min(kernel.shape[1], proj["kernel"].shape[1])
    proj = {
        "kernel": proj["kernel"].at[:, :count].set(kernel[:, :count]),
        "bias": proj["bias"].at[:count].set(bias[:count]),
    }
    embed = stage["patch_embed"] | {"proj": proj}
    return params | {"stage1": stage | {"patch_embed": embed}}
