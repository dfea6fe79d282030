"""Draws parametric human faces, deterministically, with NumPy and OpenCV.

A head is a stack of elliptical cross-sections (an exact silhouette for any yaw) that carries a
relief (nose, sockets, lips, chin), a skin texture in arc-length coordinates, and a second, larger
stack of sections for the hair. Light is computed in linear space at the output size; texture, eyes,
mouth and edges are drawn at twice that size and averaged down.

Units: 1 = half the width of the face. Head coordinates: u to the image right, v down, z towards the
camera, origin between the eyes. psi is the angle around the vertical axis, 0 at the nose.
"""

import functools
import math
from dataclasses import astuple, dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

HAIR_STYLES = ("buzz", "short", "swept", "fringe", "bob", "long")
FACIAL_HAIR = ("none", "stubble", "moustache", "goatee", "beard")
BACKGROUNDS = ("wall", "studio", "indoor", "outdoor")
LOOSE = ("bob", "long")  # styles that hang behind the face

UNIT = 0.305  # half a face width, as a share of the frame
EYE_Y = 0.415  # where the eyes of a frontal face lie, as a share of the frame
FACE_CENTRE = (0.0, 0.45, 0.95)  # the point of the head that stays put when the head turns
SKIN_LEFT, SKIN_TOP, SKIN_TEXELS = -2.1, -1.55, 112  # the skin texture, over (arc, v)
METERED, METERING = 0.2, 0.8  # mean light the camera exposes for, and how far it goes
BUMP_CODES = 400  # 8-bit codes per unit of bump
RELIEF_LEFT, RELIEF_TOP, RELIEF_TEXELS = -1.3, -1.6, 72  # the relief, over (u, v)

# sRGB, light to dark, measured by eye on the usual skin-tone scales.
SKIN_TONES = np.array(
    [
        (238, 204, 184), (228, 184, 157), (211, 161, 130), (183, 130, 98),
        (141, 95, 68), (104, 67, 48), (74, 47, 35),
    ]
) / 255.0  # fmt: skip
HAIR_TONES = np.array(
    [(24, 20, 20), (44, 32, 26), (74, 50, 34), (112, 74, 44), (158, 116, 76), (192, 160, 118),
     (128, 56, 28), (150, 146, 142)]
) / 255.0  # fmt: skip
EYE_TONES = np.array(
    [(58, 36, 22), (86, 54, 30), (112, 84, 46), (96, 104, 70), (92, 124, 142), (116, 132, 138)]
) / 255.0  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """Who is drawn. Lengths in face half-widths; shares and strengths in [0, 1]."""

    skin: float  # 0 light .. 1 dark
    undertone: float  # -1 pink .. 1 olive
    age: float
    chin: float  # v of the chin's lowest point
    jaw: float  # 0 pointed .. 1 square
    eye_distance: float  # from the middle to an eye's centre
    eye_width: float
    eye_height: float
    eye_tilt: float
    eye_rgb: tuple[float, float, float]
    brow_height: float
    brow_thickness: float
    brow_arch: float
    nose_length: float
    nose_width: float
    nose_height: float
    mouth_drop: float  # from nose tip to mouth
    mouth_width: float
    upper_lip: float
    lower_lip: float
    lip_colour: float  # 0 the skin's own .. 1 made up
    hair_style: str
    hair_rgb: tuple[float, float, float]
    hair_part: float
    hair_wave: float
    hairline: float
    facial_hair: str
    freckles: float
    ears: float
    asymmetry: float  # signed, about 0.01
    seed: int


@dataclass(frozen=True)
class Scene:
    """Where and how a video is taken."""

    background: str
    background_rgb: tuple[float, float, float]
    light: tuple[float, float, float]  # towards the key light; x right, y down, z to the camera
    light_rgb: tuple[float, float, float]
    fill: float  # ambient light as a share of the key light
    exposure: float
    tint: tuple[float, float, float]
    contrast: float
    clothing: str
    clothing_rgb: tuple[float, float, float]
    seed: int


@dataclass(frozen=True)
class Pose:
    """One frame's expression and place. Angles in radians, offsets as shares of the frame."""

    smile: float = 0.0  # -0.3 .. 1
    mouth_open: float = 0.0
    brow_raise: float = 0.0  # -0.5 .. 1
    eye_open: float = 1.0
    gaze_x: float = 0.0  # -1 .. 1, image right
    gaze_y: float = 0.0
    yaw: float = 0.0  # positive: towards the image right
    pitch: float = 0.0  # positive: upwards
    roll: float = 0.0  # positive: clockwise in the image
    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0


def sample_identity(rng: np.random.Generator) -> Identity:
    """A random person; features are drawn around human averages, hair and eyes follow the skin."""

    def around(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.normal(), -2, 2))

    skin, age = float(rng.uniform(0, 1)), float(rng.beta(1.3, 1.8))
    masculine = float(rng.beta(0.5, 0.5))
    dark = skin > 0.5
    if dark:
        hair_odds, eye_odds = [0.5, 0.34, 0.1, 0.02, 0, 0, 0, 0.04], [0.6, 0.3, 0.1, 0, 0, 0]
    else:
        hair_odds = [0.14, 0.2, 0.2, 0.16, 0.1, 0.08, 0.06, 0.06]
        eye_odds = [0.15, 0.15, 0.175, 0.175, 0.175, 0.175]
    if masculine > 0.5:
        style_odds = [0.22, 0.3, 0.28, 0.12, 0.02, 0.06]
        facial_odds = [0.4, 0.25, 0.1, 0.1, 0.15] if age > 0.12 else [1, 0, 0, 0, 0]
    else:
        style_odds, facial_odds = [0.04, 0.06, 0.15, 0.1, 0.25, 0.4], [1, 0, 0, 0, 0]
    hair_tone = HAIR_TONES[rng.choice(len(HAIR_TONES), p=hair_odds)]
    eye_tone = EYE_TONES[rng.choice(len(EYE_TONES), p=eye_odds)]
    jitter = rng.uniform(0.85, 1.15, 3)
    return Identity(
        skin=skin,
        undertone=float(rng.uniform(-1, 1)),
        age=age,
        chin=around(1.49 + 0.06 * masculine, 0.04),
        jaw=float(np.clip(around(0.25 + 0.45 * masculine, 0.2), 0, 1)),
        eye_distance=around(0.455, 0.015),
        eye_width=around(0.225, 0.012),
        eye_height=around(0.118, 0.014),
        eye_tilt=around(0.1, 0.04),
        eye_rgb=tuple(np.clip(eye_tone * jitter, 0, 1).tolist()),
        brow_height=around(0.285 - 0.03 * masculine, 0.02),
        brow_thickness=around(0.048 + 0.02 * masculine, 0.009),
        brow_arch=around(0.07 - 0.03 * masculine, 0.02),
        nose_length=around(0.535, 0.03),
        nose_width=around(0.19 + 0.05 * skin, 0.018),
        nose_height=around(0.3 - 0.06 * skin, 0.03),
        mouth_drop=around(0.405, 0.02),
        mouth_width=around(0.36, 0.028),
        upper_lip=around(0.062 + 0.03 * skin, 0.012),
        lower_lip=around(0.092 + 0.03 * skin, 0.014),
        lip_colour=float(rng.uniform(0, 0.3) if masculine > 0.5 else rng.uniform(0.1, 1)),
        hair_style=str(rng.choice(HAIR_STYLES, p=style_odds)),
        hair_rgb=tuple(np.clip(hair_tone * jitter.mean() ** 2, 0, 1).tolist()),
        hair_part=float(rng.choice([-1, 1]) * rng.uniform(0.1, 0.45)),
        hair_wave=float(rng.beta(1.2, 1.6)),
        hairline=around(-0.84, 0.05) - 0.12 * masculine * age,
        facial_hair=str(rng.choice(FACIAL_HAIR, p=facial_odds)),
        freckles=float(rng.beta(0.6, 3) * (1 - skin)),
        ears=around(1.0, 0.08),
        asymmetry=around(0.0, 0.009),
        seed=int(rng.integers(2**31)),
    )


