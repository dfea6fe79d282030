"""The camera: where each point of the head falls in the picture, and how light becomes pixels."""

import math
from dataclasses import astuple

import cv2
import numpy as np
from jaxtyping import UInt8

from .canvas import Picture, spread
from .person import Identity, Pose
from .scene import Light, Scene

UNIT = 0.305  # half a face width, as a share of the frame
EYE_Y = 0.415  # where the eyes of a frontal face lie, as a share of the frame
FACE_CENTRE = (0.0, 0.45, 0.95)  # the point of the head that stays put when the head turns
METERED, METERING = 0.2, 0.8  # mean light the camera exposes for, and how far it goes


class Shot:
    """One frame of a person in a scene and pose; converts head coordinates to pixels and back.

    unit, fine_unit: pixels and fine pixels in a unit. x, y: every pixel's centre in turned head
    coordinates.
    """

    def __init__(self, identity: Identity, scene: Scene, pose: Pose, size: int):
        # Python floats, because NumPy's would turn every float32 array into float64.
        pose = Pose(*map(float, astuple(pose)))
        self.identity, self.scene, self.pose, self.size = identity, scene, pose, size
        self.light = Light.of(scene, pose.roll)
        self.unit = UNIT * pose.scale * size
        self.fine_unit = 2 * self.unit
        u, v, z = FACE_CENTRE
        self.origin = ((0.5 + pose.x + u * UNIT) * size, (EYE_Y + pose.y + v * UNIT) * size)
        x, y = self._turn(u, v, z)
        # A crop follows the face, not the neck, but only in part: boxes do not track noses.
        self.anchor = (u + 0.7 * (x - u), v + 0.7 * (y - v))
        pixel = np.arange(size, dtype=np.float32) + 0.5
        x, y = (pixel - self.origin[0]) / self.unit, (pixel[:, None] - self.origin[1]) / self.unit
        c, s = math.cos(pose.roll), math.sin(pose.roll)
        self.x, self.y = c * x + s * y + self.anchor[0], c * y - s * x + self.anchor[1]

    def _turn(self, u, v, z):
        yaw, pitch = self.pose.yaw, self.pose.pitch
        depth = z * math.cos(yaw) - u * math.sin(yaw)
        return u * math.cos(yaw) + z * math.sin(yaw), v * math.cos(pitch) - depth * math.sin(pitch)

    def project(self, u, v, z):
        """A point of the head -> pixels x, y; 0 is the first pixel's centre."""
        x, y = self._turn(u, v, z)
        x, y = (x - self.anchor[0]) * self.unit, (y - self.anchor[1]) * self.unit
        c, s = math.cos(self.pose.roll), math.sin(self.pose.roll)
        return c * x - s * y + self.origin[0] - 0.5, s * x + c * y + self.origin[1] - 0.5

    def rotation(self, share: float) -> tuple[float, float, float, float]:
        """Sine and cosine of yaw, then of pitch, of a part that follows the head by a share."""
        s, up_s = math.sin(self.pose.yaw) * share, math.sin(self.pose.pitch) * share
        return s, math.sqrt(1 - s * s), up_s, math.sqrt(1 - up_s * up_s)

    def turned(self, normal, share: float = 1.0):
        """Normals x, y, z from the head's frame to the camera's, unit length."""
        x, y, z = normal
        s, c, up_s, up_c = self.rotation(share)
        x, z = x * c + z * s, z * c - x * s
        y, z = y * up_c - z * up_s, z * up_c + y * up_s
        scale = 1 / np.sqrt(x * x + y * y + z * z + 1e-6)
        return x * scale, y * scale, z * scale


def develop(picture: Picture, scene: Scene) -> UInt8[np.ndarray, "size size 3"]:
    """Linear light -> RGB at half the size, by the camera's exposure, tint and contrast."""
    size = picture.shape[1] // 2
    small = [cv2.resize(plane, (size, size), interpolation=cv2.INTER_AREA) for plane in picture]
    small = np.stack(small)
    # The camera meters the middle, and compensates for most of the difference.
    middle = slice(size // 4, size - size // 4)
    brightness = max(float(small[:, middle, middle].mean()), 1e-3)
    small *= spread(scene.tint) * (scene.exposure * (METERED / brightness) ** METERING)
    code = np.sqrt(small * 1.2 / (1 + 0.2 * small))
    code = (code - 0.45) * scene.contrast + 0.45
    return cv2.merge(list(np.clip(code * 255 + 0.5, 0, 255).astype(np.uint8)))
