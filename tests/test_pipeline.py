"""The stages of a run: none repeated, each checked before it starts."""

import json
import shutil
import time

import numpy as np
import trees
from conftest import DEMO, OPTIONS, TREE, assert_told
from PIL import Image

FOLDER = f"--config={TREE / 'configs' / 'folder.py'}"


def test_damaged_checkpoints(run, finished, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(finished, work)
    for path in work.glob("checkpoints/*/state/manifest.ocdbt"):
        path.write_bytes(b"")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    result = run("--mode=predict", f"--workdir={work}", f"--input={tmp_path / 'a.png'}")
    assert_told(result, work / "checkpoints", "damaged", "delete that folder")
    (work / "fidelity.npz").unlink()
    shutil.rmtree(work / "features")
    result = run(DEMO, f"--workdir={work}", *OPTIONS)
    assert_told(result, work / "checkpoints", "damaged")
    (work / "config.json").write_text('{"half')
    assert_told(run(DEMO, f"--workdir={work}", *OPTIONS), "config.json", "damaged")


def test_the_same_command_again_repeats_nothing(run, finished):
    """Real command, finished workdir: no file but the event log is touched."""
    watched = ["checkpoints", "features", "eval", "report", "records", "fidelity.npz",
               "metrics.jsonl", "config.json", "stages.json"]  # fmt: skip

    def stamps():
        return {
            path: path.stat().st_mtime_ns
            for name in watched
            for path in [finished / name, *(finished / name).rglob("*")]
            if path.is_file()
        }

    before, start = stamps(), time.monotonic()
    status, out, error = run(DEMO, f"--workdir={finished}", *OPTIONS)
    assert status == 0, error
    assert time.monotonic() - start < 30
    assert out == ""
    assert "frame_auc" in error
    assert "prepared" not in error
    assert stamps() == before


def test_a_finished_run_holds_what_is_promised(finished):
    place = finished / "eval" / "synthetic_faces"
    metrics = json.loads((place / "metrics.json").read_text())
    assert {
        "frame_auc", "video_auc", "frame_acc", "video_acc", "threshold", "threshold_from", "eer",
        "ap", "n_frames", "n_videos", "ci", "by_method", "by_quality", "fidelity_quality_spearman",
    } <= metrics.keys()  # fmt: skip
    header = (place / "predictions.csv").read_text().splitlines()[0]
    assert header == (
        "path,dataset,split,method,video_id,frame,label,quality,fidelity_target,fidelity,p_fake"
    )
    assert json.loads((finished / "config.json").read_text())["train"]["steps"] == 20
    for split in ("train", "validation", "test"):
        assert (finished / "features" / f"synthetic_faces-{split}.npz").is_file()
    page = (finished / "report" / "index.html").read_text(encoding="utf-8")
    assert "<link" not in page.replace('<link rel="icon" href="data:', "")
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_papers_peculiarities_are_told(command, finished, tiny, tmp_path):
    """A whole run with them: what was picked and searched on the test split says so everywhere."""
    options = {
        "data.records_dir": finished / "records",
        "data.fresh_forgeries": False,
        "train.steps": 2,
        "train.eval_every": 1,
        "train.token_mixing": "unlabelled",
        "train.token_weight": 0.0,
        "train.fidelity_weight": 0.0,
        "train.ema_warmup": False,
        "train.select_on": "test",
        "eval.official_scoring": True,
    }
    done = command(
        tmp_path, *(f"--config.{key}={value}" for key, value in options.items())
    ).finish()
    assert done.returncode == 0, done.stderr
    assert "step 2: test frame AUC" in done.stderr
    assert "picked on this very split" in done.stderr
    assert "official scoring" in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "test_frame_auc" in line] == [1, 2]
    assert not any("val_frame_auc" in line for line in lines)
    metrics = json.loads((tmp_path / "eval" / "synthetic_faces" / "metrics.json").read_text())
    assert metrics["checkpoint_picked_here"] is True
    assert metrics["official_scoring"]["threshold_from"] == "the best of 21 on these scores"
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "picked on this very split" in page
    assert "Official scoring" in page
    assert "Test AUC" in page


def test_bad_files_among_good_are_left_out(run, tmp_path):
    """A folder is prepared in spite of them, and they are named."""
    folder = tmp_path / "in"
    for label, seed in (("real", 0), ("fake", 100)):
        (folder / label).mkdir(parents=True)
        for number in range(14):
            noise = np.random.default_rng(seed + number).integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(noise).save(folder / label / f"{number}.png")
    reasons = trees.bad_files(folder / "real")
    status, out, error = run(
        FOLDER, f"--workdir={tmp_path / 'work'}", "--mode=prepare", f"--config.data.dir={folder}",
        "--config.faces.detector=none", "--config.faces.size=48",
        "--config.data.splits=(0.4,0.3,0.3)",
    )  # fmt: skip
    assert status == 0, error
    assert out == ""
    for name, reason in reasons.items():
        assert any(f"real/{name}: " in line and reason in line for line in error.splitlines())
