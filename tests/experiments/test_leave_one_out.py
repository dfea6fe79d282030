"""Each method is left out of one training and tested by it."""

import csv
import json

import numpy as np
import pytest
from conftest import OPTIONS, assert_told
from PIL import Image

from deepfidelity_configs import leave_one_out as proof
from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.experiments import leave_one_out
from deepfidelity_jax.fidelity import stored
from deepfidelity_jax.forgeries.families import FAMILIES
from deepfidelity_jax.options import checks
from deepfidelity_jax.records.schema import CHECKSUM
from deepfidelity_jax.scoring.exported_features import Features


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Photographs of 16 rendered people."""
    folder = tmp_path_factory.mktemp("people")
    for identity in range(16):
        rng = np.random.default_rng(identity)
        person = renderer.sample_identity(rng)
        (pose,) = renderer.sample_poses(rng, 1)
        image, _ = renderer.render(person, renderer.sample_scene(rng), pose, 96)
        Image.fromarray(image).save(folder / f"person-{chr(97 + identity)}.png")
    return folder


def options(people, workdir, methods="('swap','inpainted')"):
    small = [option for option in OPTIONS if "identities" not in option and "clips" not in option]
    return [
        f"--config={proof.__file__}",
        *small,
        f"--config.data.dir={people}",
        "--config.faces.detector=none",
        f"--config.leave_one_out={methods}",
        "--config.seed=1",  # every split gets some of the few people
        "--config.train.steps=4",
        "--config.train.eval_every=4",
        f"--workdir={workdir}",
    ]


def test_a_method_that_is_not_tested_is_told_before_any_training(finished, tiny, tmp_path):
    tiny.init_from, tiny.data.records_dir = "", str(finished / "records")
    for groups, words in (
        (("swap", "sawp"), "leave_out names sawp"),
        (("swap", "inpainted+morf"), "leave_out names morf"),
    ):
        tiny.leave_one_out = groups
        with pytest.raises(InputError, match=words):
            leave_one_out.run(tiny, tmp_path)
        assert not list(tmp_path.iterdir())
    (folder,) = (finished / "records" / "synthetic_faces").glob("*/*.*.*")
    leave_one_out.require_tested("swap+inpainted", folder)
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["faces_found"]["test"].pop("swap")
    metadata.pop(CHECKSUM)
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="names swap, but the test split holds .*inpainted"):
        leave_one_out.require_tested("swap+inpainted", tmp_path)


@pytest.mark.slow
@pytest.mark.e2e
def test_each_run_has_not_seen_what_it_is_tested_on(run, people, tmp_path):
    status, _, said = run(*options(people, tmp_path / "proof"))
    assert status == 0, said
    assert b"\r" not in (tmp_path / "proof/leave_one_out.csv").read_bytes()
    rows = list(csv.DictReader((tmp_path / "proof/leave_one_out.csv").open()))
    assert [row["left_out"] for row in rows] == ["swap", "inpainted"]
    for row in rows:
        place = tmp_path / "proof" / f"without_{row['left_out']}"
        metrics = json.loads((place / "eval/face_folder/metrics.json").read_text())
        assert set(metrics["by_method"]) == set(FAMILIES), "tested on all"
        entry = metrics["by_method"][row["left_out"]]
        assert float(row["frame_auc"]) == pytest.approx(entry["frame_auc"])
        controls = metrics["controls"]
        assert float(row["called_fake_half_size"]) == controls["half size"]["called_fake"]
        assert float(row["class_auc_recompressed"]) == controls["recompressed"]["class_auc"]
        model = stored.load(place / "fidelity.npz")
        fitted, calibrated = model.regressor.settings["rows"], len(model.validation.label)
        for split, rows in (("train", fitted), ("validation", calibrated)):
            method = Features.load(place / f"features/face_folder-{split}.npz").method
            assert row["left_out"] in method, "it could have been seen"
            assert rows == np.sum(method != row["left_out"])
        config = json.loads((place / "config.json").read_text())
        assert config["train"]["leave_out"] == [row["left_out"]]
    assert not (tmp_path / "proof/without_swap/records").exists(), "records are shared"
    assert "mean 0." in said
    page = (tmp_path / "proof/report/index.html").read_text()
    assert "Methods left out of training" in page
    assert page.count("faces</small>") == 2

    status, _, again = run(*options(people, tmp_path / "proof"))
    assert status == 0, again
    assert "step " not in again, "a finished run is not repeated"
    assert again.splitlines()[-1] == said.splitlines()[-1]


def test_what_cannot_be_left_out_is_told_at_once(run, people, tmp_path):
    for methods, words in (
        ("('swap',)", "at least two methods"),
        ("('swap','swap')", "each once"),
        ("()", "at least two methods"),
        ("('swap+morph','morph')", "each once"),
        ("('swap','fake/morph')", "config.train.leave_out is ('fake/morph',)"),
    ):
        assert_told(run(*options(people, tmp_path / "proof", methods)), words)
    asked = options(people, tmp_path / "proof")
    assert_told(run(*asked, "--mode=train"), "--mode=train does not take a config of several")
    assert not (tmp_path / "proof").exists()


def test_no_training_starts_from_what_has_seen_the_method(people, run, tmp_path, monkeypatch):
    """The table would be of methods that the detector knows."""

    class Begun(Exception):
        pass

    def begin(*args):
        raise Begun

    monkeypatch.setattr(leave_one_out.pipeline, "prepare_records", begin)
    asked = options(people, tmp_path / "proof")
    told = run(*asked, "--config.init_from=bundled")
    assert_told(told, "leave_out names swap, but config.init_from=bundled was trained with it")
    assert not (tmp_path / "proof").exists()

    source = tmp_path / "source"
    source.mkdir()
    config = checks.checked(proof.get_config()).unlock()
    values = config.to_dict()
    config.init_from = str(source)
    for left_out, ends in (
        (("swap",), InputError),  # the start has seen the other one
        (("swap", "inpainted"), Begun),
    ):
        values["train"] = {"leave_out": left_out}
        (source / "config.json").write_text(json.dumps(values))
        config.leave_one_out = ("swap", "inpainted")
        with pytest.raises(ends):
            leave_one_out.run(config, tmp_path / "proof")


def test_a_plan_is_the_config_without_one_method(tmp_path):
    config = proof.get_config()
    checks.checked(config)
    own = leave_one_out.plan(config, tmp_path, "swap")
    assert own.train.leave_out == ("swap",)
    assert config.train.leave_out == ()
    checks.check(own)
    own, usual = own.to_dict(), config.to_dict()
    usual.pop("leave_one_out")
    own["train"].pop("leave_out"), usual["train"].pop("leave_out")
    own["data"].pop("records_dir"), usual["data"].pop("records_dir")
    assert own == usual
    together = leave_one_out.plan(config, tmp_path, "swap+morph")
    assert together.train.leave_out == ("swap", "morph")
