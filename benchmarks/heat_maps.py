"""Compares heat maps: do they point at the forgery, and does the verdict depend on what they show?

`python benchmarks/heat_maps.py` makes forgeries of rendered faces; `--faces=FOLDER` of photographs,
`--count=100` of them. Each face is forged once, by the families with a mask in turn. Figures are
means over the faces, with 95% intervals from a bootstrap over them.

  inside    share of the heat for a forgery that is in the forged pixels, minus its value by chance,
            which is these pixels' share of the picture
  moved     the same share, minus that of the untouched face's map in the same pixels, so that
            regions that are always hot, such as the middle of the face, cancel out
  pointing  how often the hottest pixel is a forged one; by chance, their share of the picture
  deletion  how far fidelity rises as the hottest pixels are removed, mean over 10% to 40% of the
            pixels, minus the same for an equally smooth random map
  insertion how much lower fidelity is with only the hottest pixels, minus the same for a random map
  shuffled  Spearman's correlation with the map of the same network with shuffled weights
  ms        milliseconds per face on this machine
"""

import argparse
import copy
import sys
import time
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

import deepfidelity_jax as df
from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.explanation.heat import heat_maps as occlusion
from deepfidelity_jax.explanation.removal import (
    SHARES,
    hottest,
    random_map,
    remove,
    scores_after_removal,
)
from deepfidelity_jax.faces import tracking
from deepfidelity_jax.fidelity.arrays import (
    GaussianProcess,
    KernelRidge,
    SupportVectors,
    regress,
    regress_in_single,
)
from deepfidelity_jax.forgeries import families
from deepfidelity_jax.forgeries.augment import center_crop
from deepfidelity_jax.images import media, pictures
from deepfidelity_jax.images.formats import MediaError
from deepfidelity_jax.network.layers import BatchNorm, max_over_tokens
from deepfidelity_jax.network.ssaaformer import Stage, normalise
from deepfidelity_jax.statistics.intervals import interval

STEPS = 16  # of the integral, and copies with noise
GRAIN = 1 / 16  # share of the side over which gradients and random maps are smoothed
FORGED = 0.5  # opacity from which a pixel counts as forged
REPLICATES = 1000


# ------------------------------------------------------------------ other methods


def smooth(maps: np.ndarray) -> np.ndarray:
    """Maps blurred over patches."""
    return np.stack(
        [cv2.GaussianBlur(heat_map, (0, 0), GRAIN * len(heat_map)) for heat_map in maps]
    )


def blurred(faces: np.ndarray) -> np.ndarray:
    """Faces without detail."""
    return np.stack([cv2.GaussianBlur(face, (0, 0), GRAIN * len(face)) for face in faces])


def regress_features(detector, features):
    """Fidelity, in single precision: gradients through double precision lose it anyway."""
    arrays = detector.fidelity_model.regressor.arrays
    if isinstance(arrays, (SupportVectors, KernelRidge, GaussianProcess)):
        return regress_in_single(arrays, features)
    return regress(arrays, features)


def slope(detector):
    """The gradient of fidelity by the pixels."""

    def score(variables, pixels):
        outputs = detector.network.apply(variables, normalise(pixels), train=False)
        return regress_features(detector, outputs.features).sum()

    gradient = jax.jit(jax.grad(score, argnums=1))
    return lambda pixels: gradient(detector.variables, pixels)


def integrated_gradients(detector, prepared: np.ndarray) -> np.ndarray:
    """From the blurred face to the face (Sundararajan et al., 2017), smoothed over patches."""
    gradient, maps = slope(detector), []
    for face, start in zip(prepared, blurred(prepared), strict=True):
        face, start = face.astype(np.float32), start.astype(np.float32)
        shares = (np.arange(STEPS, dtype=np.float32) + 0.5)[:, None, None, None] / STEPS
        along = np.asarray(gradient(start + shares * (face - start))).mean(axis=0)
        maps.append(-(along * (face - start)).sum(axis=-1))
    return smooth(np.stack(maps))


def smooth_grad(detector, prepared: np.ndarray) -> np.ndarray:
    """Gradient times detail, mean over copies with noise (Smilkov et al., 2017), smoothed."""
    gradient, maps, rng = slope(detector), [], np.random.default_rng(0)
    for face, start in zip(prepared, blurred(prepared), strict=True):
        face = face.astype(np.float32)
        noisy = face + rng.normal(0, 4, (STEPS, *face.shape)).astype(np.float32)
        along = np.asarray(gradient(noisy)).mean(axis=0)
        maps.append(-(along * (face - start)).sum(axis=-1))
    return smooth(np.stack(maps))


