"""Families of forgeries: whole functions of a face, a donor and a generator.

Each returns the inner picture, the mask, and how the two are joined. With `twin` it takes the same
steps with the same draws but no foreign content: the face itself replaces the donor, is moved by
about a pixel, keeps its light, and gets no invented texture. All remaining changes can occur in
a real picture, so a forgery differs from its twin only by the forgery.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from deepfidelity_jax.faces.geometry import fit_similarity
from deepfidelity_jax.forgeries.families import colours, masks, textures
from deepfidelity_jax.forgeries.families.joins import JOINS
from deepfidelity_jax.forgeries.families.treatments import change_detail
from deepfidelity_jax.forgeries.families.warps import (
    KERNELS,
    NUDGE,
    Face,
    Mask,
    Pixels,
    anchors,
    axes,
    displace,
    draw_nudge,
    warp_affine,
    warp_points,
)

Random = np.random.Generator


class Layers(NamedTuple):
    """An inner face as large as the picture, where it goes, and how it is joined (JOINS)."""

    inner: Pixels
    mask: Mask
    join: str


def self_blend(face: Face, donor: Face, rng: Random, *, twin: bool) -> Layers:
    """The face under another light and moved a little, blended onto itself.

    Shiohara and Yamasaki, "Detecting deepfakes with self-blended images", CVPR 2022.
    """
    strength = rng.uniform(0.4, 1.2)
    inner = colours.relight(face.pixels, rng, 0.0 if twin else strength)
    inner = change_detail(displace(inner, rng, twin=twin), rng)
    return Layers(inner, masks.draw(face.points, inner.shape[:2], rng, masks.WHOLE), "opacity")


def swap(face: Face, donor: Face, rng: Random, *, twin: bool) -> Layers:
    """Another person's face, turned and scaled onto this one's (face X-ray, Li et al., 2020)."""
    inner = _align(face, donor, rng, twin)
    mask = masks.draw(face.points, inner.shape[:2], rng, masks.WHOLE)
    return _finish(inner, face, mask, rng, twin)


def warped_swap(face: Face, donor: Face, rng: Random, *, twin: bool) -> Layers:
    """Another person's face, warped so that its features match the positions of this one's.

    A thin plate spline on the five points, as in programs with a face mesh (FaceSwap).
    """
    inner = _bend(face, donor, rng, twin)
    mask = masks.draw(face.points, inner.shape[:2], rng, masks.WHOLE)
    return _finish(inner, face, mask, rng, twin)


def part_swap(face: Face, donor: Face, rng: Random, *, twin: bool) -> Layers:
    """Another person's eyes, nose, mouth or half of the face."""
    bend = _bend if rng.random() < 0.5 else _align
    inner = bend(face, donor, rng, twin)
    mask = masks.draw(face.points, inner.shape[:2], rng, masks.PARTS)
    return _finish(inner, face, mask, rng, twin)


def reenactment(face: Face, donor: Face, rng: Random, *, twin: bool) -> Layers:
    """Mouth and eyes of the same person moved: opened, closed, widened, lifted.

    The features are warped and blended onto the old face, as in Face2Face (Thies et al., 2016).
    """
    frame, shape = axes(face.points), face.pixels.shape[:2]
    # Points above and below the eyes and the mouth, besides the five.
    lids = frame.place(np.array([-0.5, -0.5, 0.5, 0.5]), np.array([-0.14, 0.14, -0.14, 0.14]))
    lips = frame.place(np.array([0.0, 0.0, 0.0]), np.array([0.86, 1.16, 1.45]))
    source = np.vstack([face.points, lids, lips, anchors(shape)]).astype(np.float32)
    # Each at least a few pixels: a mouth that hardly moves is not forged.
    moves = rng.uniform(0.4, 1, 5) * rng.choice([-1, 1], 5)
    if rng.random() < 0.4:
        moves[2] = 0.0  # the mouth alone
    target = source.copy()
    reach = rng.uniform(0.10, 0.2) * frame.across
    amount = NUDGE if twin else reach
    right, down = amount * frame.right, amount * frame.down
    target[3] += moves[0] * down - moves[1] * right
    target[4] += moves[0] * down + moves[1] * right
    target[[5, 7]] += 0.5 * moves[2] * down
    target[[6, 8]] -= 0.5 * moves[2] * down
    target[[10, 11]] += moves[3] * down
    target[2] += 0.4 * moves[4] * right
    inner = warp_points(face.pixels, source, target, shape, int(rng.choice(KERNELS)))
    inner = change_detail(inner, rng)
    parts: tuple[str, ...] = ("inner", "lower", "mouth")
    if moves[2]:  # where the eyes stay, a mask of the eyes would forge nothing
        parts += ("eyes",)
    mask = masks.draw(face.points, shape, rng, parts)
    return Layers(inner, mask, str(rng.choice(["opacity", "pyramid", "hard"], p=[0.6, 0.2, 0.2])))


def resynthesis(face: Face, donor: Face, rng: Random, *, twin: bool) -> Layers:
    """The same face with its fine detail invented: drawn anew, or taken from a donor's patches."""
    if rng.random() < 0.6:
        inner = textures.scrambled(face.pixels, rng, twin=twin)
    else:
        aligned = _align(face, donor, rng, twin)
        inner = textures.stitched(face.pixels, aligned, rng, twin=twin)
    return Layers(inner, _face_or_picture(face, rng), "opacity")


