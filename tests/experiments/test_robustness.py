"""A detector under graded degradations: choice of faces, table, resumption, report."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import trees
from conftest import assert_told
from score_tables import simulated, table

from deepfidelity_configs import default
from deepfidelity_jax.experiments import robustness
from deepfidelity_jax.experiments.robustness import choose, describe
from deepfidelity_jax.experiments.robustness_summary import overall
from deepfidelity_jax.experiments.source_videos import KIND
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.images import h264
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.records.schema import REAL, Records
from deepfidelity_jax.scoring import metrics
from deepfidelity_jax.scoring.table import Predictions


def settings(**options):
    config = default.get_config()
    config.eval.update(options)
    return config


def test_faces_are_chosen_evenly_from_both_classes():
    records = [
        {"label": label, "video_id": f"{label}-{video}", "frame": frame}
        for label in (0, 1) for video in range(250) for frame in range(9)
    ]  # fmt: skip
    chosen = choose(records)
    assert len(chosen) == 2 * robustness.VIDEOS * robustness.FRAMES
    assert {own["label"] for own in chosen} == {0, 1}
    assert {own["frame"] for own in chosen} == {0, 2, 4, 6}
    assert len({own["video_id"] for own in chosen}) == 2 * robustness.VIDEOS
    assert choose(records[:20]) == [*records[0:9:9], *choose(records[:20])[1:]]


def test_frames_are_taken_and_degraded_in_order_of_time(monkeypatch):
    """Records are shuffled."""
    rng = np.random.default_rng(0)
    records = [
        {"label": label, "video_id": f"{label}-{video}", "frame": frame}
        for label in (0, 1) for video in range(3) for frame in range(9)
    ]  # fmt: skip
    rng.shuffle(records)
    chosen = choose(records)
    assert {own["frame"] for own in chosen} == {0, 2, 4, 6}
    seen = []

    def change(faces, kind, grade, name):
        seen.append([int(face[0, 0, 0]) for face in faces])
        return [face + 100 for face in faces]

    monkeypatch.setattr(robustness, "change", change)
    faces = [np.full((2, 2, 3), own["frame"], np.uint8) for own in chosen]
    changed = robustness.degrade(chosen, faces, "H.264", 1)
    assert seen == [[0, 2, 4, 6]] * 6
    assert [face[0, 0, 0] - 100 for face in changed] == [own["frame"] for own in chosen]


def test_the_text_names_the_worst():
    row = dict.fromkeys(robustness.COLUMNS)
    untouched = row | {"degradation": "untouched", "grade": 0, "n_frames": 8, "n_videos": 4,
                       "frame_auc": 0.9, "false_alarms": 0.05, "uncertain_real": 0.2}  # fmt: skip
    rows = [untouched] + [
        row | {"degradation": kind, "grade": grade, "strength": f"s{grade}",
               "frame_auc": 0.9 - 0.1 * grade, "false_alarms": 0.1 * grade + (kind == "b") * 0.05}
        for kind in "ab" for grade in range(1, 6)
    ]  # fmt: skip
    said = describe(rows, Calibration(-5.0, 0.5, "validation", fake_below=0.3))
    assert "frame_auc: mean 0.600, worst 0.400 (a, s5)" in said
    assert "real called fake: mean 0.325, worst 0.550 (b, s5)" in said
    assert "fake: fidelity below 0.3000 (validation)" in said
    assert "real uncertain .200" in said
    alarms = {row["figure"]: row for row in overall(rows)}["false_alarms"]
    where = {"degradation": "b", "strength": "s5"}
    assert alarms == {"figure": "false_alarms", "mean": pytest.approx(0.325), "worst": 0.55} | where
    assert [row["figure"] for row in overall(rows)] == ["frame_auc", "false_alarms"]


def test_nothing_of_another_detector_is_left_where_grades_are_scored(tmp_path):
    """Not even a drawing, which the report would show with its own."""
    names = ("JPEG-1.csv", "table.csv", "overall.csv", "curves.svg", "examples.jpg")

    def start(stamp):
        robustness._start(tmp_path, stamp, "ours")
        return sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".json")

    for name in names:
        (tmp_path / name).write_text("")
    (tmp_path / "made_from.json").write_text('"same"\n')  # by an earlier version
    assert start("same") == start("same") == sorted(names)
    made = json.loads((tmp_path / "made_from.json").read_text())
    assert made == {"stamp": "same", "detector": "ours"}
    assert start("changed") == []


def test_faces_called_fake_and_uncertain_are_those_of_the_verdict(tmp_path):
    fidelity = [0.1, 0.4, 0.6, 0.2, 0.4, 0.6, 0.7, 0.8]
    table([0, 0, 0, 1, 1, 1, 1, 1], fidelity).write_csv(tmp_path / "t.csv")
    calibration = Calibration(-5.0, 0.5, "validation", fake_below=0.3)
    config = settings(bootstrap=0)
    row = robustness.summarize(tmp_path / "t.csv", "blur", 3, calibration, config)
    assert row["false_alarms"] == pytest.approx(0.2)
    assert row["caught"] == pytest.approx(1 / 3)
    assert row["uncertain_real"] == pytest.approx(0.2)
    assert row["uncertain_fake"] == pytest.approx(1 / 3)
    assert row["strength"] == "sigma 3 px"
    table([], []).write_csv(tmp_path / "none.csv")
    row = robustness.summarize(tmp_path / "none.csv", KIND, 5, calibration, config)
    assert (row["n_frames"], row["frame_auc"], row["strength"]) == (0, None, "CRF 43")
    assert robustness.limit_of(Calibration(-5.0, 0.5, "fixed")) == 0.5


def test_bounds_of_false_alarms_and_caught_fakes_lie_around_them(tmp_path):
    simulated(np.random.default_rng(0), videos=40).write_csv(tmp_path / "t.csv")
    calibration, config = Calibration(-5.0, 0.3, "v"), settings(bootstrap=200)
    row = robustness.summarize(tmp_path / "t.csv", "blur", 1, calibration, config)
    for name in ("false_alarms", "caught"):
        assert 0 < row[f"{name}_low"] < row[name] < row[f"{name}_high"] < 1


def test_figures_are_made_as_those_of_the_run(tmp_path):
    """Videos by the run's aggregate, intervals over people where the run's are."""
    rng, config = np.random.default_rng(0), settings(bootstrap=200, aggregate="median")
    label = np.repeat(np.arange(40) % 2, 3)
    score = label + rng.normal(size=120) + np.tile([0, 0, -9.0], 40) * label
    own = table(label, score, np.repeat([f"v{i}" for i in range(40)], 3))
    rows = []
    for people in ((), [f"person/{i // 12}" for i in range(120)]):
        own = replace(own, people=people)
        own.write_csv(tmp_path / "t.csv")
        calibration = Calibration(-5.0, 0.3, "v")
        rows.append(robustness.summarize(tmp_path / "t.csv", "blur", 1, calibration, config))
        levels = metrics.levels_of(own, config.seed, 200, aggregate="median")
        found = metrics.summarize(own, 0.3, "v", levels=levels)
        assert rows[-1]["video_auc"] == found["video_auc"]
        low, high = found["ci"]["frame_auc"]
        assert (rows[-1]["frame_auc_low"], rows[-1]["frame_auc_high"]) == (low, high)
        assert rows[-1]["aggregate"] == "median"
    assert rows[0]["frame_auc_low"] != rows[1]["frame_auc_low"]


@pytest.mark.slow
def test_a_run_is_scored_in_every_grade_and_goes_on_where_it_was(
    run, finished, tmp_path, monkeypatch, one_core
):
    monkeypatch.setattr(robustness, "_available", lambda: ("JPEG", "blur"))
    work = shutil.copytree(finished, tmp_path / "work")
    status, _, said = run("--mode=robustness", f"--workdir={work}")
    assert status == 0, said
    place = work / "robustness" / "synthetic_faces"
    rows = list(csv.DictReader((place / "table.csv").open()))
    kinds = robustness._available()
    assert len(rows) == 1 + 5 * len(kinds)
    untouched = Predictions.read_csv(place / "untouched-0.csv")
    usual = Predictions.read_csv(work / "eval/synthetic_faces/predictions.csv")
    score = dict(zip(zip(usual.video_id, usual.frame, strict=True), usual.fidelity, strict=True))
    for video, frame, fidelity in zip(
        untouched.video_id, untouched.frame, untouched.fidelity, strict=True
    ):
        assert fidelity == pytest.approx(score[video, frame], abs=1e-4)
    assert not np.allclose(Predictions.read_csv(place / "blur-5.csv").fidelity, untouched.fidelity)
    page = (work / "report/index.html").read_text()
    assert "Degraded faces" in page
    assert "sigma 6 px" in page
    assert "on average, at worst" in page

    (place / "blur-5.csv").unlink()
    before = {path: path.stat().st_mtime_ns for path in place.glob("*-*.csv")}
    table = (place / "table.csv").read_bytes()
    status, _, said = run("--mode=robustness", f"--workdir={work}")
    assert status == 0, said
    assert (place / "blur-5.csv").exists()
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert (place / "table.csv").read_bytes() == table
    # Another regressor gives other scores: nothing of before is kept.
    (place / "made_from.json").write_text('"another"')
    run("--mode=robustness", f"--workdir={work}")
    assert all(path.stat().st_mtime_ns != stamp for path, stamp in before.items())


@pytest.mark.slow
@pytest.mark.skipif(h264.is_there(), reason="the next test is the same, and has videos, too")
def test_a_folder_of_ones_own_is_degraded(run, finished, records_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness, "_available", lambda: ("blur",))
    work = shutil.copytree(finished, tmp_path / "work")
    test = Records(records_folder, "test")
    for number in range(len(test)):
        row = test[number]
        place = tmp_path / "own" / ("real" if row["label"] == REAL else "fake")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.jpg").write_bytes(row["image"])
    given = [tmp_path / "own", f"--workdir={work}", "--config.faces.detector=none"]
    status, _, said = run("robustness", *given)
    assert status == 0, said
    (place,) = (work / "robustness").iterdir()
    assert place.name.startswith("own-")
    rows = list(csv.DictReader((place / "table.csv").open()))
    assert [row["degradation"] for row in rows] == ["untouched"] + ["blur"] * 5
    assert int(rows[0]["n_frames"]) == len(test)


@pytest.mark.slow
@pytest.mark.skipif(not h264.is_there(), reason="PyAV is not installed")
def test_video_files_are_recompressed(
    run, finished, records_folder, tmp_path, monkeypatch, one_core
):
    monkeypatch.setattr(robustness, "_available", lambda: ("blur",))
    work = shutil.copytree(finished, tmp_path / "work")
    test = Records(records_folder, "test")
    own = tmp_path / "own"
    for number in range(len(test)):
        row = test[number]
        kind = "real" if row["label"] == REAL else "fake"
        face = decode_image(row["image"])
        if number < 6:
            trees.write_video(own / kind / f"{number}.mp4", [face, face])
        else:
            (own / kind).mkdir(parents=True, exist_ok=True)
            (own / kind / f"{number}.jpg").write_bytes(row["image"])
    given = ["robustness", own, f"--workdir={work}", "--config.faces.detector=none"]
    status, _, said = run(*given)
    assert status == 0, said
    assert f"{KIND}: 12 of the {len(test) + 6} test faces" in said
    assert "lost 0 0 0 0 0" in said
    (place,) = (work / "robustness").iterdir()
    assert place.name.startswith("own-")
    rows = list(csv.DictReader((place / "table.csv").open()))
    assert [row["degradation"] for row in rows] == ["untouched"] + ["blur"] * 5 + [KIND] * 6
    assert int(rows[0]["n_frames"]) == len(test) + 6
    rows = rows[6:]
    crfs = (23, 28, 33, 38, 43)
    assert [row["strength"] for row in rows] == ["", *(f"CRF {crf}" for crf in crfs)]
    assert {(row["n_frames"], row["n_videos"], row["lost"]) for row in rows} == {("12", "6", "0")}
    untouched = Predictions.read_csv(place / "untouched-0.csv")
    known = dict(
        zip(zip(untouched.path, untouched.frame, strict=True), untouched.fidelity, strict=True)
    )
    start = Predictions.read_csv(place / f"{KIND}-0.csv")
    same = [known[key] for key in zip(start.path, start.frame, strict=True)]
    np.testing.assert_allclose(start.fidelity, same, atol=1e-4)  # of the same faces, untouched
    changes = []
    for grade in (1, 5):
        table = Predictions.read_csv(place / f"{KIND}-{grade}.csv")
        before = [known[key] for key in zip(table.path, table.frame, strict=True)]
        changes.append(np.abs(table.fidelity - before).mean())
    assert min(changes) > 0  # how much more at the last is chance: it has learnt for 20 steps
    assert changes[0] != changes[1]
    assert not [path for path in place.iterdir() if path.is_dir()]
    assert KIND in (work / "report/index.html").read_text()


def test_without_pyav_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(h264, "is_there", lambda: False)
    assert robustness._find_clips(tmp_path, None, tmp_path, []) == ([], None)
    told = "both H.264 rows are skipped: they need PyAV, pip install 'deepfidelity_jax[video]'"
    assert capsys.readouterr().err == told + "\n"
    assert "H.264" not in robustness._available()


def test_a_workdir_without_a_run_is_told(run, tmp_path):
    assert_told(run("--mode=robustness", f"--workdir={tmp_path / 'none'}"), "not a workdir")
    assert_told(run("--mode=robustness", f"--workdir={tmp_path}", "--quiet"), "--quiet is not for")
