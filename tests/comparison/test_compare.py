"""Rows are matched by what they are; differences are those of the scores; nothing is dropped."""

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from deepfidelity_jax.comparison.compare import compare, match
from deepfidelity_jax.comparison.prediction_files import Scores, read_all
from deepfidelity_jax.comparison.tables import to_csv, to_markdown
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import LABELS
from deepfidelity_jax.statistics import delong, paired


def scores(name, label, score, video=None, path=None, threshold=0.5, **more):
    path = [f"{i}.png" for i in range(len(label))] if path is None else path
    columns = {"path": path} | ({} if video is None else {"video_id": video})
    return Scores(
        name, columns, video, np.array(label), np.array(score, float), "real", threshold, "told",
        **more,
    )  # fmt: skip


def three(videos=120, frames=1, seed=0):
    """Three detectors: a good one, and two that are worse alike."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(videos) % 2, frames)
    common = np.repeat(rng.normal(size=videos), frames)
    video = None if frames == 1 else [f"v{i}" for i in np.repeat(np.arange(videos), frames)]
    return [
        scores(name, label, good * label + common + 0.3 * rng.normal(size=len(label)), video)
        for name, good in (("a", 2.5), ("b", 1.2), ("c", 1.2))
    ]


def test_figures_and_tests_are_those_of_the_scores():
    files = three()
    found = compare(files)
    assert list(found.levels) == ["picture"]
    level = found.levels["picture"]
    label = files[0].label
    for file, entry in zip(files, level["files"], strict=True):
        assert entry["auc"] == pytest.approx(roc_auc_score(label, file.score))
        assert entry["accuracy"] == pytest.approx(np.mean((file.score >= 0.5) == label))
        assert entry["auc_ci_from"] == "DeLong"
        assert entry["auc_ci"][0] < entry["auc"] < entry["auc_ci"][1]
    p = []
    for pair, (i, j) in zip(level["pairs"], ((0, 1), (0, 2), (1, 2)), strict=True):
        expected = delong.compare(label, files[i].score, files[j].score)
        p.append(pair["delong_p"])
        assert pair["delong_p"] == pytest.approx(expected.p)
        right = [(file.score >= 0.5) == label for file in (files[i], files[j])]
        exact = paired.mcnemar(*right)
        assert (pair["only_a_right"], pair["only_b_right"]) == exact[:2]
        assert pair["mcnemar_p"] == pytest.approx(exact.p)
    corrected = [pair["delong_p_holm"] for pair in level["pairs"]]
    np.testing.assert_allclose(corrected, multipletests(p, method="holm")[1])
    wins = [(entry["wins"], entry["ties"], entry["losses"]) for entry in level["files"]]
    assert wins[0] == (2, 0, 0)
    ties = int(corrected[2] >= 0.05)
    assert wins[1][1] == wins[2][1] == ties
    assert wins[1][0] + wins[2][0] == 1 - ties
    assert all(sum(own) == 2 for own in wins)


def test_alike_frames_leave_the_tests_to_the_bootstrap():
    files = three(videos=60, frames=4)
    found = compare(files)
    assert list(found.levels) == ["frame", "video"]
    frame, video = found.levels["frame"], found.levels["video"]
    assert (frame["n"], frame["clusters"], video["n"]) == (240, 60, 60)
    for pair in frame["pairs"]:
        assert pair["delong_p"] is pair["mcnemar_p"] is None
        assert pair["bootstrap_p"] is not None
    assert all(pair["delong_p"] is not None for pair in video["pairs"])
    means = [file.score.reshape(60, 4).mean(axis=1) for file in files]
    label = files[0].label.reshape(60, 4)[:, 0]
    for entry, mean in zip(video["files"], means, strict=True):
        assert entry["auc"] == pytest.approx(roc_auc_score(label, mean))
    # Frames of a video are no evidence of their own: the interval hardly narrows.
    widths = [np.diff(level["pairs"][0]["ci"])[0] for level in (frame, video)]
    assert widths[0] > 0.6 * widths[1]


def test_forgeries_of_one_video_leave_the_tests_to_the_bootstrap():
    """One file names the originals; the others need not."""
    first, second, third = three()
    first = replace(first, sources=[f"video/{number // 6}" for number in range(120)])
    level = compare([second, first]).levels["picture"]
    assert (level["n"], level["clusters"], level["test"]) == (120, 20, "bootstrap")
    assert level["pairs"][0]["delong_p"] is None
    third = replace(third, sources=[f"person/{number // 12}" for number in range(120)])
    assert compare([second, first, third]).levels["picture"]["clusters"] == 10


def test_photographs_of_one_person_are_not_independent(tmp_path):
    """As other people's files name them; what else these files hold is named once."""
    rng, paths = np.random.default_rng(0), []
    for name in "ab":
        lines = ["path,label,score,person,camera"]
        lines += [f"{i}.png,{LABELS[i % 2]},{i % 2 + rng.normal()},{i // 20},x" for i in range(200)]
        paths.append(str(tmp_path / f"{name}.csv"))
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    found = compare(read_all(paths, ["real"], [0.5], None))
    level = found.levels["picture"]
    assert (level["independent"], level["clusters"], level["test"]) == (False, 10, "bootstrap")
    assert level["pairs"][0]["delong_p"] is level["pairs"][0]["mcnemar_p"] is None
    unused = "columns that are not used: camera of {}; camera of {}"
    assert found.notes == [
        unused.format(*paths), "no file has video_id: every row counts as a video"
    ]  # fmt: skip