def grad_cam(detector, prepared: np.ndarray) -> np.ndarray:
    """Gradient times value of the third stage's tokens (HiResCAM, Draelos and Carin, 2020)."""
    config, variables = detector.network.config, detector.variables
    params = variables["params"]

    def run(number, x):
        rates = jnp.zeros(config.depths[number - 1])
        stage_variables = {"params": params[f"stage{number}"]}
        return Stage(config, number, False, False, True).apply(stage_variables, x, rates)

    def rest(x):
        norm = {"params": params["norm"], "batch_stats": variables["batch_stats"]["norm"]}
        x = BatchNorm(False, jnp.float32).apply(norm, run(4, x))
        tokens = x.reshape(len(x), -1, x.shape[-1])
        features = tokens.mean(axis=1) + 0.5 * max_over_tokens(tokens)
        return regress_features(detector, features)

    @jax.jit
    def explain(faces):
        x = run(3, run(2, run(1, normalise(faces))))
        return -(jax.grad(lambda x: rest(x).sum())(x) * x).sum(axis=-1)

    return enlarge(np.asarray(explain(prepared)), prepared.shape[1])


def token_head(detector, prepared: np.ndarray) -> np.ndarray:
    """The token head's logits for each token, fake minus real."""
    apply = jax.jit(lambda v, x: detector.network.apply(v, normalise(x), train=False).token_logits)
    logits = np.asarray(apply(detector.variables, prepared))
    side = round(logits.shape[1] ** 0.5)
    margin = (logits[..., 0] - logits[..., 1]).reshape(-1, side, side)
    return enlarge(margin, prepared.shape[1])


def enlarge(maps: np.ndarray, side: int) -> np.ndarray:
    """Tokens to pixels."""
    return np.stack(
        [cv2.resize(heat_map, (side, side), interpolation=cv2.INTER_CUBIC) for heat_map in maps]
    )


def middle(detector, prepared: np.ndarray) -> np.ndarray:
    """No network: hot in the middle, where faces are forged."""
    axis = np.linspace(-1, 1, prepared.shape[1])
    heat_map = np.exp(-((axis[:, None] / 0.5) ** 2) - (axis / 0.5) ** 2).astype(np.float32)
    return np.repeat(heat_map[None], len(prepared), axis=0)


def chance(detector, prepared: np.ndarray) -> np.ndarray:
    """No network: a random map."""
    rng, side = np.random.default_rng(1), prepared.shape[1]
    return np.stack([random_map((side, side), rng, GRAIN * side) for _ in prepared])


METHODS = {
    "occlusion": occlusion,
    "integrated gradients": integrated_gradients,
    "SmoothGrad times detail": smooth_grad,
    "Grad-CAM, third stage": grad_cam,
    "token head": token_head,
    "the middle (no network)": middle,
    "random (no network)": chance,
}


# ------------------------------------------------------------------ faces


def rendered_faces(count: int, side: int) -> list[families.Face]:
    """People of the renderer."""
    faces = []
    for number in range(count):
        rng = np.random.default_rng([7, number])
        who, where = renderer.sample_identity(rng), renderer.sample_scene(rng)
        faces.append(
            families.Face(*renderer.render(who, where, renderer.sample_poses(rng, 1)[0], side))
        )
    return faces


def photographed_faces(folder: Path, count: int, detector) -> list[families.Face]:
    """The largest face of each photograph, before it is encoded; other files are named."""
    faces = []
    for path in media.list_files(folder).files:
        if len(faces) == count:
            break
        try:
            people = tracking.extract(path, detector.faces).people
        except MediaError as error:
            print(f"{path}: {error}", file=sys.stderr)
            continue
        if people:
            crop = people[0].crops[0]
            faces.append(families.Face(crop.pixels, crop.landmarks))
    return faces


def make_forgeries(detector, faces: list[families.Face]):
    """Untouched faces, a forgery of each, and its forged pixels, all as the network sees them."""
    side, share = detector.config.model.image_size, detector.config.model.eval_crop
    # If the whole picture is forged, no map can point elsewhere.
    names = [name for name in families.FAMILIES if name != "whole_face"]

    def prepared(pixels):
        encoded = pictures.decode_image(pictures.encode_image(pixels))
        return detector.prepare(encoded[None])[0]

    real = np.stack([prepared(face.pixels) for face in faces])
    fakes, masks = [], []
    for i, face in enumerate(faces):
        donor, rng = faces[(i + 1) % len(faces)], np.random.default_rng(i)
        fake, mask = families.forge(names[i % len(names)], face, donor, rng)
        fakes.append(prepared(fake))
        opacity = np.repeat(np.uint8(255 * mask)[..., None], 3, axis=2)
        opacity = center_crop(opacity, side, share)[..., 0]
        masks.append(opacity >= FORGED * max(opacity.max(), 1))
    return real, np.stack(fakes), np.stack(masks)


