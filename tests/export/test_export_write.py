"""`--mode=export`: what it writes is measured, and what it cannot do is told before any work."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import TREE, assert_told
from PIL import Image
from random_detectors import CALIBRATION, draw_detector

import deepfidelity_jax as df
from deepfidelity_jax.cli import main
from deepfidelity_jax.detector.load import _score, load
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.export import hub, onnx_model, stablehlo, write

PICTURES = 3


@pytest.fixture(scope="module")
def detector():
    return df.load()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The bundled detector as ONNX, exported by the command line."""
    place = tmp_path_factory.mktemp("exported")
    assert main(["run.py", "--mode=export", f"--output={place / 'model.onnx'}"]) == 0
    return place


@pytest.fixture(scope="module")
def wanted(detector):
    return write.score(detector, write.draw_crops(PICTURES, 108))


@pytest.mark.slow
def test_the_bundled_detector_as_onnx(exported, detector, wanted):
    found = onnx_model.run((exported / "model.onnx").read_bytes(), write.draw_crops(PICTURES, 108))
    assert max(write.measure(wanted, found).values()) < 1e-5
    about = json.loads((exported / "model.onnx.json").read_text())
    assert about["fingerprint"] == detector.fingerprint


@pytest.mark.slow
def test_the_bundled_detector_as_stablehlo(tmp_path, wanted):
    path = tmp_path / "model.stablehlo"
    assert main(["run.py", "--mode=export", f"--output={path}"]) == 0
    found = stablehlo.run(path.read_bytes(), write.draw_crops(PICTURES, 108))
    assert max(write.measure(wanted, found).values()) < 1e-5


def test_the_onnx_file_carries_its_metadata(exported):
    session = onnx_model.open_session((exported / "model.onnx").read_bytes())
    told = session.get_modelmeta().custom_metadata_map
    about = json.loads((exported / "model.onnx.json").read_text())
    assert float(told["threshold"]) == about["threshold"]
    assert json.loads(told["labels"]) == ["fake", "real"]


def test_the_example_scores_crops_without_the_package(exported, detector, wanted, tmp_path):
    crops = write.draw_crops(PICTURES, 108)
    paths = [tmp_path / f"{number}.png" for number in range(PICTURES)]
    for path, crop in zip(paths, crops, strict=True):
        Image.fromarray(crop).save(path)
    example = TREE / "examples" / "score_crops.py"
    assert len(example.read_text().splitlines()) <= 40
    assert "deepfidelity_jax" not in example.read_text()
    argv = [sys.executable, example, exported / "model.onnx", *paths]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = [line["fidelity"] for line in lines]
    np.testing.assert_allclose(found, wanted["fidelity"], atol=1e-5)
    own = detector.fidelity_model.calibration
    assert [line["verdict"] for line in lines] == own.verdicts(wanted["fidelity"]).tolist()


@pytest.mark.slow
def test_bfloat16_is_exported_to_onnx_in_single_precision(tmp_path):
    single, half = draw_detector(), draw_detector(dtype="bfloat16")
    said = write.write_file(half, "onnx", tmp_path / "model.onnx", {"network": {}})
    assert "features" in said
    crops = write.draw_crops(2, 36)
    found = onnx_model.run((tmp_path / "model.onnx").read_bytes(), crops)
    assert np.abs(found["features"] - single.features(crops)).max() < 0.1


def test_an_export_that_scores_otherwise_is_not_written(detector):
    def run(crops):
        found = write.score(detector, crops)
        return found | {"fidelity": found["fidelity"] + np.float32(0.1)}

    with pytest.raises(RuntimeError, match="scores differ"):
        write.compare(detector, run)


def test_the_steps_of_a_calibration_do_not_stop_an_export():
    """Rounding moves a fidelity over a step; a p_fake of another fidelity is still found."""
    detector = draw_detector()
    middle = float(np.median(detector.fidelity(write.draw_crops(write.CROPS, 36))))
    steps = (middle - 1e-9, middle + 1e-9), (0.9, 0.1)
    stepped = replace(CALIBRATION, method="isotonic", curve=steps, threshold=middle)
    detector = detector.fitted(replace(detector.fidelity_model, calibration=stepped))

    def run(crops, move=1e-3):
        fidelity = detector.fidelity(crops) + np.float32(move)
        found = write.score(detector, crops) | {"fidelity": fidelity}
        return found | {"p_fake": detector.p_fake(fidelity)}

    before = write.score(detector, write.draw_crops(write.CROPS, 36))["p_fake"]
    assert np.abs(run(write.draw_crops(write.CROPS, 36))["p_fake"] - before).max() > 0.5
    write.compare(detector, run)
    with pytest.raises(RuntimeError, match="scores differ"):
        write.compare(detector, lambda crops: run(crops) | {"p_fake": run(crops, -1e-3)["p_fake"]})


def test_a_new_repository_of_a_hub_takes_an_export(tmp_path):
    (tmp_path / ".git").mkdir()
    for name in (".gitattributes", "README.md"):
        (tmp_path / name).touch()
    assert write.require_output(f"{tmp_path}/") == "folder"
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match="a folder of other files"):
        write.require_output(f"{tmp_path}/")


def test_a_folder_that_scores_otherwise_is_not_written(tmp_path, monkeypatch):
    def differ(detector, run):
        run(write.draw_crops(1, 108))
        raise RuntimeError("scores differ")

    monkeypatch.setattr(write, "compare", differ)
    with pytest.raises(RuntimeError, match="scores differ"):
        write.export(None, str(tmp_path / "hub"))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_told(run, tmp_path, monkeypatch):
    assert_told(run("--mode=export"), "--output is missing")
    assert_told(run("--mode=export", "--output=model.pt"), "model.pt", ".onnx or .stablehlo")
    assert_told(run("--mode=export", "--output=a.onnx", f"--workdir={tmp_path}"), "no trained")
    (tmp_path / "thesis.txt").touch()
    assert_told(run("--mode=export", f"--output={tmp_path}"), "a folder of other files")
    (tmp_path / hub.PARTIAL).mkdir()
    assert write.require_output(str(tmp_path)) == "folder", "an export into it was killed"
    (tmp_path / hub.PARTIAL).rmdir()
    told = run("--mode=export", f"--output={tmp_path}/thesis.txt/model.onnx")
    assert_told(told, "thesis.txt is not a folder")
    assert_told(run("--mode=export", "--output=a.onnx", "--input=b"), "--input is not for")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: find(name) if name != "onnx" else None
    )
    told = run("--mode=export", f"--output={tmp_path}/model.onnx")
    assert_told(told, "pip install 'deepfidelity_jax[onnx]'")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_trained_workdir_as_a_folder_predicts_the_same(finished, run, tmp_path):
    folder = tmp_path / "hub"
    status, _, error = run("--mode=export", f"--workdir={finished}", f"--output={folder}/")
    assert status == 0, error
    assert "no licence is stated" in error
    own, there = load(finished), load(folder)
    crops = write.draw_crops(4, 64)
    _score.clear_cache()
    np.testing.assert_array_equal(there.fidelity(crops), own.fidelity(crops))
    assert _score._cache_size() == 1
    Image.fromarray(crops[0]).save(tmp_path / "crop.png")
    argv = "--mode=predict", f"--input={tmp_path / 'crop.png'}", "--config.faces.detector=none"
    lines = [json.loads(run(*argv, f"--workdir={place}")[1]) for place in (finished, folder)]
    for line in lines:
        del line["detector"]
    assert lines[0] == lines[1]
    assert not (folder / "cache").exists()
