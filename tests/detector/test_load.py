"""A detector is its workdir: anywhere, without the data it was made of."""

import csv
import json
import shutil
from copy import copy
from dataclasses import replace

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel

import deepfidelity_jax as df
from deepfidelity_jax.detector.load import BATCH_SIZES, _score
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import arrays as forms
from deepfidelity_jax.fidelity import stored
from deepfidelity_jax.fidelity.regressor import Regressor
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.network.outputs import HEADS
from deepfidelity_jax.records import schema
from deepfidelity_jax.scoring.exported_features import Features


@pytest.fixture(scope="module")
def moved(finished, tmp_path_factory):
    """The workdir taken elsewhere, with nothing but what scoring needs."""
    place = tmp_path_factory.mktemp("elsewhere") / "deeper" / "detector"
    place.mkdir(parents=True)
    shutil.copytree(finished / "checkpoints", place / "checkpoints")
    shutil.copy(finished / "fidelity.npz", place)
    return place


@pytest.fixture(scope="module")
def detector(moved):
    return df.load(moved)


@pytest.fixture(scope="module")
def images(records_folder):
    test = schema.Records(records_folder, "test")
    return np.stack([decode_image(test[index]["image"]) for index in range(8)])


def test_shapes_and_types(detector, images):
    features, logits = detector.features(images), detector.logits(images)
    scores = detector.fidelity(images)
    assert features.ndim == 2
    assert len(features) == 8
    assert logits.shape == (8, 2)
    assert scores.shape == (8,)
    assert features.dtype == logits.dtype == scores.dtype == np.float32
    assert np.isfinite(features).all()
    assert len(np.unique(scores)) == 8
    assert detector.features(images[:0]).shape == (0, features.shape[1])
    assert detector.logits(images[:0]).shape == (0, 2)
    assert detector.fidelity(images[:0]).shape == (0,)


def test_one_by_one_is_together(detector, images):
    for compute in (detector.features, detector.logits, detector.fidelity):
        single = np.concatenate([compute(image[None]) for image in images[:3]])
        np.testing.assert_allclose(single, compute(images)[:3], rtol=1e-5, atol=1e-5)


def test_no_number_of_images_compiles_anew(moved, images):
    """Three batch sizes serve all; what is scored again, in whatever number, is compiled."""
    fresh = df.load(moved)
    _score.clear_cache()
    for count in (1, 2, 8, 9, 64, 70, 3):
        batch = np.resize(images, (count, *images.shape[1:]))
        assert np.isfinite(fresh.fidelity(batch)).all()
    assert _score._cache_size() == len(BATCH_SIZES)


def test_fidelity_is_the_regressor_of_the_features(detector, images):
    arrays = detector.fidelity_model.regressor.arrays
    features = detector.features(images)
    by_jax = np.asarray(forms.regress(arrays, jnp.asarray(features)))
    np.testing.assert_allclose(detector.fidelity(images), by_jax, atol=1e-5)
    # In double precision, as scikit-learn writes it.
    kernel = rbf_kernel(features - arrays.centre, arrays.vectors, gamma=float(arrays.gamma))
    by_hand = kernel.astype(float) @ arrays.coefficients + float(arrays.intercept)
    np.testing.assert_allclose(by_jax, by_hand, atol=1e-5)


def test_a_head_of_the_network_is_a_regressor(detector, images):
    """In the one program of `fidelity`, and as exported with the features."""
    head = detector.variables["params"]["fidelity_head"]
    features, answers = detector.features_and_answers(detector.prepare(images))
    by_class = features @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    logits, alone = detector.logits(images), detector.class_logits(images)
    p, p_alone = (1 / (1 + np.exp(x[:, 0] - x[:, 1])) for x in (logits, alone))
    expected = p, p_alone, (1 - p) * by_class[:, 0] + p * by_class[:, 1]
    for place, wanted in enumerate(expected):
        fitted = replace(detector.fidelity_model, regressor=Regressor(forms.Head(np.int32(place))))
        found = detector.fitted(fitted).fidelity(images)
        assert found.std() > 1e-4, HEADS[place]
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        np.testing.assert_allclose(answers[:, place], found, atol=1e-6)
    assert np.isnan(answers[:, HEADS.index("ordinal_head")]).all()


def test_a_head_that_the_network_lacks_is_refused(moved, tmp_path):
    place = shutil.copytree(moved, tmp_path / "other")
    model = stored.load(place / "fidelity.npz")
    for number, name in enumerate(HEADS):
        head = Regressor(forms.Head(np.int32(number)), {"regressor": name})
        stored.save(replace(model, regressor=head), place / "fidelity.npz")
        if name == "ordinal_head":
            with pytest.raises(InputError, match="from the ordinal_head, which the network there"):
                df.load(place)
        else:
            assert df.load(place).fidelity_model.regressor.arrays.name == name


def test_verdicts_agree(detector):
    scores = np.array([detector.threshold - 0.1, detector.threshold, detector.threshold + 0.1])
    p = detector.p_fake(scores)
    assert p[0] > 0.5 > p[2]
    assert p[1] == pytest.approx(0.5)


