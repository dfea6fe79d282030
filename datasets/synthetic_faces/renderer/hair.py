"""Hair: a shell around the head, where it grows, its strands, and how it is drawn."""

import functools
import math

import cv2
import numpy as np
from jaxtyping import Float32

from .camera import Shot
from .canvas import (
    Grid,
    Picture,
    Plane,
    bell,
    blend,
    boxes,
    fine,
    noise,
    spread,
    step,
    strands,
    streaks,
)
from .head import CROWN
from .person import HAIR_STYLES, Identity
from .sections import Sections, Surface, closing, trace

STRANDS = Grid(-2.5, -1.8, 112)  # over (psi, v)
LOOSE = ("bob", "long")  # styles that hang behind the face
# How far each style stands off the crown and off the sides.
LIFT = dict(zip(HAIR_STYLES, (0.01, 0.12, 0.2, 0.14, 0.16, 0.14), strict=True))
WIDEN = dict(zip(HAIR_STYLES, (-0.015, 0.03, 0.04, 0.06, 0.14, 0.1), strict=True))


def trace_hair(shot: Shot) -> Surface:
    """What each pixel sees of the shell of the hair."""
    return trace(_sections(shot.identity), shot)


@functools.lru_cache(maxsize=64)
def _sections(identity: Identity) -> Sections:
    style, lift = identity.hair_style, LIFT[identity.hair_style]
    side = WIDEN[style] * (0.8 + 0.5 * identity.hair_wave)
    v = np.linspace(CROWN - lift, 2.4, 4096)
    if style == "bob":
        flare = 0.08 * step(0.1, 0.9, v) - 0.5 * step(1.0, 1.45, v)
    else:
        flare = 0.1 * step(0, 1.6, v) if style == "long" else -0.1 * step(0.2, 1.2, v)
    shell = closing(v, CROWN - lift, 2.7 + 1.5 * lift, 0.5) + flare
    return Sections.of(v, (1 + side) * shell, (1.02 + 0.5 * lift) * shell, 0.12)


def hair_field(identity: Identity, hair: Surface, head: Surface) -> Plane:
    """Depth into the hair, about in units, negative outside; smooth, strands come later."""
    style, part, line = identity.hair_style, identity.hair_part, identity.hairline
    away, psi, v = np.abs(hair.psi), hair.psi, hair.v
    if style in ("buzz", "short"):
        recess = 0.2 * identity.age * bell(away - 0.55, 0.22)
        field = line - recess + (0.05 - line) * step(0.7, 1.3, away) - v
    elif style == "swept":
        sweep = np.clip((psi - part) * math.copysign(1.6, -part), -1, 3)
        front = line - 0.05 + 0.14 * np.sin(sweep)
        field = front - front * step(0.75, 1.3, away) - v
    elif style == "fringe":
        front = 0.05 * np.cos(psi * 2) + 0.04 * np.sin(psi * 9 + identity.seed % 6) - 0.4
        field = front + (0.15 - front) * step(0.85, 1.25, away) - v
    else:
        # Curtains that fall from the parting and leave an arch free for the face.
        arch = np.clip(1 - np.maximum((0.15 - v) / (0.3 - line), 0) ** 1.7, 0, 1) ** 0.7
        field = np.abs(psi - 0.7 * part * step(0.2, -0.9, v)) - 1.06 * arch
        field -= 0.06 * identity.hair_wave * np.sin(3 * v + identity.seed % 6) * (v > -0.3) - 0.03
        if style == "bob":
            field = np.minimum(field, 1.3 - v)
    if style not in LOOSE:
        # Past the head's outline one sees the hair of its far side, up to the ear.
        field = np.maximum(field, np.minimum(-0.05 * head.inside, -0.05 - v))
    return np.minimum(field, (hair.inside + 0.5) * 0.15)


@functools.lru_cache(maxsize=64)
def _texture(identity: Identity) -> Float32[np.ndarray, "h w"]:
    """Strand brightness over (psi, v), mean 0, unit strength: fine hairs, locks, waves."""
    rng = np.random.default_rng([identity.seed, 6])
    shape = height, width = 420, 560
    if identity.hair_style == "buzz":
        texture = noise(rng, shape, (1.5, 0.8), (3, 0.5), (40, 0.3))
    else:
        short, wave = identity.hair_style == "short", identity.hair_wave
        locks = streaks(rng, shape, 4, 40)
        texture = 0.8 * strands(rng, shape) + 0.9 * locks / locks.std()
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        curl = np.sin(y / (26 - 10 * wave) + 3 * noise(rng, shape, (80, 1)))
        bend = wave**2 * (14 if short else 10) * curl
        bend += noise(rng, shape, (70, 6), (25, 2 + 8 * wave * short))
        y += noise(rng, shape, (20, 12 * wave if short else 2))
        texture = cv2.remap(texture, x + bend, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.clip(texture / texture.std(), -2.5, 2.5)


def draw_hair(picture: Picture, shot: Shot, hair: Surface, field: Plane, depth=1.0) -> None:
    """Draws the hair where `field` is positive; `depth` dims it."""
    identity, light = shot.identity, shot.light
    low, box = boxes((field > -0.15) & (hair.inside > -2))
    hair, field = hair.crop(low), field[low]
    normal, half, rgb = shot.turned(hair.normal), light.half, spread(identity.hair_rgb)
    shade = light.diffuse(normal, soft=(0.25, 0.25, 0.25))
    # Locks are darker at their roots and under other locks.
    shade *= depth * (0.55 + 0.45 * step(-0.02, 0.3, field))
    # Strands run down the head: the highlight is a band where normals halve light and view.
    band = bell(normal[1] - half[1] + 0.35, 0.22)
    band *= depth * np.maximum(normal[0] * half[0] + normal[2] * half[2], 0)

    strand = STRANDS.sample(_texture(identity), fine(hair.psi), fine(hair.v))
    colour = fine(shade) * np.maximum(rgb * rgb, 0.004)
    colour *= 1 + 0.38 * strand
    colour += (0.5 + rgb) * (fine(band) * np.maximum(0.06 + 0.06 * strand, 0))
    ragged, edge, most = (0.02, 5, 0.72) if identity.hair_style == "buzz" else (0.028, 16, 1)
    alpha = np.clip(0.5 + (fine(field) + ragged * strand) * edge, 0, 1)
    alpha *= np.clip(fine(hair.inside) + 0.5, 0, most)
    blend(picture[:, *box], colour, alpha)


def draw_hair_behind(picture: Picture, shot: Shot, hair: Surface, head: Surface, field: Plane):
    """Draws the visible part of the far side of loose hair, behind the head and the front hair."""
    if shot.identity.hair_style in LOOSE:
        behind = np.where((head.inside > 4) | (field > 0.1), -1, hair.inside * 0.15)
        draw_hair(picture, shot, hair, behind, depth=0.3)
