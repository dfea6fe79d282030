"""The notebook that trains shows what the folder holds, and what was learnt; nothing runs twice."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from notebooks import execute, pictures_of, text_of

import deepfidelity_jax as df
from deepfidelity_jax.records.schema import Records, metadata_of

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.usefixtures("one_core")]

READ_BACK = """
import contextlib
import io

curve = charts.draw_training(curves, "loss").figure.axes[0].lines[0].get_ydata().tolist()
faces = batch["image"].astype(float)
with contextlib.redirect_stderr(io.StringIO()) as told:
    go_on("run")
print(json.dumps({
    "records": str(records),
    "pairs": [float(np.abs(faces[real] - faces[fake[order]]).mean()) for order in (
        np.arange(6), np.roll(np.arange(6), 1))],
    "masks": [float(batch["mask"][rows].max()) for rows in (real, fake)],
    "losses": curve,
    "photograph": str(path),
    "predicted": found.to_dict(),
    "again": told.getvalue(),
}))
"""


def test_a_folder_is_shown_learnt_and_not_learnt_twice(tmp_path, monkeypatch):
    run = tmp_path / "run"
    notebook, read_back = execute(
        "train_on_your_faces.ipynb",
        READ_BACK,
        tmp_path,
        monkeypatch,
        steps=2,
        demo_photographs=20,
        workdir=str(run),
    )
    text = text_of(notebook)
    # What was found, by class and split, and what was left out.
    records = Path(read_back["records"])
    for method in ("original", "swap", "generated"):
        counts = [
            sum(record["method"] == method for record in Records(records, split))
            for split in ("train", "validation", "test")
        ]
        name = "real" if method == "original" else method
        assert re.search(rf"(?m)^ +{name} +" + " +".join(map(str, counts)) + "$", text)
    notes = metadata_of(records)["notes"]
    assert {"real/notes.txt", "real/sky.jpg"} < set(notes)
    assert "the same bytes as" in "".join(notes.values())
    for name, reason in notes.items():
        assert f"  {name}: {reason}" in text
    # Pairs of a face and its forgery: more alike than two people, and only forgeries have a mask.
    assert read_back["pairs"][0] < read_back["pairs"][1]
    assert read_back["masks"][0] == 0 < read_back["masks"][1]
    # The figures; four real photographs are too few for an interval.
    metrics = json.loads((run / "eval" / "face_folder" / "metrics.json").read_text())
    assert f"frame_auc {metrics['frame_auc']:.4f} (no interval)" in text
    assert f"photographs, test split: {metrics['n_frames']} faces" in text
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in log if "loss" in line}
    assert sorted(losses) == [1, 2]
    np.testing.assert_allclose(read_back["losses"], [losses[n] for n in sorted(losses)], rtol=1e-6)
    # One photograph, of the test split, as the command predicts it.
    photograph = Path(read_back["photograph"])
    assert photograph.relative_to(run / "photographs").as_posix() in {
        record["path"] for record in Records(records, "test")
    }
    predicted = df.load(run).predict(photograph).to_dict()
    assert read_back["predicted"]["status"] == predicted["status"]
    assert read_back["predicted"]["fidelity"] == pytest.approx(predicted["fidelity"], abs=1e-4)
    truth = photograph.parent.name
    assert f"True label: {truth}; it is in the test split." in text
    # Run once more, the cell found all stages done.
    assert "frame_auc" in read_back["again"]
    assert not re.search(r"prepared|step|features|regressor", read_back["again"])
    assert len(pictures_of(notebook)) == 7
