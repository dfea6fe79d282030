"""The people who are drawn and their poses in each frame."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

HAIR_STYLES = ("buzz", "short", "swept", "fringe", "bob", "long")
FACIAL_HAIR = ("none", "stubble", "moustache", "goatee", "beard")


def _tones(codes):
    return np.array([list(bytes.fromhex(code)) for code in codes.split()]) / 255


# sRGB; the skin's from light to dark, measured by eye on the usual skin-tone scales.
SKIN_TONES = _tones("eeccb8 e4b89d d3a182 b78262 8d5f44 684330 4a2f23")
HAIR_TONES = _tones("181414 2c201a 4a3222 704a2c 9e744c c0a076 80381c 96928e")
EYE_TONES = _tones("3a2416 56361e 70542e 606846 5c7c8e 74848a")


@dataclass(frozen=True)
class Identity:
    """A person's features. Lengths in face half-widths; shares and strengths in [0, 1]."""

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

    @property
    def mouth(self) -> float:
        """v of the mouth."""
        return self.nose_length + self.mouth_drop


def sample_identity(rng: np.random.Generator) -> Identity:
    """A random person; features are drawn around human averages, hair and eyes follow the skin."""

    def around(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.normal(), -2, 2))

    skin, age, masculine = rng.uniform(0, 1), rng.beta(1.3, 1.8), rng.beta(0.5, 0.5)
    if skin > 0.5:
        hair_odds, eye_odds = [0.5, 0.34, 0.1, 0.02, 0, 0, 0, 0.04], [0.6, 0.3, 0.1, 0, 0, 0]
    else:
        hair_odds = [0.14, 0.2, 0.2, 0.16, 0.1, 0.08, 0.06, 0.06]
        eye_odds = [0.15, 0.15, 0.175, 0.175, 0.175, 0.175]
    if masculine > 0.5:
        style_odds = [0.22, 0.3, 0.28, 0.12, 0.02, 0.06]
        facial_odds = [0.4, 0.25, 0.1, 0.1, 0.15] if age > 0.12 else [1, 0, 0, 0, 0]
    else:
        style_odds, facial_odds = [0.04, 0.06, 0.15, 0.1, 0.25, 0.4], [1, 0, 0, 0, 0]
    hair_tone = rng.choice(HAIR_TONES, p=hair_odds)
    eye_tone = rng.choice(EYE_TONES, p=eye_odds)
    jitter = rng.uniform(0.85, 1.15, 3)
    return Identity(
        skin=skin,
        undertone=rng.uniform(-1, 1),
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
        lip_colour=rng.uniform(0, 0.3) if masculine > 0.5 else rng.uniform(0.1, 1),
        hair_style=str(rng.choice(HAIR_STYLES, p=style_odds)),
        hair_rgb=tuple(np.clip(hair_tone * jitter.mean() ** 2, 0, 1).tolist()),
        hair_part=float(rng.choice([-1, 1]) * rng.uniform(0.1, 0.45)),
        hair_wave=rng.beta(1.2, 1.6),
        hairline=around(-0.84, 0.05) - 0.12 * masculine * age,
        facial_hair=str(rng.choice(FACIAL_HAIR, p=facial_odds)),
        freckles=rng.beta(0.6, 3) * (1 - skin),
        ears=around(1.0, 0.08),
        asymmetry=around(0.0, 0.009),
        seed=int(rng.integers(2**31)),
    )


def skin_tone(identity: Identity) -> Float32[np.ndarray, "3"]:
    """The mean colour of the skin, in linear light."""
    place, places = identity.skin * (len(SKIN_TONES) - 1), range(len(SKIN_TONES))
    tone = np.array([np.interp(place, places, channel) for channel in SKIN_TONES.T])
    tone = tone * (1 + identity.undertone * np.array([-0.02, 0.02, -0.03]))
    return (tone**2).astype(np.float32)


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
    lids = 1 - 0.18 * np.clip(smile, 0, 1) + 0.1 * brow + around(0.06, 0.12)
    yaw = around(0.15, 0.32) + drift(0.06, 20)
    pitch = around(0.08, 0.16) + drift(0.03, 20)
    # People look more towards the camera than where the nose points.
    columns = dict(
        smile=smile,
        mouth_open=mouth,
        brow_raise=brow,
        eye_open=np.clip(lids * blink, 0.05, 1.1),
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
