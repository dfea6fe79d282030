"""Face quality learnt without labels, from pictures degraded by a known strength.

    python -m deepfidelity_jax.quality.learned CROPS FILE

Of two face crops with the same kind of degradation, the less degraded one has the better quality. A
linear function of simple figures of the picture is fitted to order such pairs: copies of one face,
and of two faces, so that the order holds between people (a RankNet without hidden layer: Burges et
al., "Learning to rank using gradient descent", 2005). The command fits it to a folder of
face crops; the file that comes with the package was made from 300 portraits and 300 rendered faces.
"""

import sys
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.special import expit

from deepfidelity_jax.files import written_whole
from deepfidelity_jax.forgeries.degrade import DEGRADATIONS, degrade
from deepfidelity_jax.images.pictures import decode_image, encode_image

Picture = UInt8[np.ndarray, "h w 3"]

PLACE = Path(__file__).with_name("learned.npz")
SIDE = 128  # pixels of the middle of the crop, from which the figures are computed
MIDDLE = 0.8  # side of the middle as a share of the crop's side
SIGMAS = (0.6, 1.0, 1.7, 2.8, 4.7, 8.0)  # limits of the bands of detail, in pixels
APART = 0.25  # least difference in strength between the two of a pair
COPIES = 4  # copies of each face and degradation, from which pairs are made
C = 0.01  # of the logistic regression: strong regularisation, as figures are correlated


class Order(NamedTuple):
    """The fitted function: figures are standardised, multiplied pairwise, and weighted."""

    mean: Float[np.ndarray, "k"]
    scale: Float[np.ndarray, "k"]
    weights: Float[np.ndarray, "m"]
    centre: Float[np.ndarray, ""]
    width: Float[np.ndarray, ""]


def measure(image: Picture) -> float:
    """Quality of a face crop in [0, 1]: .5 for a typical picture the function was fitted to."""
    order = read()
    score = float(_expand(describe(image)[None], order)[0] @ order.weights)
    return float(expit((score - order.centre) / order.width))


@cache
def read() -> Order:
    """The function that comes with the package."""
    with np.load(PLACE, allow_pickle=False) as file:
        return Order(*(file[name] for name in Order._fields))


def describe(image: Picture) -> Float[np.ndarray, "k"]:
    """Figures of a picture: detail by scale, grain, blocks, light, contrast and colour."""
    height, width = image.shape[:2]
    top, left = (round(side * (1 - MIDDLE) / 2) for side in (height, width))
    middle = image[top : height - top, left : width - left]
    # Blocks of JPEG lie on the grid of the crop as it is.
    blocks = _blockiness(image)
    small = cv2.resize(middle, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    blurred = [grey] + [cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in SIGMAS]
    bands = [fine - coarse for fine, coarse in pairwise(blurred)]
    energies = [np.log(band.std() + 0.1) for band in bands]
    # The smoothest regions show the grain, the most detailed ones the edges.
    finest = np.abs(bands[0]).reshape(8, SIDE // 8, 8, SIDE // 8).mean(axis=(1, 3))
    grain, edges = np.log(np.quantile(finest, (0.1, 0.95)) + 0.1)
    mean, spread = grey.mean() / 255, grey.std() / 255
    dark, bright = (grey < 30).mean(), (grey > 245).mean()
    histogram = np.bincount(grey.astype(np.uint8).ravel(), minlength=256) / grey.size
    entropy = -np.sum(histogram * np.log2(np.maximum(histogram, 1e-12)))
    colour = (small.max(axis=2) - small.min(axis=2).astype(np.float32)).mean() / 255
    return np.array(
        [*energies, grain, edges, blocks, mean, spread, dark, bright, entropy, colour], np.float64
    )


def fit(faces: Sequence[Picture], seed: int = 0) -> Order:
    """Fit the order to faces assumed to be good, and to degraded copies of them."""
    from sklearn.linear_model import LogisticRegression  # imported here because it is slow

    rng = np.random.default_rng(seed)
    figures, strengths, kinds, people = [], [], [], []
    for person, face in enumerate(faces):
        for kind in DEGRADATIONS:
            for strength in (0.0, *rng.uniform(0, 1, COPIES - 1)):
                copy = encode_image(degrade(face, kind, float(strength), rng))
                figures.append(describe(decode_image(copy)))
                strengths.append(strength)
                kinds.append(kind)
                people.append(person)
    x, strength = np.array(figures), np.array(strengths)
    kind, person = np.array(kinds), np.array(people)
    order = Order(x.mean(axis=0), x.std(axis=0) + 1e-9, *[np.zeros(1)] * 3)
    expanded = _expand(x, order)
    better, worse = _pairs(strength, kind, person, rng)
    differences = expanded[better] - expanded[worse]
    sign = rng.choice((-1, 1), len(differences))
    fitted = LogisticRegression(C=C, fit_intercept=False, max_iter=1000)
    fitted.fit(differences * sign[:, None], sign > 0)
    weights = fitted.coef_[0]
    scores = expanded @ weights
    untouched = scores[strength == 0]
    width = scores.std() / 2
    return order._replace(
        weights=weights, centre=np.array(np.median(untouched) - width), width=np.array(width)
    )


def _pairs(strength, kind, person, rng) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the better and of the worse copy: as many pairs of one face as of two faces."""
    better, worse = [], []
    for this_kind in np.unique(kind):
        (rows,) = np.nonzero(kind == this_kind)
        within = [rows[person[rows] == each] for each in np.unique(person[rows])]
        chosen = [
            np.stack(np.meshgrid(person_rows, person_rows), -1).reshape(-1, 2)
            for person_rows in within
        ]
        same_person = np.concatenate(chosen)
        others = rng.choice(rows, (len(same_person), 2))
        for pairs in (same_person, others):
            apart = strength[pairs[:, 1]] - strength[pairs[:, 0]] > APART
            better.append(pairs[apart, 0])
            worse.append(pairs[apart, 1])
    return np.concatenate(better), np.concatenate(worse)


def _expand(figures: Float[np.ndarray, "n k"], order: Order) -> Float[np.ndarray, "n m"]:
    """Standardised figures, and their products with each other."""
    z = np.clip((figures - order.mean) / order.scale, -4, 4)
    i, j = np.triu_indices(z.shape[1])
    return np.concatenate([z, z[:, i] * z[:, j]], axis=1)


def _blockiness(image: Picture) -> float:
    """Log of how much larger the steps on the grid of 8 x 8 blocks are than those beside it."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    ratios = []
    for steps in (
        np.abs(np.diff(grey, axis=1)).mean(axis=0),
        np.abs(np.diff(grey, axis=0)).mean(axis=1),
    ):
        on = steps[7::8].mean()
        beside = np.delete(steps, np.arange(7, len(steps), 8)).mean()
        ratios.append(np.log((on + 0.1) / (beside + 0.1)))
    return float(np.mean(ratios))


def main(argv: Sequence[str]) -> None:
    """Fit to the face crops in a folder, and write the file."""
    folder, target = argv
    faces = [decode_image(path.read_bytes()) for path in sorted(Path(folder).iterdir())]
    order = fit(faces)
    with written_whole(target) as file:
        np.savez(file, **order._asdict())
    print(f"{len(faces)} faces, {len(order.weights)} weights: {target}")


if __name__ == "__main__":
    main(sys.argv[1:])
