"""Cut a face out of a picture: a square crop with level eyes and the face's axis in the middle."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from deepfidelity_jax.faces.detection import EYES_APART, Face, FaceSettings
from deepfidelity_jax.faces.geometry import cut_patch, move
from deepfidelity_jax.images import pictures, videos


@dataclass(frozen=True, eq=False)
class Crop:
    """A face cut out of one frame.

    frame, time: index in the video and seconds, 0 for a photograph. image: the crop encoded by
    `pictures.encode_image`, which is stored and scored. pixels: the crop before encoding, from
    which forgeries are made, so that every face is encoded once; prediction drops it. bbox: x, y,
    width, height of the face in pixels of the source. landmarks: as in `Face`, but in pixels of the
    crop.
    """

    frame: int
    time: float
    image: bytes
    pixels: UInt8[np.ndarray, "s s 3"]
    bbox: Float32[np.ndarray, "4"]
    landmarks: Float32[np.ndarray, "5 2"]
    score: float


def cut_crop(frame: videos.Frame, face: Face, settings: FaceSettings, turn: int) -> Crop:
    """Cut a face out of a frame that was turned by `turn` quarters; its box is turned back."""
    pixels, landmarks = crop_face(frame.image, face, settings)
    (x, y, width, height), (rows, columns) = face.box, frame.image.shape[:2]
    for _ in range(turn):
        x, y, width, height = rows - y - height, x, height, width
        rows, columns = columns, rows
    image, bbox = pictures.encode_image(pixels), np.array([x, y, width, height], np.float32)
    return Crop(frame.index, frame.time, image, pixels, bbox, landmarks, face.score)


def crop_face(
    image: UInt8[np.ndarray, "h w 3"], face: Face, settings: FaceSettings
) -> tuple[UInt8[np.ndarray, "s s 3"], Float32[np.ndarray, "5 2"]]:
    """Cut a square around a face, turned so that its eyes are level and its axis in the middle.

    The side is `settings.margin` times the longer side of the box. If both eyes are known and at
    least EYES_APART, the square is aligned with them and centred below their midpoint; otherwise it
    is upright and centred on the box. Beyond the border the image is mirrored. With the detector
    `none` the whole image is resized instead.

    Returns:
      The crop, with side `settings.size`, and the landmarks in its pixels.
    """
    size = settings.size
    if settings.detector == "none":
        height, width = image.shape[:2]
        scale = np.float32([size / width, size / height])
        crop = pictures.resize(image, size, size)
        return crop, ((face.landmarks + 0.5) * scale - 0.5).astype(np.float32)

    centre = np.array(face.centre) - 0.5  # from edges of pixels to their centres
    along = np.array([1.0, 0.0])
    left, right = face.landmarks[:2].astype(float)
    if np.hypot(*(right - left)) > EYES_APART * face.size:  # false where NaN
        along = (right - left) / np.hypot(*(right - left))
        down = np.array([-along[1], along[0]])
        middle = (left + right) / 2
        centre = middle + down * (down @ (centre - middle))
    side = settings.margin * face.size

    # First shrink the neighbourhood by averaging, so that the warp skips no pixel.
    corner = np.floor(centre - 0.75 * side).astype(int) - 2  # half a diagonal is 0.71 of the side
    reach = math.ceil(1.5 * side) + 5
    patch = cut_patch(image, int(corner[0]), int(corner[1]), reach)
    shrunk = min(reach, round(reach * size / side))
    if shrunk < reach:
        patch = cv2.resize(patch, (shrunk, shrunk), interpolation=cv2.INTER_AREA)

    def affine(centre, scale):
        """The similarity transform that maps a pixel to the crop."""
        turn = np.array([along, [-along[1], along[0]]]) * scale
        return np.column_stack([turn, (size - 1) / 2 - turn @ centre])

    zoom = shrunk / reach
    matrix = affine((centre - corner + 0.5) * zoom - 0.5, size / side / zoom)
    crop = cv2.warpAffine(
        patch, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return crop, move(affine(centre, size / side), face.landmarks).astype(np.float32)