def test_a_plain_difference_is_found_among_many_files():
    """11 files make 55 pairs."""
    label = np.repeat(np.arange(60) % 2, 2)
    video = [f"v{i // 2}" for i in range(120)]
    rng = np.random.default_rng(0)
    files = [
        scores(f"f{n}", label, 3 * label * (n == 0) + rng.normal(size=120), video)
        for n in range(11)
    ]
    found = compare(files)
    level = found.levels["frame"]
    assert level["replicates"] == 11_000
    best = level["files"][0]
    assert (level["test"], best["wins"], best["ties"]) == ("bootstrap", 10, 0)
    assert "The bootstrap has 11000 replicates" in to_markdown(found)


def test_a_group_that_varies_within_a_video_is_noted():
    files = three(videos=40, frames=2)
    pose, age = ["front", "side"] * 40, np.repeat(["old", "young", "", "old"], 20).tolist()
    light = ["day", "day", "", "day", *["day"] * 76]
    groups = {"group_pose": pose, "group_age": age, "group_light": light}
    found = compare([replace(files[0], groups=groups), files[1]])
    assert found.levels["frame"]["groups"].keys() == groups.keys()
    assert found.levels["video"]["groups"].keys() == {"group_age"}
    assert found.notes == [
        "group_pose is left out per video: video_id 'v0' has 'front' and 'side'",
        "group_light is left out per video: video_id 'v1' has '(not given)' and 'day'",
    ]


def test_an_interval_without_width_says_so():
    label = np.arange(40) % 2
    level = compare([scores(name, label, label) for name in "ab"]).levels["picture"]
    assert level["files"][0]["auc_ci"] == [1, 1]
    assert level["files"][0]["auc_ci_from"] == "DeLong: too narrow, variance 0"
    assert level["pairs"][0]["ci"] == [0, 0]
    assert level["pairs"][0]["ci_note"] == "all replicates are equal"
    assert (level["pairs"][0]["delong_p"], level["test"]) == (1, "delong")


