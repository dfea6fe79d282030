"""A packed detector is the one it was packed from, and the one in the package works at once."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import assert_told
from PIL import Image

import deepfidelity_jax as df
from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.detector import bundled
from deepfidelity_jax.detector.load import Detector
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import stored
from deepfidelity_jax.forgeries import families
from deepfidelity_jax.images.pictures import decode_image, encode_image
from deepfidelity_jax.scoring import controls
from deepfidelity_jax.weight_files.packed import SPREAD


def draw_face(seed=0, side=160):
    rng = np.random.default_rng(seed)
    person = renderer.sample_identity(rng)
    (pose,) = renderer.sample_poses(rng, 1)
    return renderer.render(person, renderer.sample_scene(rng), pose, side)[0]


def test_a_packed_detector_scores_as_the_workdir_does(finished, tmp_path):
    bundled.pack(finished, tmp_path / "box")
    own = df.load(finished)
    config, variables, step = bundled.read(tmp_path / "box")
    packed = Detector(config, variables, step, stored.load(tmp_path / "box/fidelity.npz"))
    assert step == own.step
    images = np.stack([draw_face(seed, 64) for seed in range(6)])
    config, variables, _ = bundled.read_detector(finished)
    half = jax.tree.map(lambda x: x.astype(np.float16).astype(np.float32), variables["params"])
    rounded = Detector(config, variables | {"params": half}, step, own.fidelity_model)
    np.testing.assert_allclose(packed.logits(images), rounded.logits(images), atol=1e-4)
    np.testing.assert_allclose(packed.fidelity(images), rounded.fidelity(images), atol=1e-4)
    assert np.abs(packed.fidelity(images) - own.fidelity(images)).mean() < 0.005
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "box").iterdir()}
    assert sizes.keys() == {
        "config.json", "model.safetensors", "fidelity.npz", "training_pictures.json"
    }  # fmt: skip
    said = json.loads((tmp_path / "box/config.json").read_text())
    assert not any(str(value).startswith("/") for value in said["data"].values())


def test_a_readme_in_a_workdir_is_not_its_card(tmp_path):
    (tmp_path / "README.md").write_text("# My thesis\n")
    assert bundled.read_card(tmp_path) == ""
    (tmp_path / "MODEL_CARD.md").write_text("# Model card\n")
    assert bundled.read_card(tmp_path) == "# Model card\n"
    (tmp_path / "model.safetensors").touch()
    assert bundled.read_card(tmp_path) == "# My thesis\n", "in a folder for a hub it is"


def test_what_is_missing_or_damaged_is_told(finished, tmp_path):
    with pytest.raises(InputError, match="missing or damaged"):
        bundled.read(tmp_path)
    bundled.pack(finished, tmp_path / "box")
    weights = tmp_path / "box/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2000])
    with pytest.raises(InputError, match="missing or damaged"):
        bundled.read(tmp_path / "box")


def test_the_box_is_small_and_has_its_card():
    files = {path.name: path.stat().st_size for path in bundled.folder().iterdir()}
    assert files.keys() >= {"config.json", "model.safetensors", "fidelity.npz", "MODEL_CARD.md"}
    assert sum(files.values()) < 8 * 2**20


def test_the_bundled_detector_is_loaded_without_a_workdir():
    detector = df.load()
    assert detector.fidelity_model.calibration.threshold_from == "validation"
    images = np.stack([draw_face(seed) for seed in range(3)])
    assert np.isfinite(detector.fidelity(images)).all()
    assert detector.fingerprint == df.load().fingerprint


def test_another_configuration_is_another_detector(tmp_path):
    place = shutil.copytree(bundled.folder(), tmp_path / "box")
    said = json.loads((place / "config.json").read_text())
    assert df.load(place).fingerprint == df.load().fingerprint
    said["model"]["eval_crop"] = 0.7
    (place / "config.json").write_text(json.dumps(said))
    assert df.load(place).fingerprint != df.load().fingerprint


def test_the_spread_is_that_of_the_training_features(tmp_path):
    features = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    (tmp_path / "features").mkdir()
    np.savez(tmp_path / "features" / "faces-train.npz", feature=features)
    np.savez(tmp_path / "features" / "faces-test.npz", feature=2 * features)
    bundled.write_spread(tmp_path, tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / SPREAD)["spread"], features.std(axis=0))
    ours = np.load(bundled.folder() / SPREAD)["spread"]
    assert ours.shape == (df.load().features(np.zeros((0, 96, 96, 3), np.uint8)).shape[1],)
    assert (ours > 0).all()


@pytest.mark.slow
def test_the_bundled_detector_detects_forgeries_and_no_harmless_changes():
    """On rendered people that it was not trained on, by the class head."""
    people = []
    for seed in range(10_000, 10_060):
        rng = np.random.default_rng(seed)
        person, scene = renderer.sample_identity(rng), renderer.sample_scene(rng)
        people.append(
            families.Face(*renderer.render(person, scene, *renderer.sample_poses(rng, 1), 160))
        )
    unknown = np.full(4, np.nan)
    records = [
        {
            "image": encode_image(face.pixels), "landmarks": face.points, "bbox": unknown,
            "video_id": str(number),
        }
        for number, face in enumerate(people)
    ]  # fmt: skip
    detector = df.load()
    scores = controls.score_changes(detector, records, controls.CONTROLS)
    untouched = scores[controls.UNTOUCHED].classes
    for family, least in (("whole_face", 0.9), ("swap", 0.75)):
        forged = []
        for number, face in enumerate(people):
            fake, _ = families.forge(
                family, face, people[number - 1], np.random.default_rng(number)
            )
            forged.append(decode_image(encode_image(fake)))
        logits = detector.class_logits(np.stack(forged))
        assert np.mean(untouched[:, None] > logits[:, 1] - logits[:, 0]) > least, family
    for name in controls.CONTROLS:
        assert 0.35 < np.mean(untouched[:, None] > scores[name].classes) < 0.65, name


@pytest.mark.e2e
def test_a_verdict_without_training(tmp_path):
    Image.fromarray(draw_face(side=300)).save(tmp_path / "face.png")
    argv = [sys.executable, "run.py", "--mode=predict", f"--input={tmp_path / 'face.png'}"]
    crop = [*argv, "--config.faces.detector=none"]
    done = subprocess.run(crop, capture_output=True, text=True, check=True)
    line = json.loads(done.stdout)
    assert line["status"] in ("real", "uncertain", "fake")
    assert 0 < line["p_fake"] < 1


def test_other_modes_still_need_a_workdir(run):
    assert_told(run("--mode=evaluate", "--input=photos"), "--workdir=DIR is missing")


def test_nothing_of_an_earlier_detector_stays_where_another_is_packed(tmp_path):
    source = shutil.copytree(bundled.folder(), tmp_path / "source")
    (source / "training_pictures.json").unlink()
    (tmp_path / "box").mkdir()
    for name in ("training_pictures.json", "yunet.onnx"):
        (tmp_path / "box" / name).write_text("{}")
    bundled.pack(source, tmp_path / "box")
    names = {path.name for path in (tmp_path / "box").iterdir()}
    assert names == {"config.json", "model.safetensors", "fidelity.npz"}


def test_a_packed_detector_finds_the_weights_of_its_measure_beside_it(tmp_path):
    source = shutil.copytree(bundled.folder(), tmp_path / "source")
    said = json.loads((source / "config.json").read_text())
    said["quality"] |= {"measure": "ser_fiq", "weights": "/elsewhere/backbone.pth"}
    (source / "config.json").write_text(json.dumps(said))
    bundled.pack(source, tmp_path / "box")
    config, _, _ = bundled.read(tmp_path / "box")
    assert config.quality.weights == "backbone.pth"
    without = df.load(tmp_path / "box").fingerprint
    (tmp_path / "box" / "backbone.pth").write_bytes(b"weights")
    assert df.load(tmp_path / "box").fingerprint != without, "they are found"
