"""One detector on other data: bounds in the table, and targets only where they are comparable."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from score_tables import predictions, simulated

from deepfidelity_configs import cross as cross_config
from deepfidelity_configs import protocol_compression
from deepfidelity_datasets.ffpp.ffpp_dataset_builder import Builder
from deepfidelity_datasets.ffpp.sources import COMPRESSIONS
from deepfidelity_jax.detector.load import Detector
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import FidelityScale, scale
from deepfidelity_jax.scoring.cross_dataset import (
    COLUMNS,
    adapt_config,
    rename_options,
    require_used,
    write_table,
)
from deepfidelity_jax.scoring.exported_features import Features, retarget
from deepfidelity_jax.scoring.metrics import summarize

ISO, OLD_ISO = {"measure": "iso", "landmarks": True}, {"measure": "iso"}
SER_FIQ = {"measure": "ser_fiq", "weights": "a"}


def test_the_table_has_the_bounds_of_each_value(tmp_path):
    data = simulated(np.random.default_rng(0))
    metrics = summarize(data, 0.5, "fixed", replicates=50)
    one_class = summarize(predictions(label=0), 0.5, "fixed", replicates=2)
    write_table({"known": metrics, "fakes": one_class}, tmp_path / "cross.csv")
    with (tmp_path / "cross.csv").open(encoding="utf-8", newline="") as file:
        known, fakes = csv.DictReader(file)
    for column in COLUMNS[3:]:
        low, high = metrics["ci"][column]
        assert low < high
        assert float(known[f"{column}_low"]) == low
        assert float(known[f"{column}_high"]) == high
        assert float(known[column]) == metrics[column]
    assert [fakes[f"video_auc{end}"] for end in ("", "_low", "_high")] == ["", "", ""]


@pytest.mark.parametrize(
    ("own", "note", "has_target", "has_quality"),
    [
        (ISO, ISO, True, True), (ISO, OLD_ISO, False, True), (OLD_ISO, OLD_ISO, True, True),
        (SER_FIQ, SER_FIQ, True, True), (SER_FIQ, SER_FIQ | {"weights": "b"}, False, True),
        (ISO, SER_FIQ, False, True), (ISO, {"measure": "none"}, False, False),
    ],
)  # fmt: skip
def test_targets_are_known_where_quality_is_measured_as_for_training(
    tmp_path, own, note, has_target, has_quality
):
    quality, label = np.float32([0.2, 0.5, 0.6, 0.9]), np.int32([0, 0, 1, 1])
    names = np.array(["a", "b", "c", "d"])
    features = Features(
        feature=np.zeros((4, 2), np.float32), answers=np.zeros((4, 1), np.float32), label=label,
        fidelity=np.float32([0.1, 0.2, 0.7, 0.8]), quality=quality, known_quality=quality,
        frame=np.arange(4, dtype=np.int32), method=names, video_id=names, path=names,
    )  # fmt: skip
    fitted = FidelityScale((0.1, 0.6), (0.5, 1.0))
    detector = Detector.__new__(Detector)  # what a scale needs of it, without a network
    detector.fidelity_model = SimpleNamespace(scale=fitted, provenance={"quality": own})
    detector.config = ConfigDict({"quality": {"measure": own["measure"]}})
    (tmp_path / "metadata.json").write_text(json.dumps({"quality": note}))
    found = retarget(features, detector, tmp_path)
    unknown = np.full(4, np.nan)
    expected = scale(fitted, quality.astype(np.float64), label) if has_target else unknown
    np.testing.assert_allclose(found.fidelity, expected, atol=1e-6)
    np.testing.assert_array_equal(found.quality, quality if has_quality else unknown)
    detector.fidelity_model.scale = None
    assert np.isnan(retarget(features, detector, tmp_path).fidelity).all()


def test_compressions_are_those_of_the_same_videos():
    """A dataset for each, with options that its builder uses."""
    config = protocol_compression.get_config()
    groups = {name: group for name, group in config.items() if name != "cross"}
    assert {group.compression for group in groups.values()} == set(COMPRESSIONS)
    assert {group.methods for group in groups.values()} == {cross_config.CLASSIC}
    for name, group in groups.items():
        assert name == f"ffpp_{group.compression}"
        require_used(name, group, Builder)


def test_errors_name_the_options_that_there_are():
    text = "config.data.bench_json lists crops: add --config.faces.detector=none"
    with pytest.raises(InputError) as error, rename_options("wild"):
        raise InputError(text)
    assert str(error.value) == "config.wild.bench_json lists crops: add --config.wild.detector=none"


def test_a_cluster_is_used_for_the_dataset_that_names_it(tiny, tmp_path):
    tiny.data.beam = "--runner=FlinkRunner"
    for name, group in cross_config.get_config().items():
        if name not in ("cross", "folder"):
            group.beam = "--runner=DirectRunner"
            assert (
                adapt_config(tiny, tmp_path, group.to_dict(), {}).data.beam
                == "--runner=DirectRunner"
            )
    assert adapt_config(tiny, tmp_path, {"dir": str(tmp_path)}, {}).data.beam == ""
