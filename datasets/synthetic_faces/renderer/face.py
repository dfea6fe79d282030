"""Draws the face: skin under light, mouth and eyes."""

import math

import cv2
import numpy as np

from .camera import Shot
from .canvas import Picture, Plane, bell, blend, boxes, cover, fine, hill, moved, near, spread, step
from .head import RELIEF, calm, fold, gap, jaw_drop, lip_drop, relief, seam
from .sections import Surface
from .skin import BUMP_CODES, SKIN, skin_texture


def draw_face(picture: Picture, shot: Shot, head: Surface, fringe: Plane) -> None:
    """Draws all of the head except its hair and ears. `fringe`: the shadow of the hair."""
    identity, light = shot.identity, shot.light
    low, box = boxes(head.inside > -2)
    head = head.crop(low)
    u, v = calm(shot, head.u, head.v)
    rest = v - jaw_drop(shot, v)
    shade, gloss = _light_face(shot, head, fringe[low], u, v, rest)

    arc, u, v, rest = map(fine, (head.arc + u - head.u, u, v, rest))
    parted = near(u, v, 0, identity.mouth + 0.2, identity.mouth_width, 0.3)
    rest[parted] -= lip_drop(shot, u[parted], v[parted])
    *codes, bump = cv2.split(SKIN.sample(skin_texture(identity, shot.scene), arc, rest))
    skin = np.stack(codes).astype(np.float32)
    skin *= skin
    skin *= shade * (1 / 255**2)
    # Pores are lit by how their height changes along the light.
    bump = bump.astype(np.float32) * (1 / BUMP_CODES)
    rough = bump - moved(bump, -1.2 * light.x, -1.2 * light.y)
    skin *= 1 + rough
    skin += gloss * (1 + 2.5 * rough)

    _draw_mouth(skin, shot, shade, u, v)
    for side in (-1, 1):
        _draw_eye(skin, shot, shade, u, v, side)
    blend(picture[:, *box], skin, fine(cover(head.inside)))


def _light_face(shot, head, fringe, u, v, rest):
    """Diffuse light and highlights, fine."""
    identity, light, shape = shot.identity, shot.light, relief(shot.identity)
    maps = RELIEF.sample(shape.maps, u, rest - lip_drop(shot, u, v))
    slope_u, slope_v, openness, gloss = cv2.split(maps)
    x, y, z = head.normal
    level = np.maximum(z, 0)  # the relief fades where the section turns away from its axis
    normal = shot.turned((x - slope_u * level, y - slope_v * level, z))
    folds = 0.24 * max(shot.pose.smile, 0) * fold(identity, u, rest)
    openness = openness * (1 - folds) * (1 - 0.25 * fringe)
    lit = (1 - 0.7 * _shadow(shape.profile, shot, u, rest)) * (1 - 0.55 * fringe)
    broad, tight = light.shine(normal)
    dark = identity.skin
    gloss = gloss * lit * ((0.03 + 0.02 * dark) * broad + (0.08 + 0.07 * dark) * tight)
    return fine(light.diffuse(normal, lit * (0.4 + 0.6 * openness), openness)), fine(gloss)


def _shadow(profile, shot, u, v):
    """Share of the key light blocked by the head's own relief, by a march over the profile."""
    (x, y, z), yaw, pitch = shot.light[:3], shot.pose.yaw, shot.pose.pitch
    y, z = y * math.cos(pitch) + z * math.sin(pitch), z * math.cos(pitch) - y * math.sin(pitch)
    x, z = x * math.cos(yaw) - z * math.sin(yaw), x * math.sin(yaw) + z * math.cos(yaw)
    grid = RELIEF._replace(per_unit=RELIEF.per_unit / 2)
    taken = np.zeros_like(profile)
    for ahead in (0.04, 0.08, 0.13, 0.19, 0.26, 0.35, 0.46):
        risen = moved(profile, -x * ahead * grid.per_unit, -y * ahead * grid.per_unit, beyond=-9)
        np.maximum(taken, (risen - profile - z * ahead) * (1 / (0.02 + 0.25 * ahead)), out=taken)
    return grid.sample(cv2.GaussianBlur(np.minimum(taken, 1), (0, 0), 1.3), u, v)


