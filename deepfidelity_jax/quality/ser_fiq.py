"""SER-FIQ: a face is good if its embedding hardly changes when parts of its features are dropped.

    e_t = unit(head(x * m_t)), t = 1 .. T    x: last map of ArcFace, m_t: dropout's t-th draw
    d   = mean over i < j of |e_i - e_j|
    q   = 2 / (1 + exp(d))

Terhörst, Kolf, Damer, Kirchbuchner and Kuijper, "SER-FIQ: Unsupervised Estimation of Face Image
Quality Based on Stochastic Embedding Robustness", 2020. Only the head runs T times. The user
supplies the weights, because ArcFace's may not be redistributed.
"""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces.geometry import fit_similarity
from deepfidelity_jax.images import pictures
from deepfidelity_jax.processes.machine import count_cores
from deepfidelity_jax.quality import iresnet
from deepfidelity_jax.weight_files.named_tensors import about, read_weights

PASSES = 100
SEED = 0  # of the draws; fixed, so that a face's score does not change from run to run
# Positions of the landmarks of `faces.geometry` for ArcFace, in pixels of its 112 x 112 input.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
     [70.7299, 92.2041]]
)  # fmt: skip
# Batches are padded to one of these, so that no other shape is ever compiled.
BATCH_SIZES = (1, 4, 16)


class SerFiq:
    """The measure with an iResNet's depths and variables, on the first device; see `load`."""

    def __init__(self, depths: tuple[int, ...], variables: dict[str, Any]):
        self._depths = depths
        self._variables = jax.device_put(variables, jax.local_devices()[0])

    def __call__(
        self, images: Sequence[bytes], landmarks: Sequence[Float32[np.ndarray, "5 2"]]
    ) -> Float32[np.ndarray, "n"]:
        """Raw quality q of encoded crops, high is good; NaN where landmarks cannot align a face.

        Landmarks are as in `faces.cropping.Crop`.
        """

        def prepare(image, points):
            return align(pictures.decode_image(image), points)

        with ThreadPoolExecutor(count_cores()) as pool:
            aligned = list(pool.map(prepare, images, landmarks))
        known = [number for number, face in enumerate(aligned) if face is not None]
        qualities = np.full(len(aligned), np.nan, np.float32)
        for start in range(0, len(known), BATCH_SIZES[-1]):
            rows = known[start : start + BATCH_SIZES[-1]]
            size = next(size for size in BATCH_SIZES if size >= len(rows))
            faces = np.zeros((size, iresnet.SIDE, iresnet.SIDE, 3), np.uint8)
            faces[: len(rows)] = [aligned[row] for row in rows]
            measured = measure(self._variables, faces, draw(SEED), depths=self._depths)
            qualities[rows] = np.asarray(measured)[: len(rows)]
        if not np.isfinite(qualities[known]).all():
            raise InputError("the ArcFace weights give a face no finite quality: they are damaged")
        return qualities


def load(weights: str | Path) -> SerFiq:
    """SER-FIQ with the weights of an insightface ArcFace checkpoint, or of a file made from one.

    Raises InputError for a file that does not hold an iResNet-50 or -100.
    """
    _, tensors = read_weights(Path(weights))
    with about(weights):
        return SerFiq(*iresnet.from_torch(tensors))


def align(
    image: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "5 2"]
) -> UInt8[np.ndarray, "112 112 3"] | None:
    """The face turned, scaled and moved onto TEMPLATE; beyond the border the image is mirrored.

    Uses the best similarity transform of the known landmarks; the two eyes are enough. None if
    fewer than two are known, or all coincide.
    """
    matrix = fit_similarity(landmarks, TEMPLATE)
    if matrix is None:
        return None
    zoom = float(np.hypot(*matrix[:, 0]))
    if zoom == 0:
        return None
    if zoom < 0.5:
        # Shrunk by averaging first: the warp that follows then skips no pixel.
        height, width = (max(1, round(2 * zoom * length)) for length in image.shape[:2])
        shrunk = np.array([width / image.shape[1], height / image.shape[0]])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        # From pixels of the small image to pixels of the large one, then on to the face.
        back = np.column_stack([np.diag(1 / shrunk), 0.5 / shrunk - 0.5])
        matrix = matrix @ np.vstack([back, [0, 0, 1]])
    return cv2.warpAffine(
        image,
        matrix,
        (iresnet.SIDE, iresnet.SIDE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


@functools.cache
def draw(seed: int, passes: int = PASSES) -> Float[Array, "t d"]:
    """Dropout's factors for the last layer's inputs, a row per pass: 0 or 2 with equal probability.

    The same for every face, so that a score does not depend on the faces scored beside it.
    """
    # A fair coin is a bit. The generator is named because user settings could change the default.
    key = jax.random.key(seed, impl="threefry2x32")
    words = jax.random.bits(key, (passes, iresnet.INPUTS // 32), jnp.uint32)
    bits = (words[..., None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
    return 2.0 * bits.reshape(passes, iresnet.INPUTS)


@functools.partial(jax.jit, static_argnames="depths")
def measure(
    variables, faces: UInt8[Array, "n 112 112 3"], factors: Float[Array, "t d"], *, depths
) -> Float[Array, "n"]:
    """Raw quality q of aligned RGB faces, with an iResNet's variables and dropout's factors."""
    images = faces.astype(jnp.float32) / 127.5 - 1
    embeddings = iresnet.IResNet(depths).apply(variables, images, factors)
    return 2 / (1 + jnp.exp(mean_distance(embeddings)))


def mean_distance(embeddings: Float[Array, "n t e"]) -> Float[Array, "n"]:
    """Mean Euclidean distance over all pairs of the t embeddings, each scaled to unit length."""
    t = embeddings.shape[1]
    e = embeddings / jnp.linalg.norm(embeddings, axis=-1, keepdims=True)
    # By products of pairs, t x t numbers per face. Relative to the mean, because the vectors are
    # close together, and the difference of two numbers near 1 would lose precision.
    e = e - e.mean(axis=1, keepdims=True)
    products = jnp.einsum("nie,nje->nij", e, e, precision="highest")
    squares = jnp.square(e).sum(axis=-1)
    # Rounding may leave a zero just below 0. Not `maximum`: XLA's CPU code loses NaN in it.
    distances = jnp.sqrt(jnp.abs(squares[:, :, None] + squares[:, None] - 2 * products))
    pairs = jnp.triu(jnp.ones((t, t)), k=1)
    return (distances * pairs).sum(axis=(1, 2)) / (t * (t - 1) / 2)