# ------------------------------------------------------------------ figures


def share_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of the evidence for a forgery that is inside; the mask's share if there is none."""
    hot = np.maximum(maps, 0)
    total = hot.sum(axis=(1, 2))
    inside = (hot * masks).sum(axis=(1, 2)) / np.where(total > 0, total, 1)
    return np.where(total > 0, inside, masks.mean(axis=(1, 2)))


def point(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Whether the hottest pixel is inside."""
    flat = maps.reshape(len(maps), -1).argmax(axis=1)
    return masks.reshape(len(masks), -1)[np.arange(len(maps)), flat].astype(float)


def removal(detector, fakes: np.ndarray, maps: np.ndarray, kept: bool) -> np.ndarray:
    """Mean fidelity as the hottest pixels are removed, or as only they are kept."""
    means = []
    for i, (fake, heat) in enumerate(zip(fakes, maps, strict=True)):
        rng = np.random.default_rng(i)
        if kept:
            faces = [remove(fake, ~hottest(heat, share), rng) for share in SHARES]
            means.append(detector.fidelity_of_prepared(np.stack(faces)).mean())
        else:
            means.append(scores_after_removal(detector, fake, heat, rng).mean())
    return np.array(means)


def shuffled(detector, seed: int = 0):
    """The same network with the numbers of each kernel shuffled."""
    other, rng = copy.copy(detector), np.random.default_rng(seed)

    def shuffle(path, x):
        if path[-1].key != "kernel":
            return x
        return jnp.asarray(rng.permutation(np.asarray(x).ravel()).reshape(x.shape))

    other.variables = jax.tree_util.tree_map_with_path(shuffle, detector.variables)
    return other


def summed(values: np.ndarray) -> str:
    """Mean over faces, with its interval."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(values), size=(REPLICATES, len(values)))
    low, high = interval(values[drawn].mean(axis=1))
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def main():
    """Print the table, a row for each method as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, help="a folder of photographs")
    parser.add_argument("--count", type=int, default=100, help="of faces")
    parser.add_argument("--workdir", help="of a detector; without it the bundled one")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    options = parser.parse_args()
    detector = df.load(options.workdir).unmirrored()  # as all but one of the methods see a face
    if options.faces:
        faces = photographed_faces(options.faces, options.count, detector)
    else:
        faces = rendered_faces(options.count, detector.faces.size)
    real, fakes, masks = make_forgeries(detector, faces)
    area, before = masks.mean(axis=(1, 2)), detector.fidelity_of_prepared(fakes)
    random = chance(detector, fakes)
    base = {kept: removal(detector, fakes, random, kept) for kept in (False, True)}
    print(f"{len(faces)} faces, detector {detector.fingerprint}")
    print(f"forged share of the picture {summed(area)}")
    print(f"fidelity: forged {summed(before)}, untouched ", end="")
    print(summed(detector.fidelity_of_prepared(real)))
    print(
        f"change of fidelity with a random map: deletion {summed(base[False] - before)}, ", end=""
    )
    print(f"insertion {summed(base[True] - before)}\n")
    print("| | inside | moved | pointing | deletion | insertion | shuffled | ms |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    other = shuffled(detector)
    for name in options.methods:
        method = METHODS[name]
        method(detector, real[:1])
        start = time.perf_counter()
        maps = method(detector, fakes)
        ms = (time.perf_counter() - start) / len(fakes) * 1e3
        inside, always = share_inside(maps, masks), share_inside(method(detector, real), masks)
        scores = {kept: removal(detector, fakes, maps, kept) for kept in (False, True)}
        pairs = zip(maps, method(other, fakes), strict=True)
        rank = np.array([spearmanr(a.ravel(), b.ravel()).statistic for a, b in pairs])
        cells = [
            summed(inside - area), summed(inside - always), summed(point(maps, masks)),
            summed(scores[False] - base[False]), summed(base[True] - scores[True]), summed(rank),
            f"{ms:.0f}",
        ]  # fmt: skip
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