def sample_scene(rng: np.random.Generator) -> Scene:
    """A random place: background, light, camera and clothes of one video."""
    azimuth, height = rng.uniform(-1.1, 1.1), rng.uniform(0.1, 0.8)
    light = np.array(
        [np.sin(azimuth) * np.cos(height), -np.sin(height), np.cos(azimuth) * np.cos(height)]
    )
    warmth = rng.uniform(-1, 1)
    cloth = 0.5 + rng.uniform(0.02, 0.3) * (rng.dirichlet([2, 2, 2]) * 3 - 1)
    hue = 0.6 + 0.16 * (rng.dirichlet([2, 2, 2]) * 3 - 1)
    return Scene(
        background=str(rng.choice(BACKGROUNDS)),
        background_rgb=tuple(np.clip(hue * rng.uniform(0.4, 1.3), 0.05, 0.95).tolist()),
        light=tuple(light.tolist()),
        light_rgb=(float(1 + 0.12 * warmth), 1.0, float(1 - 0.16 * warmth)),
        fill=float(rng.uniform(0.2, 0.55)),
        exposure=float(rng.uniform(0.8, 1.15)),
        tint=tuple((1 + rng.uniform(-0.06, 0.06, 3)).tolist()),
        contrast=float(rng.uniform(0.92, 1.12)),
        clothing=str(rng.choice(["crew", "collar", "vee"])),
        clothing_rgb=tuple(np.clip(cloth * rng.uniform(0.1, 1.5), 0.03, 0.92).tolist()),
        seed=int(rng.integers(2**31)),
    )


def sample_poses(rng: np.random.Generator, n: int) -> list[Pose]:
    """`n` frames of one video: a smooth walk around a resting pose, with talking and blinks."""
    time = np.arange(n, dtype=np.float64)

    def drift(sd: float, period: float = 14.0) -> np.ndarray:
        # Three slow sines stand in for smoothed noise: smooth at any length, no edge effects.
        periods, phases = period * rng.uniform(0.7, 1.8, 3), rng.uniform(0, 2 * np.pi, 3)
        return sd * np.sin(2 * np.pi * time[:, None] / periods + phases).sum(1) / np.sqrt(1.5)

    def around(sd: float, limit: float) -> float:
        return float(np.clip(rng.normal() * sd, -limit, limit))

    talk, rest_smile = rng.uniform(0, 0.45) * (rng.random() < 0.6), rng.uniform(0, 1)
    blink = np.full(n, 1.0)
    for start in np.flatnonzero(rng.random(n) < 0.04):
        blink = np.minimum(blink, np.clip(np.abs(time - start) * 0.6 + 0.1, 0, 1))
    smile = np.clip(rest_smile + drift(0.15), -0.2, 1)
    mouth = np.clip(talk * (0.5 + drift(0.5, 7)) + 0.25 * np.clip(smile - 0.45, 0, 1), 0, 1)
    brow = np.clip(around(0.2, 0.4) + drift(0.15), -0.5, 1)
    eyes = np.clip(
        (1 - 0.18 * np.clip(smile, 0, 1) + 0.1 * brow + around(0.06, 0.12)) * blink, 0.05, 1.1
    )
    yaw = around(0.15, 0.32) + drift(0.06, 20)
    pitch = around(0.08, 0.16) + drift(0.03, 20)
    # People look at the camera more than where their nose points.
    columns = dict(
        smile=smile,
        mouth_open=mouth,
        brow_raise=brow,
        eye_open=eyes,
        gaze_x=np.clip(around(0.15, 0.4) + drift(0.12) - 1.6 * yaw, -1, 1),
        gaze_y=np.clip(around(0.12, 0.3) + drift(0.08) + 1.2 * pitch, -1, 1),
        yaw=yaw,
        pitch=pitch,
        roll=around(0.06, 0.13) + drift(0.025, 20),
        x=around(0.012, 0.025) + drift(0.006),
        y=around(0.012, 0.025) + drift(0.006),
        scale=1 + around(0.035, 0.07) + drift(0.01),
    )
    return [Pose(**{name: float(values[i]) for name, values in columns.items()}) for i in range(n)]


def render(
    identity: Identity, scene: Scene, pose: Pose, size: int
) -> tuple[UInt8[np.ndarray, "size size 3"], Float32[np.ndarray, "5 2"]]:
    """One frame, RGB, framed as an aligned face crop, and its five landmarks.

    Landmarks are x, y in pixels (0 is the centre of the first pixel): eye at image left, eye at
    image right, nose tip, mouth corner at image left, mouth corner at image right. Equal arguments
    give equal bytes.
    """
    # Python's floats, not NumPy's: those would widen every float32 array they meet.
    pose = Pose(*map(float, astuple(pose)))
    view = _View(pose, size)
    light = view.unroll(scene.light)
    sections = _sections(identity)
    x, y = view.grid()
    neck = _trace(sections["neck"], view, x, y, turn=0.3)
    head = _trace_head(identity, pose, view, x, y)
    hair = _trace(sections["hair"], view, x, y)
    mane = _hair_field(identity, hair, head)
    fringe = _cast(np.clip(mane * 6 + 0.5, 0, 1), light, size, reach=0.03, down=0.012, blur=0.02)
    chin = _cast(head.cover(), light, size, reach=0.05, down=0.1, blur=0.03)

    picture = _surroundings(scene, 2 * size).copy()
    if identity.hair_style in LOOSE:
        # Only what the head and the hair in front leave to be seen.
        behind = np.where((head.inside > 4) | (mane > 0.1), -1, hair.inside * 0.15)
        _draw_hair(picture, identity, scene, light, view, hair, behind, depth=0.3)
    _draw_neck(picture, identity, scene, light, view, neck, chin)
    _draw_clothes(picture, scene, light, view, chin, x, y)
    _draw_ears(picture, identity, scene, light, view)
    _draw_head(picture, identity, scene, pose, light, view, head, fringe)
    _draw_hair(picture, identity, scene, light, view, hair, mane)
    return _develop(picture, scene), _landmarks(identity, pose, view)


# --- Geometry ------------------------------------------------------------------------------------


def _step(low, high, x):
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def _hill(x, y, width, height):
    return np.exp(-((x / width) ** 2) - (y / height) ** 2)


class _View:
    """Between head coordinates and pixels."""

    def __init__(self, pose: Pose, size: int):
        self.size = size
        self.sin, self.cos = math.sin(pose.yaw), math.cos(pose.yaw)
        self.up_sin, self.up_cos = math.sin(pose.pitch), math.cos(pose.pitch)
        self.roll_sin, self.roll_cos = math.sin(pose.roll), math.cos(pose.roll)
        self.unit = UNIT * pose.scale * size
        u, v, z = FACE_CENTRE
        self.origin = ((0.5 + pose.x + u * UNIT) * size, (EYE_Y + pose.y + v * UNIT) * size)
        turned = self._turn(u, v, z)
        # A crop follows the face, not the neck, but only in part: boxes do not track noses.
        self.anchor = (u + 0.7 * (turned[0] - u), v + 0.7 * (turned[1] - v))

    def _turn(self, u, v, z):
        x, depth = u * self.cos + z * self.sin, z * self.cos - u * self.sin
        return x, v * self.up_cos - depth * self.up_sin

    def project(self, u, v, z):
        """A point of the head -> pixels x, y; 0 is the first pixel's centre."""
        x, y = self._turn(u, v, z)
        x, y = (x - self.anchor[0]) * self.unit, (y - self.anchor[1]) * self.unit
        c, s = self.roll_cos, self.roll_sin
        return c * x - s * y + self.origin[0] - 0.5, s * x + c * y + self.origin[1] - 0.5

    def grid(self):
        """x, y of every pixel's centre in turned head coordinates."""
        pixel = np.arange(self.size, dtype=np.float32) + 0.5
        x = (pixel[None, :] - self.origin[0]) / self.unit
        y = (pixel[:, None] - self.origin[1]) / self.unit
        c, s = self.roll_cos, self.roll_sin
        return c * x + s * y + self.anchor[0], c * y - s * x + self.anchor[1]

    def unroll(self, light):
        """The light as the unrolled head sees it, unit length."""
        x, y, z = (i / math.hypot(*light) for i in light)
        return self.roll_cos * x + self.roll_sin * y, self.roll_cos * y - self.roll_sin * x, z

    def into_head(self, light):
        """An (unrolled) direction from the camera's frame to the head's."""
        x, y, z = light
        y, z = y * self.up_cos + z * self.up_sin, z * self.up_cos - y * self.up_sin
        return x * self.cos - z * self.sin, y, x * self.sin + z * self.cos


