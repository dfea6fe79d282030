"""A folder for a hub is a detector, and its card has the fields that hubs read."""

import json

import jax
import numpy as np
import pytest
import yaml
from random_detectors import draw_crops

import deepfidelity_jax as df
from deepfidelity_jax.detector import bundled
from deepfidelity_jax.export import hub


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("hub") / "detector"
    hub.write_folder(bundled.folder(), place, "face_folder", bundled.LICENCE)
    return place


def front(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_it_scores_as_the_detector_to_the_bit(folder):
    own, there = df.load(), df.load(folder)
    crops = draw_crops(3, 108)
    np.testing.assert_array_equal(there.fidelity(crops), own.fidelity(crops))
    jax.tree.map(np.testing.assert_array_equal, there.variables, own.variables)
    assert there.threshold == own.threshold
    assert there.faces == own.faces


def test_nothing_in_it_is_pickled(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "README.md", "config.json", "model.safetensors", "fidelity.npz", "training_pictures.json"
    }  # fmt: skip
    with np.load(folder / "fidelity.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    assert json.loads((folder / "config.json").read_text())["id2label"] == {
        "0": "fake",
        "1": "real",
    }


def test_the_card_has_the_fields_and_the_figures(folder):
    text = (folder / "README.md").read_text()
    fields = front(text)
    assert fields["license"] == "apache-2.0"
    assert fields["library_name"] == "deepfidelity_jax"
    assert fields["pipeline_tag"] == "image-classification"
    (result,) = fields["model-index"][0]["results"]
    figures = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert figures == {"roc_auc": 0.902, "accuracy": 0.778}
    assert (bundled.folder() / "MODEL_CARD.md").read_text().strip() in text


def test_what_is_not_known_is_not_said():
    fields = front(hub.make_card("# Model card\n\nNothing was measured.\n", "face_folder", ""))
    assert fields["license"] == "other"
    assert "model-index" not in fields
    assert "metrics" not in fields


def test_figures_that_the_card_calls_optimistic_are_not_for_machines():
    card = "# Model card\n\n- AUC over faces 0.900 [0.800, 0.950]\n"
    assert "model-index" in front(hub.make_card(card, "face_folder", ""))
    warning = "- These figures are optimistic: the checkpoint was chosen on this split.\n"
    assert "model-index" not in front(hub.make_card(card + warning, "face_folder", ""))


def test_a_folder_is_exported_again_as_it_is(folder, tmp_path):
    hub.write_folder(folder, tmp_path / "again", "face_folder", bundled.LICENCE)
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def names(place):
    return {path.name for path in place.iterdir()}


def test_a_folder_takes_the_place_of_an_earlier_one(tmp_path):
    place = tmp_path / "hub"
    (place / hub.PARTIAL).mkdir(parents=True)
    (place / hub.PARTIAL / "config.json").touch()  # of a killed command
    for name in ("yunet.onnx", "model.safetensors", ".gitattributes"):
        (place / name).write_text("before")
    with hub.put_whole(place) as new:
        assert not names(new)
        (new / "model.safetensors").write_text("after")
        (new / "README.md").write_text("after")
    assert names(place) == {"model.safetensors", "README.md", ".gitattributes"}
    assert (place / "model.safetensors").read_text() == "after"


def fail(place):
    with hub.put_whole(place) as new:
        (new / "model.safetensors").write_text("after")
        raise RuntimeError


def test_an_error_leaves_the_earlier_folder_or_none(tmp_path):
    earlier, none = tmp_path / "earlier", tmp_path / "none" / "hub"
    earlier.mkdir()
    (earlier / "model.safetensors").write_text("before")
    for place in (earlier, none):
        with pytest.raises(RuntimeError):
            fail(place)
    assert names(earlier) == {"model.safetensors"}
    assert (earlier / "model.safetensors").read_text() == "before"
    assert not none.exists()
