"""Metrics against hand computation, scikit-learn and SciPy."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from score_tables import simulated, table
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.images.videos import spread_indices
from deepfidelity_jax.scoring.metrics import levels_of, poor_videos, small_videos, summarize
from deepfidelity_jax.scoring.table import spread_rows
from deepfidelity_jax.statistics.aggregation import AGGREGATES
from deepfidelity_jax.statistics.ranking import roc_curve


def test_values_that_a_hand_can_compute():
    # Reals .9 .8 .6 .3, fakes .7 .4 .2 .1. Of the 16 pairs the real one loses three (.6 and .3
    # to .7, .3 to .4), so AUC = 13/16. At 0.5, .3 and .7 are called wrongly. Rising from below,
    # fakes are met at ranks 1, 2, 4, 6: AP = (1/1 + 2/2 + 3/4 + 4/6) / 4. Between .4 and .6,
    # one of four reals is called fake and one of four fakes is not: EER = 1/4.
    found = summarize(table([1, 1, 1, 1, 0, 0, 0, 0], [0.9, 0.8, 0.6, 0.3, 0.7, 0.4, 0.2, 0.1]),
                      0.5, "fixed", replicates=10)  # fmt: skip
    assert found["frame_auc"] == found["video_auc"] == 13 / 16
    assert found["frame_acc"] == found["real_frame_acc"] == found["fake_video_acc"] == 0.75
    assert found["eer"] == found["video_eer"] == 0.25
    assert found["ap"] == pytest.approx((1 + 1 + 3 / 4 + 4 / 6) / 4)
    assert (found["n_frames"], found["n_frames_real"], found["n_videos_fake"]) == (8, 4, 4)
    assert (found["threshold"], found["threshold_from"]) == (0.5, "fixed")


def test_high_fidelity_is_real_and_the_threshold_itself_is_real():
    found = summarize(table([0, 1], [0.2, 0.5]), 0.5, "fixed", replicates=10)
    assert found["frame_auc"] == 1
    assert found["frame_acc"] == found["video_acc"] == 1
    assert found["ap"] == 1
    # The float32 nearest to 0.7 lies below 0.7: judged fake, as in float64 everywhere.
    assert summarize(table([0, 1], [0.2, 0.7]), 0.7, "fixed", replicates=10)["frame_acc"] == 0.5


def test_equal_error_rate_lies_where_the_roc_meets_the_diagonal():
    found = simulated(np.random.default_rng(2))
    rate = summarize(found, 0.5, "fixed", replicates=10)["eer"]
    false_alarm, caught, _ = sklearn_roc_curve(1 - found.label, -found.fidelity)
    assert np.interp(rate, false_alarm, caught) == pytest.approx(1 - rate, abs=0.01)
    ours = roc_curve(found.label, found.fidelity)
    assert np.trapezoid(ours[1], ours[0]) == pytest.approx(np.trapezoid(caught, false_alarm))


def test_a_face_is_drawn_with_its_forgeries():
    """Faces that are hard make hard forgeries: the interval of a share must know."""
    held, trials = 0, 100
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        hard = np.repeat(rng.normal(size=40), 6)
        label = np.tile([1, 0, 0, 0, 0, 0], 40)
        names = [f"{i // 6}:{i % 6}" for i in range(240)]
        score = np.where(label == 1, 1.0, hard + 0.5 * rng.normal(size=240))
        found = table(label, score, names)
        found = replace(found, path=[str(i // 6) for i in range(240)])
        own = summarize(found, 0.0, "fixed", seed=trial, replicates=200)
        assert own["n_clusters"] == 40
        low, high = own["ci"]["fake_frame_acc"]
        held += low <= 0.5 <= high  # half of all forgeries score below 0
    assert held >= 85


def test_detection_at_few_false_alarms():
    label = np.repeat([1, 0], 100)
    fidelity = np.r_[np.linspace(0.5, 1, 100), np.linspace(0, 0.6, 100)]
    found = summarize(table(label, fidelity), 0.5, "fixed", replicates=10)
    false_alarm, caught, _ = sklearn_roc_curve(
        1 - label, -fidelity.astype(np.float32), drop_intermediate=False
    )
    assert found["tpr_at_fpr_1pct"] == caught[false_alarm <= 0.01].max()
    assert found["tpr_at_fpr_10pct"] == caught[false_alarm <= 0.1].max()
    few = summarize(table([1] * 50 + [0] * 50, fidelity[50:150]), 0.5, "fixed", replicates=10)
    assert few["tpr_at_fpr_1pct"] is None, "1% of 50 reals is none"
    assert few["tpr_at_fpr_10pct"] is not None


def test_each_method_is_judged_against_all_reals():
    method = ["original", "original", "easy", "easy", "hard", "hard"]
    found = summarize(
        table([1, 1, 0, 0, 0, 0], [0.9, 0.6, 0.1, 0.2, 0.7, 0.8], method=method), 0.5, "fixed"
    )["by_method"]
    assert list(found) == ["easy", "hard"]
    assert (found["easy"]["frame_auc"], found["easy"]["fake_frame_acc"]) == (1, 1)
    assert (found["hard"]["frame_auc"], found["hard"]["fake_frame_acc"]) == (0.5, 0)
    assert (found["hard"]["n_frames"], found["hard"]["n_videos"]) == (2, 2)


def test_thirds_of_quality():
    label, quality = [1, 0] * 6, np.arange(12) / 2
    fidelity = [0.2, 0.8] * 2 + [0.5, 0.5] * 2 + [0.8, 0.2] * 2
    found = summarize(table(label, fidelity, quality=quality), 0.5, "fixed", replicates=10)
    thirds = found["by_quality"]
    assert [thirds[name]["frame_auc"] for name in ("lowest", "middle", "highest")] == [0, 0.5, 1]
    assert [part["n_frames"] for part in thirds.values()] == [4, 4, 4]
    assert thirds["lowest"]["low"] == 0
    assert thirds["highest"]["high"] == 5.5
    assert thirds["lowest"]["high"] == thirds["middle"]["low"]


def test_fidelity_follows_quality_within_each_class():
    label = np.repeat([1, 0], 30)
    quality = np.tile(np.arange(30.0), 2)
    fidelity = np.r_[0.6 + quality[:30] / 100, 0.4 - quality[30:] ** 2 / 3000]
    found = summarize(table(label, fidelity, quality=quality), 0.5, "fixed", replicates=50)
    assert found["fidelity_quality_spearman"]["real"] == pytest.approx(1)
    assert found["fidelity_quality_spearman"]["fake"] == pytest.approx(-1)
    rng = np.random.default_rng(3)
    drawn = simulated(rng)
    found = summarize(drawn, 0.5, "fixed", replicates=50)
    for kind, name in enumerate(("fake", "real")):
        rows = drawn.label == kind
        expected = spearmanr(drawn.fidelity[rows], drawn.quality[rows])[0]
        assert found["fidelity_quality_spearman"][name] == pytest.approx(expected)
        low, high = found["ci"][f"fidelity_quality_spearman_{name}"]
        assert low < expected < high


def test_what_cannot_be_had_is_null_and_says_why():
    only_fakes = summarize(table([0] * 8, np.arange(8) / 8), 0.5, "fixed", replicates=10)
    for name in ("frame_auc", "video_auc", "eer", "ap", "tpr_at_fpr_10pct", "real_frame_acc"):
        assert only_fakes[name] is None
        assert only_fakes["ci"][name] is None
        assert "no real" in only_fakes["note"][name]
    assert only_fakes["frame_acc"] == 0.5
    assert only_fakes["fidelity_quality_spearman"]["real"] is None

    few = summarize(table([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]), 0.5, "fixed", replicates=10)
    assert few["frame_auc"] == 1
    assert few["ci"]["frame_auc"] is None
    assert "fewer than" in few["note"]["frame_auc"]

    alike = table([0, 1] * 6, np.arange(12) / 12, quality=[3.0] * 12)
    alike = summarize(alike, 0.5, "fixed", replicates=10)
    assert alike["fidelity_quality_spearman"] == {"real": None, "fake": None}
    assert [part["n_frames"] for part in alike["by_quality"].values()] == [0, 0, 12]

    unknown = replace(table([0, 1], [0.1, 0.9]), quality=[np.nan] * 2)
    unknown = summarize(unknown, 0.5, "fixed", replicates=10)
    assert unknown["by_quality"] == {}
    assert "2 frames" in unknown["note"]["by_quality"]

    perfect = summarize(table([0, 1] * 6, [0.1, 0.9] * 6), 0.5, "fixed", replicates=10)
    assert perfect["ci"]["frame_auc"] == [1, 1]
    assert "too narrow" in perfect["note"]["frame_auc"]
    for found in (only_fakes, few, alike, unknown, perfect, summarize(table([], []), 0.5, "fixed")):
        json.dumps(found, allow_nan=False)


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="1 of 2"):
        summarize(table([0, 1], [0.1, np.nan]), 0.5, "fixed")


def test_people_are_drawn_with_all_their_videos():
    """Thirty videos of six people are six pieces of evidence, not thirty."""
    rng = np.random.default_rng(0)
    person = np.arange(30) % 15
    label = (person % 2).astype(int)
    data = table(label, label + np.repeat(rng.normal(size=15), 2)[np.argsort(np.argsort(person))])
    people = [f"person/{number}" for number in person]
    levels = levels_of(replace(data, people=people), 0, 50)
    assert levels.draws.shape == (51, 15)
    assert levels.frames.clusters == "people"
    found = summarize(data, 0.5, "fixed", levels=levels)
    assert (found["cluster"], found["n_clusters"]) == ("people", 15)
    joined = levels_of(replace(data, people=[f"{p} person/99" for p in people]), 0, 50)
    assert joined.draws.shape[1] == 1, "one person in all of them joins them"
    few = summarize(data, 0.5, "fixed", levels=joined)
    assert few["ci"]["frame_auc"] is None
    assert "fewer than 5 people" in few["note"]["frame_auc"]


def test_videos_are_drawn_with_what_was_forged_from_them():
    """Originals and forgeries in files of their own, which the records connect."""
    label = np.arange(40) % 2
    data = table(label, label.astype(float))
    origins = [f"video/{number // 4}" for number in range(40)]
    assert levels_of(data, 0, 50).draws.shape[1] == 40
    assert levels_of(replace(data, origins=origins), 0, 50).draws.shape[1] == 10


def test_the_aggregate_is_said_and_all_are_compared():
    data = simulated(np.random.default_rng(1))
    found = summarize(
        data, 0.5, "fixed", levels=levels_of(data, 0, 20, aggregate="median"), video_threshold=0.25
    )
    assert (found["aggregate"], found["video_threshold"]) == ("median", 0.25)
    assert found["video_auc"] == found["by_aggregate"]["median"]["video_auc"]
    medians = np.median(data.fidelity.reshape(60, 4), axis=1)
    label = data.label.reshape(60, 4)[:, 0]
    names = data.video_id.reshape(60, 4)[:, 0]
    assert found["video_acc"] == np.mean((medians >= 0.25) == label), names
    assert list(found["by_aggregate"]) == ["mean", "median", "top_share", "least_person"]
    assert "auc" in found["from_test_curve"]


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_aggregates_are_compared_where_a_file_shows_two_people(aggregate):
    """Each has its own videos, and figures that do not depend on which one was chosen."""
    data = simulated(np.random.default_rng(3))
    files = [f"file-{name}" for name in data.video_id]
    files[12:16] = files[4:8]  # another real person of the same file
    data = replace(data, path=files)
    found = summarize(data, 0.5, "fixed", levels=levels_of(data, 0, 20, aggregate=aggregate))[
        "by_aggregate"
    ]
    counts = {name: entry["n_videos"] for name, entry in found.items()}
    assert counts == {"mean": 60, "median": 60, "top_share": 60, "least_person": 59}
    for name, entry in found.items():
        own = summarize(data, 0.5, "fixed", levels=levels_of(data, 0, 20, aggregate=name))
        assert (entry["video_auc"], entry["ci"]) == (
            own["video_auc"], {"video_auc": own["ci"]["video_auc"]}
        )  # fmt: skip


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_videos_are_compared_by_the_number_of_their_frames(aggregate):
    """Rows in any order; a video that has fewer frames gives all."""
    rng = np.random.default_rng(2)
    size = np.tile([1, 3, 6, 20], 12)
    video = np.repeat(np.arange(48), size)
    frame = np.concatenate([7 * np.arange(n) for n in size])
    label, score = video // 4 % 2, rng.normal(size=len(video)).astype(np.float32)
    mixed = rng.permutation(len(video))
    data = table(label[mixed], score[mixed], video=[f"v{i:02}" for i in video[mixed]])
    data = replace(data, frame=frame[mixed])
    levels = levels_of(data, 0, 20, aggregate=aggregate)
    found = summarize(data, 0.5, "fixed", levels=levels)
    assert list(found["by_frames"]) == ["1", "4", "8", "16", "all"]
    everything = found["by_frames"]["all"]
    assert everything["video_auc"] == found["video_auc"]
    assert everything["ci"]["video_auc"] == found["ci"]["video_auc"]
    middle = [score[video == one][n // 2] for one, n in enumerate(size)]
    of_video = [label[video == one][0] for one in range(48)]
    assert found["by_frames"]["1"]["video_auc"] == pytest.approx(roc_auc_score(of_video, middle))


def test_spread_frames_are_the_same_as_in_a_preparation():
    data = replace(table([1] * 12, np.arange(12.0), video=["a"] * 10 + ["b"] * 2),
                   frame=[*range(20, 40, 2), 5, 3])  # fmt: skip
    assert np.flatnonzero(spread_rows(data, 4)).tolist() == [*spread_indices(10, 4), 10, 11]
    assert np.flatnonzero(spread_rows(data, 1)).tolist() == [5, 10]


def test_photographs_are_not_compared_by_their_frames():
    assert "by_frames" not in summarize(table([1, 0], [0.9, 0.1]), 0.5, "fixed", replicates=5)


def test_what_is_too_few_is_said():
    found = summarize(simulated(np.random.default_rng(1)), 0.5, "fixed", replicates=10)
    assert found["tpr_at_fpr_0.1pct"] is None
    assert found["note"]["tpr_at_fpr_0.1pct"] == "0.001 of 120 real frames is less than one"
    assert found["note"]["video_tpr_at_fpr_1pct"] == "0.01 of 30 real videos is less than one"


def test_who_cannot_be_judged_is_whoever_decides():
    """A clip of two people, and one of one: of the two, the least real has the file's score."""
    clips = table([1] * 6, [0.7, 0.6, 0.9, 0.9, 0.8, 0.8], ["a", "a", "b", "b", "c", "c"])
    clips = replace(clips, path=["1"] * 4 + ["2"] * 2, quality=[1, np.nan, 9, 9, 9, 3])
    scale = FidelityScale((0.0, 9.0), (4.0, 9.0))
    # x, y, width, height: "a" is small where it is largest, "b" in one frame, "c" nowhere known.
    boxes = np.array([[5, 5, 30, 40], [5, 5, 20, 9], [0, 0, 40, 40], [0, 0, 30, 30]])
    boxes = np.concatenate([boxes, np.full((2, 4), np.nan)])
    for aggregate, poor, small in (
        ("mean", [True, False, False], [True, False, False]),
        ("least_person", [True, False], [True, False]),
    ):
        levels = levels_of(clips, 0, 10, aggregate=aggregate)
        assert poor_videos(levels, clips, scale).tolist() == poor
        assert small_videos(levels, clips, boxes).tolist() == small
        assert not small_videos(levels, clips, None).any()
    other = replace(clips, fidelity=[0.9, 0.9, 0.1, 0.1, 0.8, 0.8])  # now "b" decides
    levels = levels_of(other, 0, 10, aggregate="least_person")
    assert poor_videos(levels, other, scale).tolist() == [False, False]
    assert small_videos(levels, other, boxes).tolist() == [False, False]