def test_evaluation_and_detector_give_the_same_scores(finished, detector, records_folder):
    """From the files: what was written for the test split is what anybody gets of its images."""
    with open(finished / "eval" / "synthetic_faces" / "predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    test = schema.Records(records_folder, "test")
    assert len(rows) == len(test)
    found = [test[index] for index in range(len(test))]
    images = np.stack([decode_image(record["image"]) for record in found])
    scores = np.concatenate([detector.fidelity(images[i : i + 8]) for i in range(0, len(rows), 8)])
    written = np.array([float(row["fidelity"]) for row in rows])
    np.testing.assert_allclose(written, scores, atol=1e-4)
    p = np.array([float(row["p_fake"]) for row in rows])
    np.testing.assert_allclose(p, detector.p_fake(scores), atol=1e-4)
    for row, record in zip(rows, found, strict=True):
        assert row["label"] == ("real" if record["label"] else "fake")
        for key in ("method", "video_id", "path"):
            assert row[key] == record[key]
        assert float(row["fidelity_target"]) == pytest.approx(record["fidelity"], abs=1e-5)
    metrics = json.loads((finished / "eval" / "synthetic_faces" / "metrics.json").read_text())
    assert metrics["threshold"] == pytest.approx(detector.threshold)
    assert metrics["n_frames"] == len(rows)


def test_exported_features_are_the_detectors(finished, detector, images):
    exported = Features.load(finished / "features" / "synthetic_faces-test.npz")
    np.testing.assert_allclose(
        exported.feature[: len(images)], detector.features(images), rtol=1e-4, atol=1e-4
    )
    _, answers = detector.features_and_answers(detector.prepare(images))
    np.testing.assert_allclose(exported.answers[: len(images)], answers, atol=1e-5)
    assert np.isfinite(exported.answers).all(axis=0).tolist() == [True, True, True, False]


def test_quality_is_that_of_the_training_faces_or_none(detector, records_folder):
    record = schema.Records(records_folder, "test")[0]
    (measured,), reason = detector.quality([record["image"]], [record["landmarks"]])
    assert measured == pytest.approx(record["quality"], abs=1e-6)
    assert reason == ""
    for measure, told in (("csv", "from a table"), ("none", "was not measured")):
        noted = replace(detector.fidelity_model, provenance={"quality": {"measure": measure}})
        other = copy(detector)
        other.fidelity_model = noted
        found, reason = other.quality([record["image"]], [record["landmarks"]])
        assert np.isnan(found).all(), "never an invented score"
        assert told in reason


def test_a_prediction_without_quality_says_why(detector, tmp_path):
    """The verdict stands, the quality is null, the note gives the reason once."""
    noted = replace(detector.fidelity_model, provenance={"quality": {"measure": "none"}})
    other = copy(detector)
    other.fidelity_model = noted
    other.faces = replace(other.faces, detector="none")
    picture = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    line = json.loads(other.predict(tmp_path / "a.png").to_json())
    assert line["status"] in ("real", "uncertain", "fake")
    assert line["faces"][0]["quality"] is None
    reason = "quality not measured: the quality of the training faces was not measured"
    assert line["note"].partition(", uncertain: ")[0] == reason


def test_crops_of_any_size(detector):
    """The central share of the crop, at the network's size, whatever size it came in."""
    ramp = np.linspace(0, 240, 256)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], 120.0), axis=-1)
    whole = picture.astype(np.uint8)
    half = cv2.resize(whole, (128, 128), interpolation=cv2.INTER_AREA)
    found = [detector.prepare(x[None])[0].astype(int) for x in (whole, half)]
    assert found[0].shape == found[1].shape == (32, 32, 3)
    assert np.abs(found[0] - found[1]).max() <= 3  # a border falls between pixels
    share = detector.config.model.eval_crop
    for axis in (0, 1):
        along = found[0][..., axis].mean(axis=1 - axis)
        assert along[-1] - along[0] == pytest.approx(240 * share * 31 / 32, abs=3)
        assert along.mean() == pytest.approx(120, abs=2)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((2, 32, 32, 1), np.uint8),
        np.zeros((2, 3, 32, 32), np.uint8),
    ],
)
def test_anything_else_is_refused(detector, wrong):
    with pytest.raises((InputError, TypeError), match="uint8|Type-check"):
        detector.fidelity(wrong)


def test_workdirs_without_a_detector(moved, tmp_path, images):
    with pytest.raises(InputError, match="no trained detector"):
        df.load(tmp_path)
    with pytest.raises(InputError, match="no trained detector"):
        df.load(tmp_path / "missing")
    shutil.copytree(moved / "checkpoints", tmp_path / "checkpoints")
    untrained = df.load(tmp_path)
    with pytest.raises(InputError, match="--mode=fit"):
        untrained.fidelity(images)
    with pytest.raises(InputError, match="--mode=fit"):
        _ = untrained.threshold
    (tmp_path / "fidelity.npz").write_bytes((moved / "fidelity.npz").read_bytes()[:2000])
    with pytest.raises(InputError, match="damaged"):
        df.load(tmp_path)


def test_the_best_weights_on_validation_are_taken(finished, detector):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["val_frame_auc"] for line in lines if "val_frame_auc" in line}
    assert len(scores) == 2
    assert detector.step == max(scores, key=lambda step: (scores[step], step))


def test_a_path_may_begin_at_home(detector, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    note = detector.predict("~/a.jpg").note
    assert note
    assert "no such file" not in note
