import json
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.stats import norm, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.scoring.intervals import Sample
from deepfidelity_jax.scoring.metrics import (
    _average_precision,
    _equal_error_rate,
    _spearman,
    roc_curve,
    summarize,
)
from deepfidelity_jax.scoring.metrics import auc as _auc
from deepfidelity_jax.scoring.official import official_scoring
from deepfidelity_jax.scoring.table import Predictions, group_videos


def table(label, fidelity, video=None, method=None, quality=None, dataset="d"):
    n = len(label)
    video = [f"v{i}" for i in range(n)] if video is None else video
    default = ["original" if kind else "swap" for kind in label]
    return Predictions(
        path=[f"{v}/{i}.png" for i, v in enumerate(video)],
        dataset=[dataset] * n,
        split=["test"] * n,
        method=default if method is None else method,
        video_id=video,
        frame=list(range(n)),
        label=label,
        quality=np.arange(n) if quality is None else quality,
        fidelity_target=[0.5] * n,
        fidelity=fidelity,
        p_fake=1 - np.asarray(fidelity),
    )


def simulated(rng, videos=60, frames=4, shift=1.0):
    """Frames of one video share much of their score; fidelity follows quality a little."""
    label = np.repeat(np.arange(videos) % 2, frames)
    common = np.repeat(rng.normal(size=videos), frames)
    quality = rng.normal(size=videos * frames)
    fidelity = shift * label + common + 0.5 * quality + 0.5 * rng.normal(size=videos * frames)
    video = np.repeat([f"v{i}" for i in range(videos)], frames)
    kinds = np.where(label == 1, "original", np.repeat(["", "a", "", "b"] * (videos // 4), frames))
    return table(label, fidelity, video, kinds, quality)


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


def test_a_video_scores_the_mean_of_its_frames():
    label = [1, 1, 1, 0, 0]
    found = summarize(
        table(label, [0.9, 0.9, 0.1, 0.4, 0.5], ["r", "r", "r", "f", "f"]), 0.5, "fixed"
    )
    assert found["video_auc"] == found["video_acc"] == 1
    assert found["frame_auc"] == pytest.approx(4 / 6)
    assert found["n_videos"] == 2


def test_same_names_in_different_methods_stay_apart():
    """The trap of averaging 000_003 of four methods into one video."""
    label = [1, 1, 0, 0, 0, 0]
    method = ["original", "original", "deepfakes", "deepfakes", "faceswap", "faceswap"]
    names = ["real/000", "real/001", *(f"{m}/000_003" for m in method[2:])]
    videos = group_videos(table(label, [0.9, 0.8, 0.1, 0.3, 0.5, 0.7], names, method))
    assert videos.video_id.tolist() == [
        "deepfakes/000_003",
        "faceswap/000_003",
        "real/000",
        "real/001",
    ]
    np.testing.assert_allclose(videos.fidelity, [0.2, 0.6, 0.9, 0.8], rtol=1e-6)
    assert videos.label.tolist() == [0, 0, 1, 1]
    assert videos.of_frame.tolist() == [2, 3, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("label", "method"), [([1, 0], ["original", "swap"]), ([0, 0], ["swap", "blend"])]
)
def test_a_name_that_stands_for_two_videos_is_refused(label, method):
    with pytest.raises(InputError, match=r"000_003.*unique"):
        group_videos(table(label, [0.9, 0.1], ["000_003"] * 2, method))


def test_same_names_in_different_datasets_stay_apart():
    one = table([1, 0], [0.9, 0.2], ["000", "001"])
    columns = {field.name: np.tile(getattr(one, field.name), 2) for field in fields(one)}
    columns["dataset"] = ["d", "d", "e", "e"]
    columns["label"] = [1, 0, 0, 1]
    columns["method"] = ["original", "swap", "swap", "original"]
    assert len(group_videos(Predictions(**columns)).label) == 4


def test_weighted_statistics_equal_scikit_learn_ties_included():
    rng = np.random.default_rng(0)
    for levels in (3, 10, 1000):
        label = rng.integers(0, 2, 200)
        score = rng.integers(0, levels, 200) / levels
        weights = rng.integers(0, 4, (5, 200)).astype(float)
        auc = _auc(Sample(label, score, weights))
        precision = _average_precision(Sample(label, score, weights))
        for row, a, p in zip(weights, auc, precision, strict=True):
            assert a == pytest.approx(roc_auc_score(label, score, sample_weight=row), abs=1e-12)
            assert p == pytest.approx(
                average_precision_score(1 - label, -score, sample_weight=row), abs=1e-12
            )


def test_weights_count_as_repetition():
    rng = np.random.default_rng(1)
    label, score = rng.integers(0, 2, 50), rng.integers(0, 20, 50) / 20
    other, weights = rng.integers(0, 9, 50) / 9, rng.integers(0, 4, (4, 50)).astype(float)
    rate = _equal_error_rate(Sample(label, score, weights))
    correlation = _spearman(Sample(label, score, weights), other)
    for i, row in enumerate(weights):
        drawn = np.repeat(np.arange(50), row.astype(int))
        again = Sample(label[drawn], score[drawn], np.ones((1, len(drawn))))
        assert rate[i] == pytest.approx(_equal_error_rate(again)[0], abs=1e-12)
        assert correlation[i] == pytest.approx(spearmanr(score[drawn], other[drawn])[0], abs=1e-12)


def test_equal_error_rate_lies_where_the_roc_meets_the_diagonal():
    found = simulated(np.random.default_rng(2))
    rate = summarize(found, 0.5, "fixed", replicates=10)["eer"]
    false_alarm, caught, _ = sklearn_roc_curve(1 - found.label, -found.fidelity)
    assert np.interp(rate, false_alarm, caught) == pytest.approx(1 - rate, abs=0.01)
    ours = roc_curve(found.label, found.fidelity)
    assert np.trapezoid(ours[1], ours[0]) == pytest.approx(np.trapezoid(caught, false_alarm))


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


def test_intervals_cover_the_truth():
    """Of 95% intervals about 95% hold the true AUC, although frames of a video are alike."""
    # Two frames' difference across classes: normal, variance 2 * (1 + .25 + .25).
    truth = norm.cdf(1 / np.sqrt(3))
    inside = 0
    for trial in range(60):
        data = simulated(np.random.default_rng(trial), videos=80, frames=3)
        low, high = summarize(data, 0.5, "fixed", replicates=200)["ci"]["frame_auc"]
        inside += low <= truth <= high
    assert inside >= 52


def test_more_frames_of_the_same_videos_are_no_more_evidence():
    data = simulated(np.random.default_rng(4))
    more = Predictions(**{f.name: np.repeat(getattr(data, f.name), 3) for f in fields(data)})
    one, three = (summarize(t, 0.5, "fixed", replicates=100) for t in (data, more))
    for name in ("frame_auc", "frame_acc", "eer", "video_auc", "fidelity_quality_spearman_real"):
        np.testing.assert_allclose(three["ci"][name], one["ci"][name], rtol=1e-6)


def test_seed_and_nothing_else_decides_the_intervals():
    data = simulated(np.random.default_rng(5))
    shuffled = np.random.default_rng(6).permutation(len(data))
    again = Predictions(**{f.name: getattr(data, f.name)[shuffled] for f in fields(data)})
    first = summarize(data, 0.5, "fixed", seed=7, replicates=100)
    assert json.dumps(first) == json.dumps(summarize(data, 0.5, "fixed", seed=7, replicates=100))
    reordered = summarize(again, 0.5, "fixed", seed=7, replicates=100)
    assert reordered["ci"]["frame_auc"] == first["ci"]["frame_auc"]
    other = summarize(data, 0.5, "fixed", seed=8, replicates=100)
    assert other["ci"]["frame_auc"] != first["ci"]["frame_auc"]


def test_chunks_of_replicates_make_no_difference(monkeypatch):
    data = simulated(np.random.default_rng(7))
    whole = summarize(data, 0.5, "fixed", replicates=50)
    monkeypatch.setattr("deepfidelity_jax.scoring.intervals.CHUNK", 1000)
    assert summarize(data, 0.5, "fixed", replicates=50) == whole


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


def test_csv_round_trip(tmp_path):
    rng = np.random.default_rng(8)
    names = [
        "a,b.png",
        'line\nbreak "quoted".png',
        "<script>.png",
        "naïve 顔.png",
        "byte\udcff.png",
    ]
    written = replace(
        table([0, 1, 0, 1, 0], rng.random(5)),
        path=names,
        quality=[np.nan, 1e-30, 1e30, -0.1, 1 / 3],
    )
    path = tmp_path / "eval" / "predictions.csv"
    written.write_csv(path)
    read = Predictions.read_csv(path)
    for field in fields(written):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(written, field.name))
    header, first = path.read_bytes().split(b"\n")[:2]
    assert header == (
        b"path,dataset,split,method,video_id,frame,label,quality,fidelity_target,fidelity,p_fake"
    )
    assert b",fake," in first
    assert [file.name for file in path.parent.iterdir()] == ["predictions.csv"]


def test_csv_round_trip_of_no_rows(tmp_path):
    table([], []).write_csv(tmp_path / "p.csv")
    assert len(Predictions.read_csv(tmp_path / "p.csv")) == 0


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "path,label\na,fake\n",
        "{header}\na,d,test,swap,v,0,fake,1,1,1\n",
        "{header}\na,d,test,swap,v,0,false,1,1,1,1\n",
        "{header}\na,d,test,swap,v,0,fake,1,1,high,1\n",
    ],
)
def test_a_damaged_csv_is_named(tmp_path, text):
    path = tmp_path / "p.csv"
    if text is not None:
        header = ",".join(field.name for field in fields(Predictions))
        path.write_text(text.format(header=header), encoding="utf-8")
    with pytest.raises(InputError, match=r"p\.csv"):
        Predictions.read_csv(path)