def test_where_delong_has_no_variance_the_bootstrap_decides():
    """One perfect, one constant, on few pictures; a third makes other pairs, which follow."""
    label = np.arange(12) % 2
    found = compare([
        scores("perfect", label, label), scores("constant", label, np.zeros(12)),
        scores("fair", label, label + np.arange(12) // 2 % 3),
    ])  # fmt: skip
    level = found.levels["picture"]
    (pair, *_), (perfect, constant, _) = level["pairs"], level["files"]
    assert pair["delong_p"] is pair["delong_p_holm"] is None
    assert pair["delong_note"] == "none: variance 0"
    assert 0 < pair["bootstrap_p"] < 0.05
    assert pair["ci_note"] == "all replicates are equal"
    assert level["test"] == "bootstrap"
    assert pair["better"] == "perfect"
    assert all((other["better"] is None) == (other["bootstrap_p_holm"] >= 0.05)
               for other in level["pairs"])  # fmt: skip
    assert constant["auc"] == 0.5
    assert perfect["auc_ci_from"] == constant["auc_ci_from"] == "DeLong: too narrow, variance 0"
    text, rows = to_markdown(found), list(csv.DictReader(io.StringIO(to_csv(found))))
    assert "| perfect | constant | +0.5000 | 0.5000 to 0.5000; all replicates are equal |" in text
    assert "| none: variance 0 |" in text
    assert "left out" not in text, "but for this pair, the units are independent"
    (row,) = [own for own in rows if own["figure"] == "delong_p" and own["other"] == "constant"]
    assert (row["value"], row["from"]) == ("", "none: variance 0")


def test_the_bootstrap_is_paired():
    """Detectors that differ by little but always: the interval of the difference excludes 0."""
    rng = np.random.default_rng(2)
    label = np.arange(200) % 2
    common = rng.normal(size=200)
    first = scores("a", label, common + 1.0 * label)
    second = scores("b", label, common + 0.8 * label)
    level = compare([first, second]).levels["picture"]
    low, high = level["pairs"][0]["ci"]
    assert 0 < low < high
    one, other = (entry["auc_ci"] for entry in level["files"])
    assert one[0] < other[1], "each alone, they overlap"


def test_rows_in_another_order_are_the_same_rows():
    files = three()
    order = np.random.default_rng(1).permutation(120)
    path = [files[1].columns["path"][i] for i in order]
    moved = scores("b", files[1].label[order], files[1].score[order], path=path)
    before, after = (compare([files[0], other]).levels["picture"] for other in (files[1], moved))
    assert before["pairs"] == after["pairs"]


def test_rows_that_one_side_lacks_are_counted_and_named():
    files = three()
    fewer = scores("b", files[1].label[3:], files[1].score[3:], path=files[1].columns["path"][3:],
                   unscored=["x.png"])  # fmt: skip
    found = compare([files[0], fewer])
    first, second = found.matching
    assert (first["rows"], first["used"], first["only_here"], first["lacking"]) == (120, 117, 3, 0)
    assert (second["rows"], second["used"], second["lacking"], second["unscored"]) == (
        118,
        117,
        3,
        1,
    )
    assert second["examples"] == ["0.png", "1.png", "2.png"]
    assert found.levels["picture"]["n"] == 117


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (
            scores("b", [1, 0, 0], [0.1, 0.2, 0.3]),
            "a and b disagree on 2 of 3 labels: 0.png is fake",
        ),
        (scores("b", [0, 1, 0], [1, 2, 3], path=["x", "y", "z"]), "a begins with 0.png; b begins"),
        (scores("b", [0, 1, 0], [1, 2, 3], path=["0.png", "1.png", "1.png"]), "b has several rows"),
        (scores("b", [0], [1], path=["0.png"]), "all 1 common rows are fake"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(second, told):
    with pytest.raises(InputError, match=re.escape(told)) as caught:
        compare([scores("a", [0, 1, 0], [0.1, 0.2, 0.3]), second])
    assert "\n" not in str(caught.value)


def test_videos_must_be_the_same_and_of_one_label():
    label = [0, 0, 1, 1]
    first = scores("a", label, label, video=["u", "u", "v", "v"])
    with_path = scores("c", label, label)
    assert match([first, with_path]).video.tolist() == [0, 0, 1, 1]
    other = scores("b", label, label, video=["u", "w", "v", "v"])
    with pytest.raises(InputError, match="other videos"):
        match([first, other, with_path])
    mixed = scores("a", label, label, video=["u", "v", "v", "w"])
    with pytest.raises(InputError, match="video_id 'v' of a has rows of both labels"):
        match([mixed, with_path])


def test_without_a_threshold_there_is_no_verdict():
    files = three()
    blind = scores("b", files[1].label, files[1].score, threshold=None)
    level = compare([files[0], blind]).levels["picture"]
    assert level["files"][1]["accuracy"] is None
    assert level["pairs"][0]["mcnemar_p"] is level["pairs"][0]["only_a_right"] is None
    assert level["pairs"][0]["delong_p"] is not None


def test_few_videos_have_no_interval_and_no_test():
    files = [scores(name, [0, 1] * 4, np.arange(8) % 5) for name in "ab"]
    level = compare(files).levels["picture"]
    assert level["files"][0]["auc_ci"] is level["pairs"][0]["ci"] is None
    assert level["pairs"][0]["delong_p"] is level["pairs"][0]["bootstrap_p"] is None
    assert level["files"][0]["ties"] == 1


def test_groups_have_the_files_own_threshold():
    label = np.arange(80) % 2
    rng = np.random.default_rng(0)
    group = ["a", "a", "b", "b"] * 20
    turned = Scores(
        "t", {"path": [f"{i}.png" for i in range(80)]}, None, label,
        np.round(label + rng.normal(size=80), 1), "fake", -0.5, "told", {"group_x": group},
    )  # fmt: skip
    plain = scores("p", label, label + rng.normal(size=80))
    found = compare([turned, plain]).levels["picture"]["groups"]["group_x"]["t"]["groups"]
    for name, entry in found.items():
        reals = turned.score[(np.array(group) == name) & (label == 1)]
        assert entry["fpr"] == pytest.approx(np.mean(~turned.calls_real(reals)))
