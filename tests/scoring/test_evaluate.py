"""From features to fidelity.npz, predictions.csv and metrics.json."""

import copy
import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from deepfidelity_configs import default
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.alternatives import fit_alternative
from deepfidelity_jax.fidelity.arrays import deviation
from deepfidelity_jax.fidelity.calibration import calibrate, p_fake
from deepfidelity_jax.fidelity.regressor import balance
from deepfidelity_jax.fidelity.scale import fit_scale, scale
from deepfidelity_jax.scoring import evaluate
from deepfidelity_jax.scoring.exported_features import Features
from deepfidelity_jax.scoring.table import (
    Predictions,
    cluster_rows,
    group_videos,
    read_groups,
    sources_of,
)
from deepfidelity_jax.statistics.aggregation import AGGREGATES


def features(videos=20, frames=2, seed=0, shift=2.0):
    """Faces whose first number tells the class, and whose second tells their quality."""
    r = np.random.default_rng(seed)
    n = videos * frames
    label = np.repeat(np.arange(videos) % 2, frames).astype(np.int32)
    quality = r.uniform(size=n).astype(np.float32)
    x = np.stack([shift * label, quality, r.normal(size=n)], axis=1).astype(np.float32)
    fitted = fit_scale(quality.astype(np.float64), label)
    target = scale(fitted, quality.astype(np.float64), label)
    return fitted, Features(
        feature=x,
        # By the heads: sure of the class; blind; by quality within the class; no such head.
        answers=np.stack([label, 0 * quality, target, np.nan * quality], axis=1).astype(np.float32),
        label=label,
        fidelity=target,
        quality=quality,
        known_quality=np.where(label == 1, quality**2, np.nan).astype(np.float32),
        frame=np.arange(n, dtype=np.int32),
        method=np.where(label == 1, "original", "swap"),
        video_id=np.repeat([f"v{i}" for i in range(videos)], frames),
        path=np.array([f"{i // 2}.mp4" for i in range(n)]),
    )


@pytest.fixture(scope="module")
def fitted():
    config = default.get_config()
    config.fidelity.C, config.eval.bootstrap, config.eval.official_scoring = 10.0, 20, True
    fitted_scale, training = features()
    return config, evaluate.fit(config, training, features(seed=1)[1], fitted_scale), training


def test_the_fit_separates_and_calibrates(fitted):
    _, model, training = fitted
    scores = evaluate.score(model.regressor, training)
    assert scores.dtype == np.float32
    assert scores[training.label == 0].max() < model.calibration.threshold
    assert scores[training.label == 1].min() >= model.calibration.threshold
    assert model.calibration.threshold_from == "validation"
    assert model.regressor.settings["C"] == 10.0


def test_another_regressor_is_fitted_with_the_weights_and_seed_of_the_config(capsys):
    config = default.get_config()
    config.seed, config.fidelity.regressor, config.fidelity.balance = 7, "random_forest", 1.0
    fitted_scale, training = features()
    model = evaluate.fit(config, training, features(seed=1)[1], fitted_scale)
    expected = fit_alternative(
        "random_forest", training.feature, training.fidelity,
        weights=balance(training.label), seed=7,
    )  # fmt: skip
    np.testing.assert_array_equal(model.regressor.arrays.value, expected.arrays.value)
    told = f"regressor: random forest fitted to {len(training.label)} faces; threshold"
    assert told in capsys.readouterr().err
    scores = evaluate.score(model.regressor, training)
    assert scores[training.label == 0].max() < scores[training.label == 1].min()


