"""Tables of ablations: paired differences, their intervals, and the three formats."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
from score_tables import simulated, table

from deepfidelity_jax.experiments import ablation_table
from deepfidelity_jax.experiments.ablation_table import (
    COLUMNS,
    NONE,
    Result,
    describe,
    draw_videos,
    half_interval,
    paired_difference,
    summarize,
    summarize_methods,
    write,
    write_methods,
)
from deepfidelity_jax.scoring import metrics
from deepfidelity_jax.scoring.table import group_videos
from deepfidelity_jax.statistics import intervals, paired, ranking
from deepfidelity_jax.statistics.paired import bootstrap_p


def shifted(predictions, by):
    """The same faces, the real ones scored higher by so much."""
    return replace(predictions, fidelity=predictions.fidelity + by * predictions.label)


def result(name, seed, predictions, seconds=60.0):
    found = metrics.summarize(predictions, 0.5, "fixed", replicates=0)
    return Result(name, seed, found, predictions, seconds, 100)


def test_a_difference_is_that_of_the_aucs():
    pairs = []
    for seed in range(3):
        base = simulated(np.random.default_rng(seed))
        pairs.append((base, shifted(base, 0.5)))
    for level in ("frame", "video"):
        expected = np.mean([
            metrics.summarize(other, 0.5, "", replicates=0)[f"{level}_auc"]
            - metrics.summarize(base, 0.5, "", replicates=0)[f"{level}_auc"]
            for base, other in pairs
        ])  # fmt: skip
        difference, low, high, p = paired_difference(pairs, level, 400)
        assert difference == pytest.approx(expected)
        assert low < difference < high
        assert low > 0, "half a standard deviation on the same faces is plain"
        assert p < 0.05


def test_a_run_does_not_differ_from_itself():
    base = simulated(np.random.default_rng(0))
    assert paired_difference([(base, base)], "video", 100) == (0.0, 0.0, 0.0, 1.0)
    assert paired_difference([(base, base)], "video", 0) == (0.0, None, None, None)


def test_pairing_takes_out_what_both_share():
    """Of two runs with equal gains the paired interval is far narrower than an unpaired one."""
    base = simulated(np.random.default_rng(1))
    other = shifted(base, 0.1)
    _, low, high, _ = paired_difference([(base, other)], "video", 400)
    own = metrics.summarize(other, 0.5, "", replicates=400)["ci"]["video_auc"]
    assert high - low < (own[1] - own[0]) / 3


def test_by_chance_alone_p_is_small_as_often_as_it_says():
    """Two runs of equal worth: p below .2 in about a fifth of the trials."""
    small = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        base = simulated(rng, videos=40, frames=1)
        noisy = [
            replace(base, fidelity=base.fidelity + rng.normal(0, 0.7, len(base))) for _ in range(2)
        ]
        small += paired_difference([tuple(noisy)], "video", 200)[3] < 0.2
    assert 8 <= small <= 34


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_videos_do_not_stand_in_for_seeds(seeds):
    """Two methods of equal worth, whose trainings end up better or worse by chance: p below .05 in
    about a twentieth of the trials, however many videos test them."""
    small, label = 0, np.arange(200) % 2
    for trial in range(100):
        rng = np.random.default_rng(trial)
        hard, gain = 0.8 * rng.normal(size=200), 1.6 + 0.4 * rng.normal(size=(seeds, 2))
        pairs = [tuple(table(label, label * one + hard) for one in own) for own in gain]
        small += paired_difference(pairs, "frame", 100)[3] < 0.05
    assert small <= 10


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("shared", [1.0, 0.5], ids=["same videos", "half the videos"])
def test_more_seeds_do_not_stand_in_for_more_videos(seeds, shared):
    """Two methods of equal worth, each of which does better on some videos than on others, with
    every seed: p below .2 in about a fifth of the trials, however many seeds test those videos."""
    small, n, held = 0, 40, round(40 * shared)
    label = np.arange(n) % 2
    for trial in range(100):
        rng = np.random.default_rng(trial)
        liking = rng.normal(size=(2, n))  # of each method, for each video
        pairs = []
        for _ in range(seeds):
            own = np.sort(rng.permutation(n)[:held]) if shared < 1 else np.arange(n)
            scores = label + liking + 0.1 * rng.normal(size=(2, n))
            ids = [f"v{i}" for i in own]
            pairs.append(tuple(table(label[own], score[own], ids) for score in scores))
        small += paired_difference(pairs, "video", 100)[3] < 0.2
    assert 8 <= small <= 34


def test_a_video_is_drawn_once_for_all_seeds_that_test_it():
    """Fakes and reals are drawn apart."""
    first = table([1, 0, 0, 1], [0.0] * 4, ["a", "b", "c", "d"])
    other = table([0, 0, 1, 1], [0.0] * 4, ["c", "e", "a", "f"])
    videos = [group_videos(own) for own in (first, other)]
    draws = list(next(draw_videos([first, other], videos, 0, 50)))
    assert [own.shape for own in draws] == [(51, 4), (51, 4)]
    assert all((own[0] == 1).all() for own in draws), "the data itself"
    (a, b, c, d), (a_again, c_again, e, f) = (own.T for own in draws)
    assert (a == a_again).all()
    assert (c == c_again).all()
    assert (a + d + f == 3).all()
    assert (b + c + e == 3).all()


def test_a_video_is_drawn_with_what_was_forged_from_it():
    first = replace(table([1, 0, 1, 0], [0.0] * 4, ["a", "a:swap", "b", "b:swap"]), path=[*"aabb"])
    other = replace(table([0, 1], [0.0] * 2, ["b:morph", "b"]), path=[*"bb"])
    videos = [group_videos(own) for own in (first, other)]
    (a, a_swap, b, b_swap), (b_again, b_morph) = (
        own.T for own in next(draw_videos([first, other], videos, 0, 50))
    )
    assert (a == a_swap).all()
    assert (a + b == 2).all()
    assert (b == b_swap).all()
    assert (b == b_again).all()
    assert (b == b_morph).all()


def test_people_are_drawn_with_all_their_videos():
    """Twenty people in ten videos each, of whom every run likes some: twenty pieces of evidence."""
    small, person = 0, np.repeat(np.arange(20), 10)
    people = [f"person/{number}" for number in person]
    for trial in range(100):
        rng = np.random.default_rng(trial)
        liking = 0.7 * rng.normal(size=(2, 20))[:, person]
        scores = person % 2 + liking + 0.5 * rng.normal(size=(2, 200))
        pair = tuple(replace(table(person % 2, own), people=people) for own in scores)
        small += paired_difference([pair], "frame", 100)[3] < 0.05
    assert small <= 12


def test_the_video_difference_is_that_of_the_aucs_beside_it():
    """Medians of frames, of which one in three is wild."""
    runs, rng = [], np.random.default_rng(0)
    for name, wild in (("base", -9.0), ("other", 0.0)):
        label = np.repeat(np.arange(40) % 2, 3)
        score = label + rng.normal(size=120) + np.tile([0, 0, 1], 40) * wild * label
        own = table(label, score, np.repeat([f"v{i}" for i in range(40)], 3))
        levels = metrics.levels_of(own, 0, 0, aggregate="median")
        found = metrics.summarize(own, 0.5, "fixed", replicates=0, levels=levels)
        runs.append(Result(name, 0, found, own, 60.0, 100))
    base, other = summarize(runs, 50)
    assert other["video_diff"] == pytest.approx(other["video_auc"] - base["video_auc"])
    means = metrics.summarize(runs[0].table, 0.5, "fixed", replicates=0)["video_auc"]
    assert abs(means - base["video_auc"]) > 0.1, "with means it would be another"


def test_a_replicate_without_one_class_does_not_count():
    alone, many = table([1, 0], [0.9, 0.1], ["a", "b"]), simulated(np.random.default_rng(0))
    found = paired_difference([(alone, alone), (many, shifted(many, 0.5))], "video", 50)
    assert np.isfinite(found).all()


def test_a_cell_tested_on_other_faces_has_no_difference(tmp_path):
    """The others keep theirs, and its own figures stay."""
    base, fewer = (simulated(np.random.default_rng(0), videos=n) for n in (40, 32))
    cells = ("base", base), ("fewer", fewer), ("better", shifted(base, 0.5))
    rows = summarize([result(name, 0, own) for name, own in cells], 50)
    assert rows[1]["frame_auc"] > 0.5
    assert all(rows[1][f"frame_{key}"] is None for key in ("diff", "low", "high", "p"))
    assert rows[2]["frame_diff"] > 0
    assert "fewer: frame_auc 0." in describe(rows)
    write(rows, tmp_path / "table")


@pytest.mark.parametrize("level", ["frame", "video"])
def test_memory_does_not_grow_with_replicates(level, monkeypatch):
    """Draws are weighed a chunk at a time, and give what all at once gives."""
    rng, sizes = np.random.default_rng(0), []
    base = simulated(rng, videos=40, frames=3)
    other = replace(base, fidelity=base.fidelity + rng.normal(0, 0.5, len(base)))
    videos = group_videos(base), group_videos(other)

    def noted(sample):
        sizes.append(sample.weights.size)
        return ranking.auc(sample)

    monkeypatch.setattr(ablation_table, "auc", noted)
    monkeypatch.setattr(intervals, "CHUNK", 1000)
    difference, low, high, p = paired_difference([(base, other)], level, 300)
    assert max(sizes) <= 1000

    (draws,) = next(draw_videos([base], videos[:1], 0, 300))
    scores, label = (base.fidelity, other.fidelity), base.label
    if level == "frame":
        draws = draws[:, videos[0].of_frame]
    else:
        scores, label = [own.fidelity for own in videos], videos[0].label
    before, after = (ranking.auc(intervals.Sample(label, score, draws)) for score in scores)
    drawn = after - before
    assert difference == drawn[0]
    assert (low, high) == tuple(np.percentile(drawn[1:], [2.5, 97.5]))
    assert p == bootstrap_p(drawn[1:])


def test_a_plain_difference_is_found_among_many_cells():
    base = simulated(np.random.default_rng(0), frames=1)
    cells = [("base", base), *((f"cell {n}", shifted(base, 0.5)) for n in range(6))]
    rows = summarize([result(name, 0, own) for name, own in cells], 200)
    assert all(row["frame_p"] < 0.05 and row["video_p"] < 0.05 for row in rows[1:])
    without = summarize([result(name, 0, own) for name, own in cells[:2]], 0)
    assert without[1]["frame_p"] is None, "replicates are asked for, or there are none"


def test_replicates_are_drawn_in_blocks(monkeypatch):
    base = simulated(np.random.default_rng(0), videos=40, frames=2)
    monkeypatch.setattr(paired, "BLOCK", 100)
    blocks = [next(own) for own in draw_videos([base], [group_videos(base)], 0, 250)]
    assert [len(block) for block in blocks] == [101, 100, 50]
    assert (blocks[0][0] == 1).all()
    assert not (blocks[0][1:] == blocks[1]).all(axis=1).any()
    drawn = paired_difference([(base, shifted(base, 0.5))], "video", 250)
    assert drawn[3] == pytest.approx(2 / 251), "all replicates count"


def test_names_cannot_break_the_latex_table(tmp_path):
    row = dict.fromkeys(COLUMNS) | {"cell": "a^b ~ c_d & 5%", "seeds": 1}
    write([row], tmp_path / "ablation")
    latex = (tmp_path / "ablation.tex").read_text()
    assert r"a\textasciicircum{}b \textasciitilde{} c\_d \& 5\% & 1 & -- &" in latex


def test_half_an_interval_over_seeds():
    # Student's t for two degrees of freedom is 4.3027; the standard error of 1, 2, 3 is 1/sqrt(3).
    assert half_interval([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / 3**0.5)
    assert half_interval([1.0]) is None
    assert half_interval([1.0, None]) is None


def test_a_bar_in_a_name_does_not_shift_the_columns(tmp_path):
    write([dict.fromkeys(COLUMNS) | {"cell": "C 1|2"}], tmp_path / "ablation")
    lines = (tmp_path / "ablation.md").read_text().splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(COLUMNS) + 1}


def test_the_table_is_written_in_three_formats(tmp_path):
    tables = [simulated(np.random.default_rng(seed)) for seed in range(2)]
    results = [result("base", seed, own) for seed, own in enumerate(tables)]
    results += [
        result("quality_mapping off", seed, shifted(own, -0.3), 120.0)
        for seed, own in enumerate(tables)
    ]
    rows = summarize(results, replicates=400)
    assert [row["cell"] for row in rows] == ["base", "quality_mapping off"]
    assert rows[0]["frame_diff"] is None
    assert rows[1]["frame_diff"] < 0
    assert rows[1]["minutes"] == 2
    three = summarize([*results, *(replace(own, name="c") for own in results[2:])], replicates=400)
    assert three[1]["frame_p"] == three[2]["frame_p"] == min(1, 2 * rows[1]["frame_p"]), "Holm"
    assert rows[0]["seeds"] == 2
    write(rows, tmp_path / "ablation")
    with (tmp_path / "ablation.csv").open() as file:
        read = list(csv.DictReader(file))
    assert float(read[1]["video_diff"]) == rows[1]["video_diff"], "to the last digit"
    assert read[0]["video_diff"] == ""
    markdown = (tmp_path / "ablation.md").read_text().splitlines()
    assert len({line.count("|") for line in markdown}) == 1
    assert NONE in markdown[2]
    latex = (tmp_path / "ablation.tex").read_text()
    assert r"$\pm$ 95\%" in latex
    assert r"quality\_mapping off & 2 &" in latex
    assert latex.count(r"\\") == 3
    methods, by_method = summarize_methods(results)
    (method,) = methods
    entry = np.mean([own.metrics["by_method"][method]["frame_auc"] for own in results[:2]])
    assert by_method[0][method] == pytest.approx(entry)
    write_methods(methods, by_method, tmp_path / "methods.csv")
    for name in ("ablation.csv", "methods.csv"):
        assert b"\r" not in (tmp_path / name).read_bytes()
    with (tmp_path / "methods.csv").open() as file:
        assert float(next(csv.DictReader(file))[method]) == by_method[0][method]
    said = describe(rows)
    assert "mean of 2 seeds" in said
    assert "quality_mapping off: frame_auc" in said
