"""What is drawn is what was scored."""

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from score_tables import pictures, predictions, table

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.scoring.charts import (
    COLOURS,
    POINTS,
    draw_faces,
    draw_quality,
    draw_roc,
    draw_scores,
    draw_training,
    find_mistakes,
    format_correlations,
    format_number,
    one_per_video,
    read_curves,
)
from deepfidelity_jax.scoring.metrics import summarize
from deepfidelity_jax.scoring.table import group_videos


def test_mistakes_are_the_wrong_ones_the_worst_first():
    table = predictions()
    rows = find_mistakes(table, 0.5, count=100)
    wrong = (table.fidelity >= 0.5) != (table.label == 1)
    assert rows
    assert all(wrong[rows])
    assert set(table.video_id[rows]) == set(table.video_id[wrong])
    assert len(set(table.video_id[rows])) == len(rows), "one of a video"
    distance = np.abs(table.fidelity - 0.5)
    assert distance[rows].tolist() == sorted(distance[rows], reverse=True)
    for row in rows:
        assert distance[row] == distance[wrong & (table.video_id == table.video_id[row])].max()
    assert find_mistakes(table, 0.5, count=2) == rows[:2]
    separate = replace(table, fidelity=table.label.astype(np.float32))
    assert find_mistakes(separate, 0.5) == []


def test_faces_are_drawn_with_their_scores():
    table = predictions()
    figure = draw_faces(table, [5, 0, 7], pictures)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 3
    for axes, row, number in zip(shown, (5, 0, 7), (1, 2, 3), strict=True):
        label = "real" if table.label[row] else "fake"
        assert axes.get_title() == f"{number}: {label}, {table.fidelity[row]:.3f}"
        assert np.abs(axes.images[0].get_array().astype(int) - row).max() <= 2


def test_the_roc_runs_through_the_threshold():
    """Reals .9 .8 .6 .3, fakes .7 .4 .2 .1, at 0.5: one false alarm of 4, 3 fakes of 4 caught."""
    scored = table([1, 1, 1, 1, 0, 0, 0, 0], [0.9, 0.8, 0.6, 0.3, 0.7, 0.4, 0.2, 0.1])
    chart = draw_roc(scored, summarize(scored, 0.5, "fixed", replicates=2))
    chance, curve, dot = chart.figure.axes[0].lines
    assert chance.get_xydata().tolist() == [[0, 0], [1, 1]]
    np.testing.assert_allclose(dot.get_xydata(), [[0.25, 0.75]])
    assert [0.25, 0.75] in curve.get_xydata().tolist()
    assert "0.812 for pictures" in chart.caption
    with pytest.raises(ValueError, match="both classes"):
        draw_roc(
            table([0, 0], [0.1, 0.2]), {"frame_auc": None, "video_auc": None, "threshold": 0.5}
        )


def test_histograms_are_shares_of_a_class():
    scored = predictions()
    chart = draw_scores(scored, {"threshold": 0.5}, videos=True)
    assert chart.title == "Fidelity of videos, by class"
    (axes,) = chart.figure.axes
    videos = group_videos(scored)
    bins = np.linspace(min(0, videos.fidelity.min()), max(1, videos.fidelity.max()), 41)
    shown = {group[0].get_label(): group for group in axes.containers}
    assert shown.keys() == {"fake", "real"}
    for kind, name in enumerate(("fake", "real")):
        own = videos.fidelity[videos.label == kind]
        expected = np.histogram(own, bins)[0] / len(own)
        heights = [bar.get_height() for bar in shown[name]]
        np.testing.assert_allclose(heights, expected, atol=1e-6)
        assert to_hex(shown[name][0].get_facecolor()) == COLOURS[name]
    assert axes.lines[-1].get_xdata()[0] == 0.5
    real = scored.fidelity[scored.label == 1]
    share = f"{100 * np.mean(real >= 0.5):.1f}% of the real ones"
    assert share in draw_scores(scored, {"threshold": 0.5}).alternative