def test_a_head_is_taken_as_it_is_and_calibrated_like_any_regressor(capsys):
    config = default.get_config()
    config.fidelity.tune = True
    fitted_scale, training = features()
    validation = features(seed=1)[1]
    for column, name in ((0, "logits"), (2, "fidelity_head")):
        config.fidelity.regressor = name
        model = evaluate.fit(config, training, validation, fitted_scale)
        scores = evaluate.score(model.regressor, validation)
        np.testing.assert_array_equal(scores, validation.answers[:, column])
        assert model.calibration.threshold_from == "validation"
        error = np.mean(np.abs(training.answers[:, column] - training.fidelity))
        assert model.regressor.settings == {
            "regressor": name, "rows_given": len(training.label), "train_mae": pytest.approx(error)
        }  # fmt: skip
        told = capsys.readouterr().err
        assert f"regressor: {name.replace('_', ' ')} of the network, nothing fitted" in told
        assert f"the {name} has no settings, nothing is tuned" in told


def test_a_video_counts_once_in_the_threshold_however_many_frames_it_has():
    """One fake that looks real has 50 frames, every other video has two."""
    config = default.get_config()
    config.fidelity.regressor = "fidelity_head"  # whose answers are the scores
    fitted_scale, training = features()
    long = features(frames=50, seed=1)[1]
    rows = (long.video_id == "v0") | (np.arange(len(long.label)) % 50 < 2)
    validation = Features(**{name: column[rows] for name, column in vars(long).items()})
    validation.answers[validation.video_id == "v0", 2] += 0.6
    scores, label = validation.answers[:, 2].astype(np.float64), validation.label.astype(np.int64)
    of_video = [validation.video_id == name for name in np.unique(validation.video_id)]
    means = np.array([scores[own].mean() for own in of_video])
    kinds = np.array([label[own][0] for own in of_video])
    expected = calibrate(means, kinds, middle=fitted_scale.middle)
    found = evaluate.fit(config, training, validation, fitted_scale).calibration
    assert found.threshold == pytest.approx(expected.threshold)
    assert found.slope == pytest.approx(expected.slope)
    of_frames = calibrate(scores, label, middle=fitted_scale.middle)
    assert abs(of_frames.threshold - found.threshold) > 0.01


def test_without_validation_classes_the_threshold_is_the_middle_of_the_scale(fitted):
    config, _, training = fitted
    targets = fit_scale(np.arange(4.0), np.array([0, 0, 1, 1]), fake=(0.0, 0.3), real=(0.5, 1.0))
    only_fakes = features(seed=1)[1]
    only_fakes = replace(only_fakes, label=np.zeros_like(only_fakes.label))
    calibration = evaluate.fit(config, training, only_fakes, targets).calibration
    assert (calibration.threshold, calibration.threshold_from) == (0.4, "fixed")


def test_a_gaussian_process_says_which_faces_it_is_unsure_of(tmp_path):
    """Faces unlike those of training have a large deviation; their verdicts are left out first."""
    config = default.get_config()
    config.fidelity.regressor, config.eval.bootstrap = "gaussian_process", 20
    config.fidelity.gamma = 1.0
    fitted_scale, training = features()
    model = evaluate.fit(config, training, features(seed=1)[1], fitted_scale)
    test = features(seed=2)[1]
    far = np.isin(test.video_id, ["v0", "v1"])
    test.feature[far] = 100  # both classes, as far away as can be: one of them is judged wrongly
    found = evaluate.evaluate(config, model, test, "test", tmp_path)
    table = Predictions.read_csv(tmp_path / "predictions.csv")
    expected = np.asarray(deviation(model.regressor.arrays, jnp.asarray(test.feature)))
    np.testing.assert_array_equal(table.fidelity_deviation, expected)
    assert table.fidelity_deviation[far].min() > table.fidelity_deviation[~far].max()
    wrong = (table.fidelity >= model.calibration.threshold) != (table.label == 1)
    assert wrong.any()
    kept = [np.mean(wrong[expected <= expected[row]]) for row in np.argsort(expected)]
    assert found["aurc_by_deviation"] == pytest.approx(np.mean(kept))
    assert found["aurc_by_deviation"] < 1 - found["frame_acc"]
    assert found["video_aurc_by_deviation"] < 1 - found["video_acc"]
    low, high = found["ci"]["aurc_by_deviation"]
    assert low <= found["aurc_by_deviation"] <= high
    assert "aurc_by_deviation" in found["from_test_curve"]


