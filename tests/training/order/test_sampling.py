"""Which records are drawn: easy ones first, hard ones more often, groups alike."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from deepfidelity_jax.training.order.sampling import (
    START,
    About,
    Difficulty,
    draw,
    is_uniform,
    mine,
    rank,
)


def config(**changes):
    own = {"curriculum": "none", "curriculum_steps": 0, "mining": 0.0, "balance": "none"}
    return ConfigDict({"seed": 0, "train": own | {"steps": 400} | changes})


def about(n=50, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    method = np.where(label == 1, "original", np.where(np.arange(n) % 10 == 0, "swap", "blend"))
    return About(label.astype(np.int64), method.astype(object), rng.random(n))


def rows(drawn, steps):
    size = drawn.rows_per_step
    return [drawn.row(index) for step in steps for index in range(step * size, (step + 1) * size)]


def records(n=50):
    return [{"row": row} for row in range(n)]


def test_nothing_is_drawn_unless_asked():
    assert is_uniform(config(), forged=False)
    for changes in ({"mining": 1.0}, {"balance": "class"}, {"curriculum": "loss"}):
        assert not is_uniform(config(**changes), forged=False)
    assert is_uniform(config(balance="method"), forged=True), "families are drawn evenly instead"
    assert not is_uniform(config(balance="method", mining=1.0), forged=True)


def test_a_curriculum_by_quality_starts_with_the_best_of_each_class():
    own = about()
    drawn = draw(records(), own, config(curriculum="quality", curriculum_steps=100), 8)
    early = set(rows(drawn, range(3)))
    for label in (0, 1):
        of_class = np.flatnonzero(own.label == label)
        best = of_class[np.argsort(-own.quality[of_class])][: round(START * 25) + 1]
        assert {row for row in early if own.label[row] == label} <= set(best)
    assert np.allclose([drawn.share(step) for step in (0, 50, 100, 1000)], [0.3, 0.65, 1, 1])
    assert set(rows(drawn, range(100, 200))) == set(range(50)), "all, in the end"


def test_unknown_quality_comes_last():
    quality = np.array([0.1, np.nan, 0.9, 0.5] * 10)
    own = About(np.zeros(40, np.int64), np.array(["a"] * 40, object), quality)
    drawn = draw(records(40), own, config(curriculum="quality", curriculum_steps=100), 8)
    assert set(rows(drawn, range(3))) <= set(np.flatnonzero(quality > 0.4))
    assert rank(np.array([2.0, 3.0, 0.0, 1.0]), np.zeros(4, np.int64)).tolist() == [2, 3, 0, 1]


def test_a_curriculum_by_loss_waits_for_the_first_measurement():
    own, hard = about(), Difficulty(np.arange(50.0)[::-1].copy(), np.ones(50))
    by_loss = config(curriculum="loss", curriculum_steps=100)
    assert set(rows(draw(records(), own, by_loss, 8), range(60))) == set(range(50))
    assert set(rows(draw(records(), own, by_loss, 8, hard), range(2))) <= set(range(34, 50))


@pytest.mark.parametrize("mining", [0.0, 1.0])
@pytest.mark.parametrize("curriculum", ["none", "quality", "loss"])
@pytest.mark.parametrize("balance", ["none", "class", "method"])
def test_both_classes_are_drawn_whatever_is_combined(balance, curriculum, mining):
    """One real face among four fakes, whose loss and error are far lower; from the first step on,
    each class as often as it occurs, and with balance each group equally often."""
    n = 500
    label = (np.arange(n) % 5 == 0).astype(np.int64)
    method = np.where(label == 1, "original", np.where(np.arange(n) % 2, "swap", "blend"))
    hard = np.random.default_rng(0).random(n) + 9 * label
    own = About(label, method.astype(object), 1 / hard)
    steps = 0 if curriculum == "none" else 10_000
    options = config(curriculum=curriculum, curriculum_steps=steps, mining=mining, balance=balance)
    drawn = draw(records(n), own, options, 64, Difficulty(hard, hard))
    groups = method if balance == "method" else label
    for first in (0, 3000, 9000):
        found = np.array(rows(drawn, range(first, first + 20)))
        for name in np.unique(groups):
            here = groups == name
            share = here.mean() if balance == "none" else 1 / len(np.unique(groups))
            if balance != "none" or not mining:  # mining alone draws the harder class more often
                assert here[found].mean() == pytest.approx(share, abs=0.05)
            if steps:
                easy = np.sort(hard[here])[: round((START + 0.7 * first / steps) * here.sum()) + 1]
                assert hard[found[here[found]]].max() <= easy[-1]


def test_mining_draws_in_proportion_to_the_error():
    error = np.ones(50)
    error[7], error[8] = 4, 0.0
    own = config(mining=1.0)
    drawn = draw(records(), about(), own, 10, Difficulty(error, error))
    counts = np.bincount(rows(drawn, range(400)), minlength=50)
    assert counts[7] / np.median(counts) == pytest.approx(4, rel=0.35)
    assert 0 < counts[8] < np.median(counts) / 4, "seldom, not never"
    weights = mine(error, 2.0)
    assert weights.max() == 10, "one face does not take over"
    assert np.all(mine(np.zeros(3), 1.0) == 1)


@pytest.mark.parametrize("by", ["class", "method"])
def test_groups_are_drawn_alike(by):
    own = about()
    groups = own.label if by == "class" else own.method
    drawn = draw(records(), own, config(balance=by), 8)
    counts = np.bincount(rows(drawn, range(400)), minlength=50)
    names = set(groups.tolist())
    shares = [counts[groups == name].sum() / counts.sum() for name in names]
    assert np.allclose(shares, 1 / len(names), atol=0.03)


def test_a_draw_depends_on_its_place_alone():
    drawn = draw(records(), about(), config(balance="method"), 8)
    again = draw(records(), about(), config(balance="method"), 8)
    places = [0, 399, 7, 3000]
    assert [drawn[place] for place in places] == [again[place] for place in reversed(places)][::-1]
    other = config(balance="method")
    other.seed = 1
    assert rows(drawn, range(5)) != rows(draw(records(), about(), other, 8), range(5))
    assert len(drawn) == 3200