def test_quality_without_a_value_is_not_drawn():
    scored = predictions()
    quality = scored.quality.copy()
    quality[:10] = np.nan
    scored = replace(scored, quality=quality)
    spearman = {"real": 0.514, "fake": -0.2}
    chart = draw_quality(scored, {"fidelity_quality_spearman": spearman})
    (axes,) = chart.figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("raw quality of the face", "fidelity")
    drawn = {to_hex(points.get_facecolor()[0]): points for points in axes.collections}
    assert len(drawn) == 2
    for kind, name in enumerate(("fake", "real")):
        own = (scored.label == kind) & np.isfinite(quality)
        expected = np.stack([quality[own], scored.fidelity[own]], axis=1)
        np.testing.assert_allclose(drawn[COLOURS[name]].get_offsets(), expected)
    assert "real +0.51, fake −0.20" in chart.caption


def test_numbers_as_people_read_them():
    assert format_number(0.98765, "video_auc") == "0.988"
    assert format_number(0.98765, "real_frame_acc") == "98.8%"
    assert format_number(0.5, "video_tpr_at_fpr_1pct") == "50.0%"
    assert format_number(0.031, "eer") == "3.1%"
    assert format_number(None) == "–"
    assert format_correlations({"real": None, "fake": -0.5}) == "real unknown, fake −0.50"


def test_the_first_row_of_each_video():
    scored = table([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1], ["a", "a", "b", "b"])
    assert one_per_video(scored, np.array([3, 1, 0, 2])) == [3, 1]


def write_curves(path, entries, end="\n"):
    path.write_text("\n".join(json.dumps(entry) for entry in entries) + end, encoding="utf-8")
    return path


def test_a_resumed_run_has_one_curve(tmp_path):
    """Steps 2 and 3 were run twice; half a line is what a kill leaves."""
    entries = [{"step": s, "loss": float(v)} for s, v in ((1, 9), (2, 8), (3, 7), (2, 5), (3, 4))]
    path = write_curves(tmp_path / "a.jsonl", [*entries, {"step": 4, "name": "x"}], '\n{"step": 5')
    curves = read_curves(path)
    assert list(curves) == ["loss"]
    steps, values = curves["loss"]
    assert steps.tolist() == [1, 2, 3]
    assert values.tolist() == [9, 5, 4]
    path.write_text('half\n{"step": 1, "loss": 1}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl, line 1"):
        read_curves(path)


def test_long_curves_are_averaged(tmp_path):
    entries = [{"step": step, "loss": float(step)} for step in range(4 * POINTS)]
    curves = read_curves(write_curves(tmp_path / "a.jsonl", entries))
    (line,) = draw_training(curves, "loss").figure.axes[0].lines
    assert line.get_xydata()[:2].tolist() == [[1.5, 1.5], [5.5, 5.5]]
    assert len(line.get_xdata()) == POINTS
    assert draw_training(curves, "val_frame_auc") is None


def test_curves_on_one_chart_are_of_one_quantity(tmp_path):
    """The sum of all terms is drawn alone; validation has the class term, beside that of training.

    A chart of `loss` with `val_loss` would show a gap that is none.
    """
    entries = [{"step": step, "loss": 3.0, "class": 0.6, "token": 0.4} for step in (1, 2)]
    entries += [{"step": 2, "val_loss": 0.5, "val_frame_auc": 0.75}]
    curves = read_curves(write_curves(tmp_path / "a.jsonl", entries))
    (alone,) = draw_training(curves, "loss").figure.axes[0].lines
    assert alone.get_ydata().tolist() == [3, 3]
    chart = draw_training(curves, "class")
    shown = {line.get_label(): line.get_ydata().tolist() for line in chart.figure.axes[0].lines}
    assert shown == {"training": [0.6, 0.6], "validation": [0.5]}
    assert "At the end: training 0.6, validation 0.5." in chart.caption
    assert "At the end: frame AUC 0.75." in draw_training(curves, "val_frame_auc").caption