def test_the_files_hold_the_scores(fitted, tmp_path):
    config, model, _ = fitted
    test = features(seed=2)[1]
    found = evaluate.evaluate(config, model, test, "test", tmp_path, about={"folder": "f"})
    assert json.loads((tmp_path / "metrics.json").read_text()) == found
    table = Predictions.read_csv(tmp_path / "predictions.csv")
    np.testing.assert_array_equal(table.fidelity, evaluate.score(model.regressor, test))
    np.testing.assert_array_equal(table.fidelity_target, test.fidelity)
    assert (np.argsort(table.p_fake) == np.argsort(-table.fidelity)).all()
    assert np.isnan(table.fidelity_deviation).all()
    assert "aurc_by_deviation" not in found
    assert "aurc_by_deviation" not in found["from_test_curve"]
    assert set(table.split) == {"test"}
    assert (found["folder"], found["n_files"], found["checkpoint_picked_here"]) == ("f", 20, False)
    assert found["official_scoring"]["n_groups"] == 20
    sampling = {"frames": config.faces.frames, "spacing": "even", "least": 2, "most": 2}
    assert found["frame_sampling"] == sampling
    assert list(found["by_frames"]) == ["1", "all"]
    known = found["fidelity_known_quality_spearman"]
    real = test.label == 1
    expected = spearmanr(table.fidelity[real], test.known_quality[real]).statistic
    assert known == {"real": pytest.approx(expected), "fake": None}
    low, high = found["ci"]["fidelity_known_quality_spearman_real"]
    assert low < expected < high


def test_the_lines_say_what_makes_figures_optimistic(fitted, tmp_path):
    config, model, _ = fitted
    found = evaluate.evaluate(
        config, model, features(seed=2)[1], "test", tmp_path, picked_here=True,
        about={"look_alikes": 3, "training_checked": False},
    )  # fmt: skip
    text = evaluate.describe(found, "mine", "test")
    for part in (
        "mine, test split: 40 faces, 20 videos or photographs",
        "the checkpoint was chosen on this same split",
        "optimistic: 3 of the test videos",
        "not checked against the training pictures",
        "official scoring, for comparison only",
        f"swap: frame_auc {found['frame_auc']:.4f}",
        "fidelity against quality known by construction, Spearman: real",
    ):
        assert part in text
    low, high = found["ci"]["frame_acc"] or (0, 0)
    assert f"frame_acc {found['frame_acc']:.4f} [{low:.4f}, {high:.4f}]" in text
    honest = evaluate.evaluate(config, model, features(seed=2)[1], "test", tmp_path)
    assert "optimistic" not in evaluate.describe(honest, "mine", "test")


def test_calibration_and_operating_points_come_from_validation(fitted, tmp_path):
    config, model, _ = fitted
    test, groups = features(videos=60, seed=2)[1], {"group_x": ["a", "a", "b", "b"] * 30}
    found = evaluate.evaluate(config, model, test, "test", tmp_path, groups=groups)
    assert found["calibration"]["method"] == "platt"
    assert found["calibration"]["video"]["n"] == 60
    points = found["operating_points"]
    assert (points["level"], points["n_videos_real"]) == ("video", 30)
    assert points["verdict"]["threshold"] == model.calibration.threshold
    assert points["wanted_fpr"]["threshold"] is None, "1% of 10 validation videos"
    validation = features(seed=1)[1]
    scores = evaluate.score(model.regressor, validation).reshape(20, 2).mean(axis=1)
    best = points["lowest_cost"]["threshold"]
    kind = validation.label[::2]
    assert np.mean((scores >= best) == kind) >= np.mean((scores >= 0.5) == kind)
    assert set(found["by_group"]["group_x"]["groups"]) == {"a", "b"}
    assert found["by_group"]["group_x"]["level"] == "video"
    assert read_groups(tmp_path / "predictions.csv") == groups


