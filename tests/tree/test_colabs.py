"""The notebook that evaluates shows what metrics.json holds; all notebooks are kept readable."""

import json
import re
import shutil
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from notebooks import COLABS, execute, pictures_of, text_of

from deepfidelity_jax.files import digest
from deepfidelity_jax.records.schema import REAL, Records
from deepfidelity_jax.scoring import charts
from deepfidelity_jax.scoring.table import Predictions

pytestmark = pytest.mark.usefixtures("one_core")

# What the drawn figures hold, read back off them; and where the run lies.
READ_BACK = """
import json

roc = charts.draw_roc(table, metrics).figure.axes[0].lines
print(json.dumps({
    "run": str(run),
    "metrics": metrics,
    "roc": [line.get_xydata().tolist() for line in roc],
    "rows": rows,
    "losses": charts.draw_training(curves, "loss").figure.axes[0].lines[0].get_xydata().tolist(),
}))
"""
# What each notebook has printed.
KEPT = {
    "evaluate.ipynb": "95% intervals",
    "explain_one_video.ipynb": "swapped.mp4: ",
    "read_the_paper.ipynb": "the labels follow",
    "train_on_your_faces.ipynb": "95% intervals",
}


def write_pictures(records_folder, place):
    """The run's test people as a user's folder."""
    test = Records(records_folder, "test")
    for number in range(len(test)):
        row = test[number]
        folder = place / ("real" if row["label"] == REAL else f"fake/{row['method']}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(row["image"])


def test_it_runs_on_archives_and_shows_the_metrics(finished, records_folder, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    shutil.copytree(finished, runs / "one", ignore=shutil.ignore_patterns("cache", "tensorboard"))
    write_pictures(records_folder, tmp_path / "pictures" / "photos")
    workdir = shutil.make_archive(tmp_path / "run", "gztar", runs)
    folder = shutil.make_archive(tmp_path / "photos", "zip", tmp_path / "pictures")
    notebook, read_back = execute(
        "evaluate.ipynb",
        READ_BACK,
        tmp_path,
        monkeypatch,
        workdir=workdir,
        folder=folder,
        detector="none",
    )

    text, run = text_of(notebook), Path(read_back["run"])
    assert "deepfidelity_jax is installed" in text
    assert "cpu: cpu" in text
    (place,) = (path for path in (run / "eval").iterdir() if path.name.startswith("photos-"))
    metrics = json.loads((place / "metrics.json").read_text())
    assert read_back["metrics"] == metrics
    table = Predictions.read_csv(place / "predictions.csv")
    assert metrics["n_frames"] == len(table) == len(Records(records_folder, "test"))
    # Printed, and drawn.
    for name in ("frame_auc", "frame_acc"):
        assert f"{name} {metrics[name]:.4f}" in text
    assert f"AUC: {metrics['frame_auc']:.3f} for pictures" in text
    _, curve, point = (np.array(line) for line in read_back["roc"])
    area = np.trapezoid(curve[:, 1], curve[:, 0])
    assert area == pytest.approx(metrics["frame_auc"], abs=1e-6)
    caught = metrics["fake_frame_acc"]
    np.testing.assert_allclose(point, [[1 - metrics["real_frame_acc"], caught]], atol=1e-6)
    log = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    np.testing.assert_allclose(np.array(read_back["losses"])[:, 1], losses, rtol=1e-6)
    # The most mistaken faces, by path, score and threshold.
    assert read_back["rows"] == charts.find_mistakes(table, metrics["threshold"])
    assert read_back["rows"], "a run of 20 steps makes mistakes"
    for row in read_back["rows"]:
        assert str(table.path[row]) in text
        assert f"fidelity {table.fidelity[row]:.4f}, threshold {metrics['threshold']:.4f}" in text
    # ROC, scores, quality, loss, validation AUC, faces.
    assert len(pictures_of(notebook)) == 7
    # What was given is as it was.
    assert digest(runs / "one" / "fidelity.npz") == digest(finished / "fidelity.npz")


@pytest.mark.slow
@pytest.mark.e2e
def test_with_nothing_given_it_trains_the_demo(tmp_path, monkeypatch):
    notebook, read_back = execute(
        "evaluate.ipynb", READ_BACK, tmp_path, monkeypatch, demo_people=6, demo_steps=4
    )
    assert read_back["metrics"]["training_checked"] is True
    assert read_back["metrics"]["n_files"] == read_back["metrics"]["n_frames"]
    assert len(pictures_of(notebook)) >= 5


def run_here(name, given):
    """Run a notebook's code in this process, with this in its form."""
    names = {}
    for cell in nbformat.read(COLABS / name, as_version=4).cells:
        if cell.cell_type == "code":
            exec(re.sub("(?m)^ *%.*$", "", cell.source), names)
            if "parameters" in cell.metadata.get("tags", ()):
                names |= given


@pytest.mark.parametrize(
    ("name", "wrong", "told"),
    [
        ("evaluate.ipynb", {"workdir": "nowhere", "folder": "nowhere"}, "nowhere: no such file"),
        ("evaluate.ipynb", {"workdir": "run", "folder": "run"}, "no trained detector"),
        ("explain_one_video.ipynb", {"path": "a.mp4", "workdir": "run"}, "no trained detector"),
        ("train_on_your_faces.ipynb", {"folder": "run"}, "run holds no real or train at any depth"),
    ],
)
def test_what_is_wrong_with_the_form_is_said_in_one_line(tmp_path, monkeypatch, name, wrong, told):
    """A notebook shows a SystemExit as its message, any other error as a traceback."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    given = {field: str(tmp_path / value) for field, value in wrong.items()}
    with pytest.raises(SystemExit) as caught:
        run_here(name, given)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(path.name for path in COLABS.glob("*.ipynb")))
def test_what_is_kept_in_it_reads_on_a_code_host(name):
    assert (COLABS / name).stat().st_size < 600_000
    notebook = nbformat.read(COLABS / name, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [out for cell in code for out in cell.outputs if out.output_type == "error"]
    pictures = pictures_of(notebook)
    assert len(pictures) >= 3
    for picture in pictures:
        assert picture.shape[1] <= 900
        assert picture.std() > 10, "blank"
    assert KEPT[name] in text_of(notebook)
    # Empty, as a reader finds it.
    (form,) = (cell for cell in code if "parameters" in cell.metadata.get("tags", ()))
    assert 'package = ""  #' in code[0].source
    assert all(
        given == '""' for given in re.findall(r"(?m)^\w+ = (\S*)  # @param .*string", form.source)
    )
