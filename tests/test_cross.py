"""One detector on several datasets: their test splits, its crops, one table."""

import csv
import json
import shutil

import numpy as np
import pytest
import trees
from sklearn.metrics import roc_auc_score

from deepfidelity_configs import cross as cross_config
from deepfidelity_jax import cli, cross, fidelity
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.metrics import Predictions

pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture(scope="module")
def evaluated(finished, tmp_path_factory):
    """A workdir evaluated on two datasets; which config did it."""
    place = tmp_path_factory.mktemp("cross")
    workdir = shutil.copytree(finished, place / "run")
    config = cross_config.get_config()
    config.dfd.manual_dir = str(trees.dfd(place / "dfd"))
    config.wild.manual_dir = str(trees.wild_deepfake(place / "wild"))
    for group in (config.dfd, config.wild):
        group.incomplete, group.detector = True, "none"
    cross.run(config, workdir)
    return workdir, config


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return {row["dataset"]: row for row in csv.DictReader(file)}


def test_the_table_is_what_the_predictions_give(evaluated):
    workdir, _ = evaluated
    table = read(workdir / "eval" / "cross.csv")
    assert list(table) == ["synthetic_faces", "dfd", "wild"]
    for name, videos, frames in (("dfd", 5, 10), ("wild", 8, 16)):
        predictions = Predictions.read_csv(workdir / "eval" / name / "predictions.csv")
        assert set(predictions.split) == {"test"}
        assert set(predictions.dataset) == {name}
        assert len(predictions) == int(table[name]["frames"]) == frames
        assert int(table[name]["videos"]) == videos
        auc = roc_auc_score(predictions.label, predictions.fidelity)
        assert float(table[name]["frame_auc"]) == pytest.approx(auc)
    own = json.loads((workdir / "eval/synthetic_faces/metrics.json").read_text())
    assert float(table["synthetic_faces"]["video_auc"]) == own["video_auc"]
    # The threshold is the detector's; nothing is chosen on these test sets.
    assert len({row["threshold"] for row in table.values()}) == 1
    assert "dfd" in (workdir / "report" / "index.html").read_text()


def test_only_test_splits_are_prepared(evaluated):
    workdir, _ = evaluated
    for dataset in ("ffpp", "wild_deepfake"):
        (info,) = (workdir / "records" / dataset).glob("*/*/dataset_info.json")
        assert [split["name"] for split in json.loads(info.read_text())["splits"]] == ["test"]


def test_targets_are_on_the_detectors_own_scale(evaluated):
    workdir, _ = evaluated
    scale = fidelity.load(workdir / "fidelity.npz").scale
    predictions = Predictions.read_csv(workdir / "eval" / "wild" / "predictions.csv")
    expected = fidelity.scale(scale, predictions.quality.astype(np.float64), predictions.label)
    np.testing.assert_allclose(predictions.fidelity_target, expected, atol=1e-6)


def test_nothing_is_done_twice(evaluated, capsys):
    workdir, config = evaluated
    before = read(workdir / "eval" / "cross.csv")
    capsys.readouterr()
    cross.run(config, workdir)
    assert read(workdir / "eval" / "cross.csv") == before
    said = capsys.readouterr().err
    assert "prepared" not in said
    assert "features of" not in said
    assert "video_auc" in said


def test_what_is_wrong_is_said_first(tmp_path, finished, evaluated):
    _, good = evaluated
    with pytest.raises(InputError, match=r"no dataset is given: .* NAME one of celeb_df_v2, dfd"):
        cross.run(cross_config.get_config(), finished)
    config = cross_config.get_config()
    config.wild.manual_dir = good.wild.manual_dir
    with pytest.raises(InputError, match=r"is no workdir"):
        cross.run(config, tmp_path)
    config.celeb_df_v2.manual_dir = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere, which is no folder"):
        cross.run(config, finished)


def test_the_command_line_knows_what_it_is(finished, capsys):
    options = ["run.py", f"--config={cross_config.__file__}", f"--workdir={finished}"]
    assert cli.main(options) == 2
    assert capsys.readouterr().err.startswith("deepfidelity: no dataset is given")
    assert cli.main([*options, "--mode=train"]) == 2
    assert "--mode=train is not for a config of several datasets" in capsys.readouterr().err