def _draw_mouth(skin, shot, shade, u, v):
    identity, pixels = shot.identity, shot.fine_unit
    box = near(u, v, 0, identity.mouth + 0.06, identity.mouth_width + 0.1, 0.24)
    skin, shade, u, v = skin[:, *box], shade[:, *box], u[box] - identity.asymmetry * 2, v[box]
    t = u * (1 / identity.mouth_width)
    offset, opening = v - seam(identity, u), gap(shot, u)
    inner = cover(offset * pixels) * cover((opening - offset) * pixels)
    inner *= np.clip(opening * pixels - 1, 0, 1)
    edge = 0.055 + 0.03 * max(shot.pose.smile, 0) - 0.05 * t * t
    teeth = cover((edge - offset) * pixels) * step(0.9, 0.7, np.abs(t)) * step(0.01, 0.04, opening)
    tooth = np.abs(np.sin(np.pi * (t + 0.145) / 0.29)) ** 0.3
    white = (1 - 0.75 * t * t) * (0.86 + 0.14 * tooth) * (0.35 + 0.65 * step(0, 0.04, offset))
    tongue = step(0.4, 1, offset / np.maximum(opening, 1e-3)) * (1 - t * t)
    mouth = spread((0.035, 0.01, 0.01)) * (0.6 + 3 * tongue)
    blend(mouth, spread((0.45, 0.41, 0.35)) * white, teeth)
    line = 0.75 * bell(offset, 0.014) * step(1.08, 0.9, np.abs(t))
    line = line * (1 - np.clip(opening * 30, 0, 1))
    skin *= 1 - line * spread((0.75, 0.92, 0.92))
    blend(skin, mouth * shade, inner)


def _draw_eye(skin, shot, shade, u, v, side):
    identity, pose, light, pixels = shot.identity, shot.pose, shot.light, shot.fine_unit
    middle, tall = side * identity.eye_distance + identity.asymmetry, identity.eye_height
    box = near(u, v, middle, 0, identity.eye_width + 0.1, 0.22)
    skin, shade, u, v = skin[:, *box], shade[:, *box], u[box] - middle, v[box]
    if not u.size:
        return
    t = u * (side / identity.eye_width)  # -1 at the nose, 1 at the temple
    away = np.abs(t)
    v = v + identity.eye_tilt * identity.eye_width * t

    # The lids.
    arch = np.clip(1 - np.abs(np.clip(t + 0.12, -1.06, 1.1)) ** 2.2, 0, 1)
    arch = arch * np.clip((1.02 - away) * 6, 0, 1)
    sag = (0.3 - 0.14 * max(pose.smile, 0)) * np.clip(1 - t * t, 0, 1)
    lower = tall * (0.36 + sag) + 0.02 * t
    upper = tall * (0.36 - (1.04 * pose.eye_open - 0.3 * max(pose.gaze_y, 0)) * arch) + 0.02 * t
    upper = np.minimum(upper, lower)
    crease = tall * (0.36 - 1.04 * arch) - 0.045 - 0.02 * arch
    folds = 0.32 * bell(v - crease, 0.016) * step(1.25, 0.85, away)
    bag = 0.14 * bell(v - lower - 0.055, 0.018) * step(1.05, 0.6, away)
    skin *= 1 - (folds + bag) * spread((0.8, 1, 1))

    # The ball.
    x, y = u - 0.055 * pose.gaze_x, v - 0.03 * pose.gaze_y + 0.012
    radius = np.sqrt(x * x + y * y) * (1 / 0.098)
    angle, seed = np.arctan2(y, x), identity.seed
    fibre = 1 + 0.12 * np.sin(angle * 17 + seed % 7) + 0.1 * np.sin(angle * 29 + seed % 5)
    # The iris is a bowl: it gathers light on the side away from the lamp.
    glow = np.exp(-((x + 0.04 * light.x) ** 2 + (y + 0.04 * light.y) ** 2) / 0.003)
    iris = fibre * (0.75 + 0.5 * glow)
    iris = iris * (1.15 - 0.6 * step(0.7, 1, radius)) * step(0.3, 0.46, radius)
    ball = spread((0.5, 0.46, 0.44)) * (1 - 0.45 * t * t)
    blend(ball, spread(identity.eye_rgb) ** 2 * iris, cover((1 - radius) * 0.098 * pixels))
    blend(ball, spread((0.4, 0.2, 0.18)), hill(t + 0.95, v - 0.36 * tall, 0.12, 0.04))
    # The socket's own shading is meant for skin; a wet ball between lids is lit more evenly.
    ball *= shade * 0.55 + 0.45 * shade.mean((1, 2), keepdims=True)
    ball *= 1 - 0.6 * np.exp(-np.maximum(v - upper, 0) / 0.04)
    spark = np.exp(-((x - 0.042 * light.x) ** 2 + (y - 0.045 * light.y) ** 2) / 0.016**2)
    ball += 0.9 * spark * (radius < 1.3)
    seen = cover((v - upper) * pixels) * cover((lower - v) * pixels)
    blend(skin, ball, seen * (away < 1.02))

    lash = bell(v - upper + 0.006, 0.014 + 0.005 * t) * step(1.12, 0.95, away)
    lash *= 0.55 + 0.3 * identity.lip_colour
    lash += 0.22 * bell(v - lower, 0.014) * step(1.0, 0.8, away)
    skin *= 1 - np.minimum(lash, 0.95)
