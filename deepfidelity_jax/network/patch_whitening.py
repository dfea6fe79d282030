"""The first patch embedding initialised to whiten the patches of the training faces.

Neighbouring pixels are nearly alike: all but a few percent of the variance of a 4 x 4 patch is its
mean colour, and a fresh network sees little else for its first thousands of images. Traces of
forgery lie in the rest. W = V diag(lambda + floor)^(-1/2), with V and lambda the eigenvectors and
eigenvalues of the patches' covariance, gives every direction the same variance.

Coates, Lee and Ng, "An analysis of single-layer networks in unsupervised feature learning", 2011.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from deepfidelity_jax.network.ssaaformer import cut_patches, normalise

# The variance of rounding and JPEG artefacts: a standard deviation of 2 grey levels.
FLOOR = 3e-4


def whiten(
    images: UInt8[np.ndarray, "n h w 3"], patch: int
) -> tuple[Float32[np.ndarray, "i o"], Float32[np.ndarray, "o"]]:
    """Kernel and bias that whiten the patches of images, the direction of most variance first.

    `patch` divides the sides; i = o = 3 * patch^2. Outputs are uncorrelated, with mean 0 and
    variance lambda / (lambda + FLOOR).
    """
    patches = np.asarray(cut_patches(normalise(jnp.asarray(images)), patch), np.float64)
    patches = patches.reshape(-1, patches.shape[-1])
    mean = patches.mean(axis=0)
    variance, directions = np.linalg.eigh(np.cov(patches.T))
    kernel = (directions / np.sqrt(np.maximum(variance, 0) + FLOOR))[:, ::-1]
    # LAPACK chooses the sign of an eigenvector: fixed here, so that every platform agrees.
    kernel = kernel * np.sign(kernel[np.argmax(np.abs(kernel), axis=0), np.arange(len(kernel))])
    return kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)


def start_whitened(params: dict, images: UInt8[np.ndarray, "n h w 3"]) -> dict:
    """The parameters with a first patch embedding that whitens, up to its number of outputs."""
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
