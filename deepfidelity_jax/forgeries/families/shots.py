"""Other shots of the same person, made before anything is forged.

A few hundred photographs cover few poses, lights and colours, and a detector trained on them takes
others for forgeries. So the whole picture is varied first, and a real face and its forgery are made
from the same shot.
"""

import cv2
import numpy as np

from deepfidelity_jax.faces.geometry import complete_landmarks
from deepfidelity_jax.forgeries.families.warps import KERNELS, Face, Pixels


def retake(face: Face, rng: np.random.Generator) -> Face:
    """The face with another position, light and colour, each in half of the draws.

    Unknown points get their usual positions, and move with the face.
    """
    face = Face(face.pixels, complete_landmarks(face.points, face.pixels.shape[:2]))
    seeds, often = rng.integers(2**63, size=3), rng.random(3) < 0.5
    place, light, colour = (np.random.default_rng(seed) for seed in seeds)
    if often[0]:
        face = _place(face, place)
    pixels = face.pixels
    if often[1]:
        pixels = _light(pixels, light)
    if often[2]:
        pixels = _colour(pixels, colour)
    return Face(pixels, face.points)


def _place(face: Face, rng: np.random.Generator) -> Face:
    """Scaled by 0.6 to 1.15, turned by up to 15 degrees, stretched, tilted and shifted a little."""
    height, width = face.pixels.shape[:2]
    scale = float(np.exp(rng.uniform(np.log(0.6), np.log(1.15))))
    stretch, angle = np.exp(rng.uniform(-0.08, 0.08)), np.deg2rad(rng.uniform(-15, 15))
    tilt, shift = rng.uniform(-0.12, 0.12, 2) / width, rng.uniform(-0.04, 0.04, 2) * width
    kernel = int(rng.choice(KERNELS))
    pixels, shrunk = face.pixels, np.ones(2)
    if scale < 0.95:  # area averaging first, because the warp alone would alias
        size = round(scale * width), round(scale * height)
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        shrunk = np.array(size) / (width, height)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos * stretch, -sin, 0], [sin, cos / stretch, 0], [0, 0, 1]])
    turn[:2] *= scale / shrunk[0]
    there = np.array([[1, 0, -pixels.shape[1] / 2], [0, 1, -pixels.shape[0] / 2], [0, 0, 1]])
    back = np.array([[1, 0, width / 2 + shift[0]], [0, 1, height / 2 + shift[1]], [0, 0, 1]])
    aside = np.array([[1, 0, 0], [0, 1, 0], [*tilt, 1]])
    matrix = back @ aside @ turn @ there
    moved = cv2.warpPerspective(
        pixels, matrix, (width, height), flags=kernel, borderMode=cv2.BORDER_REFLECT_101
    )
    points = (face.points + 0.5) * shrunk - 0.5
    points = cv2.perspectiveTransform(points[None].astype(np.float64), matrix)[0]
    return Face(moved, points.astype(np.float32))


def _light(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Light from one direction: up to one and a half stops from one edge to the other."""
    height, width = image.shape[:2]
    angle, stops = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.5)
    middle, soft = rng.uniform(-0.3, 0.3), rng.uniform(0.15, 0.6)
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
    along = np.tanh((np.cos(angle) * x + np.sin(angle) * y - middle) / soft)
    warmth = 1 + rng.uniform(-0.08, 0.08, 3) * (rng.random() < 0.3)
    gain = np.exp2(stops / 2 * along)[..., None] * np.where(along[..., None] > 0, warmth, 1)
    return np.clip(np.rint(image * gain), 0, 255).astype(np.uint8)


def _colour(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Another saturation, contrast and white balance, or black and white."""
    saturation = 0.0 if rng.random() < 0.08 else rng.uniform(0.5, 1.5)
    contrast, tint = rng.uniform(-0.35, 0.5), 1 + rng.uniform(-0.12, 0.12, 3)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    level = np.clip((grey + saturation * (image - grey)) * tint, 0, 255) / 255
    curve = level * level * (3 - 2 * level)  # an S: more contrast; its complement: less
    level = level + contrast * (curve - level)
    return np.clip(np.rint(level * 255), 0, 255).astype(np.uint8)
