"""Draws parametric human faces, deterministically, with NumPy and OpenCV.

A head is a stack of elliptical cross-sections (an exact silhouette for any yaw) that carries a relief
(nose, sockets, lips, chin), a skin texture in arc-length coordinates, and a second, larger stack of
sections for the hair. Light is computed in linear space at the output size; texture, eyes, mouth and
edges are drawn at twice that size and averaged down.

Units: 1 = half the width of the face. Head coordinates: u to the image right, v down, z towards the
camera, origin between the eyes. psi is the angle around the vertical axis, 0 at the nose.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

HAIR_STYLES = ("buzz", "short", "swept", "fringe", "bob", "long")
FACIAL_HAIR = ("none", "stubble", "moustache", "goatee", "beard")
BACKGROUNDS = ("wall", "studio", "indoor", "outdoor")

UNIT = 0.305  # half a face width, as a share of the frame
EYE_Y = 0.415  # where the eyes of a frontal face lie, as a share of the frame
FACE_CENTRE = (0.0, 0.45, 0.95)  # the point of the head that stays put when the head turns
TEXELS = 112  # texels per unit: about one per drawn pixel at 160x160

# sRGB, light to dark, measured by eye on the usual skin-tone scales.
SKIN_TONES = np.array(
    [(242, 208, 190), (230, 186, 160), (211, 161, 130), (183, 130, 98), (141, 95, 68), (104, 67, 48),
     (74, 47, 35)]
) / 255.0  # fmt: skip
HAIR_TONES = np.array(
    [(24, 20, 20), (44, 32, 26), (74, 50, 34), (112, 74, 44), (160, 112, 66), (198, 158, 104),
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
    tones = rng.choice(len(HAIR_TONES), p=np.array(
        [0.5, 0.34, 0.1, 0.02, 0, 0, 0, 0.04] if dark else [0.14, 0.2, 0.2, 0.16, 0.1, 0.08, 0.06, 0.06]
    ))  # fmt: skip
    eyes = rng.choice(len(EYE_TONES), p=[0.6, 0.3, 0.1, 0, 0, 0] if dark else [0.15] * 2 + [0.175] * 4)
    style_odds = [0.22, 0.3, 0.28, 0.12, 0.02, 0.06] if masculine > 0.5 else [0.04, 0.06, 0.15, 0.1, 0.25, 0.4]
    facial_odds = [0.4, 0.25, 0.1, 0.1, 0.15] if masculine > 0.5 and age > 0.12 else [1, 0, 0, 0, 0]
    jitter = rng.uniform(0.85, 1.15, 3)
    return Identity(
        skin=skin,
        undertone=float(rng.uniform(-1, 1)),
        age=age,
        chin=around(1.44 + 0.05 * masculine, 0.045),
        jaw=float(np.clip(around(0.25 + 0.45 * masculine, 0.2), 0, 1)),
        eye_distance=around(0.455, 0.015),
        eye_width=around(0.215, 0.012),
        eye_height=around(0.105, 0.014),
        eye_tilt=around(0.06, 0.06),
        eye_rgb=tuple(np.clip(EYE_TONES[eyes] * jitter, 0, 1).tolist()),
        brow_height=around(0.285 - 0.03 * masculine, 0.02),
        brow_thickness=around(0.04 + 0.018 * masculine, 0.009),
        brow_arch=around(0.07 - 0.03 * masculine, 0.02),
        nose_length=around(0.6, 0.035),
        nose_width=around(0.19 + 0.05 * skin, 0.018),
        nose_height=around(0.3 - 0.06 * skin, 0.03),
        mouth_drop=around(0.335, 0.02),
        mouth_width=around(0.36, 0.028),
        upper_lip=around(0.062 + 0.03 * skin, 0.012),
        lower_lip=around(0.092 + 0.03 * skin, 0.014),
        lip_colour=float(rng.uniform(0, 0.3) if masculine > 0.5 else rng.uniform(0.1, 1)),
        hair_style=str(rng.choice(HAIR_STYLES, p=style_odds)),
        hair_rgb=tuple(np.clip(HAIR_TONES[tones] * jitter.mean() ** 2, 0, 1).tolist()),
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
    light = np.array([np.sin(azimuth) * np.cos(height), -np.sin(height), np.cos(azimuth) * np.cos(height)])
    warmth = rng.uniform(-1, 1)
    hue = rng.dirichlet([2, 2, 2]) * 1.5
    return Scene(
        background=str(rng.choice(BACKGROUNDS)),
        background_rgb=tuple(np.clip(hue * rng.uniform(0.25, 0.9) + 0.08, 0, 1).tolist()),
        light=tuple(light.tolist()),
        light_rgb=(float(1 + 0.12 * warmth), 1.0, float(1 - 0.16 * warmth)),
        fill=float(rng.uniform(0.3, 0.7)),
        exposure=float(rng.uniform(0.8, 1.15)),
        tint=tuple((1 + rng.uniform(-0.06, 0.06, 3)).tolist()),
        contrast=float(rng.uniform(0.92, 1.12)),
        clothing=str(rng.choice(["crew", "collar", "vee"])),
        clothing_rgb=tuple(np.clip(rng.dirichlet([1.5] * 3) * rng.uniform(0.2, 1.6), 0.02, 0.95).tolist()),
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

    talk, rest_smile = rng.uniform(0, 0.45) * (rng.random() < 0.6), rng.uniform(-0.15, 0.8)
    blink = np.full(n, 1.0)
    for start in np.flatnonzero(rng.random(n) < 0.04):
        blink = np.minimum(blink, np.clip(np.abs(time - start) * 0.6 + 0.1, 0, 1))
    smile = np.clip(rest_smile + drift(0.15), -0.2, 1)
    mouth = np.clip(talk * (0.5 + drift(0.5, 7)) + 0.25 * np.clip(smile - 0.45, 0, 1), 0, 1)
    brow = np.clip(around(0.2, 0.4) + drift(0.15), -0.5, 1)
    eyes = np.clip((1 - 0.18 * np.clip(smile, 0, 1) + 0.1 * brow + around(0.06, 0.12)) * blink, 0.05, 1.1)
    columns = dict(
        smile=smile,
        mouth_open=mouth,
        brow_raise=brow,
        eye_open=eyes,
        gaze_x=np.clip(around(0.3, 0.7) + drift(0.15), -1, 1),
        gaze_y=np.clip(around(0.15, 0.4) + drift(0.08), -1, 1),
        yaw=around(0.15, 0.32) + drift(0.06, 20),
        pitch=around(0.08, 0.16) + drift(0.03, 20),
        roll=around(0.06, 0.13) + drift(0.025, 20),
        x=around(0.012, 0.025) + drift(0.006),
        y=around(0.012, 0.025) + drift(0.006),
        scale=1 + around(0.035, 0.07) + drift(0.01),
    )
    return [Pose(**{name: float(values[i]) for name, values in columns.items()}) for i in range(n)]


def render(
    identity: Identity, scene: Scene, pose: Pose, size: int
) -> tuple[UInt8[np.ndarray, "size size 3"], Float[np.ndarray, "5 2"]]:
    """One frame, RGB, framed as an aligned face crop, and its five landmarks.

    Landmarks are x, y in pixels (0 is the centre of the first pixel): eye at image left, eye at image
    right, nose tip, mouth corner at image left, mouth corner at image right. Equal arguments give
    equal bytes.
    """
    shapes, relief = _sections(identity), _relief(identity)
    view = _View(pose, size)
    light = view.unroll(np.array(scene.light))
    fine = 2 * size

    y, x = view.grid()
    drop = 0.16 * pose.mouth_open
    head = _trace(shapes["head"], view, x, y, relief, drop, _mouth_v(identity))
    hair = _trace(shapes["hair"], view, x, y)
    neck = _trace(shapes["neck"], view.follow(0.35), x, y)
    hair_alpha, hair_back = _hair_cover(identity, hair)

    # Light, at the output size.
    diffuse, gloss = _skin_light(identity, scene, pose, view, light, head, relief)
    fringe_shade = cv2.GaussianBlur(_shift(hair_alpha, light, 0.035 * size), (0, 0), size / 50)
    diffuse *= (1 - 0.5 * fringe_shade)[..., None]
    gloss *= 1 - fringe_shade
    under = cv2.GaussianBlur(_shift(head.cover(), light, 0.06 * size, down=0.09 * size), (0, 0), size / 32)
    neck_light = _lambert(scene, neck.normal, light) * (1 - 0.72 * under)[..., None]
    hair_light, hair_shine = _hair_light(scene, light, hair)

    # Colour, at twice the output size.
    picture = _surroundings(scene, fine).copy()
    if identity.hair_style in ("bob", "long"):
        strands = _enlarge(0.35 * hair_light, fine) * _hair_colour(identity, hair, fine)[0]
        _blend(picture, strands, _enlarge(hair_back, fine))
    grain = _grain(identity.seed, scene.seed, fine)
    tone = _skin_tone(identity).astype(np.float32)
    neck_cover = _enlarge(neck.cover(), fine)
    _blend(picture, _enlarge(neck_light, fine) * (tone * 0.9) * grain[..., None], neck_cover)
    _draw_clothes(picture, scene, view, under, fine)
    _draw_ears(picture, identity, scene, view, light, tone, grain, fine)

    rows = slice(0, fine)
    skin, u, v = _skin_colour(identity, scene, pose, head, light, fine)
    skin *= _enlarge(diffuse, fine)
    skin += _enlarge(gloss, fine)[..., None] * np.asarray(scene.light_rgb, np.float32)
    shade = _enlarge(diffuse, fine)
    _draw_mouth(skin, identity, pose, view, shade, u, v)
    for side in (-1, 1):
        _draw_eye(skin, identity, pose, view, light, shade, u, v, side)
    _blend(picture[rows], skin, _enlarge(head.cover(), fine))

    colour, texture_alpha = _hair_colour(identity, hair, fine)
    colour = colour * _enlarge(hair_light, fine)
    colour += (_enlarge(hair_shine, fine) * texture_alpha)[..., None]
    _blend(picture, colour, np.clip(_enlarge(hair_alpha, fine), 0, 1))

    picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return _develop(picture, scene), _landmarks(identity, pose, view, shapes["head"], relief)
