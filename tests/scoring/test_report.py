"""The page shows what the files hold, needs nothing from outside, and says what is missing."""

import csv
import json
import re
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from browsing import change_screen, cut_off, is_too_wide, open_browser, violations
from score_tables import EVIL, pictures, predictions

from deepfidelity_jax.detector.load import identify
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.experiments import leave_one_out, robustness, robustness_summary
from deepfidelity_jax.scoring.charts import (
    draw_quality,
    draw_roc,
    draw_scores,
    draw_training,
    format_number,
    read_curves,
)
from deepfidelity_jax.scoring.controls import CONTROLS, DEGRADATIONS, UNTOUCHED
from deepfidelity_jax.scoring.figure_charts import draw_risk_coverage, draw_targets
from deepfidelity_jax.scoring.metrics import summarize
from deepfidelity_jax.scoring.report import write_report
from deepfidelity_jax.training.checkpoint import Checkpoints


def add_evaluation(workdir, name, table, **more):
    folder = workdir / "eval" / name
    table.write_csv(folder / "predictions.csv")
    metrics = summarize(table, 0.5, "validation", replicates=50) | more
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return metrics


@pytest.fixture
def workdir(tmp_path) -> Path:
    config = {
        "model": {"variant": "tiny", "image_size": 64},
        "data": {"dataset": "faces", "dir": EVIL},
        "fidelity": {"fake": [0.0, 0.4], "real": [0.6, 1.0]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    lines = [{"step": i, "loss": 1 / i, "images_per_s": 50.0} for i in range(1, 600)]
    lines += [{"step": i, "val_frame_auc": 0.9, "val_loss": float("nan")} for i in (300, 600)]
    text = "\n".join(json.dumps(line) for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '\n{"step": 6', encoding="utf-8")
    return tmp_path


class Page(HTMLParser):
    """Tags and attributes of a page; fails on tags that are not closed in order."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def having(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.mark.slow
def test_page_shows_every_number_with_its_interval(workdir):
    metrics = add_evaluation(workdir, "faces", predictions())
    path = write_report(workdir, {"faces": pictures})
    assert path == workdir / "report" / "index.html"
    text = path.read_text(encoding="utf-8")
    for name in ("frame_auc", "video_auc", "ap", "video_ap"):
        assert f"{metrics[name]:.3f}" in text
        low, high = metrics["ci"][name]
        assert low == high or f"{low:.3f} to {high:.3f}" in text
    for name in ("frame_acc", "video_acc", "eer", "real_frame_acc"):
        assert f"{100 * metrics[name]:.1f}%" in text
    for method, entry in metrics["by_method"].items():
        assert method in text
        assert f"{entry['frame_auc']:.3f}" in text
    for third in metrics["by_quality"].values():
        assert f"{third['frame_auc']:.3f}" in text
    assert "0.500" in text
    assert "validation" in text
    assert "72 faces (36 real, 36 fake)" in text
    assert "24 videos (12 real, 12 fake)" in text
    assert f"real {metrics['fidelity_quality_spearman']['real']:+.2f}" in text


def test_page_needs_nothing_from_outside(workdir):
    add_evaluation(workdir, "faces", predictions())
    text = write_report(workdir, {"faces": pictures}).read_text(encoding="utf-8")
    page = Page(text)
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
    assert not page.having("script")
    assert not page.having("link")
    assert not re.search(r"https?:|@import|url\((?!#)", text)


@pytest.mark.slow
def test_page_is_accessible(workdir):
    add_evaluation(workdir, "faces", predictions())
    add_evaluation(workdir, "others", predictions(seed=1))
    text = write_report(workdir, {"faces": pictures}).read_text(encoding="utf-8")
    page = Page(text)
    assert page.having("html")[0]["lang"] == "en"
    assert all(attributes["alt"] for attributes in page.having("img"))
    assert all(attributes["aria-label"] for attributes in page.having("svg"))
    assert all(attributes["scope"] in ("col", "row") for attributes in page.having("th"))
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    targets = {attributes["href"] for _, attributes in page.tags if "href" in attributes}
    assert {name[1:] for name in targets if name.startswith("#")} <= set(names)


def test_names_from_files_stay_text(workdir):
    add_evaluation(workdir, "faces", predictions())
    text = write_report(workdir, {"faces": pictures}).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_faces_are_the_ends_of_each_class_one_of_a_video(workdir):
    table = predictions()
    add_evaluation(workdir, "faces", table)
    asked = []

    def remember(rows):
        asked.append(list(rows))
        return pictures(rows)

    page = Page(write_report(workdir, {"faces": remember}).read_text(encoding="utf-8"))
    assert len(page.having("img")) == 24
    for rows, kind, end in zip(asked, (1, 1, 0, 0), (max, min, min, max), strict=True):
        assert set(table.label[rows]) == {kind}
        assert table.fidelity[rows[0]] == end(table.fidelity[table.label == kind])
        assert len(set(table.video_id[rows])) == len(rows) == 6
        best_first = sorted(table.fidelity[rows], reverse=end is max)
        assert table.fidelity[rows].tolist() == best_first


@pytest.mark.slow
def test_the_page_and_the_functions_draw_the_same(workdir):
    table = predictions()
    metrics = add_evaluation(workdir, "faces", table)
    page = write_report(workdir, {}).read_text(encoding="utf-8")
    charts = [
        draw_roc(table, metrics),
        draw_scores(table, metrics),
        draw_scores(table, metrics, videos=True),
        draw_quality(table, metrics),
        draw_targets(table),
        draw_risk_coverage(table, metrics),
    ]
    curves = read_curves(workdir / "metrics.jsonl")
    charts += [draw_training(curves, what) for what in ("loss", "val_frame_auc")]
    assert draw_training(curves, "test_frame_auc") is None
    assert [chart.title for chart in charts] == re.findall(r"<figure>\s*<h3>(.*)</h3>", page)
    for chart in charts:
        assert chart.caption in page
        assert f'aria-label="{chart.alternative}"' in page
    point = charts[0].figure.axes[0].lines[-1].get_xydata()
    expected = [[1 - metrics["real_video_acc"], metrics["fake_video_acc"]]]
    np.testing.assert_allclose(point, expected)


@pytest.mark.slow
def test_each_dataset_has_its_section(workdir):
    add_evaluation(workdir, "faces", predictions())
    add_evaluation(workdir, "others", predictions(seed=1))
    text = write_report(workdir, {"faces": pictures}).read_text(encoding="utf-8")
    assert text.index('<section id="dataset-1">') < text.index('<section id="dataset-2">')
    assert "pictures were not available" in text.split('<section id="dataset-2">')[1]
    assert "pictures were not available" not in text.split('<section id="dataset-2">')[0]


def test_photographs_are_not_called_videos(workdir):
    add_evaluation(workdir, "faces", predictions(videos=40, frames=1))
    text = write_report(workdir, {}).read_text(encoding="utf-8")
    assert "40 pictures (20 real, 20 fake)" in text
    assert "Video AUC" not in text


@pytest.mark.slow
def test_known_quality_is_told_where_there_is_one(workdir):
    metrics = add_evaluation(workdir, "faces", predictions())
    assert "with that quality" not in write_report(workdir, {}).read_text(encoding="utf-8")
    metrics["fidelity_known_quality_spearman"] = {"real": 0.514, "fake": None}
    file = workdir / "eval" / "faces" / "metrics.json"
    file.write_text(json.dumps(metrics), encoding="utf-8")
    text = write_report(workdir, {}).read_text(encoding="utf-8")
    assert "fidelity with that quality: real +0.51, fake unknown" in text
    metrics["ci"] |= {f"fidelity_known_quality_spearman_{name}": None for name in ("real", "fake")}
    file.write_text(json.dumps(metrics), encoding="utf-8")
    text = write_report(workdir, {}).read_text(encoding="utf-8")
    assert "fidelity_known_quality_spearman_real" in text.split("All numbers")[-1]


def test_what_is_missing_is_left_out_and_said(tmp_path):
    text = write_report(tmp_path, {}).read_text(encoding="utf-8")
    for sentence in ("Nothing has been evaluated", "no metrics.jsonl", "no config.json"):
        assert sentence in text
    add_evaluation(tmp_path, "faces", predictions())
    (tmp_path / "eval" / "faces" / "predictions.csv").unlink()
    assert "predictions.csv is missing" in write_report(tmp_path, {}).read_text(encoding="utf-8")


@pytest.mark.parametrize("table", [predictions(label=0), predictions(videos=0)])
def test_a_missing_class_is_said(tmp_path, table):
    add_evaluation(tmp_path, "faces", table)
    text = write_report(tmp_path, {"faces": pictures}).read_text(encoding="utf-8")
    Page(text)
    assert "There is no ROC curve: there are no" in text


@pytest.mark.slow
def test_same_files_same_bytes(workdir):
    add_evaluation(workdir, "faces", predictions())
    first = write_report(workdir, {"faces": pictures}).read_bytes()
    assert write_report(workdir, {"faces": pictures}).read_bytes() == first


@pytest.mark.slow
def test_file_names_that_are_no_text_do_not_stop_it(workdir):
    table = predictions()
    table.path[:] = "byte\udcff.png"
    add_evaluation(workdir, "faces", table)
    assert "byte?.png" in write_report(workdir, {"faces": pictures}).read_text(encoding="utf-8")


def test_damaged_files_are_named(workdir):
    add_evaluation(workdir, "faces", predictions())
    with pytest.raises(ValueError, match="asked for 6 pictures, got 0"):
        write_report(workdir, {"faces": lambda rows: []})
    (workdir / "eval" / "faces" / "metrics.json").write_text('{"frame_auc": 1}', encoding="utf-8")
    with pytest.raises(InputError, match=r"metrics\.json lacks .*n_frames"):
        write_report(workdir, {})
    (workdir / "metrics.jsonl").write_text('half\n{"step": 1, "loss": 1}\n', encoding="utf-8")
    (workdir / "eval" / "faces" / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 1"):
        write_report(workdir, {})
    (workdir / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        write_report(workdir, {})


def write_ablation(workdir, *cells):
    """As `experiments.ablation_table` writes it: the base, and a cell for each name."""
    parts = ("auc", "auc_half", "diff", "low", "high", "p")
    names = [f"{level}_{part}" for level in ("frame", "video") for part in parts]
    names += ["spearman_real", "spearman_fake", "minutes", "peak_mib"]
    with (workdir / "ablation.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["cell", "seeds", *names])
        writer.writeheader()
        base = {"cell": "base", "seeds": 1, "frame_auc": 0.75, "minutes": 2.25}
        values = {name: 0.109375 + place for place, name in enumerate(names)}
        writer.writerows([base, *({"cell": cell, "seeds": 1} | values for cell in cells)])


def test_an_ablation_is_shown_cell_by_cell_whatever_a_cell_is_called(workdir):
    write_ablation(workdir, "C 1|2", "C a/b")
    text = write_report(workdir, {}).read_text(encoding="utf-8")
    rows = re.findall(r"<tr>\s*<th scope=\"row\">(.*?)</th>(.*?)</tr>", text, re.DOTALL)
    found = {name: re.findall("<td>(.*?)</td>", row) for name, row in rows}
    assert found["base"] == ["0.7500", *["–"] * 13, "2.2", "–"]
    head = re.findall(r"<tr>\s*<th scope=\"col\">Cell</th>.*?</tr>", text, re.DOTALL)[0]
    assert head.count("<th") == 1 + len(found["base"])
    assert found["C 1|2"] == found["C a/b"]
    assert found["C a/b"][:6] == ["0.1094", "1.1094", "+2.1094", "+3.1094", "+4.1094", "5.109"]
    assert found["C a/b"][-4:] == ["12.109", "13.109", "14.1", "15"]
    assert "bootstrap over seeds" not in text, "`paired.compare_seeds` draws videos or people"
    assert "Student's over seeds" in text


def write_left_out(workdir, *, controls):
    """As `experiments.leave_one_out` writes it; earlier versions wrote no controls."""
    entry = dict.fromkeys(("frame_auc", "video_auc", "fake_frame_acc"), 0.75) | {
        "n_frames": 8, "n_videos": 8, "ci": {"frame_auc": [0.5, 0.9], "video_auc": None},
    }  # fmt: skip
    measured = {name: {"called_fake": 0.0} for name in (UNTOUCHED, *DEGRADATIONS)}
    measured |= {name: {"called_fake": 0.0, "class_auc": 0.625} for name in CONTROLS}
    measured["JPEG 50"] = {"called_fake": 0.125, "class_auc": 0.5}
    found = {"swap": {"by_method": {"swap": entry}, "controls": measured if controls else {}}}
    leave_one_out.write_table(found, workdir / "leave_one_out.csv")


def test_the_controls_of_each_run_are_shown(workdir):
    write_left_out(workdir, controls=True)
    text = write_report(workdir, {}).read_text(encoding="utf-8")
    Page(text)
    table = text.split('aria-label="Real faces changed without forgery"')[1].split("</table>")[0]
    assert re.findall(r'<th scope="col">(.*?)</th>', table) == ["Left out", "swap"]
    titles = re.findall(r'<th scope="row">(.*?)</th>', table)
    assert titles[:3] == ["Called fake, untouched", "Called fake, blur of 3 px",
                          "Called fake, JPEG 50"]  # fmt: skip
    assert titles[-1] == "Class AUC, smoothed inside"
    assert "no metrics.jsonl" not in text, "each run has curves of its own"
    shown = re.findall("<td>(.*?)</td>", table)
    assert shown == ["0.0%", "0.0%", "12.5%", *["0.0%"] * 4, *["0.62"] * 4]


@pytest.mark.parametrize("earlier", [True, False])
def test_a_table_without_controls_is_shown_as_it_is(workdir, earlier):
    write_left_out(workdir, controls=False)
    path = workdir / "leave_one_out.csv"
    if earlier:
        lines = path.read_text().splitlines()
        path.write_text("".join(",".join(line.split(",")[:10]) + "\n" for line in lines))
    text = write_report(workdir, {}).read_text(encoding="utf-8")
    assert "Methods left out of training" in text
    assert "Called fake, untouched" not in text


def test_the_frames_of_a_video_are_said(tmp_path):
    sampling = {"frames": 32, "spacing": "even", "least": 3, "most": 3}
    found = add_figures(tmp_path, "faces", predictions(), frame_sampling=sampling)
    text = write_report(tmp_path, {}).read_text(encoding="utf-8")
    assert "Up to 32 evenly spaced frames of each video were searched for faces." in text
    one, every = (format_number(found["by_frames"][n]["video_auc"]) for n in ("1", "all"))
    assert f"{one} from 1, {every} from all." in text
    add_figures(tmp_path, "faces", predictions(frames=1))
    assert "evenly spaced" not in write_report(tmp_path, {}).read_text(encoding="utf-8")


@pytest.mark.parametrize("place", ["cells/base/seed_0", "cells/C_a/b/seed_0", "without_a/b"])
def test_what_makes_a_part_optimistic_is_said_wherever_it_is(workdir, place):
    write_ablation(workdir)
    (workdir / place / "eval" / "faces").mkdir(parents=True)
    found = {"checkpoint_picked_here": True}
    (workdir / place / "eval" / "faces" / "metrics.json").write_text(json.dumps(found))
    text = write_report(workdir, {}).read_text(encoding="utf-8")
    assert "These figures are optimistic:" in text


def add_figures(workdir, name, table, **more):
    """An evaluation without the predictions that charts are drawn from."""
    metrics = add_evaluation(workdir, name, table, **more)
    (workdir / "eval" / name / "predictions.csv").unlink()
    return metrics


def add_robustness(workdir, name, detector):
    """As `experiments.robustness` writes it; two grades."""
    place = workdir / "robustness" / name
    place.mkdir(parents=True)
    (place / "made_from.json").write_text(
        json.dumps({"detector": detector} if detector else "stamp")
    )
    row = dict.fromkeys(robustness.COLUMNS) | {"degradation": "blur", "n_frames": 8}
    rows = [
        row | {"grade": grade, "strength": f"{grade} px", "frame_auc": 1 - grade / 10}
        for grade in (1, 4)
    ]
    robustness.write_table(rows, place / "table.csv")
    robustness_summary.write(rows, place / "overall.csv")
    (place / "curves.svg").write_text('<svg viewBox="0 0 1 1"></svg>')
    (place / "examples.jpg").write_bytes(pictures([0])[0])


def test_mean_and_worst_of_degraded_faces_are_shown(tmp_path):
    add_figures(tmp_path, "faces", predictions(videos=8, frames=1))
    add_robustness(tmp_path, "faces", "ours")
    text = write_report(tmp_path, {}).read_text(encoding="utf-8")
    assert "frame auc 0.750 on average, at worst 0.600 (blur, 4 px)." in text
    (tmp_path / "robustness" / "faces" / "overall.csv").unlink()  # an earlier version wrote none
    assert "on average" not in write_report(tmp_path, {}).read_text(encoding="utf-8")


def test_figures_of_another_detector_are_left_out_and_named(tmp_path):
    """As after a new training or a new fit. Earlier versions did not note the detector."""
    with Checkpoints(tmp_path / "checkpoints", 1) as checkpoints:
        checkpoints.save(0, {"ema": jnp.zeros(2)}, {}, None)
    (tmp_path / "fidelity.npz").write_bytes(b"fitted")
    own, table = identify(tmp_path), predictions(videos=8, frames=1)
    for name, more in (("ours", {"detector": own}), ("x", {"detector": "other"}), ("old", {})):
        add_figures(tmp_path, name, table, **more)
    for name, detector in (("ours", "other"), ("old", None)):
        add_robustness(tmp_path, name, detector)

    def read():
        text = write_report(tmp_path, {}).read_text(encoding="utf-8")
        shown = re.findall(r'<li><a href="#dataset-\d+">(.*?)</a>', text)
        named = re.findall("now in this workdir: (.*?)\\. ", text)
        return (
            shown,
            named,
            text.count("an earlier version made them"),
            text.count('aria-label="Degraded faces"'),
        )

    assert read() == (["old", "ours"], ["eval/x, robustness/ours"], 2, 1)
    (tmp_path / "fidelity.npz").write_bytes(b"fitted again")
    assert identify(tmp_path) != own
    assert read() == (["old"], ["eval/ours, eval/x, robustness/ours"], 2, 1)
    (tmp_path / "fidelity.npz").unlink()
    assert read() == (["old", "ours", "x"], [], 0, 2), "nothing to compare with"


def test_several_datasets_are_compared_by_method(tmp_path):
    table = predictions(videos=8, frames=1)
    first = add_figures(tmp_path, "first", table)
    heading = "<h2>Each dataset by forgery method</h2>"
    assert heading not in write_report(tmp_path, {}).read_text(encoding="utf-8")
    other = replace(table, method=["new" if name != "original" else name for name in table.method])
    second = add_figures(tmp_path, "second", other)
    text = write_report(tmp_path, {}).read_text(encoding="utf-8").split(heading)[1]
    head, *rows = re.findall("<tr>(.*?)</tr>", text.split("</table>")[0])
    methods = [*first["by_method"], "new"]
    assert re.findall(">([^<>]+)</th>", head)[2:] == [escape(name) for name in methods]
    for row, found in zip(rows, (first, second), strict=True):
        aucs = [found["by_method"].get(name, {}).get("frame_auc") for name in methods]
        shown = ["–" if auc is None else f"{auc:.3f}" for auc in (found["frame_auc"], *aucs)]
        assert re.findall(">([^<>]+)</td>", row) == shown


@pytest.mark.slow
def test_a_browser_shows_it_at_every_width_light_and_dark(workdir, tmp_path_factory):
    """Nothing is cut off, the page as a whole does not scroll sideways, and print is light."""
    add_evaluation(workdir, "faces", predictions(videos=8, frames=2))
    write_ablation(workdir, "symmetry off, C tenfold")
    methods = ("reenactment", "resynthesis", "warped_swap", "whole_face", "part_swap", "morph")
    (workdir / "ablation_methods.csv").write_text(
        f"cell,seeds,{','.join(methods)}\nbase,1{',1.0' * len(methods)}\n"
    )
    path = write_report(workdir, {"faces": pictures})
    driver = open_browser(tmp_path_factory.mktemp("browser"))
    try:
        driver.get(path.as_uri())
        driver.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
        for width, scheme in ((1280, "light"), (390, "dark")):
            change_screen(driver, width, scheme)
            assert not is_too_wide(driver), width
            assert cut_off(driver) == [], width
            assert violations(driver) == [], scheme
        back = "return getComputedStyle(document.body).backgroundColor"
        assert driver.execute_script(back) != "rgb(255, 255, 255)"
        change_screen(driver, 1280, "dark", "print")
        assert driver.execute_script(back) == "rgb(255, 255, 255)"
    finally:
        driver.quit()
