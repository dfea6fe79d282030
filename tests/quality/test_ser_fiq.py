"""SER-FIQ: what the short way gives is what the long way gives; faces lie where ArcFace wants them.

With random weights: they show that the computation is right, not that the measure tells quality.
"""

import math
from dataclasses import replace
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image
from test_iresnet import SMALL, random_variables
from torch_bytes import write_checkpoint

import deepfidelity_jax as df
from deepfidelity_datasets.face_folder.face_folder_dataset_builder import Builder as FolderBuilder
from deepfidelity_datasets.synthetic_faces.synthetic_faces_dataset_builder import Builder
from deepfidelity_jax.cli import main
from deepfidelity_jax.detector import trained
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import digest
from deepfidelity_jax.images.pictures import encode_image
from deepfidelity_jax.quality.iresnet import DEPTHS, INPUTS, IResNet, to_torch
from deepfidelity_jax.quality.measure import NO_EYES
from deepfidelity_jax.quality.ser_fiq import (
    PASSES,
    SEED,
    TEMPLATE,
    SerFiq,
    align,
    draw,
    load,
    mean_distance,
    measure,
)
from deepfidelity_jax.records import schema
from deepfidelity_jax.records.schema import FAKE, REAL, Records
from deepfidelity_jax.weight_files.named_tensors import read_weights


@pytest.fixture(scope="module")
def variables():
    return random_variables(SMALL)


@pytest.fixture(scope="module")
def faces():
    """Smooth pictures, unlike each other, already aligned."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)
    return np.stack([cv2.resize(c, (112, 112), interpolation=cv2.INTER_CUBIC) for c in coarse])


def by_hand(embeddings):
    """Quality in double precision, pair by pair."""
    unit = [e / np.linalg.norm(e) for e in np.asarray(embeddings, np.float64)]
    distances = [math.dist(a, b) for i, a in enumerate(unit) for b in unit[i + 1 :]]
    return 2 / (1 + math.exp(np.mean(distances)))


@pytest.mark.slow
def test_a_hundred_separate_passes_give_the_same(variables, faces):
    image, factors = jnp.asarray(faces[:1] / 127.5 - 1, jnp.float32), draw(SEED)
    one_pass = jax.jit(IResNet(SMALL).apply)  # the whole network each time
    embeddings = np.stack([one_pass(variables, image, row[None])[0, 0] for row in factors])
    assert embeddings.shape == (100, 512)
    found = measure(variables, jnp.asarray(faces), factors, depths=SMALL)
    np.testing.assert_allclose(found[0], by_hand(embeddings), atol=1e-5)
    assert np.abs(found[1:] - found[0]).min() > 1e-4, "another face, another score"


@pytest.mark.slow
def test_it_is_dropout_that_is_drawn(variables, faces):
    """Flax's own dropout before the last layer, its draws anew: the same but for chance."""

    @jax.jit
    def capture(variables, images):
        return IResNet(SMALL).apply(
            variables,
            images,
            capture_intermediates=lambda module, _: module.name == "bn2",
            mutable=["intermediates"],
        )[1]["intermediates"]["bn2"]["__call__"][0]

    captured = capture(variables, jnp.asarray(faces / 127.5 - 1, jnp.float32))
    last_map = captured.reshape(len(faces), INPUTS)
    layer, norm = variables["params"]["fc"], variables["params"]["features"]
    running = variables["batch_stats"]["features"]

    def one_pass(key):
        x = nn.Dropout(0.5, deterministic=False).apply({}, last_map, rngs={"dropout": key})
        x = x @ layer["kernel"] + layer["bias"] - running["mean"]
        return x / jnp.sqrt(running["var"] + 1e-5) * norm["scale"] + norm["bias"]

    keys = jax.random.split(jax.random.key(5), PASSES)
    embeddings = np.asarray(jax.jit(jax.vmap(one_pass, out_axes=1))(keys))
    expected = np.array([by_hand(e) for e in embeddings])
    found = measure(variables, jnp.asarray(faces), draw(SEED), depths=SMALL)
    np.testing.assert_allclose(found, expected, atol=0.004)
    assert (expected < 0.95).all(), "passes differ by far more than the tolerance"


