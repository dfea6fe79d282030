"""The skin's texture: complexion, lips, brows, beard and pores, over (arc, v)."""

import functools

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from .canvas import Grid, Plane, blend, hill, noise, spread, step, strands
from .head import head_sections, lips
from .person import Identity, skin_tone
from .scene import Scene

SKIN = Grid(-2.1, -1.55, 112)  # over (arc, v)
BUMP_CODES = 400  # 8-bit codes per unit of bump


@functools.lru_cache(maxsize=32)
def skin_texture(identity: Identity, scene: Scene) -> UInt8[np.ndarray, "h w 4"]:
    """Albedo (square-root codes) and bump: the person, and the day's grain."""
    colour, bump = _features(identity)
    rng = np.random.default_rng([identity.seed, scene.seed, 5])
    colour = colour * (1 + noise(rng, bump.shape, (2, 0.03), (30, 0.03)))
    bump = bump + noise(rng, bump.shape, (1.5, 0.012), (3, 0.012))
    planes = [*(np.sqrt(np.clip(colour, 0, 1)) * 255), 128 + BUMP_CODES * bump]
    return cv2.merge([np.clip(plane + 0.5, 0, 255).astype(np.uint8) for plane in planes])


@functools.lru_cache(maxsize=32)
def _features(identity: Identity) -> tuple[Float32[np.ndarray, "3 h w"], Plane]:
    """The person's linear albedo and bump."""
    rng = np.random.default_rng([identity.seed, 4])
    v, arc = SKIN.texels()
    a = np.maximum(head_sections(identity).at(v)[0], 0.05)
    u = a * np.sin(np.clip(arc / a, -np.pi / 2, np.pi / 2)) - identity.asymmetry * (1 + v)
    tone = spread(skin_tone(identity))

    colour = _complexion(identity, tone, rng, u, v)
    for _ in range(int(rng.integers(0, 4))):  # moles
        left, down = rng.uniform([-0.8, -0.6], [0.8, 1.2])
        colour *= 1 - 0.6 * hill(arc - left, v - down, 0.014, 0.014)

    lip, made_up = lips(identity, u, v), identity.lip_colour
    on_lips = step(1.12, 0.88, np.abs(lip)) * step(1.04, 0.94, np.abs(u) / identity.mouth_width)
    lines = cv2.GaussianBlur(noise(rng, v.shape, (2, 1)), (1, 9), 0)
    red = spread((0.8 - 0.05 * made_up, 0.52 - 0.22 * made_up, 0.5 - 0.16 * made_up))
    red = tone * red * (1 + 0.12 * lines + 0.12 * (lip > 0))
    blend(colour, red, on_lips * (0.55 + 0.45 * made_up))

    hanging = strands(rng, v.shape)
    combed = strands(rng, v.shape[::-1]).T  # brow hairs lie along the brow
    hair = np.minimum(spread(identity.hair_rgb) ** 2 * 0.8, tone * 0.5)
    blend(colour, hair * (1 + 0.35 * combed), _brows(identity, u, v, combed))
    if identity.facial_hair != "none":
        beard = _beard(identity, rng, u, v, lip, on_lips, hanging)
        blend(colour, hair * (1 + 0.4 * hanging), beard)

    # One grain over everything: no feature interrupts it.
    bump = noise(rng, v.shape, (2, 0.6), (3.5, 0.8), (7, 0.5)) * (0.025 + 0.035 * identity.age)
    creases = np.sin(v * 58 + 2.5 * noise(rng, v.shape, (50, 1))) * hill(u, v + 0.62, 0.6, 0.16)
    bump += 0.05 * identity.age**2 * creases
    colour *= 1 + noise(rng, v.shape, (2, 0.045), (4, 0.035))
    return np.maximum(colour, 0.002).astype(np.float32), bump.astype(np.float32)


def _complexion(identity, tone, rng, u, v):
    """The tone, blood close to the surface, thin skin around the eyes, freckles."""
    away, tip, eye = np.abs(u), identity.nose_length, 0.9 * identity.eye_distance
    blush = 0.5 * hill(away - 0.52, v - 0.42, 0.26, 0.22) + 0.6 * hill(u, v - tip, 0.16, 0.13)
    blush += 0.3 * hill(u, v - identity.chin + 0.15, 0.2, 0.12)
    blush += 0.12 * noise(rng, v.shape, (40, 1), (16, 0.6))
    thin = hill(away - eye, v - 0.15, 0.18, 0.08) + 0.6 * hill(away - eye, v + 0.1, 0.2, 0.08)
    colour = tone * (1 + noise(rng, v.shape, (60, 0.03), (24, 0.03), (9, 0.03)))
    colour *= 1 - blush * spread((0, 0.2, 0.18)) * (0.5 + 0.5 * (1 - identity.skin))
    colour *= 1 - thin * spread((0.12, 0.16, 0.1)) * (0.5 + identity.age)
    spots = step(1.6, 2.3, noise(rng, v.shape, (3.2, 1))) * hill(away - 0.3, v - 0.35, 0.5, 0.3)
    colour *= 1 - (identity.freckles * 0.6) * spots * spread((0.5, 0.8, 0.9))
    return colour


def _brows(identity, u, v, combed):
    """How much hair covers the brows."""
    along = (np.abs(u) - identity.eye_distance + 0.25) / 0.5  # 0 at the nose, 1 at the temple
    along = np.clip(along, -0.1, 1.1)
    arch = identity.brow_arch * np.sin(np.pi * np.clip(0.1 + 0.72 * along, 0, 1)) - 0.05 * along**3
    thick = identity.brow_thickness * (1 - 0.55 * along)
    thick = thick * step(-0.1, 0.06, along) * step(1.1, 0.95, along)
    across = (v + identity.brow_height - 0.045 + arch) / (thick + 1e-3)
    cover = np.clip(1.35 - np.abs(across) + 0.2 * combed, 0, 1)
    return cover * (thick > 3e-3) * (0.85 - 0.1 * along)


def _beard(identity, rng, u, v, lip, on_lips, hanging):
    """How much hair covers the lower face."""
    away, mouth, wide = np.abs(u), identity.mouth, identity.mouth_width
    stubble = identity.facial_hair == "stubble"
    line = [mouth + 0.2, mouth + 0.15, mouth - 0.1, 0.6, 0.0]
    below = v - np.interp(away, [0, 0.3, 0.48, 0.7, 0.95], line)
    cheeks = step(-0.25, 0.25, below) if stubble else step(-0.08, 0.1, below + 0.03 * hanging)
    above = step(0, 0.06, -(lip + 1.2) * identity.upper_lip)
    above = above * hill(u, v - identity.nose_length - 0.29, wide * 0.95, 0.1)
    corners = hill(away - wide - 0.06, v - mouth - 0.06, 0.07, 0.13)
    moustache = np.clip(1.5 * above + 1.2 * corners, 0, 1)
    goatee = np.clip(1.6 * hill(u, v - identity.chin + 0.15, 0.28, 0.2), 0, 1)
    goatee = goatee * step(0.14, 0.2, v - mouth)
    cover = {
        "stubble": np.maximum(cheeks, moustache) * 0.4,
        "moustache": np.clip(2.2 * above, 0, 1),
        "goatee": np.maximum(moustache, goatee),
        "beard": np.maximum(cheeks, moustache),
    }[identity.facial_hair]
    dots = 0.25 * noise(rng, v.shape, (1.5, 0.7)) if stubble else 0.03 * hanging
    return cover * (1 - on_lips) * np.clip(0.97 + dots, 0, 1)