def test_columns_must_be_equally_long():
    with pytest.raises(ValueError, match="equally long"):
        replace(table([0, 1], [0.1, 0.9]), frame=[1])
    with pytest.raises(ValueError, match="labels"):
        table([0, 2], [0.1, 0.9])


def test_official_scoring_merges_videos_by_name_and_the_honest_one_does_not():
    """FF++: the fakes 000_003 of two methods and 000_010 share a target, and an original its name.

    Groups: real 000 .7, real 001 .42; fake 000 (.2 + .2 + .5 + .9) / 4 = .45, fake 001 .1.
    """
    video = [
        "original/000",
        "original/001",
        *["a/000_003"] * 2,
        "b/000_003",
        "c/000_010",
        "a/001_7",
    ]
    found = table(
        [1, 1, 0, 0, 0, 0, 0],
        [0.7, 0.42, 0.2, 0.2, 0.5, 0.9, 0.1],
        video,
        method=["original"] * 2 + ["a", "a", "b", "c", "a"],
    )
    official = official_scoring(found)
    assert (official["n_groups"], official["n_groups_real"], official["n_groups_fake"]) == (4, 2, 2)
    assert official["auc"] == 3 / 4  # real 001 loses to fake 000
    # 0.40 and above 0.45 are wrong once each; between, twice; 0.40 is the lowest of equals.
    assert (official["acc"], official["threshold"]) == (0.75, 0.4)
    honest = summarize(found, 0.5, "fixed", replicates=2)
    assert (honest["n_videos"], honest["n_videos_fake"]) == (6, 4)
    assert honest["video_auc"] == 5 / 8  # .7 beats all but .9, .42 beats .2 and .1
    assert "official_scoring" not in honest


def test_official_scoring_searches_its_threshold_on_the_scores_at_hand():
    rng = np.random.default_rng(0)
    label = np.arange(200) % 2
    fidelity = np.where(label == 1, 0.55, 0.45) + 0.1 * rng.normal(size=200)
    found = official_scoring(table(label, fidelity, [f"{i}_x.mp4" for i in range(200)]))
    scores = fidelity.astype(np.float32).astype(np.float64)
    best = max(((scores >= t) == label).mean() for t in 0.4 + 0.01 * np.arange(21))
    assert found["acc"] == best
    assert found["auc"] == pytest.approx(roc_auc_score(label, scores))
    assert found["n_groups"] == 200
    wild = [f"real_test/{archive}/real/{sequence}" for archive in (7, 8) for sequence in (0, 1)]
    assert official_scoring(table([1] * 4, [0.5] * 4, wild))["n_groups"] == 4
    alone = official_scoring(table([0, 0], [0.2, 0.3]))
    assert (alone["auc"], alone["acc"]) == (None, None)
    json.dumps([found, alone], allow_nan=False)
