"""Forgeries made from real faces, each with a real picture that differs only by the forgery.

A detector learns any difference between the classes. With carelessly made forgeries that is a
shortcut: every fake is resampled or softened inside the face, and no real picture is. Here each
forgery comes with its twin, a real picture processed in the same steps without foreign content
(kinds). Both then get the same recompression, blur, noise and light (treatments).

  warps         landmark geometry, and warps that move a face
  masks         which part of the face is forged
  joins         how the inner face is blended into the picture
  colours       light and colour matching
  textures      texture that no camera took
  kinds         the families of forgeries, each with its twin
  treatments    degradations shared by real and forged pictures
  video_coding  a picture as a frame of a compressed video
  shots         other pose, light and colour before a face is forged
"""

from typing import NamedTuple

import numpy as np

from deepfidelity_jax.faces.geometry import complete_landmarks
from deepfidelity_jax.forgeries.families import joins, masks, treatments
from deepfidelity_jax.forgeries.families.kinds import FAMILIES, Layers
from deepfidelity_jax.forgeries.families.shots import retake
from deepfidelity_jax.forgeries.families.warps import Face, Mask, Pixels

__all__ = [
    "FAMILIES",
    "NEED_DONOR",
    "SHARES",
    "Face",
    "Pair",
    "forge",
    "make_pair",
    "make_twin",
    "retake",
]

# How often each is drawn in training, relative to the others. Hard families are drawn more often,
# because invented texture is learnt first. With equal shares, training may start to improve sooner.
SHARES = {
    "self_blend": 0.14,
    "swap": 0.12,
    "warped_swap": 0.13,
    "part_swap": 0.13,
    "reenactment": 0.13,
    "resynthesis": 0.07,
    "generated": 0.08,
    "whole_face": 0.05,
    "inpainted": 0.08,
    "morph": 0.07,
}

# Families that take another person's face.
NEED_DONOR = ("swap", "warped_swap", "part_swap", "resynthesis", "whole_face", "morph")


class Pair(NamedTuple):
    """A real picture, a forgery with the same treatment, and the forged share of each pixel."""

    real: Pixels
    fake: Pixels
    mask: Mask


def forge(family: str, face: Face, donor: Face, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    """Forge a face by one of FAMILIES.

    Args:
      family: a name in FAMILIES.
      face: an RGB crop [h w 3] and its points [5, 2], NaN where unknown.
      donor: another person's, of any size; families without a donor ignore it.
      rng: the only source of randomness.

    Returns:
      The forged picture, and the share in [0, 1] of each pixel that is forged.
    """
    return _join(_layers(family, face, donor, rng, twin=False), face)


def make_twin(family: str, face: Face, rng: np.random.Generator) -> Pixels:
    """The real picture after the same steps and draws as in `forge`, without foreign content.

    Its mask has a soft edge, because changes that a camera or an editor makes inside a face have no
    seam.
    """
    layers = _layers(family, face, face, rng, twin=True)
    soft = masks.soften(layers.mask, 0.02 * layers.mask.shape[1])
    join = "opacity" if layers.join in ("hard", "gradient") else layers.join
    return _join(layers._replace(mask=soft, join=join), face)[0]


def make_pair(
    family: str,
    face: Face,
    donor: Face,
    rng: np.random.Generator,
    *,
    twins: float = 0.6,
    touched: float = 0.25,
    worn: float = 0.15,
    retouched: float = 0.5,
) -> Pair:
    """A real picture and its forgery, for training.

    `twins` is the share of real pictures that are a twin and not the picture itself. The steps of a
    forgery reduce quality, so some real pictures lose quality as well: `worn` is the share that
    lose it in the whole picture, `retouched` the share that lose it inside the face. `touched` is
    the share of pairs whose inner face is then changed again in both. Both get the same draw of
    `treatments.live`.
    """
    seed, life, touch, wear, retouch = rng.integers(2**63, size=5)
    fake, mask = forge(family, face, donor, np.random.default_rng(seed))
    real = face.pixels
    if rng.random() < twins:
        real = make_twin(family, face, np.random.default_rng(seed))
    if rng.random() < worn:
        real = treatments.wear(real, np.random.default_rng(wear))
    if rng.random() < retouched:
        real = treatments.touch_inside(real, _inner_mask(face, rng), np.random.default_rng(retouch))
    inside = _inner_mask(face, rng) if rng.random() < touched else None

    def after(image):
        if inside is not None:
            image = treatments.touch_inside(image, inside, np.random.default_rng(touch))
        return treatments.live(image, np.random.default_rng(life))

    return Pair(after(real), after(fake), mask)


def _inner_mask(face: Face, rng: np.random.Generator) -> Mask:
    """The face or a part of it, without a seam."""
    shape = face.pixels.shape[:2]
    points = complete_landmarks(face.points, shape)
    names = masks.WHOLE if rng.random() < 0.5 else tuple(masks.SHAPES)
    return masks.soften(masks.draw(points, shape, rng, names), 0.02 * shape[1])


def _layers(family, face: Face, donor: Face, rng, *, twin: bool) -> Layers:
    if family not in FAMILIES:
        raise ValueError(f"unknown forgery {family!r}: one of {', '.join(FAMILIES)}")
    face, donor = (
        Face(one.pixels, complete_landmarks(one.points, one.pixels.shape[:2]))
        for one in (face, donor)
    )
    return FAMILIES[family](face, donor, rng, twin=twin)


def _join(layers: Layers, face: Face) -> tuple[Pixels, Mask]:
    return joins.join(layers.join, layers.inner, face.pixels, layers.mask)
