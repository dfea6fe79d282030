"""What surrounds the face: neck, clothes and ears."""

import functools
import math

import numpy as np

from .camera import Shot
from .canvas import Picture, Plane, bell, blend, boxes, cover, fine, noise, spread, step
from .person import Identity, skin_tone
from .scene import Scene
from .sections import Sections, trace

NECK_SHARE = 0.3  # of the head's turn


@functools.lru_cache(maxsize=16)
def _grain(identity: Identity, scene: Scene, size: int) -> Plane:
    """Skin grain where no texture is attached: neck and ears."""
    rng = np.random.default_rng([identity.seed, scene.seed, 3])
    return 1 + noise(rng, (size, size), (2, 0.05), (4, 0.05), (12, 0.04), (50, 0.04))


@functools.lru_cache(maxsize=16)
def _cloth(scene: Scene, size: int) -> Picture:
    """The colour of the clothes: a weave and folds."""
    rng, shape = np.random.default_rng([scene.seed, 2]), (size, size)
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    drape = 9 * (x - 0.5) * (1 + y) + 3 * noise(rng, shape, (90, 0.5))
    folds = np.sin(drape + rng.uniform(0, 6))
    weave = 1 + 0.14 * folds + noise(rng, shape, (1, 0.08), (3, 0.06), (30, 0.06))
    return (weave * spread(scene.clothing_rgb) ** 2).astype(np.float32)


def draw_neck(picture: Picture, shot: Shot, chin: Plane) -> None:
    """Draws the neck. `chin`: the shadow of the head."""
    v, thick = np.linspace(0.3, 2.6, 4096), 0.54 + 0.12 * shot.identity.jaw
    sections = Sections.of(v, thick + 1.3 * step(1.6, 2.6, v) ** 1.4, thick, -0.08)
    neck = trace(sections, shot, NECK_SHARE)
    low, box = boxes((neck.inside > -2) & (neck.v > 0.4))
    neck = neck.crop(low)
    # The cords that run from behind the ears to the pit of the throat.
    away = np.abs(neck.u)
    cord = 0.1 * bell(away - 0.5 + 0.28 * (neck.v - 1), 0.07) * step(0.1, 0.25, away)
    shade = shot.light.diffuse(shot.turned(neck.normal, NECK_SHARE)) * (1 - 0.72 * chin[low] - cord)
    skin = fine(shade) * spread(skin_tone(shot.identity) * 0.92)
    skin *= _grain(shot.identity, shot.scene, 2 * shot.size)[box]
    blend(picture[:, *box], skin, fine(cover(neck.inside)))


def draw_clothes(picture: Picture, shot: Shot, chin: Plane) -> None:
    """Draws shoulders and collar. `chin`: the shadow of the head."""
    away = np.abs(shot.x)
    shoulder = 1.5 + 0.2 * np.maximum(away - 0.5, 0) + 0.14 * step(0.9, 1.7, away)
    neckline = {
        "crew": 1.5 + 0.34 * np.sqrt(np.maximum(1 - (away / 0.7) ** 2, 0)),
        "collar": 1.42 + 0.62 * step(0.66, 0.05, away),
        "vee": 1.42 + 1.2 * np.maximum(0.68 - away, 0),
    }[shot.scene.clothing]
    field = shot.y - np.maximum(shoulder, neckline)
    low, box = boxes(field > -0.1)
    x, field = shot.x[low], field[low]
    down = -0.75 * (1 - np.clip(field * 2, 0, 1))
    normal = np.clip(x * 0.5, -0.8, 0.8), down, np.full_like(x, 0.75)
    shade = shot.light.diffuse(normal, soft=(0.1, 0.1, 0.1)) * (1 - 0.5 * chin[low])
    shade *= 1 - 0.35 * bell(field - 0.08, 0.02) - 0.3 * bell(field, 0.025)  # the seam, the hem
    cloth = _cloth(shot.scene, 2 * shot.size)[:, *box] * fine(shade)
    blend(picture[:, *box], cloth, cover(fine(field) * shot.fine_unit))


def draw_ears(picture: Picture, shot: Shot) -> None:
    """Draws both ears."""
    unit, ears = shot.unit, shot.identity.ears
    c, s = math.cos(shot.pose.roll), math.sin(shot.pose.roll)
    tone = spread(skin_tone(shot.identity) * (1.0, 0.9, 0.9))
    grain = _grain(shot.identity, shot.scene, 2 * shot.size)
    for side in (-1, 1):
        centre = shot.project(side * 0.99, 0.2, 0.12)
        # An ear widens as its side of the head turns to the camera.
        wide, tall = 0.15 * ears * (1 - 0.6 * side * math.sin(shot.pose.yaw)), 0.29 * ears
        spans = [(2 * (i - 1.3 * tall * unit), 2 * (i + 1.3 * tall * unit)) for i in centre]
        columns, rows = (slice(*i) for i in np.clip(spans, 0, 2 * shot.size).astype(int))
        y, x = np.mgrid[rows, columns].astype(np.float32)
        x, y = (0.5 * x - 0.25 - centre[0]) / unit, (0.5 * y - 0.25 - centre[1]) / unit
        x = side * (x * c + y * s) - 0.1 * y
        x, y = (x + 0.02 + 0.05 * y) / wide, y / tall
        radius = np.sqrt((x * (1 + 0.25 * y)) ** 2 + y * y)
        bowl = np.exp(-((x - 0.02) ** 2 + (y - 0.1) ** 2) / 0.22)
        helix = bell(radius - 0.83, 0.13) - 0.7 * bell(radius - 0.62, 0.1)
        normal = np.full_like(x, side * 0.6), 0.3 * y - 0.1, np.full_like(x, 0.75)
        shade = shot.light.diffuse(normal)
        shade *= (0.82 + 0.2 * helix - 0.45 * bowl) * grain[rows, columns]
        inside = (1 - radius) * (shot.fine_unit * min(wide, tall))
        blend(picture[:, rows, columns], shade * tone, cover(inside))
