"""Where the fidelity of a face comes from: parts of it blurred away, and what that changes.

A window slides over the face. Where it lies, the face is blurred until no trace of a forgery can be
left, with a soft edge, since an edge would be a trace of its own. If fidelity rises, what was there
spoke for a forgery; if it falls, for a real face. Each pixel gets the mean change of the windows
over it. Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014.

Nothing is differentiated, so this works with every regressor, trees and neighbours included.
docs/explanation.md has the figures of this and other methods.
"""

from functools import cache

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

WINDOWS = 11  # in a row, and rows of them
SIGMA = 1 / 16  # of a window, in sides of the face
BLUR = 1 / 16  # what replaces it: the face blurred with this sigma, in sides


def heat_maps(detector, prepared: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n s s"]:
    """What each pixel says: above 0 for a forgery, below 0 for a real face, in units of fidelity.

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
