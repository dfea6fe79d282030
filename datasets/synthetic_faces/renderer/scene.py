"""Where a video is taken: its camera and clothes, the light, and the background."""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from .canvas import Picture, Plane, moved, noise

# Backgrounds, with the number of objects in each.
BACKGROUNDS = {"wall": 2, "studio": 0, "indoor": 14, "outdoor": 40}


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


def sample_scene(rng: np.random.Generator) -> Scene:
    """A random place: background, light, camera and clothes of one video."""
    azimuth, height = rng.uniform(-1.1, 1.1), rng.uniform(0.1, 0.8)
    across, ahead = np.sin(azimuth) * np.cos(height), np.cos(azimuth) * np.cos(height)
    warmth = rng.uniform(-1, 1)
    cloth = 0.5 + rng.uniform(0.02, 0.3) * (rng.dirichlet([2, 2, 2]) * 3 - 1)
    hue = 0.6 + 0.16 * (rng.dirichlet([2, 2, 2]) * 3 - 1)
    return Scene(
        background=str(rng.choice(list(BACKGROUNDS))),
        background_rgb=tuple(np.clip(hue * rng.uniform(0.4, 1.3), 0.05, 0.95).tolist()),
        light=(float(across), float(-np.sin(height)), float(ahead)),
        light_rgb=(1 + 0.12 * warmth, 1.0, 1 - 0.16 * warmth),
        fill=rng.uniform(0.2, 0.55),
        exposure=rng.uniform(0.8, 1.15),
        tint=tuple((1 + rng.uniform(-0.06, 0.06, 3)).tolist()),
        contrast=rng.uniform(0.92, 1.12),
        clothing=str(rng.choice(["crew", "collar", "vee"])),
        clothing_rgb=tuple(np.clip(cloth * rng.uniform(0.1, 1.5), 0.03, 0.92).tolist()),
        seed=int(rng.integers(2**31)),
    )


class Light(NamedTuple):
    """A key light, x, y, z towards it as the unrolled head sees it, and ambient light."""

    x: float
    y: float
    z: float
    rgb: tuple[float, float, float]
    fill: float

    @classmethod
    def of(cls, scene: Scene, roll: float) -> "Light":
        """The light of a scene on a head that is rolled."""
        x, y, z = (i / math.hypot(*scene.light) for i in scene.light)
        c, s = math.cos(roll), math.sin(roll)
        return cls(c * x + s * y, c * y - s * x, z, scene.light_rgb, scene.fill)

    @property
    def half(self) -> tuple[float, float, float]:
        """The direction between the light and the camera."""
        length = math.hypot(self.x, self.y, self.z + 1)
        return self.x / length, self.y / length, (self.z + 1) / length

    def diffuse(self, normal, lit=1.0, openness=1.0, soft=(0.32, 0.18, 0.13)):
        """Diffuse light [3, h, w], of which red reaches further round the terminator, as in skin.

        lit: share of the key light that arrives. openness: of the ambient light.
        """
        x, y, z = normal
        facing = x * self.x + y * self.y + z * self.z
        sky = (0.74 - 0.25 * y + 0.12 * z) * (self.fill * openness)
        keys = [np.maximum(facing + wrap, 0) * lit for wrap in soft]
        scales = [rgb / (1 + wrap) for rgb, wrap in zip(self.rgb, soft, strict=True)]
        return np.stack([key * scale + sky for key, scale in zip(keys, scales, strict=True)])

    def shine(self, normal) -> tuple[Plane, Plane]:
        """Highlights of the key light, broad and tight, before gloss."""
        facing = np.maximum(sum(n * h for n, h in zip(normal, self.half, strict=True)), 0)
        broad = np.square(np.square(np.square(facing)))  # power 8
        tight = np.square(broad)
        return broad, np.square(tight) * broad  # power 40

    def cast(self, cover: Plane, reach: float, down: float, blur: float) -> Plane:
        """A soft shadow of one layer on the next: its cover moved off the light, and blurred.

        reach, down, blur: shares of the frame, along the light, straight down, and around.
        """
        size = len(cover)
        cover = moved(cover, -self.x * reach * size, (down - self.y * reach) * size)
        return cv2.GaussianBlur(cover, (0, 0), blur * size)


@functools.lru_cache(maxsize=16)
def background(scene: Scene, size: int) -> Picture:
    """The background behind the person, out of focus, at size x size pixels."""
    rng = np.random.default_rng([scene.seed, 1])
    base = np.array(scene.background_rgb) ** 2
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    slope = rng.uniform(-0.35, 0.35, 2)
    small = ((1 + slope[0] * x + slope[1] * y)[..., None] * base).astype(np.float32)
    for _ in range(BACKGROUNDS[scene.background]):
        colour = base * rng.uniform(0.3, 1.8) + rng.normal(0, 0.25, 3) * base.mean()
        centre = rng.integers(0, 48, 2)
        if scene.background == "outdoor":
            colour *= rng.choice([[0.8, 1.1, 0.6], [1, 1, 1], [0.9, 1.05, 1.3]])
            draw, extent = cv2.circle, int(rng.integers(2, 9))
        else:
            draw, extent = cv2.rectangle, (centre + rng.integers(4, 26, 2)).tolist()
        draw(small, centre.tolist(), extent, np.clip(colour, 0.01, 1.5).tolist(), -1)
    if scene.background == "studio":
        lamp = np.exp(-(x**2 + (y - 0.2) ** 2) / rng.uniform(0.8, 2.5))
        small *= lamp[..., None].astype(np.float32)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(1.0, 2.6))
    large = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
    large *= 1 + noise(rng, (size, size), (2, 0.015), (40, 0.03))[..., None]
    return np.stack(cv2.split(np.clip(large, 0.001, 2)))
