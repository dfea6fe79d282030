"""Figures of groups are those of their own rows; the largest gap comes with what chance allows."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from deepfidelity_jax.statistics.groups import UNNAMED, describe
from deepfidelity_jax.statistics.intervals import Level, draw_clusters


def faces(n=400, worse=0.0, seed=0):
    """Faces of two groups; real ones of `b` score lower by `worse`."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    group = np.where(np.arange(n) % 4 < 2, "a", "b")
    score = 1.5 * label + rng.normal(size=n) - worse * (group == "b") * label
    return Level(label, score, np.arange(n)), group


def test_each_group_has_its_own_figures():
    level, group = faces(worse=1.0)
    found = describe(level, group, draw_clusters(level.label, 0, 200), 0.75)
    values = {}
    for name, entry in found["groups"].items():
        own = group == name
        area = roc_auc_score(level.label[own], level.score[own])
        fpr = np.mean(level.score[own & (level.label == 1)] < 0.75)
        assert (entry["n"], entry["n_real"], entry["n_fake"]) == (200, 100, 100)
        assert (entry["auc"], entry["fpr"]) == (pytest.approx(area), pytest.approx(fpr))
        values[name] = area, fpr
    gap = found["largest_gap"]
    assert gap["auc"]["value"] == pytest.approx(values["a"][0] - values["b"][0])
    assert gap["auc"]["between"] == ["b", "a"]
    assert gap["fpr"]["between"] == ["a", "b"]
    assert 0 < gap["fpr"]["ci"][0] < gap["fpr"]["value"] < gap["fpr"]["ci"][1]


def test_a_gap_of_chance_alone_reaches_below_zero():
    level, group = faces()
    gap = describe(level, group, draw_clusters(level.label, 0, 200), 0.75)["largest_gap"]
    for figure in ("auc", "fpr"):
        low, high = gap[figure]["ci"]
        assert low < 0, "not sure of any gap"
        assert high > gap[figure]["value"]


def test_small_groups_are_named_and_left_out_of_the_gap():
    level, group = faces()
    group = group.astype(object)
    group[:6] = "rare"
    group[6:20] = ""
    found = describe(level, group, draw_clusters(level.label, 0, 20), None)
    assert found["groups"]["rare"]["n"] == 6
    assert found["groups"][UNNAMED]["n"] == 14
    assert "rare" in found["largest_gap"]["auc"]["note"]
    assert "fpr" not in found["largest_gap"]
    assert sum(entry["n"] for entry in found["groups"].values()) == 400


def test_an_unknown_group_is_none_to_compare_with():
    level, group = faces(worse=1.0)
    group = group.astype(object)
    group[np.flatnonzero(group == "b")[:100]] = ""
    level = level.scored(np.where(group == "", -level.score, level.score))
    gap = describe(level, group, draw_clusters(level.label, 0, 200), 0.75)["largest_gap"]
    assert gap["auc"]["between"] == ["b", "a"]
    few = describe(level, [""] * 400, draw_clusters(level.label, 0, 200), 0.75)["largest_gap"]
    assert few["auc"]["value"] is None


def test_replicates_too_few_for_the_correction_give_no_interval():
    level, _ = faces()
    group = [f"g{i // 2 % 10}" for i in range(400)]
    draws = draw_clusters(level.label, 0, 1000)
    gap = describe(level, group, draws, 0.75)["largest_gap"]["auc"]
    assert gap["value"] > 0
    assert gap["ci"] is None
    assert "45 pairs of groups need 1800 replicates" in gap["note"]


def test_more_groups_make_a_wider_interval():
    """The largest of many gaps was chosen: the interval of the same pair widens."""
    level, group = faces(worse=1.0)
    draws = draw_clusters(level.label, 0, 1000)
    two = describe(level, group, draws, 0.75)["largest_gap"]["auc"]["ci"]
    order = np.random.default_rng(1).permutation(400)
    mixed = np.array([f"c{i % 4}" for i in range(400)])[order]
    more = Level(
        np.r_[level.label, level.label],
        np.r_[level.score, level.score],
        np.r_[level.cluster, level.cluster],
    )
    found = describe(more, np.r_[group, mixed], draws, 0.75)["largest_gap"]["auc"]
    assert found["between"] == ["b", "a"]
    assert np.diff(found["ci"]) > 1.2 * np.diff(two)


def test_one_group_has_no_gap():
    level, _ = faces()
    gap = describe(level, ["a"] * 400, np.ones((2, 400)), 0.5)["largest_gap"]["auc"]
    assert gap["value"] is gap["ci"] is None
    assert "fewer than two" in gap["note"]
