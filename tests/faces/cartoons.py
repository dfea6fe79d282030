"""Drawn faces that the cascades find, where tests know them to be."""

import math

import cv2
import numpy as np

from deepfidelity_jax.faces.detection import Face, FaceSettings

CASCADE = FaceSettings("cascade")
NONE = FaceSettings(detector="none", size=64)


def draw_face(image, x, y, size, tilt=0.0):
    """A cartoon that the cascades take for a face, its middle at (x, y), tilted in degrees."""
    turn = math.radians(tilt)

    def oval(u, v, a, b, colour):
        u, v = u * math.cos(turn) - v * math.sin(turn), u * math.sin(turn) + v * math.cos(turn)
        centre = (round(x + size * u), round(y + size * v))
        axes = (max(1, round(a * size)), max(1, round(b * size)))
        cv2.ellipse(image, centre, axes, tilt, 0, 360, colour, -1, cv2.LINE_AA)

    oval(0, -0.12, 0.52, 0.62, (60, 40, 30))
    oval(0, 0, 0.42, 0.58, (215, 170, 140))
    for side in (-1, 1):
        oval(side * 0.19, -0.19, 0.13, 0.025, (70, 45, 35))
        oval(side * 0.19, -0.08, 0.12, 0.075, (175, 125, 100))
        oval(side * 0.19, -0.08, 0.09, 0.045, (240, 235, 230))
        oval(side * 0.19, -0.08, 0.045, 0.045, (40, 25, 20))
        oval(side * 0.06, 0.13, 0.03, 0.02, (140, 90, 70))
    oval(0, 0.02, 0.04, 0.12, (230, 188, 160))
    oval(0, 0.3, 0.16, 0.045, (150, 60, 60))
    return cv2.GaussianBlur(image, (0, 0), size * 0.012)


def scene(*people):
    image = np.full((360, 640, 3), 120, np.uint8)
    for person in people:
        image = draw_face(image, *person)
    return image


def write_video(path, images, rate=10):
    size = (images[0].shape[1], images[0].shape[0])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def face(x, y, size=100.0, score=1.0, eyes=None):
    landmarks = np.full((5, 2), np.nan, np.float32)
    if eyes is not None:
        landmarks[:2] = eyes
    size = float(size)
    return Face((x - size / 2, y - size / 2, size, size), landmarks, score)