class _Sections(NamedTuple):
    """Half width, half depth and middle depth by v, and their slopes; evenly spaced from `top`."""

    top: float
    per_unit: float
    shape: np.ndarray  # [3, n]
    slope: np.ndarray  # [3, n]

    @classmethod
    def make(cls, top, bottom, width, depth, middle):
        v = np.linspace(top, bottom, 4096)
        shape = np.stack([np.maximum(width(v), 1e-3), np.maximum(depth(v), 1e-3), middle(v)])
        slope = np.clip(np.gradient(shape, v, axis=1), -6, 6)
        return cls(top, 4095 / (bottom - top), shape.astype(np.float32), slope.astype(np.float32))

    def row(self, v):
        return ((v - self.top) * self.per_unit).astype(np.intp)

    def at(self, table, row):
        """Width, depth and middle (or their slopes) at each row."""
        return [column.take(row, mode="clip") for column in table]


class _Surface(NamedTuple):
    """What each pixel sees of a stack of sections."""

    u: np.ndarray
    v: np.ndarray
    arc: np.ndarray  # length around the section, from the nose
    psi: np.ndarray
    normal: tuple[np.ndarray, np.ndarray, np.ndarray]  # in the head's frame
    inside: np.ndarray  # horizontal distance to the silhouette in fine pixels, negative outside

    def cover(self):
        """Share of a fine pixel that is covered."""
        return np.clip(self.inside + 0.5, 0, 1)


def _trace(sections, view, x, y, turn=1.0, rise=None, rest=lambda v: v, rounds=2) -> _Surface:
    """Pixels -> the head. Sections are solved exactly, pitch and relief in fixed-point rounds.

    `rise` gives the relief's height at (u, v); `rest` undoes the jaw. `turn` scales yaw and pitch.
    """
    s, up_s = view.sin * turn, view.up_sin * turn
    c, up_c = math.sqrt(1 - s * s), math.sqrt(1 - up_s * up_s)
    depth, height = np.full_like(x, 0.9), 0.0
    for _ in range(rounds):
        v = (y + depth * up_s) * (1 / up_c)
        calm = rest(v)
        row = sections.row(calm)
        a, b, middle = sections.at(sections.shape, row)
        ac, bs = a * c, b * s
        reach = np.sqrt(ac * ac + bs * bs)
        centred = x - middle * s
        t = np.clip((centred - height * s) / reach, -0.999, 0.999)
        far = np.sqrt(1 - t * t)
        ac /= reach
        bs /= reach
        sin, cos = ac * t - bs * far, bs * t + ac * far
        u = a * sin
        if rise is not None:
            height = rise(u, calm)
        depth = (middle + b * cos + height) * c - u * s
    if up_s:
        # At the sides depth changes too fast for the rounds above, but there it is known exactly;
        # not so under the chin, where the silhouette is not a side.
        rim = middle * c + np.sign(t) * (b * bs * c - a * ac * s)
        edge = calm + (rim - depth) * up_s * _step(1.25, 0.95, calm)
        edge_a, edge_b, edge_middle = sections.at(sections.shape, sections.row(edge))
        centred, reach = x - edge_middle * s, np.sqrt((edge_a * c) ** 2 + (edge_b * s) ** 2)
    da, db, dm = sections.at(sections.slope, row)
    flat = a / b
    normal = (sin, -(sin * sin * da + (cos * db + dm) * cos * flat), cos * flat)
    psi = np.arctan2(sin, cos)
    inside = reach - np.abs(centred) - (a < 0.01)  # nothing beyond crown and chin, not even a line
    return _Surface(u, v, a * psi, psi, normal, inside * (2 * view.unit))


def _trace_head(identity, pose, view, x, y):
    relief = _relief(identity)
    return _trace(
        _sections(identity)["head"],
        view,
        x,
        y,
        rise=lambda u, v: relief.sample(relief.height, u, v),
        rest=lambda v: v - _drop(pose) * _jaw(identity, v),
        rounds=3,
    )


@functools.lru_cache(maxsize=64)
def _sections(identity: Identity) -> dict[str, _Sections]:
    crown, chin, style, jaw = -1.42, identity.chin, identity.hair_style, identity.jaw
    lift = {"buzz": 0.01, "short": 0.12, "swept": 0.2, "fringe": 0.14, "bob": 0.16, "long": 0.14}[
        style
    ]
    side = {"buzz": -0.015, "short": 0.03, "swept": 0.04, "fringe": 0.06, "bob": 0.14, "long": 0.1}[
        style
    ]
    side *= 0.8 + 0.5 * identity.hair_wave
    neck = 0.54 + 0.12 * jaw

    def oval(v, power, root):
        above = np.clip(1 - np.clip(v / crown, 0, 1) ** 2.7, 0, 1) ** 0.5
        return np.where(v < 0, above, np.clip(1 - np.clip(v / chin, 0, 1) ** power, 0, 1) ** root)

    def width(v):
        return 0.98 * oval(v, 2.05 + 0.55 * jaw, 1 / (1.35 + 0.4 * jaw))

    def depth(v):
        return (0.92 - 0.3 * _step(0.2, chin, v)) * oval(v, 9, 0.5)

    def front(v):
        # The chin's tip stays in front of the neck, the crown closes above it.
        return 1.12 * np.where(v < 0, oval(v, 9, 0.5), 0.7 + 0.3 * oval(v, 9, 0.5))

    def shell(v):
        above = np.clip(1 - np.clip(v / (crown - lift), 0, 1) ** (2.7 + 1.5 * lift), 0, 1) ** 0.5
        flare = {
            "bob": 0.08 * _step(0.1, 0.9, v) - 0.5 * _step(1.0, 1.45, v),
            "long": 0.1 * _step(0, 1.6, v),
        }.get(style, -0.1 * _step(0.2, 1.2, v))
        return above + flare

    return {
        "head": _Sections.make(crown, chin, width, depth, lambda v: front(v) - depth(v)),
        "hair": _Sections.make(
            crown - lift,
            2.4,
            lambda v: (1 + side) * shell(v),
            lambda v: (1.02 + 0.5 * lift) * shell(v),
            lambda v: 0.12 + 0 * v,
        ),
        "neck": _Sections.make(
            0.3,
            2.6,
            lambda v: neck + 1.3 * _step(1.6, 2.6, v) ** 1.4,
            lambda v: neck + 0 * v,
            lambda v: -0.08 + 0 * v,
        ),
    }


class _Relief(NamedTuple):
    """What rises from the sections, on a grid over (u, v)."""

    height: np.ndarray
    maps: np.ndarray  # [..., 4]: slope along u, slope along v, openness to ambient light, gloss
    profile: np.ndarray  # total depth at half the resolution, for shadows

    def sample(self, grid, u, v):
        return _lookup(grid, u, v, RELIEF_LEFT, RELIEF_TOP, RELIEF_TEXELS)


def _texels(left, top, per_unit):
    """v and x of a grid's texels, from (left, top) to the mirrored right and below the chin."""
    return np.mgrid[top : 1.75 : 1 / per_unit, left : -left : 1 / per_unit].astype(np.float32)


