"""Heat maps side by side: do they point at the forgery, does the verdict rest on what they show?

`python benchmarks/heat_maps.py` makes forgeries of rendered faces; `--faces=FOLDER` of photographs,
`--count=100` of them. Each family of forgeries with a mask is drawn once for every face; pixels are
removed from one forgery of each face, the families in turn. Every figure is a mean over forgeries,
with a 95% interval from a bootstrap over the faces they were made of.

  inside    share of the heat that speaks for a forgery that lies in the forged pixels, less what it
            would be by chance: their share of the picture
  moved     the same share, less that of the untouched face's map in the same pixels: whatever is
            always hot, such as the middle of the face, cancels out
  pointing  how often the hottest pixel lies in them; chance is their share of the picture
  deletion  how far fidelity rises while the hottest pixels are removed, mean over 5% to 50% of
            them, less the same with a random map as smooth
  insertion how much lower fidelity is with the hottest pixels alone, less the same likewise
  shuffled  Spearman's correlation with the map of the same network with its weights shuffled
  ms        a face, on this machine, at once
"""

import argparse
import copy
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
from deepfidelity_jax.fidelity.arrays import regress
from deepfidelity_jax.forgeries import families
from deepfidelity_jax.forgeries.augment import center_crop
from deepfidelity_jax.images import media, pictures
from deepfidelity_jax.network.layers import BatchNorm, max_over_tokens
from deepfidelity_jax.network.ssaaformer import Stage, normalise
from deepfidelity_jax.statistics.intervals import interval

STEPS = 16  # of the integral, and copies with noise
GRAIN = 1 / 16  # of the sides: what gradients are smoothed over, and how smooth random maps are
FORGED = 0.5  # opacity from which a pixel counts as forged
REPLICATES = 1000


# ------------------------------------------------------------------ other methods


def smooth(maps: np.ndarray) -> np.ndarray:
    """Maps blurred over patches."""
    return np.stack([cv2.GaussianBlur(one, (0, 0), GRAIN * len(one)) for one in maps])


def blurred(faces: np.ndarray) -> np.ndarray:
    """Faces without detail."""
    return np.stack([cv2.GaussianBlur(face, (0, 0), GRAIN * len(face)) for face in faces])


def slope(detector):
    """The gradient of fidelity by the pixels."""
    return jax.jit(jax.grad(lambda pixels: detector.score_pixels(pixels).sum()))


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
    config, variables = detector.model.config, detector.variables
    params = variables["params"]

    def run(number, x):
        rates = jnp.zeros(config.depths[number - 1])
        own = {"params": params[f"stage{number}"]}
        return Stage(config, number, False, False, True).apply(own, x, rates)[0]

    def rest(x):
        norm = {"params": params["norm"], "batch_stats": variables["batch_stats"]["norm"]}
        x = BatchNorm(False, jnp.float32).apply(norm, run(4, x))
        tokens = x.reshape(len(x), -1, x.shape[-1])
        features = tokens.mean(axis=1) + 0.5 * max_over_tokens(tokens)
        return regress(detector.fidelity_model.regressor.arrays, features)

    @jax.jit
    def explain(faces):
        x = run(3, run(2, run(1, normalise(faces))))
        return -(jax.grad(lambda x: rest(x).sum())(x) * x).sum(axis=-1)

    return enlarge(np.asarray(explain(prepared)), prepared.shape[1])


def token_head(detector, prepared: np.ndarray) -> np.ndarray:
    """What the token head says of each token, fake minus real."""
    apply = jax.jit(lambda v, x: detector.model.apply(v, normalise(x), train=False).token_logits)
    logits = np.asarray(apply(detector.variables, prepared))
    side = round(logits.shape[1] ** 0.5)
    margin = (logits[..., 0] - logits[..., 1]).reshape(-1, side, side)
    return enlarge(margin, prepared.shape[1])


def enlarge(maps: np.ndarray, side: int) -> np.ndarray:
    """Tokens to pixels."""
    return np.stack([cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC) for one in maps])


def middle(detector, prepared: np.ndarray) -> np.ndarray:
    """No network: hot in the middle, where faces are forged."""
    axis = np.linspace(-1, 1, prepared.shape[1])
    one = np.exp(-((axis[:, None] / 0.5) ** 2) - (axis / 0.5) ** 2).astype(np.float32)
    return np.repeat(one[None], len(prepared), axis=0)


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
    """The largest face of each photograph, before it is encoded."""
    faces = []
    for path in media.list_files(folder).files:
        if len(faces) == count:
            break
        people = tracking.extract(path, detector.faces).people
        if people:
            crop = people[0].crops[0]
            faces.append(families.Face(crop.pixels, crop.landmarks))
    return faces


def make_forgeries(detector, faces: list[families.Face]):
    """Untouched faces, and for every family their forgeries and forged pixels, as the network's."""
    side, share = detector.config.model.image_size, detector.config.model.eval_crop

    def encoded(pixels):
        return pictures.decode_image(pictures.encode_image(pixels))

    real = detector.prepare(np.stack([encoded(face.pixels) for face in faces]))
    made = {}
    for number, family in enumerate(families.FAMILIES):
        if family == "whole_face":  # all of the picture is forged, so no map can point elsewhere
            continue
        fakes, masks = [], []
        for i, face in enumerate(faces):
            rng = np.random.default_rng([number, i])
            fake, mask = families.forge(family, face, faces[(i + 1) % len(faces)], rng)
            fakes.append(encoded(fake))
            masks.append(center_crop(np.repeat(np.uint8(255 * mask)[..., None], 3, 2), side, share))
        # A forged pixel is one of the opaque part of the mask, whatever its opacity is.
        inside = [mask[..., 0] >= FORGED * max(mask.max(), 1) for mask in masks]
        made[family] = detector.prepare(np.stack(fakes)), np.stack(inside)
    return real, made


