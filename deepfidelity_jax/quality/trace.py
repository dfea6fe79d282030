"""Trace: how much of what a detector relies on is left in a picture for degradation to destroy.

    q = min over degradations d of |f(x) - f(d(x))| / sqrt(width of f)

f is the feature of the bundled detector, each number divided by its spread over faces. If blur,
shrinking, compression or noise hardly changes the feature of a picture, then the detail that this
would destroy is already lost, and with it any trace of a forgery. The measure is made for deepfake
detection and says nothing about how good a face looks.
"""

from collections.abc import Sequence
from functools import cache, partial

import jax
import numpy as np
from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict

from deepfidelity_jax.forgeries.augment import center_crop
from deepfidelity_jax.forgeries.degrade import degrade
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.network import ssaaformer
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.network.fold import fold
from deepfidelity_jax.weight_files import packed

# Each about as strong as in pictures shared online; see `forgeries.degrade`.
DEGRADATIONS = (("blur", 0.25), ("downscale", 0.5), ("jpeg", 0.6), ("noise", 0.3))
AT_ONCE = 8  # pictures in every call of the network, so that no result depends on other pictures


@cache
def spread() -> Float32[np.ndarray, "d"]:
    """How much each number of the feature varies over the faces the detector was fitted on."""
    with np.load(packed.BUNDLED / packed.SPREAD, allow_pickle=False) as file:
        return file["spread"] + np.float32(1e-6)


class Trace:
    """The measure, on the first device; see `load`."""

    def __init__(self, config: ConfigDict, variables):
        model = build_model(config).clone(folded=True)
        folded = jax.jit(partial(fold, config=model.config))(variables)
        self._variables = jax.device_put(folded, jax.local_devices()[0])
        self._side, self._share = config.model.image_size, config.model.eval_crop
        self._features = jax.jit(
            lambda variables, images: (
                model.apply(variables, ssaaformer.normalise(images), train=False).features
            )
        )

    def __call__(
        self, images: Sequence[bytes], landmarks: Sequence[Float32[np.ndarray, "5 2"]]
    ) -> Float32[np.ndarray, "n"]:
        """Raw quality q of encoded crops, high is good; `landmarks` are not needed."""
        return np.array([self._measure(decode_image(image)) for image in images], np.float32)

    def _measure(self, image: UInt8[np.ndarray, "h w 3"]) -> float:
        rng = np.random.default_rng(0)  # the same grains for every face
        copies = [image] + [degrade(image, kind, by, rng) for kind, by in DEGRADATIONS]
        batch = np.zeros((AT_ONCE, self._side, self._side, 3), np.uint8)
        for row, copy in zip(batch, copies, strict=False):
            row[:] = center_crop(copy, self._side, self._share)
        clean, *others = (
            np.asarray(self._features(self._variables, batch))[: len(copies)] / spread()
        )
        return float(min(np.sqrt(np.mean((clean - other) ** 2)) for other in others))


def load() -> Trace:
    """The measure with the detector that comes with the package."""
    config, variables, _ = packed.read(packed.BUNDLED)
    return Trace(ConfigDict(config), variables)
