"""The head: its cross-sections, the relief on them, how an expression moves it, landmarks."""

import functools
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from .camera import Shot
from .canvas import Grid, Plane, bell, hill, step
from .person import Identity
from .sections import Sections, Surface, closing, trace

CROWN = -1.42  # v of the head's highest point
RELIEF = Grid(-1.3, -1.6, 72)  # over (u, v)


@functools.lru_cache(maxsize=64)
def head_sections(identity: Identity) -> Sections:
    """The skull and the jaw."""
    chin, jaw = identity.chin, identity.jaw
    v = np.linspace(CROWN, chin, 4096)

    def oval(power, root):
        return np.where(v < 0, closing(v, CROWN, 2.7, 0.5), closing(v, chin, power, root))

    deep = oval(9, 0.5)
    depth = (0.92 - 0.3 * step(0.2, chin, v)) * deep
    # The chin's tip stays in front of the neck, the crown closes above it.
    front = 1.12 * np.where(v < 0, deep, 0.7 + 0.3 * deep)
    width = 0.98 * oval(2.05 + 0.55 * jaw, 1 / (1.35 + 0.4 * jaw))
    return Sections.of(v, width, depth, front - depth)


def trace_head(shot: Shot) -> Surface:
    """What each pixel sees of the head."""
    rise = functools.partial(RELIEF.sample, relief(shot.identity).height)
    sections = head_sections(shot.identity)
    return trace(sections, shot, rise=rise, rest=lambda v: v - jaw_drop(shot, v), rounds=3)


class Relief(NamedTuple):
    """What rises from the sections, on a grid over (u, v)."""

    height: Plane
    maps: Float32[np.ndarray, "h w 4"]  # slope by u, by v, openness to ambient light, gloss
    profile: Float32[np.ndarray, "h2 w2"]  # total depth at half the resolution, for shadows