def test_verdicts_are_told_where_there_is_a_limit(fitted, tmp_path):
    config, model, _ = fitted
    test = features(seed=2)[1]
    assert "verdicts" not in evaluate.evaluate(config, model, test, "test", tmp_path)
    limit = float(np.median(evaluate.score(model.regressor, test)[test.label == 0]))
    model = replace(model, calibration=replace(model.calibration, fake_below=limit))
    found = evaluate.evaluate(config, model, test, "test", tmp_path)
    own = found["verdicts"]
    poor = replace(test, quality=np.full_like(test.quality, model.scale.real_quality[0] - 0.1))
    of_poor = evaluate.evaluate(config, model, poor, "test", tmp_path)["verdicts"]
    assert of_poor["fake_called_fake"] == own["fake_called_fake"]
    assert of_poor["real_uncertain"] == 1, "what is poor is fake or uncertain"
    assert of_poor["fake_uncertain"] == pytest.approx(1 - own["fake_called_fake"])
    boxes = np.tile(np.float32([0, 0, 24, 90]), (len(test.label), 1))
    of_small = evaluate.evaluate(config, model, test, "test", tmp_path, boxes=boxes)["verdicts"]
    assert of_small["fake_uncertain"] == of_small["real_uncertain"] == 1
    assert 0 < own["fake_called_fake"] < 1
    assert own["real_called_fake"] == 0
    told = f"fakes called fake {own['fake_called_fake']:.1%}, uncertain {own['fake_uncertain']:.1%}"
    text = evaluate.describe(found, "mine", "test")
    assert f"by predict's rule: real called fake 0.0%, uncertain 0.0%; {told} (20 videos)" in text
    real = replace(test, label=np.ones_like(test.label))
    text = evaluate.describe(evaluate.evaluate(config, model, real, "t", tmp_path), "mine", "t")
    assert "fakes called fake" not in text
    config = copy.deepcopy(config)
    config.eval.aggregate = "median"  # whose scores the limit is not for
    assert "verdicts" not in evaluate.evaluate(config, model, test, "test", tmp_path)