# ------------------------------------------------------------------ figures


def share_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of what speaks for a forgery that lies inside; the masks' share where nothing does."""
    hot = np.maximum(maps, 0)
    total = hot.sum(axis=(1, 2))
    found = (hot * masks).sum(axis=(1, 2)) / np.where(total > 0, total, 1)
    return np.where(total > 0, found, masks.mean(axis=(1, 2)))


def point(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Whether the hottest pixel lies inside."""
    flat = maps.reshape(len(maps), -1).argmax(axis=1)
    return masks.reshape(len(masks), -1)[np.arange(len(maps)), flat].astype(float)


def removal(detector, fakes: np.ndarray, maps: np.ndarray, kept: bool) -> np.ndarray:
    """Mean fidelity while the hottest pixels are removed, or while they alone are kept."""
    found = []
    for i, (fake, heat) in enumerate(zip(fakes, maps, strict=True)):
        rng = np.random.default_rng(i)
        if kept:
            faces = [remove(fake, ~hottest(heat, share), rng) for share in SHARES]
            found.append(detector.fidelity_of_prepared(np.stack(faces)).mean())
        else:
            found.append(scores_after_removal(detector, fake, heat, rng).mean())
    return np.array(found)


def shuffled(detector, seed: int = 0):
    """The same network with the numbers of each kernel in another order."""
    other, rng = copy.copy(detector), np.random.default_rng(seed)

    def shuffle(path, x):
        if path[-1].key != "kernel":
            return x
        return jnp.asarray(rng.permutation(np.asarray(x).ravel()).reshape(x.shape))

    other.variables = jax.tree_util.tree_map_with_path(shuffle, detector.variables)
    return other


def summed(values: np.ndarray, seed: int = 0) -> str:
    """Mean over faces and families [families, n], with the interval over faces."""
    per_face = values.mean(axis=0)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(per_face), size=(REPLICATES, len(per_face)))
    low, high = interval(per_face[drawn].mean(axis=1))
    return f"{per_face.mean():.3f} [{low:.3f}, {high:.3f}]"


def main():
    """Print the table of all methods, then the share inside by family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, help="a folder of photographs")
    parser.add_argument("--count", type=int, default=100, help="of faces")
    parser.add_argument("--workdir", help="of a detector; without it the bundled one")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    options = parser.parse_args()
    detector = df.load(options.workdir)
    size = detector.faces.size
    if options.faces:
        faces = photographed_faces(options.faces, options.count, detector)
    else:
        faces = rendered_faces(options.count, size)
    real, made = make_forgeries(detector, faces)
    masks = np.stack([inside for _, inside in made.values()])
    area = masks.mean(axis=(2, 3))
    before = np.stack([detector.fidelity_of_prepared(fakes) for fakes, _ in made.values()])
    print(f"{len(faces)} faces, {len(made)} families, detector {detector.fingerprint}")
    print(f"forged share of the picture: {summed(area)}")
    print(f"fidelity of the forgeries: {summed(before)}")
    print(f"fidelity of the faces: {summed(detector.fidelity_of_prepared(real)[None])}\n")
    # One forgery of each face, the families in turn.
    names = list(made)
    turn = np.arange(len(faces)) % len(names)
    chosen = np.stack([made[names[t]][0][i] for i, t in enumerate(turn)])
    alone = detector.fidelity_of_prepared(chosen)
    random = chance(detector, chosen)
    base = {kept: removal(detector, chosen, random, kept) for kept in (False, True)}
    print(f"with a random map, deletion {summed((base[False] - alone)[None])}, ", end="")
    print(f"insertion {summed((base[True] - alone)[None])}, both as a change of fidelity\n")
    print("| | inside | moved | pointing | deletion | insertion | shuffled | ms |")
    print("|---|---|---|---|---|---|---|---|")
    other, by_family = shuffled(detector), {}
    for name in options.methods:
        method = METHODS[name]
        method(detector, real[:1])
        start = time.perf_counter()
        untouched = method(detector, real)
        ms = (time.perf_counter() - start) / len(real) * 1e3
        maps = {family: method(detector, fakes) for family, (fakes, _) in made.items()}
        inside = np.stack([share_inside(maps[f], masks[i]) for i, f in enumerate(made)])
        always = np.stack([share_inside(untouched, mask) for mask in masks])
        pointing = np.stack([point(maps[f], masks[i]) for i, f in enumerate(made)])
        own = np.stack([maps[names[t]][i] for i, t in enumerate(turn)])
        scores = {kept: removal(detector, chosen, own, kept) for kept in (False, True)}
        chaos = method(other, chosen)
        pairs = zip(own, chaos, strict=True)
        rank = np.array([spearmanr(a.ravel(), b.ravel()).statistic for a, b in pairs])
        cells = [
            summed(inside - area), summed(inside - always), summed(pointing),
            summed((scores[False] - base[False])[None]), summed((base[True] - scores[True])[None]),
            summed(rank[None]), f"{ms:.0f}",
        ]  # fmt: skip
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        by_family[name] = inside - area
    print("\n| inside | " + " | ".join(made) + " |")
    print("|---" * (len(made) + 1) + "|")
    for name, values in by_family.items():
        print(f"| {name} | " + " | ".join(summed(row[None]) for row in values) + " |")


if __name__ == "__main__":
    main()