def test_draws():
    factors = np.asarray(draw(SEED))
    assert factors.shape == (PASSES, INPUTS)
    assert set(np.unique(factors)) == {0, 2}
    # A fair coin for each input and pass: within 5 deviations, over rows, columns and pairs.
    kept = factors / 2
    assert np.abs(kept.mean(axis=1) - 0.5).max() < 5 * 0.5 / math.sqrt(INPUTS)
    assert np.abs(kept.mean(axis=0) - 0.5).max() < 5 * 0.5 / math.sqrt(PASSES)
    agreement = (factors[:, None, :2000] == factors[None, :, :2000]).mean(axis=-1)
    pairs = agreement[np.triu_indices(PASSES, 1)]
    assert np.abs(pairs - 0.5).max() < 5 * 0.5 / math.sqrt(2000)
    np.testing.assert_array_equal(draw(7, 3), draw.__wrapped__(7, 3))
    assert (np.asarray(draw(7, 3)) != factors[:3]).mean() > 0.4


def test_one_key_one_score(variables, faces):
    faces = jnp.asarray(faces)
    found = measure(variables, faces, draw(SEED), depths=SMALL)
    np.testing.assert_array_equal(measure(variables, faces, draw(SEED), depths=SMALL), found)
    other = measure(variables, faces, draw(SEED + 1), depths=SMALL)
    assert (np.asarray(other) != found).all()
    np.testing.assert_allclose(other, found, atol=0.005)


@pytest.mark.slow
def test_a_face_scores_the_same_in_any_company(variables, faces):
    rng = np.random.default_rng(1)
    images = [encode_image(faces[k]) for k in rng.integers(0, 3, 18)]
    points = [(TEMPLATE + rng.normal(0, 3, (5, 2))).astype(np.float32) for _ in images]
    points[4] = np.full((5, 2), np.nan, np.float32)
    score = SerFiq(SMALL, variables)
    together = score(images, points)
    assert together.shape == (18,)
    assert np.isnan(together[4]), "never an invented score"
    assert np.isfinite(np.delete(together, 4)).all()
    assert np.unique(np.delete(together, 4)).size == 17
    for rows in ([0], [17, 3], [4], [5, 4, 6, 7, 8]):
        found = score([images[row] for row in rows], [points[row] for row in rows])
        np.testing.assert_allclose(found, together[rows], atol=1e-6)
    assert score([], []).shape == (0,)


def test_damaged_weights_give_no_score(variables, faces):
    broken = jax.tree.map(np.array, variables)
    broken["params"]["layer2.0"]["conv1"]["kernel"][0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="damaged"):
        SerFiq(SMALL, broken)([encode_image(faces[0])], [TEMPLATE.astype(np.float32)])


def test_mean_distance():
    rng = np.random.default_rng(2)
    spread = rng.normal(size=(2, 9, 16))
    close = rng.normal(size=16) + 1e-3 * rng.normal(size=(2, 9, 16))
    for embeddings in (spread, close, 100 * spread):
        expected = [np.log(2 / by_hand(e) - 1) for e in embeddings]
        found = mean_distance(jnp.asarray(embeddings, jnp.float32))
        np.testing.assert_allclose(found, expected, rtol=2e-4)
    same = jnp.ones((1, 5, 8))
    np.testing.assert_allclose(mean_distance(same), 0, atol=1e-6)
    opposite = jnp.array([[[1.0, 0.0], [-3.0, 0.0]]])
    np.testing.assert_allclose(mean_distance(opposite), 2, rtol=1e-6)


def test_memory_does_not_grow_with_pairs_times_width():
    shape = jax.ShapeDtypeStruct((1, PASSES, 512), jnp.float32)
    used = jax.jit(mean_distance).lower(shape).compile().memory_analysis().temp_size_in_bytes
    assert used < PASSES * PASSES * 512 * 4 / 10


# ------------------------------------------------------------------ alignment