def generated(face: Face, donor: Face, rng: Random, *, twin: bool) -> Layers:
    """The face with a generator's traces: artefacts of upsampling, slightly different light.

    Also moved a little, because a generated face never matches the old position exactly.
    """
    inner = textures.upsampled(face.pixels, rng, twin=twin)
    strength = rng.uniform(0.0, 0.5)
    inner = colours.relight(inner, rng, 0.0 if twin else strength)
    inner = displace(inner, rng, twin=twin, reach=0.01) if rng.random() < 0.4 else inner
    mask = _face_or_picture(face, rng)
    return Layers(inner, mask, str(rng.choice(["opacity", "pyramid"])))


def whole_face(face: Face, donor: Face, rng: Random, *, twin: bool) -> Layers:
    """The whole picture synthesised: two people merged, detail invented, upsampled; no seam."""
    share, how = rng.uniform(0.0, 0.6), rng.integers(3)
    other = _bend(face, donor, rng, twin)
    inner = cv2.addWeighted(face.pixels, 1 - share, other, share, 0)
    if how != 1:
        inner = textures.scrambled(inner, rng, twin=twin)
    if how != 0:
        inner = textures.upsampled(inner, rng, twin=twin)
    return Layers(inner, np.ones(inner.shape[:2], np.float32), "opacity")


def inpainted(face: Face, donor: Face, rng: Random, *, twin: bool) -> Layers:
    """A part of the face removed and filled in."""
    mask = masks.draw(face.points, face.pixels.shape[:2], rng, ("eye", "eyes", "nose", "mouth"))
    inner = textures.filled(face.pixels, mask, axes(face.points), rng, twin=twin)
    return Layers(inner, mask, str(rng.choice(["opacity", "gradient"], p=[0.8, 0.2])))


def morph(face: Face, donor: Face, rng: Random, *, twin: bool) -> Layers:
    """Two people averaged with aligned features: one passport for both (Ferrara et al., 2014)."""
    share = rng.uniform(0.3, 0.65)
    other = _bend(face, donor, rng, twin)
    mask = masks.draw(face.points, other.shape[:2], rng, ("face",))
    seed = rng.integers(2**63)  # its number of draws depends on the pixels
    inner = cv2.addWeighted(face.pixels, 1 - share, other, share, 0)
    if not twin:  # after averaging, which lowers contrast: a real picture may be flat, too
        inner = colours.match(inner, face.pixels, mask, np.random.default_rng(seed))
    if rng.random() < 0.3:
        mask = np.ones_like(mask)
    return Layers(inner, mask, "opacity")


FAMILIES: dict[str, Callable[..., Layers]] = {
    family.__name__: family
    for family in (
        self_blend,
        swap,
        warped_swap,
        part_swap,
        reenactment,
        resynthesis,
        generated,
        whole_face,
        inpainted,
        morph,
    )
}


def _align(face: Face, donor: Face, rng: Random, twin: bool) -> Pixels:
    """The donor aligned by a similarity of the points; sometimes only shifted by whole pixels."""
    kernel, nudge = int(rng.choice(KERNELS)), draw_nudge(face.pixels.shape[:2], rng)
    whole, miss = rng.random() < 0.25, rng.normal(0, 0.02, 2) * face.pixels.shape[1]
    if twin:
        matrix, source = nudge, face
    else:
        matrix, source = fit_similarity(donor.points, face.points), donor
        matrix[:, 2] += miss
    if whole:
        matrix[:, 2] = np.rint(matrix[:, 2] + (matrix[:, :2] - np.eye(2)) @ source.points.mean(0))
        matrix[:, :2] = np.eye(2)
    return warp_affine(source.pixels, matrix, face.pixels.shape[:2], kernel)


def _bend(face: Face, donor: Face, rng: Random, twin: bool) -> Pixels:
    """The donor warped by a thin plate spline on the points, chin and temples."""
    kernel = int(rng.choice(KERNELS))
    jitter = rng.uniform(-1, 1, (10, 2)) * NUDGE
    source = face if twin else donor
    shape = face.pixels.shape[:2]
    around = np.array([-1.1, 1.1, 0.0, -0.8, 0.8]), np.array([0.2, 0.2, 1.8, -0.8, -0.8])
    points = [np.vstack([one.points, axes(one.points).place(*around)]) for one in (source, face)]
    target = points[1] + jitter
    return warp_points(
        source.pixels, points[0].astype(np.float32), target.astype(np.float32), shape, kernel
    )


def _face_or_picture(face: Face, rng: Random) -> Mask:
    """A mask of the face or of the whole picture, as a generator need not leave a seam."""
    shape = face.pixels.shape[:2]
    mask = masks.draw(face.points, shape, rng, masks.WHOLE)
    return np.ones_like(mask) if rng.random() < 0.35 else mask


def _finish(inner: Pixels, face: Face, mask: Mask, rng: Random, twin: bool) -> Layers:
    """Colours matched, detail changed, a join chosen."""
    seed, detail = rng.integers(2**63), rng.random() < 0.4
    if not twin:
        inner = colours.match(inner, face.pixels, mask, np.random.default_rng(seed))
    inner = change_detail(inner, rng) if detail else inner
    return Layers(inner, mask, str(rng.choice(JOINS, p=[0.55, 0.15, 0.15, 0.15])))