@functools.lru_cache(maxsize=64)
def relief(identity: Identity) -> Relief:
    """Nose, sockets, lips, chin, cheeks and folds."""
    v, straight = RELIEF.texels()
    u = straight - identity.asymmetry * (1 + v)  # a slight bend of the whole face
    away = np.abs(u)
    tip, wing = identity.nose_length, identity.nose_width
    mouth, wide = identity.mouth, identity.mouth_width
    eye, age, chin = identity.eye_distance, identity.age, identity.chin
    lip, folds = lips(identity, u, v), fold(identity, u, v)

    climb = step(-0.12, tip - 0.03, v) ** 1.2
    ridge = step(-0.4, -0.02, v) * (0.3 + 0.7 * climb) * (1 - step(tip + 0.01, tip + 0.155, v))
    upper, lower = np.clip(-lip, 0, 1), np.clip(lip, 0, 1) ** 0.8
    pout = 0.024 * np.sin(np.pi * upper) + 0.042 * np.sin(np.pi * lower)
    brow, brow_y = 0.045 + 0.035 * identity.jaw, v + identity.brow_height - 0.02
    height = (
        identity.nose_height * ridge * bell(u, 0.095 + 0.055 * climb)
        + 0.06 * hill(u, v - tip, 0.1, 0.09)
        + 0.15 * hill(away - wing * 0.76, v - tip - 0.06, 0.075, 0.085)
        - 0.05 * hill(away - wing * 1.2, v - tip - 0.06, 0.04, 0.08)
        + pout * step(1.05, 0.8, away / wide)
        - 0.16 * hill(away - 0.9 * eye, v + 0.03, 0.22, 0.14)
        + 0.09 * hill(away - eye, v, 0.17, 0.1)
        + brow * hill(away - 0.85 * eye, brow_y, 0.3, 0.1)
        + 0.11 * hill(away - 0.57, v - 0.36, 0.2, 0.17)
        - 0.05 * hill(away - 0.6, v - 0.8, 0.14, 0.2)
        + 0.075 * hill(u, v - mouth, 0.36, 0.26)
        - 0.02 * hill(u, v - mouth + 0.17, 0.04, 0.1)
        - 0.06 * hill(u, v - mouth - 0.21, 0.22, 0.06)
        + 0.12 * hill(u, v - chin + 0.2, 0.2, 0.12)
        - (0.01 + 0.03 * age) * folds
        - 0.02 * age * hill(away - 0.9 * eye, v - 0.19, 0.2, 0.035)
        - 0.06 * hill(away - 0.88, v + 0.2, 0.2, 0.3)
    )
    openness = (
        1
        - 0.95 * hill(away - 0.5 * wing, v - tip - 0.115, 0.05, 0.024)
        - 0.35 * hill(away - 0.62 * eye, v + 0.06, 0.13, 0.13)
        - 0.2 * hill(away - eye, v + 0.1, 0.22, 0.06)
        - 0.12 * hill(u, v - tip - 0.15, 0.1, 0.04)
        - 0.35 * hill(away - wing * 1.18, v - tip - 0.08, 0.035, 0.07)
        - 0.25 * hill(u, v - mouth - 0.2, 0.2, 0.05)
        - 0.45 * hill(away - wide - 0.01, v - mouth, 0.045, 0.045)
        - (0.06 + 0.16 * age) * folds
        - 0.16 * (0.3 + age) * hill(away - 0.92 * eye, v - 0.17, 0.17, 0.06)
        - 0.3 * step(0.75, 1.05, away)
    )
    openness = np.clip(openness, 0.04, 1)
    gloss = 0.5 + 0.5 * hill(u, v - 0.3, 0.14, 0.25) + 0.4 * hill(u, v + 0.6, 0.5, 0.25)
    gloss += 0.5 * step(0.05, 0.3, np.abs(lip)) * step(0.95, 0.7, np.abs(lip)) * (away < wide)
    slope_v, slope_u = np.gradient(height, 1 / RELIEF.per_unit)
    profile = (head_sections(identity).front(straight, v) + height).astype(np.float32)
    return Relief(
        height.astype(np.float32),
        np.stack([slope_u, slope_v, openness, gloss * openness], -1).astype(np.float32),
        cv2.resize(profile, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    )


def fold(identity: Identity, u, v):
    """The line from the nose's wing past the corner of the mouth."""
    down = v - identity.nose_length
    return hill(np.abs(u) - identity.nose_width - 0.09 - 0.4 * down, down - 0.2, 0.05, 0.19)


def seam(identity: Identity, u):
    """v where the lips meet, at rest."""
    t = np.minimum(np.abs(u) * (1 / identity.mouth_width), 1.2)
    return identity.mouth + 0.034 * (1 - t * t) + 0.007 * np.cos(6 * t) + identity.asymmetry * u


def lips(identity: Identity, u, v):
    """Share of the way from the seam (0) to the outer edge of the upper (-1) or lower (1) lip."""
    t = np.clip(np.abs(u) / identity.mouth_width, 0, 1)
    bow = 1 - 0.25 * bell(t, 0.13) + 0.08 * bell(t - 0.25, 0.15)
    upper = identity.upper_lip * (1 - t**1.8) * bow + 0.004
    lower = identity.lower_lip * (1 - t**2.2) ** 0.9 + 0.004
    offset = v - seam(identity, u)
    return np.where(offset < 0, offset / upper, offset / lower)


def _jaw(identity, v):
    """Share of the jaw's drop that reaches v."""
    return step(identity.mouth, identity.mouth + 0.32, v)


def jaw_drop(shot: Shot, v):
    """How far an opening mouth lowers the point of the calm face at v."""
    return 0.2 * shot.pose.mouth_open * _jaw(shot.identity, v)


def gap(shot: Shot, u):
    """How far apart the lips are."""
    t = u * (1 / shot.identity.mouth_width)
    return 0.2 * shot.pose.mouth_open * np.clip(1 - t * t, 0, 1)


def lip_drop(shot: Shot, u, v):
    """How far the lower lip moves beyond the jaw, for points of the calm face."""
    return gap(shot, u) * (v > seam(shot.identity, u)) * (1 - _jaw(shot.identity, v))


def calm(shot: Shot, u, v):
    """Undoes smile and brows: the point of the calm face that has moved to (u, v)."""
    identity, pose, away = shot.identity, shot.pose, np.abs(u)
    # Lips bend like a bow: the pull grows with the squared distance to the corner, then falls off.
    t = (away * (1 / identity.mouth_width)) ** 2
    corner = pose.smile * t * np.exp(1 - t - ((v - identity.mouth) / 0.24) ** 2)
    cheek = pose.smile * hill(away - 0.5, v - 0.45, 0.26, 0.2)
    brow = pose.brow_raise * bell(v + (identity.brow_height + 0.06), 0.2)
    return u - np.sign(u) * corner * 0.11, v + 0.1 * corner + 0.05 * cheek + 0.06 * brow


def landmarks(shot: Shot) -> Float32[np.ndarray, "5 2"]:
    """Both eyes, the nose's tip and both corners of the mouth, x, y in pixels."""
    identity, eye, wide = shot.identity, shot.identity.eye_distance, shot.identity.mouth_width
    rest = np.array([(-eye, 0), (eye, 0), (0, identity.nose_length), (-wide, 0), (wide, 0)])
    rest[3:, 1] = seam(identity, rest[3:, 0])
    moved = rest.copy()
    for _ in range(12):  # the inverse of `calm`, in fixed-point rounds
        moved += rest - np.stack(calm(shot, *moved.T), -1)
    moved[:, 0] += identity.asymmetry * (1 + moved[:, 1])
    u, v = moved.astype(np.float32).T[..., None]
    height = RELIEF.sample(relief(identity).height, *rest.astype(np.float32).T[..., None])
    z = head_sections(identity).front(u, v) + height
    return np.hstack(shot.project(u, v, z)).astype(np.float32)