def similar(scale, degrees, shift):
    """Rows of a similarity transform."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def move(points, matrix):
    return points @ matrix[:, :2].T + matrix[:, 2]


def test_landmarks_that_say_nothing():
    unknown = np.full((5, 2), np.nan, np.float32)
    image = np.zeros((80, 80, 3), np.uint8)
    assert align(image, unknown) is None
    one = unknown.copy()
    one[0] = 30, 30
    assert align(image, one) is None
    half = one.copy()
    half[1, 0] = 50  # its y unknown
    assert align(image, half) is None
    assert align(image, np.full((5, 2), 30, np.float32)) is None


def test_a_face_on_the_template_stays_as_it_is(faces):
    np.testing.assert_array_equal(align(faces[0], TEMPLATE), faces[0])


@pytest.mark.parametrize("side", [64, 160, 224, 700])
@pytest.mark.parametrize("degrees", [0, 20, -160])
def test_what_lies_at_the_landmarks_lies_on_the_template(side, degrees):
    """Dots drawn at the landmarks of a turned and scaled face are found on the template."""
    scale = 0.9 * side / 112
    shift = move(np.array([[-55.5, -55.5]]), similar(scale, degrees, [(side - 1) / 2] * 2))[0]
    points = move(TEMPLATE, similar(scale, degrees, shift))
    xs, ys = np.meshgrid(np.arange(side), np.arange(side))
    for number, (x, y) in enumerate(points):
        dot = 255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * (3 * scale) ** 2))
        image = np.repeat(dot[..., None], 3, axis=2).astype(np.uint8)
        for given in (points, np.where(np.arange(5)[:, None] < 2, points, np.nan)):
            seen = align(image, given)[..., 0].astype(float)
            assert seen.shape == (112, 112)
            seen[seen < 40] = 0  # the dot alone
            centre = [(seen * grid).sum() / seen.sum() for grid in np.meshgrid(*[range(112)] * 2)]
            np.testing.assert_allclose(centre, TEMPLATE[number], atol=0.25)


def test_large_crops_are_averaged_not_sampled():
    """Noise of a large crop is smoothed by shrinking, where skipped pixels would keep it."""
    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (1120, 1120, 3), dtype=np.uint8)
    points = (TEMPLATE + 0.5) * 10 - 0.5
    assert align(image, points).std() < 0.3 * image.std()


# ------------------------------------------------------------------ from a checkpoint to records


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An ArcFace checkpoint with random weights, as insightface's code would save it."""
    state = to_torch(random_variables(DEPTHS["iResNet-50"]))
    state["bn1.num_batches_tracked"] = np.array(7)
    path = tmp_path_factory.mktemp("arcface") / "backbone.pth"
    return write_checkpoint(path, {f"module.{name}": value for name, value in state.items()})


@pytest.mark.slow
@pytest.mark.usefixtures("one_core")
def test_records_hold_it(weights, tiny, tmp_path):
    tiny.quality.measure, tiny.quality.weights = "ser_fiq", str(weights)
    tiny.faces.frames = 1
    builder = Builder.configured(tiny, tmp_path)
    builder.download_and_prepare()
    folder = Path(builder.data_path)
    metadata = schema.metadata_of(folder)
    assert metadata["quality"]["measure"] == "ser_fiq"
    assert metadata["quality"]["weights"] == digest(weights)
    assert metadata["notes"] == {}
    rows = {
        split: [opened[index] for index in range(len(opened))]
        for split in ("train", "validation", "test", "sources")
        for opened in [Records(folder, split)]
    }
    score = load(weights)
    some = rows["train"][:2] + rows["test"][:2]
    found = score([row["image"] for row in some], [row["landmarks"] for row in some])
    np.testing.assert_allclose([row["quality"] for row in some], found, atol=1e-6)
    assert np.unique(found).size == 4
    recorded = {row["image"]: row["quality"] for row in rows["train"]}
    for row in rows["sources"]:
        assert recorded.get(row["image"], row["quality"]) == row["quality"]
    for label, ends in ((FAKE, (0, 0.4)), (REAL, (0.6, 1))):
        targets = [row["fidelity"] for row in rows["train"] if row["label"] == label]
        assert (min(targets), max(targets)) == pytest.approx(ends, abs=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("one_core")
def test_faces_without_landmarks_are_told(weights, tiny, tmp_path, capfd):
    for number in range(8):
        picture = np.random.default_rng(number).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "in" / f"{number}.png")
    tiny.data.dir, tiny.data.dataset = str(tmp_path / "in"), "face_folder"
    tiny.faces.detector = "none"
    tiny.quality.measure, tiny.quality.weights = "ser_fiq", str(weights)
    builder = FolderBuilder.configured(tiny, tmp_path / "out")
    with pytest.raises(InputError, match=f"no face got a quality .{NO_EYES}"):
        builder.download_and_prepare()
    assert f"0.png: {NO_EYES}" in capfd.readouterr().err


