"""A heat map points at what the score rests on: where that is known, and in real forgeries."""

import copy

import cv2
import jax
import numpy as np
import pytest
from scipy.stats import spearmanr

import deepfidelity_jax as df
from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.explanation.heat import heat_maps, windows
from deepfidelity_jax.explanation.removal import random_map, scores_after_removal
from deepfidelity_jax.forgeries import families
from deepfidelity_jax.forgeries.augment import center_crop

FACES = 8


class Grainy:
    """Stands for a detector: grain in one place lowers fidelity, in another it raises it."""

    def fidelity_of_prepared(self, faces):
        grain = np.abs(np.diff(faces.astype(np.float32), axis=2)).mean(axis=-1)
        forged, real = grain[:, 8:20, 8:20], grain[:, 40:52, 30:50]
        return (0.5 - forged.mean(axis=(1, 2)) / 99 + real.mean(axis=(1, 2)) / 99).astype(
            np.float32
        )


def test_it_is_hot_where_the_score_comes_from():
    face = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    (heat,) = heat_maps(Grainy(), face[None])
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 8 <= row < 20
    assert 8 <= column < 20
    row, column = np.unravel_index(heat.argmin(), heat.shape)
    assert 40 <= row < 52
    assert 30 <= column < 50
    assert np.abs(heat[:, 60:]).max() < 0.1 * heat.max(), "nothing rests on the border"


def test_windows_cover_the_face_evenly():
    cover = windows(96).sum(axis=0)
    assert cover[16:80, 16:80].std() < 0.01 * cover[16:80, 16:80].mean()
    assert cover.min() > 0.2 * cover.max()


@pytest.fixture(scope="module")
def detector():
    return df.load()


@pytest.fixture(scope="module")
def forged(detector):
    """Rendered faces with the face of another, as the network sees them; and the forged pixels."""
    faces = []
    for seed in range(FACES + 1):
        rng = np.random.default_rng([5, seed])
        who, where = renderer.sample_identity(rng), renderer.sample_scene(rng)
        (pose,) = renderer.sample_poses(rng, 1)
        faces.append(families.Face(*renderer.render(who, where, pose, 108)))
    fakes, masks = [], []
    for i in range(FACES):
        rng = np.random.default_rng(i)
        fake, mask = families.forge("swap", faces[i], faces[i + 1], rng)
        fakes.append(detector.prepare(fake[None])[0])
        mask = np.repeat(np.uint8(255 * mask)[..., None], 3, axis=2)
        masks.append(center_crop(mask, 96, detector.config.model.eval_crop)[..., 0] > 64)
    return np.stack(fakes), np.stack(masks)


@pytest.fixture(scope="module")
def maps(detector, forged):
    return heat_maps(detector, forged[0])


@pytest.mark.slow
def test_more_of_it_is_in_a_swapped_face_than_by_chance(forged, maps):
    _, masks = forged
    hot = np.maximum(maps, 0)
    inside = (hot * masks).sum(axis=(1, 2)) / hot.sum(axis=(1, 2))
    assert inside.mean() > masks.mean()


@pytest.mark.slow
def test_removing_the_hottest_raises_fidelity_more_than_chance(detector, forged, maps):
    raised = []
    for i, (fake, heat) in enumerate(zip(forged[0], maps, strict=True)):
        rng = np.random.default_rng(i)
        random = random_map(heat.shape, rng, 6.0)
        pair = [
            scores_after_removal(detector, fake, one, rng, (0.1, 0.2)) for one in (heat, random)
        ]
        raised.append(pair[0].mean() - pair[1].mean())
    assert np.mean(raised) > 0


@pytest.mark.slow
def test_it_changes_when_the_weights_are_shuffled(detector, forged, maps):
    other, rng = copy.copy(detector), np.random.default_rng(0)

    def shuffle(path, x):
        if path[-1].key != "kernel":
            return x
        return rng.permutation(np.asarray(x).ravel()).reshape(x.shape)

    other.variables = jax.tree_util.tree_map_with_path(shuffle, detector.variables)
    chaos = heat_maps(other, forged[0][:3])
    alike = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(maps, chaos, strict=False)]
    assert np.mean(alike) < 0.5


def test_a_face_without_detail_says_nothing(detector):
    flat = np.full((96, 96, 3), 128, np.uint8)
    assert cv2.GaussianBlur(flat, (0, 0), 3).std() == 0
    np.testing.assert_allclose(heat_maps(detector, flat[None]), 0, atol=1e-6)