def _lookup(grid, x, y, left, top, per_unit):
    """Bilinear samples of a grid whose first texel lies at (left, top)."""
    x, y = (x - left) * per_unit, (y - top) * per_unit
    return cv2.remap(grid, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@functools.lru_cache(maxsize=64)
def _relief(identity: Identity) -> _Relief:
    v, straight = _texels(RELIEF_LEFT, RELIEF_TOP, RELIEF_TEXELS)
    u = straight - identity.asymmetry * (1 + v)  # a slight bend of the whole face
    away = np.abs(u)
    tip, wing = identity.nose_length, identity.nose_width
    mouth, wide = _mouth(identity), identity.mouth_width
    eye, age, chin = identity.eye_distance, identity.age, identity.chin
    lips, fold = _lips(identity, u, v), _fold(identity, u, v)

    climb = _step(-0.12, tip - 0.03, v) ** 1.2
    ridge = _step(-0.4, -0.02, v) * (0.3 + 0.7 * climb) * (1 - _step(tip + 0.01, tip + 0.155, v))
    pout = 0.024 * np.sin(np.pi * np.clip(-lips, 0, 1)) + 0.042 * np.sin(
        np.pi * np.clip(lips, 0, 1) ** 0.8
    )
    height = (
        identity.nose_height * ridge * np.exp(-(np.abs(u / (0.095 + 0.055 * climb)) ** 2.0))
        + 0.06 * _hill(u, v - tip, 0.1, 0.09)
        + 0.15 * _hill(away - wing * 0.76, v - tip - 0.06, 0.075, 0.085)
        - 0.05 * _hill(away - wing * 1.2, v - tip - 0.06, 0.04, 0.08)
        + pout * _step(1.05, 0.8, away / wide)
        - 0.16 * _hill(away - 0.9 * eye, v + 0.03, 0.22, 0.14)
        + 0.09 * _hill(away - eye, v, 0.17, 0.1)
        + (0.045 + 0.035 * identity.jaw)
        * _hill(away - 0.85 * eye, v + identity.brow_height - 0.02, 0.3, 0.1)
        + 0.11 * _hill(away - 0.57, v - 0.36, 0.2, 0.17)
        - 0.05 * _hill(away - 0.6, v - 0.8, 0.14, 0.2)
        + 0.075 * _hill(u, v - mouth, 0.36, 0.26)
        - 0.02 * _hill(u, v - mouth + 0.17, 0.04, 0.1)
        - 0.06 * _hill(u, v - mouth - 0.21, 0.22, 0.06)
        + 0.12 * _hill(u, v - chin + 0.2, 0.2, 0.12)
        - (0.01 + 0.03 * age) * fold
        - 0.02 * age * _hill(away - 0.9 * eye, v - 0.19, 0.2, 0.035)
        - 0.06 * _hill(away - 0.88, v + 0.2, 0.2, 0.3)
    )
    openness = (
        1
        - 0.95 * _hill(away - 0.5 * wing, v - tip - 0.115, 0.05, 0.024)
        - 0.35 * _hill(away - 0.62 * eye, v + 0.06, 0.13, 0.13)
        - 0.2 * _hill(away - eye, v + 0.1, 0.22, 0.06)
        - 0.12 * _hill(u, v - tip - 0.15, 0.1, 0.04)
        - 0.35 * _hill(away - wing * 1.18, v - tip - 0.08, 0.035, 0.07)
        - 0.25 * _hill(u, v - mouth - 0.2, 0.2, 0.05)
        - 0.45 * _hill(away - wide - 0.01, v - mouth, 0.045, 0.045)
        - (0.06 + 0.16 * age) * fold
        - 0.16 * (0.3 + age) * _hill(away - 0.92 * eye, v - 0.17, 0.17, 0.06)
        - 0.3 * _step(0.75, 1.05, away)
    )
    openness = np.clip(openness, 0.04, 1)
    gloss = 0.5 + 0.5 * _hill(u, v - 0.3, 0.14, 0.25) + 0.4 * _hill(u, v + 0.6, 0.5, 0.25)
    gloss += 0.5 * _step(0.05, 0.3, np.abs(lips)) * _step(0.95, 0.7, np.abs(lips)) * (away < wide)
    slope_v, slope_u = np.gradient(height, 1 / RELIEF_TEXELS)
    sections = _sections(identity)["head"]
    a, b, middle = sections.at(sections.shape, sections.row(v))
    profile = middle + b * np.sqrt(np.clip(1 - (straight / a) ** 2, 0, 1)) + height
    return _Relief(
        height.astype(np.float32),
        np.stack([slope_u, slope_v, openness, gloss * openness], -1).astype(np.float32),
        cv2.resize(profile.astype(np.float32), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    )


def _mouth(identity):
    return identity.nose_length + identity.mouth_drop


def _fold(identity, u, v):
    """The line from the nose's wing past the corner of the mouth."""
    down = v - identity.nose_length
    return np.exp(
        -(((np.abs(u) - identity.nose_width - 0.09 - 0.4 * down) / 0.05) ** 2)
        - ((down - 0.2) / 0.19) ** 2
    )


def _seam(identity, u):
    """v where the lips meet, at rest."""
    t = np.minimum(np.abs(u) * (1 / identity.mouth_width), 1.2)
    return _mouth(identity) + 0.034 * (1 - t * t) + 0.007 * np.cos(6 * t) + identity.asymmetry * u


def _lips(identity, u, v):
    """Share of the way from the seam (0) to the outer edge of the upper (-1) or lower (1) lip."""
    t = np.clip(np.abs(u) / identity.mouth_width, 0, 1)
    bow = 1 - 0.25 * np.exp(-((t / 0.13) ** 2)) + 0.08 * np.exp(-(((t - 0.25) / 0.15) ** 2))
    upper = identity.upper_lip * (1 - t**1.8) * bow + 0.004
    lower = identity.lower_lip * (1 - t**2.2) ** 0.9 + 0.004
    offset = v - _seam(identity, u)
    return np.where(offset < 0, offset / upper, offset / lower)


def _drop(pose):
    return 0.2 * pose.mouth_open


def _jaw(identity, v):
    """Share of the jaw's drop that reaches v."""
    return _step(_mouth(identity), _mouth(identity) + 0.32, v)


def _express(identity, pose, u, v):
    """Undoes smile and brows: the point of the calm face that has moved to (u, v)."""
    away = np.abs(u)
    # Lips bend like a bow: the pull grows with the square of the way to the corner, then dies off.
    t = (away * (1 / identity.mouth_width)) ** 2
    corner = pose.smile * t * np.exp(1 - t - ((v - _mouth(identity)) / 0.24) ** 2)
    cheek = pose.smile * _hill(away - 0.5, v - 0.45, 0.26, 0.2)
    brow = pose.brow_raise * np.exp(-(((v + (identity.brow_height + 0.06)) / 0.2) ** 2))
    return u - np.sign(u) * corner * 0.11, v + 0.1 * corner + 0.05 * cheek + 0.06 * brow


def _gap(identity, pose, u, v):
    """How far the lower lip has left the seam, for points of the calm face."""
    t = u * (1 / identity.mouth_width)
    return _drop(pose) * np.clip(1 - t * t, 0, 1) * (v > _seam(identity, u))


def _landmarks(identity, pose, view):
    eye, wide, lean = identity.eye_distance, identity.mouth_width, identity.asymmetry
    rest = np.array([(-eye, 0), (eye, 0), (0, identity.nose_length), (-wide, 0), (wide, 0)])
    rest[3:, 1] = _seam(identity, rest[3:, 0])
    moved = rest.copy()
    for _ in range(12):
        moved += rest - np.stack(_express(identity, pose, *moved.T), -1)
    moved[:, 0] += lean * (1 + moved[:, 1])
    u, v = moved.astype(np.float32).T[..., None]
    sections, relief = _sections(identity)["head"], _relief(identity)
    a, b, middle = sections.at(sections.shape, sections.row(v))
    height = relief.sample(relief.height, *rest.astype(np.float32).T[..., None])
    z = middle + b * np.sqrt(np.clip(1 - (u / a) ** 2, 0, 1)) + height
    return np.hstack(view.project(u, v, z)).astype(np.float32)


# --- Light ---------------------------------------------------------------------------------------


def _turned(view, normal, turn=1.0):
    """Normals from the head's frame to the camera's, unit length."""
    x, y, z = normal
    s, up_s = view.sin * turn, view.up_sin * turn
    c, up_c = math.sqrt(1 - s * s), math.sqrt(1 - up_s * up_s)
    x, z = x * c + z * s, z * c - x * s
    y, z = y * up_c - z * up_s, z * up_c + y * up_s
    scale = 1 / np.sqrt(x * x + y * y + z * z + 1e-6)
    return x * scale, y * scale, z * scale


def _lambert(scene, normal, light, lit=1.0, openness=1.0, soft=(0.32, 0.18, 0.13)):
    """Diffuse light [3, h, w]; red reaches further round the terminator, as under skin."""
    x, y, z = normal
    facing = x * light[0] + y * light[1] + z * light[2]
    sky = (0.74 - 0.25 * y + 0.12 * z) * (scene.fill * openness)
    out = np.empty((3, *facing.shape), np.float32)
    for channel, wrap in enumerate(soft):
        key = np.maximum(facing + wrap, 0) * lit
        np.add(key * (scene.light_rgb[channel] / (1 + wrap)), sky, out=out[channel])
    return out


def _shadow(relief, view, light, u, v):
    """Share of the key light that the head's own relief takes; a march over the profile."""
    x, y, z = view.into_head(light)
    profile, per_unit = relief.profile, RELIEF_TEXELS / 2
    taken = np.zeros_like(profile)
    for step in (0.04, 0.08, 0.13, 0.19, 0.26, 0.35, 0.46):
        ahead = _moved(profile, -x * step * per_unit, -y * step * per_unit, borderValue=-9)
        np.maximum(taken, (ahead - profile - z * step) * (1 / (0.02 + 0.25 * step)), out=taken)
    taken = cv2.GaussianBlur(np.minimum(taken, 1), (0, 0), 1.3)
    return _lookup(taken, u, v, RELIEF_LEFT, RELIEF_TOP, per_unit)


def _moved(image, right, down, **border):
    move = np.array([[1, 0, right], [0, 1, down]])
    return cv2.warpAffine(image, move, image.shape[::-1], **border)


def _cast(cover, light, size, reach, down, blur):
    """A soft shadow of one layer on the next: its cover moved off the light, and blurred."""
    moved = _moved(
        cover,
        -light[0] * reach * size,
        (down - light[1] * reach) * size,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.GaussianBlur(moved, (0, 0), blur * size)


def _half(light):
    """The direction between the light and the camera."""
    x, y, z = light
    length = math.hypot(x, y, z + 1)
    return x / length, y / length, (z + 1) / length


def _shine(light, normal):
    """Highlights of the key light, broad and tight, before gloss."""
    half = _half(light)
    facing = np.maximum(normal[0] * half[0] + normal[1] * half[1] + normal[2] * half[2], 0)
    broad = facing * facing
    broad *= broad
    broad *= broad  # power 8
    tight = broad * broad
    return broad, tight * tight * broad  # power 40


# --- Layers, back to front: linear light, planes [3, h, w], twice the output size ----------------


def _plane(colour):
    """A colour as an array that spreads over planes."""
    return np.array(colour, np.float32)[:, None, None]


def _fine(low, box=None):
    """Twice the size, of one plane or several; `box` are slices of the small picture."""
    if low.ndim == 3:
        return np.stack([_fine(plane, box) for plane in low])
    low = low if box is None else low[box]
    return cv2.resize(low, (2 * low.shape[1], 2 * low.shape[0]), interpolation=cv2.INTER_LINEAR)


def _box(mask):
    """The smallest slices that hold a mask, with a margin; and the same at twice the size."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return (slice(0, 1), slice(0, 1)), (slice(0, 2), slice(0, 2))
    spans = [(max(i[0] - 2, 0), i[-1] + 3) for i in (rows, columns)]
    spans = [(low, min(high, size)) for (low, high), size in zip(spans, mask.shape, strict=True)]
    return tuple(slice(a, b) for a, b in spans), tuple(slice(2 * a, 2 * b) for a, b in spans)


def _blend(under, over, alpha):
    """Lays `over` on `under` in place."""
    over = over - under
    over *= alpha
    under += over


def _noise(rng, height, width, octaves):
    """Sum of smooth noises [height, width], each (texels per grain, strength)."""
    out = np.zeros((height, width), np.float32)
    for grain, strength in octaves:
        cells = (max(int(height / grain), 2), max(int(width / grain), 2))
        small = rng.standard_normal(cells, np.float32) * np.float32(strength)
        out += (
            cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
            if grain > 1
            else small
        )
    return out


def _skin_tone(identity):
    place = identity.skin * (len(SKIN_TONES) - 1)
    low = min(int(place), len(SKIN_TONES) - 2)
    tone = SKIN_TONES[low] + (place - low) * (SKIN_TONES[low + 1] - SKIN_TONES[low])
    tone = tone * (1 + identity.undertone * np.array([-0.02, 0.02, -0.03]))
    return (tone**2).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _surroundings(scene: Scene, fine: int) -> Float32[np.ndarray, "3 fine fine"]:
    """The background, out of focus."""
    rng = np.random.default_rng([scene.seed, 1])
    base = np.array(scene.background_rgb) ** 2
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    slope = rng.uniform(-0.35, 0.35, 2)
    small = (1 + slope[0] * x + slope[1] * y)[..., None] * base
    small = np.ascontiguousarray(small, np.float32)
    count = {"wall": 2, "studio": 0, "indoor": 14, "outdoor": 40}[scene.background]
    for _ in range(count):
        colour = base * rng.uniform(0.3, 1.8) + rng.normal(0, 0.25, 3) * base.mean()
        centre = tuple(int(i) for i in rng.integers(0, 48, 2))
        if scene.background == "outdoor":
            colour = (
                colour * np.array([[0.8, 1.1, 0.6], [1, 1, 1], [0.9, 1.05, 1.3]])[rng.integers(3)]
            )
            cv2.circle(
                small, centre, int(rng.integers(2, 9)), np.clip(colour, 0.01, 1.5).tolist(), -1
            )
        else:
            corner = tuple(int(c + d) for c, d in zip(centre, rng.integers(4, 26, 2), strict=True))
            cv2.rectangle(small, centre, corner, np.clip(colour, 0.01, 1.5).tolist(), -1)
    if scene.background == "studio":
        small *= np.exp(-(x**2 + (y - 0.2) ** 2) / rng.uniform(0.8, 2.5))[..., None].astype(
            np.float32
        )
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(1.0, 2.6))
    large = cv2.resize(small, (fine, fine), interpolation=cv2.INTER_CUBIC)
    large *= 1 + _noise(rng, fine, fine, [(2, 0.015), (40, 0.03)])[..., None]
    return np.stack(cv2.split(np.clip(large, 0.001, 2)))


@functools.lru_cache(maxsize=16)
def _cloth(scene: Scene, fine: int) -> Float32[np.ndarray, "3 fine fine"]:
    """The colour of the clothes: a weave and folds."""
    rng = np.random.default_rng([scene.seed, 2])
    y, x = np.mgrid[0 : 1 : fine * 1j, 0 : 1 : fine * 1j]
    folds = np.sin(
        9 * (x - 0.5) * (1 + y) + 3 * _noise(rng, fine, fine, [(90, 0.5)]) + rng.uniform(0, 6)
    )
    weave = 1 + 0.14 * folds + _noise(rng, fine, fine, [(1, 0.08), (3, 0.06), (30, 0.06)])
    return (weave * _plane(scene.clothing_rgb) ** 2).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _grain(identity: Identity, scene: Scene, fine: int) -> Float32[np.ndarray, "fine fine"]:
    """Skin grain where no texture is attached: neck and ears."""
    rng = np.random.default_rng([identity.seed, scene.seed, 3])
    return 1 + _noise(rng, fine, fine, [(2, 0.05), (4, 0.05), (12, 0.04), (50, 0.04)])


def _draw_neck(picture, identity, scene, light, view, neck, chin):
    low, box = _box((neck.inside > -2) & (neck.v > 0.4))
    normal = _turned(view, [n[low] for n in neck.normal], turn=0.3)
    # The cords that run from behind the ears to the pit of the throat.
    away = np.abs(neck.u[low])
    cord = 0.1 * np.exp(-(((away - 0.5 + 0.28 * (neck.v[low] - 1)) / 0.07) ** 2))
    cord *= _step(0.1, 0.25, away)
    shade = _lambert(scene, normal, light) * (1 - 0.72 * chin[low] - cord)
    skin = _fine(shade) * _plane(_skin_tone(identity) * 0.92)
    skin *= _grain(identity, scene, 2 * view.size)[box]
    _blend(picture[:, *box], skin, _fine(neck.cover(), low))


def _draw_clothes(picture, scene, light, view, chin, x, y):
    away = np.abs(x)
    shoulder = 1.5 + 0.2 * np.maximum(away - 0.5, 0) + 0.14 * _step(0.9, 1.7, away)
    bowl = np.sqrt(np.maximum(1 - (away / 0.7) ** 2, 0))
    neckline = {
        "crew": 1.5 + 0.34 * bowl,
        "collar": 1.42 + 0.62 * _step(0.66, 0.05, away),
        "vee": 1.42 + 1.2 * np.maximum(0.68 - away, 0),
    }[scene.clothing]
    field = y - np.maximum(shoulder, neckline)
    low, box = _box(field > -0.1)
    field = field[low]
    normal = (
        np.clip(x[low] * 0.5, -0.8, 0.8),
        -0.75 * (1 - np.clip(field * 2, 0, 1)),
        0.75 + 0 * field,
    )
    shade = _lambert(scene, normal, light, soft=(0.1, 0.1, 0.1)) * (1 - 0.5 * chin[low])
    shade *= (
        1 - 0.35 * np.exp(-(((field - 0.08) / 0.02) ** 2)) - 0.3 * np.exp(-((field / 0.025) ** 2))
    )
    cloth = _cloth(scene, 2 * view.size)[:, *box] * _fine(shade)
    _blend(picture[:, *box], cloth, np.clip(_fine(field) * (2 * view.unit) + 0.5, 0, 1))


def _draw_ears(picture, identity, scene, light, view):
    tone = _plane(_skin_tone(identity) * (1.0, 0.9, 0.9))
    grain = _grain(identity, scene, 2 * view.size)
    for side in (-1, 1):
        centre = view.project(side * 0.99, 0.2, 0.12)
        # An ear widens as its side of the head turns to the camera.
        wide, tall = 0.15 * identity.ears * (1 - 0.6 * side * view.sin), 0.29 * identity.ears
        spans = [
            (int(2 * (c - 1.3 * tall * view.unit)), int(2 * (c + 1.3 * tall * view.unit)))
            for c in centre
        ]
        columns, rows = (slice(max(a, 0), max(b, 0)) for a, b in spans)
        patch = picture[:, rows, columns]
        if not patch.size:
            continue
        y, x = np.mgrid[rows, columns][:, : patch.shape[1], : patch.shape[2]].astype(np.float32)
        x, y = (0.5 * x - 0.25 - centre[0]) / view.unit, (0.5 * y - 0.25 - centre[1]) / view.unit
        x = side * (x * view.roll_cos + y * view.roll_sin) - 0.1 * y
        x, y = (x + 0.02 + 0.05 * y) / wide, y / tall
        radius = np.sqrt((x * (1 + 0.25 * y)) ** 2 + y * y)
        bowl = np.exp(-((x - 0.02) ** 2 + (y - 0.1) ** 2) / 0.22)
        helix = np.exp(-(((radius - 0.83) / 0.13) ** 2)) - 0.7 * np.exp(
            -(((radius - 0.62) / 0.1) ** 2)
        )
        shade = _lambert(scene, (side * 0.6 + 0 * x, 0.3 * y - 0.1, 0.75 + 0 * x), light)
        shade *= (0.82 + 0.2 * helix - 0.45 * bowl) * grain[rows, columns]
        _blend(
            patch,
            shade * tone,
            np.clip((1 - radius) * (2 * view.unit * min(wide, tall)) + 0.5, 0, 1),
        )


def _draw_head(picture, identity, scene, pose, light, view, head, fringe):
    low, box = _box(head.inside > -2)
    relief = _relief(identity)
    u, v = _express(identity, pose, head.u[low], head.v[low])
    jaw = _drop(pose) * _jaw(identity, v)
    lip = _gap(identity, pose, u, v) * (1 - _jaw(identity, v))
    slope_u, slope_v, openness, gloss = cv2.split(relief.sample(relief.maps, u, v - jaw - lip))
    x, y, z = (n[low] for n in head.normal)
    level = np.maximum(z, 0)  # the relief fades where the section turns away from its axis
    smile = 0.06 * max(pose.smile, 0)
    normal = _turned(view, (x - slope_u * level, y - slope_v * level, z))
    openness = openness * (1 - 4 * smile * _fold(identity, u, v - jaw)) * (1 - 0.25 * fringe[low])
    lit = (1 - 0.7 * _shadow(relief, view, light, u, v - jaw)) * (1 - 0.55 * fringe[low])
    shade = _fine(_lambert(scene, normal, light, lit * (0.4 + 0.6 * openness), openness))
    broad, tight = _shine(light, normal)
    dark = identity.skin
    gloss = _fine(gloss * lit * ((0.03 + 0.02 * dark) * broad + (0.08 + 0.07 * dark) * tight))

    arc, u, v, rest = (_fine(i) for i in (head.arc[low] + u - head.u[low], u, v, v - jaw))
    parted = _near(u, v, 0, _mouth(identity) + 0.2, identity.mouth_width, 0.3)
    rest[parted] -= _gap(identity, pose, u[parted], v[parted]) * (1 - _jaw(identity, v[parted]))
    texture = _lookup(_skin_texture(identity, scene), arc, rest, SKIN_LEFT, SKIN_TOP, SKIN_TEXELS)
    *codes, bump = cv2.split(texture)
    skin = np.stack(codes).astype(np.float32)
    skin *= skin
    skin *= shade * (1 / 255**2)
    # Pores are lit by how their height changes along the light.
    bump = bump.astype(np.float32) * (1 / BUMP_CODES)
    rough = bump - _moved(bump, -1.2 * light[0], -1.2 * light[1], borderMode=cv2.BORDER_REPLICATE)
    skin *= 1 + rough
    skin += gloss * (1 + 2.5 * rough)

    _draw_mouth(skin, identity, pose, view, shade, u, v)
    for side in (-1, 1):
        _draw_eye(skin, identity, pose, view, light, shade, u, v, side)
    _blend(picture[:, *box], skin, _fine(head.cover(), low))


def _near(u, v, u0, v0, width, height):
    """Slices of the pixels around a point of the face."""
    rows = np.flatnonzero((np.abs(v - v0) < height).any(1))
    columns = np.flatnonzero((np.abs(u - u0) < width)[rows].any(0)) if len(rows) else rows
    if not len(columns):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _draw_mouth(skin, identity, pose, view, shade, u, v):
    box = _near(u, v, 0, _mouth(identity) + 0.06, identity.mouth_width + 0.1, 0.24)
    u, v, pixels = u[box] - identity.asymmetry * 2, v[box], 2 * view.unit
    if not u.size:
        return
    t = u * (1 / identity.mouth_width)
    offset = v - _seam(identity, u)
    gap = _drop(pose) * np.clip(1 - t * t, 0, 1)
    inner = np.clip(offset * pixels + 0.5, 0, 1) * np.clip((gap - offset) * pixels + 0.5, 0, 1)
    inner *= np.clip(gap * pixels - 1, 0, 1)
    tooth = np.abs(np.sin(np.pi * (t + 0.145) / 0.29)) ** 0.3
    edge = 0.055 + 0.03 * max(pose.smile, 0) - 0.05 * t * t
    teeth = (
        np.clip((edge - offset) * pixels + 0.5, 0, 1)
        * _step(0.9, 0.7, np.abs(t))
        * _step(0.01, 0.04, gap)
    )
    white = (1 - 0.75 * t * t) * (0.86 + 0.14 * tooth) * (0.35 + 0.65 * _step(0, 0.04, offset))
    tongue = _step(0.4, 1, offset / np.maximum(gap, 1e-3)) * (1 - t * t)
    mouth = _plane((0.035, 0.01, 0.01)) * (0.6 + 3 * tongue)
    _blend(mouth, _plane((0.45, 0.41, 0.35)) * white, teeth)
    line = (
        0.75
        * np.exp(-((offset / 0.014) ** 2))
        * _step(1.08, 0.9, np.abs(t))
        * (1 - np.clip(gap * 30, 0, 1))
    )
    skin[:, *box] *= 1 - line * _plane((0.75, 0.92, 0.92))
    _blend(skin[:, *box], mouth * shade[:, *box], inner)


def _draw_eye(skin, identity, pose, view, light, shade, u, v, side):
    middle = side * identity.eye_distance + identity.asymmetry
    box = _near(u, v, middle, 0, identity.eye_width + 0.1, 0.22)
    u, v, pixels, tall = u[box] - middle, v[box], 2 * view.unit, identity.eye_height
    if not u.size:
        return
    t = u * (side / identity.eye_width)  # -1 at the nose, 1 at the temple
    away = np.abs(t)
    v = v + identity.eye_tilt * identity.eye_width * t
    arch = np.clip(1 - np.abs(np.clip(t + 0.12, -1.06, 1.1)) ** 2.2, 0, 1) * np.clip(
        (1.02 - away) * 6, 0, 1
    )
    lower = tall * (0.36 + (0.3 - 0.14 * max(pose.smile, 0)) * np.clip(1 - t * t, 0, 1)) + 0.02 * t
    upper = tall * (0.36 - (1.04 * pose.eye_open - 0.3 * max(pose.gaze_y, 0)) * arch) + 0.02 * t
    upper = np.minimum(upper, lower)
    crease = tall * (0.36 - 1.04 * arch) - 0.045 - 0.02 * arch
    fold = 0.32 * np.exp(-(((v - crease) / 0.016) ** 2)) * _step(1.25, 0.85, away)
    bag = 0.14 * np.exp(-(((v - lower - 0.055) / 0.018) ** 2)) * _step(1.05, 0.6, away)
    skin[:, *box] *= 1 - (fold + bag) * _plane((0.8, 1, 1))

    x, y = u - 0.055 * pose.gaze_x, v - 0.03 * pose.gaze_y + 0.012
    radius = np.sqrt(x * x + y * y) * (1 / 0.098)
    angle = np.arctan2(y, x)
    fibre = (
        1
        + 0.12 * np.sin(angle * 17 + identity.seed % 7)
        + 0.1 * np.sin(angle * 29 + identity.seed % 5)
    )
    # The iris is a bowl: it gathers light on the side away from the lamp.
    glow = 0.75 + 0.5 * np.exp(-((x + 0.04 * light[0]) ** 2 + (y + 0.04 * light[1]) ** 2) / 0.003)
    iris = fibre * glow * (1.15 - 0.6 * _step(0.7, 1, radius)) * _step(0.3, 0.46, radius)
    ball = _plane((0.5, 0.46, 0.44)) * (1 - 0.45 * t * t)
    _blend(
        ball,
        _plane(identity.eye_rgb) ** 2 * iris,
        np.clip((1 - radius) * 0.098 * pixels + 0.5, 0, 1),
    )
    _blend(ball, _plane((0.4, 0.2, 0.18)), _hill(t + 0.95, v - 0.36 * tall, 0.12, 0.04))
    # The socket's own shading is meant for skin; a wet ball between lids is lit more evenly.
    around = shade[:, *box]
    ball *= around * 0.55 + 0.45 * around.mean((1, 2), keepdims=True)
    ball *= 1 - 0.6 * np.exp(-np.maximum(v - upper, 0) / 0.04)
    spark = np.exp(-((x - 0.042 * light[0]) ** 2 + (y - 0.045 * light[1]) ** 2) / 0.016**2)
    ball += 0.9 * spark * (radius < 1.3)
    open_ = np.clip((v - upper) * pixels + 0.5, 0, 1) * np.clip((lower - v) * pixels + 0.5, 0, 1)
    _blend(skin[:, *box], ball, open_ * (away < 1.02))

    lash = np.exp(-(((v - upper + 0.006) / (0.014 + 0.005 * t)) ** 2)) * _step(1.12, 0.95, away)
    lash *= 0.55 + 0.3 * identity.lip_colour
    lash += 0.22 * np.exp(-(((v - lower) / 0.014) ** 2)) * _step(1.0, 0.8, away)
    skin[:, *box] *= 1 - np.minimum(lash, 0.95)


@functools.lru_cache(maxsize=32)
def _skin_texture(identity: Identity, scene: Scene) -> UInt8[np.ndarray, "h w 4"]:
    """Albedo (square-root codes) and bump over (arc, v): the person, and the day's grain."""
    colour, bump = _skin_features(identity)
    rng = np.random.default_rng([identity.seed, scene.seed, 5])
    colour = colour * (1 + _noise(rng, *bump.shape, [(2, 0.03), (30, 0.03)]))
    bump = bump + _noise(rng, *bump.shape, [(1.5, 0.012), (3, 0.012)])
    planes = [*(np.sqrt(np.clip(colour, 0, 1)) * 255), 128 + BUMP_CODES * bump]
    return cv2.merge([np.clip(plane + 0.5, 0, 255).astype(np.uint8) for plane in planes])


@functools.lru_cache(maxsize=32)
def _skin_features(
    identity: Identity,
) -> tuple[Float32[np.ndarray, "3 h w"], Float32[np.ndarray, "h w"]]:
    """The person's linear albedo and bump over (arc, v)."""
    rng = np.random.default_rng([identity.seed, 4])
    v, arc = _texels(SKIN_LEFT, SKIN_TOP, SKIN_TEXELS)
    height, width = v.shape
    sections = _sections(identity)["head"]
    a = np.maximum(sections.at(sections.shape, sections.row(v))[0], 0.05)
    u = a * np.sin(np.clip(arc / a, -np.pi / 2, np.pi / 2)) - identity.asymmetry * (1 + v)
    away = np.abs(u)
    tip, wide, eye = identity.nose_length, identity.mouth_width, identity.eye_distance
    tone, pale = _plane(_skin_tone(identity)), 1 - identity.skin

    # Blood close to the surface, and thin skin around the eyes.
    blush = 0.5 * _hill(away - 0.52, v - 0.42, 0.26, 0.22) + 0.6 * _hill(u, v - tip, 0.16, 0.13)
    blush += 0.3 * _hill(u, v - identity.chin + 0.15, 0.2, 0.12)
    blush += 0.12 * _noise(rng, height, width, [(40, 1), (16, 0.6)])
    thin = _hill(away - 0.9 * eye, v - 0.15, 0.18, 0.08) + 0.6 * _hill(
        away - 0.9 * eye, v + 0.1, 0.2, 0.08
    )
    colour = tone * (1 + _noise(rng, height, width, [(60, 0.03), (24, 0.03), (9, 0.03)]))
    colour *= 1 - blush * _plane((0, 0.2, 0.18)) * (0.5 + 0.5 * pale)
    colour *= 1 - thin * _plane((0.12, 0.16, 0.1)) * (0.5 + identity.age)
    spots = _step(1.6, 2.3, _noise(rng, height, width, [(3.2, 1)])) * _hill(
        away - 0.3, v - 0.35, 0.5, 0.3
    )
    colour *= 1 - (identity.freckles * 0.6) * spots * _plane((0.5, 0.8, 0.9))
    for _ in range(int(rng.integers(0, 4))):
        left, down = rng.uniform([-0.8, -0.6], [0.8, 1.2])
        colour *= 1 - 0.6 * _hill(arc - left, v - down, 0.014, 0.014)

    lips = _lips(identity, u, v)
    on_lips = _step(1.12, 0.88, np.abs(lips)) * _step(1.04, 0.94, away / wide)
    lines = cv2.GaussianBlur(_noise(rng, height, width, [(2, 1)]), (1, 9), 0)
    lip = tone * _plane(
        (
            0.8 - 0.05 * identity.lip_colour,
            0.52 - 0.22 * identity.lip_colour,
            0.5 - 0.16 * identity.lip_colour,
        )
    )
    lip = lip * (1 + 0.12 * lines + 0.12 * (lips > 0))
    _blend(colour, lip, on_lips * (0.55 + 0.45 * identity.lip_colour))

    strands = _strands(rng, height, width)
    hair = _plane(identity.hair_rgb) ** 2 * 0.8
    along = np.clip((away - eye + 0.25) / 0.5, -0.1, 1.1)  # 0 at the nose, 1 at the temple
    arch = identity.brow_arch * np.sin(np.pi * np.clip(0.1 + 0.72 * along, 0, 1)) - 0.05 * along**3
    thick = (
        identity.brow_thickness
        * (1 - 0.55 * along)
        * _step(-0.1, 0.06, along)
        * _step(1.1, 0.95, along)
    )
    across = (v + identity.brow_height - 0.045 + arch) / (thick + 1e-3)
    combed = _strands(rng, width, height).T  # brow hairs lie along the brow
    brow = (
        np.clip(1.35 - np.abs(across) + 0.2 * combed, 0, 1) * (thick > 3e-3) * (0.85 - 0.1 * along)
    )
    _blend(colour, np.minimum(hair, tone * 0.5) * (1 + 0.35 * combed), brow)
    if identity.facial_hair != "none":
        _blend(
            colour,
            np.minimum(hair, tone * 0.5) * (1 + 0.4 * strands),
            _beard(identity, rng, u, v, lips, on_lips, strands),
        )

    # One grain over everything: no feature interrupts it.
    bump = _noise(rng, height, width, [(2, 0.6), (3.5, 0.8), (7, 0.5)]) * (
        0.025 + 0.035 * identity.age
    )
    creases = np.sin(v * 58 + 2.5 * _noise(rng, height, width, [(50, 1)])) * _hill(
        u, v + 0.62, 0.6, 0.16
    )
    bump += 0.05 * identity.age**2 * creases
    colour *= 1 + _noise(rng, height, width, [(2, 0.045), (4, 0.035)])
    return np.maximum(colour, 0.002).astype(np.float32), bump.astype(np.float32)


def _beard(identity, rng, u, v, lips, on_lips, strands):
    """How much hair covers the lower face."""
    away, mouth, wide = np.abs(u), _mouth(identity), identity.mouth_width
    cheek = np.interp(
        away, [0, 0.3, 0.48, 0.7, 0.95], [mouth + 0.2, mouth + 0.15, mouth - 0.1, 0.6, 0.0]
    )
    stubble = identity.facial_hair == "stubble"
    beard = (
        _step(-0.25, 0.25, v - cheek) if stubble else _step(-0.08, 0.1, v - cheek + 0.03 * strands)
    )
    lip = _step(0, 0.06, -(lips + 1.2) * identity.upper_lip) * _hill(
        u, v - identity.nose_length - 0.29, wide * 0.95, 0.1
    )
    moustache = np.clip(
        1.5 * lip + 1.2 * _hill(away - wide - 0.06, v - mouth - 0.06, 0.07, 0.13), 0, 1
    )
    goatee = np.clip(1.6 * _hill(u, v - identity.chin + 0.15, 0.28, 0.2), 0, 1) * _step(
        0.14, 0.2, v - mouth
    )
    cover = {
        "stubble": np.maximum(beard, moustache) * 0.4,
        "moustache": np.clip(2.2 * lip, 0, 1),
        "goatee": np.maximum(moustache, goatee),
        "beard": np.maximum(beard, moustache),
    }[identity.facial_hair]
    dots = _noise(rng, *u.shape, [(1.5, 0.7)]) if stubble else strands
    return cover * (1 - on_lips) * np.clip(0.97 + (0.25 if stubble else 0.03) * dots, 0, 1)


def _strands(rng, height, width):
    """Noise drawn out downwards, unit strength."""
    noise = cv2.GaussianBlur(
        rng.standard_normal((height, width), np.float32), (0, 0), sigmaX=0.8, sigmaY=5
    )
    return noise / noise.std()


@functools.lru_cache(maxsize=64)
def _hair_texture(identity: Identity) -> Float32[np.ndarray, "h w"]:
    """Strand brightness over (psi, v), mean 0, unit strength: fine hairs, locks, waves."""
    rng = np.random.default_rng([identity.seed, 6])
    height, width = 420, 560
    if identity.hair_style == "buzz":
        texture = _noise(rng, height, width, [(1.5, 0.8), (3, 0.5), (40, 0.3)])
        return np.clip(texture / texture.std(), -2.5, 2.5)
    locks = cv2.GaussianBlur(
        rng.standard_normal((height, width), np.float32), (0, 0), sigmaX=4, sigmaY=40
    )
    texture = 0.8 * _strands(rng, height, width) + 0.9 * locks / locks.std()
    short, wave = identity.hair_style == "short", identity.hair_wave
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    bend = (
        wave**2
        * (14 if short else 10)
        * np.sin(y / (26 - 10 * wave) + 3 * _noise(rng, height, width, [(80, 1)]))
    )
    bend += _noise(rng, height, width, [(70, 6), (25, 2 + 8 * wave * short)])
    swirl = _noise(rng, height, width, [(20, 12 * wave if short else 2)])
    texture = cv2.remap(
        texture, x + bend, y + swirl, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.clip(texture / texture.std(), -2.5, 2.5)


def _hair_field(identity, hair, head):
    """Depth into the hair, about in units, negative outside; smooth, strands come later."""
    style, part, line = identity.hair_style, identity.hair_part, identity.hairline
    away, psi, v = np.abs(hair.psi), hair.psi, hair.v
    if style in ("buzz", "short"):
        recess = 0.2 * identity.age * np.exp(-(((away - 0.55) / 0.22) ** 2))
        field = line - recess + (0.05 - line) * _step(0.7, 1.3, away) - v
    elif style == "swept":
        front = (
            line - 0.05 + 0.14 * np.sin(np.clip((psi - part) * math.copysign(1.6, -part), -1, 3))
        )
        field = front - front * _step(0.75, 1.3, away) - v
    elif style == "fringe":
        front = 0.05 * np.cos(psi * 2) + 0.04 * np.sin(psi * 9 + identity.seed % 6) - 0.4
        field = front + (0.15 - front) * _step(0.85, 1.25, away) - v
    else:
        # Curtains that fall from the parting and leave an arch free for the face.
        arch = np.clip(1 - np.maximum((0.15 - v) / (0.3 - line), 0) ** 1.7, 0, 1) ** 0.7
        field = np.abs(psi - 0.7 * part * _step(0.2, -0.9, v)) - 1.06 * arch
        field -= 0.06 * identity.hair_wave * np.sin(3 * v + identity.seed % 6) * (v > -0.3) - 0.03
        if style == "bob":
            field = np.minimum(field, 1.3 - v)
    if style not in LOOSE:
        # Past the head's outline one sees the hair of its far side, up to the ear.
        field = np.maximum(field, np.minimum(-0.05 * head.inside, -0.05 - v))
    return np.minimum(field, (hair.inside + 0.5) * 0.15)


def _draw_hair(picture, identity, scene, light, view, hair, field, depth=1.0):
    low, box = _box((field > -0.15) & (hair.inside > -2))
    normal, half, rgb = (
        _turned(view, [n[low] for n in hair.normal]),
        _half(light),
        _plane(identity.hair_rgb),
    )
    shade = _lambert(scene, normal, light, soft=(0.25, 0.25, 0.25))
    # Locks are darker at their roots and where they lie under others.
    shade *= depth * (0.55 + 0.45 * _step(-0.02, 0.3, field[low]))
    # Strands run down the head: the highlight is a band where normals halve light and view.
    band = np.exp(-(((normal[1] - half[1] + 0.35) / 0.22) ** 2))
    band *= depth * np.maximum(normal[0] * half[0] + normal[2] * half[2], 0)

    strands = _lookup(
        _hair_texture(identity), _fine(hair.psi, low), _fine(hair.v, low), -2.5, -1.8, 112
    )
    colour = _fine(shade) * np.maximum(rgb * rgb, 0.004)
    colour *= 1 + 0.38 * strands
    colour += (0.5 + rgb) * (_fine(band) * np.maximum(0.06 + 0.06 * strands, 0))
    ragged, edge, most = (0.02, 5, 0.72) if identity.hair_style == "buzz" else (0.028, 16, 1)
    alpha = np.clip(0.5 + (_fine(field, low) + ragged * strands) * edge, 0, 1)
    alpha *= np.clip(_fine(hair.inside, low) + 0.5, 0, most)
    _blend(picture[:, *box], colour, alpha)


def _meter(picture):
    """The camera's gain: it meters the middle, and makes up for most of what it finds."""
    size = picture.shape[1]
    middle = picture[:, size // 4 : size - size // 4, size // 4 : size - size // 4]
    return (METERED / max(float(middle.mean()), 1e-3)) ** METERING


def _develop(picture, scene):
    """Linear light -> 8-bit RGB at half the size, by the camera's exposure, tint and contrast."""
    size = picture.shape[1] // 2
    small = np.stack(
        [cv2.resize(plane, (size, size), interpolation=cv2.INTER_AREA) for plane in picture]
    )
    small *= _plane(scene.tint) * (scene.exposure * _meter(small))
    code = np.sqrt(small * 1.2 / (1 + 0.2 * small))
    code = (code - 0.45) * scene.contrast + 0.45
    return cv2.merge(list(np.clip(code * 255 + 0.5, 0, 255).astype(np.uint8)))