def test_prediction_measures_as_the_training_faces_were(weights, finished, tmp_path):
    """With the same weights the same measure; without, or with others, none, and why."""
    plain = df.load(finished)
    _, variables, step = trained.read_trained(finished)
    assert plain.fidelity_model.provenance["quality"]["measure"] == "iso"

    def detector(arcface, digest):
        noted = {"quality": {"measure": "ser_fiq", "weights": digest}}
        model = replace(plain.fidelity_model, provenance=noted)
        config = plain.config.copy_and_resolve_references()
        config.quality.weights = "elsewhere/backbone.pth"
        return df.Detector(config, variables, step, model, arcface=arcface)

    coarse = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = encode_image(cv2.resize(coarse, (112, 112), interpolation=cv2.INTER_CUBIC))
    eyes = np.full((5, 2), np.nan, np.float32)
    eyes[:2] = TEMPLATE[:2]
    unknown = np.full((5, 2), np.nan, np.float32)
    own = detector(weights, digest(weights))
    found, reason = own.quality([image, image], [eyes, unknown])
    assert found[0] == pytest.approx(load(weights)([image], [eyes])[0], abs=1e-6)
    assert np.isnan(found[1])
    assert reason == NO_EYES
    assert own.quality([image], [eyes]) == (pytest.approx(found[:1]), "")

    for other, reason in (
        (detector(weights, "another"), f"{weights} is not what the training faces were measured"),
        (detector(None, digest(weights)), "elsewhere/backbone.pth is not here"),
    ):
        found, told = other.quality([image], [eyes])
        assert np.isnan(found).all()
        assert told.startswith(reason)


@pytest.mark.slow
def test_weights_of_anything_else(tmp_path):
    for content, told in (
        ({"head.weight": np.zeros((2, 3), np.float32)}, "none of its 1 tensors"),
        ({"conv1.weight": np.zeros((2, 3), np.float32)}, "conv1.weight has shape"),
        ({"epoch": 3}, "no weights"),
    ):
        path = write_checkpoint(tmp_path / "a.pth", content)
        with pytest.raises(InputError) as error:
            load(path)
        assert str(path) in str(error.value)
        assert told in str(error.value)
    with pytest.raises(InputError, match="missing.pth"):
        load(tmp_path / "missing.pth")


@pytest.mark.slow
def test_a_checkpoint_made_safe_measures_the_same(weights, tmp_path, capfd):
    safe = tmp_path / "arcface.safetensors"
    command = ["run.py", "--mode=convert", f"--input={weights}", f"--output={safe}"]
    assert main(command) == 0
    assert "iResNet-50" in capfd.readouterr().err
    assert isinstance(load(safe), SerFiq)
    found, expected = read_weights(safe)[1], to_torch(random_variables(DEPTHS["iResNet-50"]))
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x)

    other = write_checkpoint(tmp_path / "a.pth", {"head.weight": np.zeros((2, 3), np.float32)})
    assert main([*command[:2], f"--input={other}", f"--output={tmp_path / 'no.npz'}"]) == 2
    assert "another architecture" in capfd.readouterr().err
    assert not (tmp_path / "no.npz").exists()
