"""Graded degradations: each does what it says, more with every grade."""

import numpy as np
import pytest

from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.forgeries.graded import DEGRADATIONS, at_side
from deepfidelity_jax.images import h264


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(0)
    person = renderer.sample_identity(rng)
    scene = renderer.sample_scene(rng)
    return [renderer.render(person, scene, pose, 97)[0] for pose in renderer.sample_poses(rng, 3)]


def changes(kind, faces):
    """Mean absolute change of each grade."""
    own = DEGRADATIONS[kind]
    return [
        np.mean([
            np.abs(after.astype(float) - before).mean()
            for before, after in zip(
                faces, own.apply(faces, strength, np.random.default_rng(0)), strict=True
            )
        ])
        for strength in own.strengths
    ]  # fmt: skip


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_each_grade_changes_more(kind, faces):
    if kind == "H.264" and not h264.is_there():
        pytest.skip("PyAV is not installed")
    found = changes(kind, faces)
    assert found == sorted(found)
    assert found[0] > 0.3
    assert found[-1] > 2 * found[0]
    own = DEGRADATIONS[kind]
    for face in own.apply(faces, own.strengths[-1], np.random.default_rng(0)):
        assert face.shape == faces[0].shape, "an odd side stays"
        assert face.dtype == np.uint8


def test_the_strengths_mean_what_their_words_say(faces):
    def apply(kind, strength):
        return DEGRADATIONS[kind].apply(faces, strength, np.random.default_rng(1))

    face = faces[0].astype(float)
    assert apply("darker", 0.5)[0].mean() == pytest.approx(face.mean() / 2, rel=0.02)
    flat = apply("contrast", 0.5)[0].astype(float)
    assert flat.std() == pytest.approx(face.std() / 2, rel=0.05)
    assert flat.mean() == pytest.approx(face.mean(), abs=1.5)
    grey = np.full_like(faces[0], 128)
    covered = DEGRADATIONS["occlusion"].apply([grey * 0], 0.3, np.random.default_rng(1))[0]
    assert (covered > 64).mean() == pytest.approx(0.3, abs=0.02)
    # At 256 pixels, the size that the strength refers to.
    noisy = DEGRADATIONS["noise"].apply(
        [np.full((256, 256, 3), 128, np.uint8)], 20.0, np.random.default_rng(1)
    )[0]
    assert noisy.std() == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize("side", [97, 256, 320, 512])
def test_what_is_changed_at_256_pixels_comes_back_smooth_at_any_size(side):
    """Enlarged by averaging, a slope becomes steps."""
    slope = np.linspace(40, 200, side)[None, :, None].repeat(side, 0).repeat(3, 2)
    again = at_side(np.rint(slope).astype(np.uint8), lambda large: large)
    assert again.shape == slope.shape
    inner = slice(4, -4)
    assert np.abs(again - slope)[inner, inner].max() < 1.5
    steps = np.diff(again[side // 2, inner, 0].astype(float))
    assert np.abs(steps - steps.mean()).max() < 2