def test_an_aggregate_needs_a_threshold_of_its_own(fitted, tmp_path):
    config, model, _ = fitted
    config = copy.deepcopy(config)
    config.eval.aggregate = "top_share"
    found = evaluate.evaluate(config, model, features(seed=2)[1], "test", tmp_path)
    assert (found["aggregate"], found["top_share"]) == ("top_share", 0.1)
    assert found["video_threshold"] != found["threshold"]
    text = evaluate.describe(found | {"cluster": "people"}, "mine", "test")
    assert f", videos at {found['video_threshold']:.4f}" in text
    assert "95% intervals over people" in text
    before = replace(model, validation=None)
    with pytest.raises(InputError, match="aggregate is top_share, but fidelity.npz lacks"):
        evaluate.evaluate(config, before, features(seed=2)[1], "test", tmp_path)
    config.eval.aggregate = "mean"
    found = evaluate.evaluate(config, before, features(seed=2)[1], "test", tmp_path)
    assert "unknown" in found["operating_points"]["lowest_cost"]["note"]["threshold"]


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("fpr", [0.05, 0.1, 0.3])
def test_on_validation_itself_no_more_reals_are_called_fake_than_wanted(aggregate, fpr, tmp_path):
    """Whatever a unit is; here many files show several people."""
    fitted_scale, training = features()
    validation = features(videos=240, frames=3, seed=1, shift=0.3)[1]
    order, real = np.divmod(np.arange(720) // 3, 2)  # of a person in the class
    file = np.where(real & (order < 60), order // 3, 100 + 2 * order + real)  # three reals
    file = np.where(order >= 100, 1000 + order, file)  # a real one and its forgery
    validation = replace(validation, path=file.astype(str))
    config = default.get_config()
    config.eval.bootstrap, config.eval.aggregate, config.eval.wanted_fpr = 0, aggregate, fpr
    model = evaluate.fit(config, training, validation, fitted_scale)
    found = evaluate.evaluate(config, model, validation, "validation", tmp_path)
    points = found["operating_points"]
    reals = points["n_videos_real"]
    assert reals == (80 if aggregate == "least_person" else 120)
    assert points["wanted_fpr"]["fpr"] == pytest.approx(int(fpr * reals + 1e-9) / reals)
    # As earlier versions wrote it: a file with its forgeries under one number, then no files.
    _, path = np.unique(validation.path, return_inverse=True)
    before = replace(model, validation=replace(model.validation, file=path))
    again = evaluate.evaluate(config, before, validation, "v", tmp_path)["operating_points"]
    assert again["wanted_fpr"] == points["wanted_fpr"]
    model = replace(model, validation=replace(model.validation, file=None))
    points = evaluate.evaluate(config, model, validation, "v", tmp_path)["operating_points"]
    if aggregate == "least_person":
        for name in ("wanted_fpr", "lowest_cost"):
            assert points[name]["threshold"] is None
            assert "earlier version" in points[name]["note"]["threshold"]
        assert points["verdict"]["threshold"] == model.calibration.threshold
    else:
        assert points["wanted_fpr"]["threshold"] is not None


def test_temperature_is_fitted_again_for_an_aggregate(tmp_path):
    """The least real frames lie elsewhere than the means, and another slope fits them better."""
    fitted_scale, training = features()
    config, validation = default.get_config(), features(100, 5, seed=1, shift=0.5)[1]
    config.eval.bootstrap, config.eval.aggregate = 0, "top_share"
    config.fidelity.calibration = "temperature"
    model = evaluate.fit(config, training, validation, fitted_scale)
    found = evaluate.evaluate(config, model, validation, "validation", tmp_path)
    table = Predictions.read_csv(tmp_path / "predictions.csv")
    videos = group_videos(table, "top_share", config.eval.top_share)
    of_means = p_fake(model.calibration, videos.fidelity)
    loss = -np.mean(np.log(np.where(videos.label == 1, 1 - of_means, of_means)))
    assert "video_threshold" not in found, "it stays in the middle"
    assert found["calibration"]["video"]["log_loss"] < loss - 1e-6


def test_people_come_from_the_records(fitted):
    config = copy.deepcopy(fitted[0])
    origins = ["person/a video/1 person/b", "video/1"]
    videos = ["video/1", "video/1"]
    assert sources_of(config, origins) == {"origins": videos, "people": []}
    config.eval.cluster = "person"
    with pytest.raises(InputError, match="1 of 2 faces"):
        sources_of(config, origins)
    found = sources_of(config, origins, is_own=False)
    assert found == {"origins": videos, "people": []}
    found = sources_of(config, origins[:1])
    assert found == {"origins": ["video/1"], "people": ["person/a person/b"]}
    config.data.dataset = "ffpp"  # which knows the videos that a forgery was made from, or actors
    origins = ["video/033 video/097", "actor/03 actor/11"]
    found = sources_of(config, origins)
    assert found == {"origins": ["video/033 video/097", ""], "people": origins}


def test_people_are_written_beside_the_scores(fitted, tmp_path):
    """So that an ablation, a table of robustness and a comparison draw them, too."""
    config, model, _ = fitted
    test = features(seed=2)[1]
    config = copy.deepcopy(config)
    config.eval.cluster = "person"
    people = [f"person/{int(name[1:]) // 2}" for name in test.video_id]
    sources = sources_of(config, people)
    found = evaluate.evaluate(config, model, test, "test", tmp_path, sources=sources)
    assert (found["cluster"], found["n_clusters"]) == ("people", 10)
    table = Predictions.read_csv(tmp_path / "predictions.csv")
    assert table.people.tolist() == people
    assert len(np.unique(cluster_rows([table])[0])) == 10
