"""Which parts of a face its fidelity comes from: the change when each part is blurred away.

A window slides over the face. Inside it, the face is blurred until no trace of a forgery can be
left, with a soft edge, since a hard edge would itself be a trace. If fidelity rises, the blurred
part was evidence for a forgery; if it falls, for a real face. Each pixel gets the mean change over
its windows. Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014.

Nothing is differentiated, so this works with every regressor, including trees and neighbours.
docs/explanation.md has the figures of this and other methods.
"""

from functools import cache

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

WINDOWS = 11  # in a row, and rows of them
SIGMA = 1 / 16  # of a window, in sides of the face
BLUR = 1 / 16  # sigma of the blurred face in the window, in sides


def heat_maps(detector, prepared: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n s s"]:
    """Evidence of each pixel, in units of fidelity: above 0 for a forgery, below 0 for a real face.

    Args:
      detector: a `Detector`.
      prepared: faces as `Detector.prepare` returns them.
    """
    return np.stack([_heat_map(detector, face) for face in prepared])


def _heat_map(detector, face: UInt8[np.ndarray, "s s 3"]) -> Float32[np.ndarray, "s s"]:
    side = len(face)
    masks = windows(side)
    blurred = cv2.GaussianBlur(face, (0, 0), BLUR * side).astype(np.float32)
    without = face + masks[..., None] * (blurred - face)
    faces = np.concatenate([face[None], np.rint(without).astype(np.uint8)])
    fidelity = detector.fidelity_of_prepared(faces)
    change = fidelity[1:] - fidelity[0]
    return np.einsum("kij,k->ij", masks, change) / masks.sum(axis=0)


@cache
def windows(side: int) -> Float32[np.ndarray, "k {side} {side}"]:
    """The windows: 1 in the middle, falling off as a normal density."""
    middles = (np.arange(WINDOWS) + 0.5) * side / WINDOWS - 0.5
    profile = np.exp(-0.5 * ((np.arange(side) - middles[:, None]) / (SIGMA * side)) ** 2)
    both = np.einsum("ai,bj->abij", profile, profile)
    return both.reshape(WINDOWS**2, side, side).astype(np.float32)
