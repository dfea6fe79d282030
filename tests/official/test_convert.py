"""Official weights become a detector, a detector becomes a file, and training starts from both."""

import json
import shutil

import jax
import jax.numpy as jnp
import joblib
import numpy as np
import pytest
from conftest import DEMO, OPTIONS
from official_weights import PLAIN, TINY, assert_equal, draw, with_heads
from sklearn.svm import SVR
from torch_bytes import write_checkpoint

import deepfidelity_jax as df
from deepfidelity_jax.detector import bundled, trained
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import digest
from deepfidelity_jax.images.pictures import encode_image
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.network.ssaaformer import SSAAFormer
from deepfidelity_jax.official import convert, network
from deepfidelity_jax.quality import learned
from deepfidelity_jax.training import loop, step
from deepfidelity_jax.weight_files import named_tensors


def without_counters(weights):
    return {name: x for name, x in weights.items() if not name.endswith("num_batches_tracked")}


# ------------------------------------------------------------------ the command


@pytest.fixture
def official(tmp_path):
    """A checkpoint as the official training leaves it, averaged weights beside the raw ones."""
    content = {
        "epoch": 3,
        "arch": "tiny",
        "state_dict": {f"module.{name}": x for name, x in draw(TINY, 1).items()},
        "state_dict_ema": {f"module.{name}": x for name, x in draw(TINY, 2).items()},
        "metric": 0.98,
    }
    return write_checkpoint(tmp_path / "model_best.pth.tar", content)


@pytest.fixture
def svr(tmp_path):
    rng = np.random.default_rng(0)
    fitted = SVR().fit(rng.normal(size=(60, 192)), rng.uniform(size=60))
    joblib.dump(fitted, tmp_path / "svr_model.pkl")
    return tmp_path / "svr_model.pkl"


def faces(count=3, side=248):
    return np.random.default_rng(5).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.mark.slow
def test_a_converted_checkpoint_is_a_detector(official, svr, tmp_path, capfd):
    convert.import_official(official, svr, tmp_path / "work")
    told = capfd.readouterr().err
    assert "state_dict_ema" in told
    assert "not known: its face detector and margin" in told
    detector = df.load(tmp_path / "work")
    written = json.loads((tmp_path / "work" / "config.json").read_text())
    assert json.loads(detector.config.to_json()) == written
    assert tuple(detector.config.model.symmetric) == (1, 0, 2, 0)
    assert detector.config.model.image_size == 224
    images = faces()
    expected = network.from_state_dict(draw(TINY, 2))[1]
    prepared = jnp.asarray(detector.prepare(images), jnp.float32) / 127.5 - 1
    outputs = jax.jit(lambda v, x: SSAAFormer(TINY).apply(v, x, train=False))(expected, prepared)
    features = detector.features(images)
    np.testing.assert_allclose(features, outputs.features, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(detector.logits(images), outputs.logits, rtol=1e-4, atol=1e-4)
    expected = joblib.load(svr).predict(features)
    np.testing.assert_allclose(detector.fidelity(images), expected, atol=1e-5)
    assert detector.threshold == 0.5
    assert detector.fidelity_model.calibration.threshold_from == "fixed"
    assert detector.fidelity_model.scale is None


@pytest.mark.slow
def test_raw_weights_are_a_choice(official, tmp_path, capfd):
    convert.import_official(official, None, tmp_path / "work", ema=False)
    told = capfd.readouterr().err
    assert "from state_dict\n" in told
    assert "no regressor" in told
    convert.export_official(tmp_path / "work", tmp_path / "back.npz")
    back = named_tensors.read_weights(tmp_path / "back.npz")[1]
    assert_equal(without_counters(back), draw(TINY, 1))
    with pytest.raises(InputError, match="--mode=fit"):
        df.load(tmp_path / "work").fidelity(faces(1))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_out_and_in_again(official, tmp_path, suffix):
    convert.import_official(official, None, tmp_path / "one")
    path = tmp_path / f"weights.{suffix}"
    convert.export_official(tmp_path / "one", path)
    assert_equal(without_counters(named_tensors.read_weights(path)[1]), draw(TINY, 2))
    convert.import_official(path, None, tmp_path / "two")
    ends = [trained.read_trained(tmp_path / name)[1] for name in ("one", "two")]
    jax.tree.map(np.testing.assert_array_equal, *ends)


@pytest.mark.slow
def test_a_config_with_mask_heads_is_read_back(official, tmp_path):
    """Official weights have none."""
    convert.import_official(official, None, tmp_path / "one")
    config, expected, _ = trained.read_trained(tmp_path / "one")
    config.train.mask_weight = 1.0
    convert.import_official(official, None, tmp_path / "two", config)
    found = trained.read_trained(tmp_path / "two")[1]
    assert found["params"].keys() > expected["params"].keys()
    same = {name: found["params"][name] for name in expected["params"]}
    jax.tree.map(np.testing.assert_array_equal, same, expected["params"])


@pytest.mark.slow
def test_imagenet_weights(tmp_path, capfd):
    """New heads, drawn from the seed; symmetric weights at their start; and all of it is said."""
    weights = with_heads(draw(PLAIN), 1000)
    path = write_checkpoint(tmp_path / "tiny_tl.pth", weights)
    convert.import_official(path, None, tmp_path / "work")
    told = capfd.readouterr().err
    for part in (
        "heads have 1000 classes, like those of ImageNet weights: a starting point for training",
        "head.weight is [1000, 192] there and [2, 192] here",
        "aux_head.bias is [1000]",
        "blocks1.0.w is missing",
    ):
        assert part in told
    config, variables, _ = trained.read_trained(tmp_path / "work")
    assert tuple(config.model.symmetric) == (1, 0, 0, 0)
    params = variables["params"]
    np.testing.assert_array_equal(params["stage1"]["symmetric"]["w"], [[1, 1]])
    np.testing.assert_array_equal(params["norm"]["bias"], weights["norm.bias"])
    fresh = jax.jit(lambda: step.create_state(build_model(config), config).variables)()
    np.testing.assert_array_equal(params["head"]["kernel"], fresh["params"]["head"]["kernel"])
    assert 0.015 < np.std(params["aux_head"]["kernel"]) < 0.025


def test_nothing_is_written_where_anything_is_wrong(official, svr, tmp_path):
    work = tmp_path / "work"
    other = SVR().fit(np.eye(5), np.arange(5))
    joblib.dump(other, tmp_path / "other.pkl")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(official.read_bytes()[:-500])
    lacking = write_checkpoint(
        tmp_path / "lacking.pth", {n: x for n, x in draw(TINY).items() if n != "head.bias"}
    )
    (tmp_path / "half.safetensors").write_bytes(b"\x08")
    (tmp_path / "half.npz").write_bytes(b"PK\x03\x04")
    for weights, regressor, told in (
        (cut, None, "truncated"),
        (lacking, None, "missing: head.bias"),
        (official, tmp_path / "other.pkl", "5 numbers"),
        (official, cut, "cut.pth"),
        (tmp_path / "none.pth", None, "No such file"),
        (tmp_path / "half.safetensors", None, "cannot be read"),
        (tmp_path / "half.npz", None, "cannot be read"),
        (tmp_path / "none.npz", None, "cannot be read"),
        (write_checkpoint(tmp_path / "e.pth", {"epoch": 3}), None, "no weights"),
    ):
        with pytest.raises(InputError, match=told) as raised:
            convert.import_official(weights, regressor, work)
        assert "\n" not in str(raised.value)
        assert not work.exists()
    convert.import_official(official, svr, work)
    packed = shutil.copytree(bundled.folder(), tmp_path / "packed")
    before = {path: path.read_bytes() for path in packed.iterdir()}
    for place in (work, packed):
        with pytest.raises(InputError, match="holds a detector already"):
            convert.import_official(official, svr, place)
    assert {path: path.read_bytes() for path in packed.iterdir()} == before


@pytest.mark.parametrize("noted", [True, False])
def test_a_converted_detector_measures_quality_as_its_config_says(
    official, svr, tiny, tmp_path, noted
):
    """Also one that an earlier version converted, which did not note the measure."""
    tiny.model.symmetric, tiny.train.fidelity_weight = (1, 0, 2, 0), 0.0
    tiny.quality.measure = "learned"
    convert.import_official(official, svr, tmp_path / "work", tiny)
    detector = df.load(tmp_path / "work")
    if not noted:
        detector.fidelity_model.provenance.pop("quality", None)
    assert detector.noted_measure.digest == (digest(learned.PLACE) if noted else "")
    face = faces(1)[0]
    found, reason = detector.quality(
        [encode_image(face, quality=100)], [np.full((5, 2), np.nan, np.float32)]
    )
    assert np.isfinite(found).all()
    assert reason == ""


def test_a_measure_that_is_not_here_is_not_noted(official, svr, tiny, tmp_path):
    tiny.model.symmetric, tiny.train.fidelity_weight = (1, 0, 2, 0), 0.0
    tiny.quality.update(measure="ser_fiq", weights=str(tmp_path / "gone.pth"))
    convert.import_official(official, svr, tmp_path / "work", tiny)
    assert "quality" not in df.load(tmp_path / "work").fidelity_model.provenance


def test_a_regressor_of_a_conversion_that_was_killed_is_gone(official, svr, tmp_path, monkeypatch):
    """Killed before the checkpoint; then other weights are converted, without a regressor."""
    work = tmp_path / "work"
    with monkeypatch.context() as killed:
        killed.setattr(convert, "Checkpoints", None)
        with pytest.raises(TypeError):
            convert.import_official(official, svr, work)
    assert (work / "fidelity.npz").exists()
    other = write_checkpoint(tmp_path / "other.pth", draw(TINY, 3))
    convert.import_official(other, None, work)
    assert not (work / "fidelity.npz").exists()


def test_a_config_must_name_the_same_network(official, tiny, tmp_path):
    for group, values, told in (
        ("model", {"variant": "small"}, "variant is small in the config and tiny in the file"),
        ("model", {"symmetric": (-1, 0, 0, 0)}, r"symmetric is \(1, 0, 0, 0\) in the config"),
        ("train", {"fidelity_weight": 1.0}, "fidelity head"),
    ):
        config = tiny.copy_and_resolve_references()
        config.model.symmetric, config.train.fidelity_weight = (1, 0, 2, 0), 0.0
        config[group].update(values)
        with pytest.raises(InputError, match=told):
            convert.import_official(official, None, tmp_path / "work", config)
        assert not (tmp_path / "work").exists()
    path = write_checkpoint(tmp_path / "a.pth", with_heads(draw(PLAIN), 1000))
    with pytest.raises(InputError, match="init_from"):
        convert.import_official(path, None, tmp_path / "work", tiny)


def test_with_its_config_it_is_evaluated_as_if_trained(finished, run, tmp_path):
    """A run's weights, out to a file, back under the run's config, give the run's own metrics."""
    path, work = tmp_path / "weights.safetensors", tmp_path / "work"
    convert.export_official(finished, path)
    own = [DEMO, *OPTIONS, f"--workdir={work}"]
    status, _, error = run(*own, "--mode=convert", f"--input={path}")
    assert status == 0, error
    shutil.copytree(finished / "records", work / "records")
    for mode in ("fit", "evaluate"):
        status, _, error = run(*own, f"--mode={mode}")
        assert status == 0, error
    found, expected = (
        json.loads((folder / "eval/synthetic_faces/metrics.json").read_text())
        for folder in (work, finished)
    )
    assert found["frame_auc"] == pytest.approx(expected["frame_auc"], abs=1e-6)
    assert found["video_auc"] == pytest.approx(expected["video_auc"], abs=1e-6)


# ------------------------------------------------------------------ training from it


def start_training(config, records_folder, workdir):
    """One step at a learning rate of zero: parameters stay as they began."""
    config.train.update(steps=1, learning_rate=0.0, end_learning_rate=0.0, warmup_steps=0)
    loop.train(config, records_folder, workdir, convert.initial_arrays(config))
    return trained.read_trained(workdir)[1]["params"]


def test_training_starts_from_a_file(tiny, records_folder, tmp_path, capfd):
    weights = with_heads(draw(PLAIN), 1000)
    tiny.init_from = str(write_checkpoint(tmp_path / "tl.pth", {"model": weights}))
    params = start_training(tiny, records_folder, tmp_path / "work")
    told = capfd.readouterr().err
    for name in ("head.weight", "head.bias", "aux_head.weight", "aux_head.bias"):
        assert f"  {name} is [1000" in told
    assert "  blocks1.0.w is missing" in told
    assert "  fidelity_head.weight is missing" in told
    np.testing.assert_array_equal(params["norm"]["scale"], weights["norm.weight"])
    embed = weights["patch_embed1.proj.weight"].transpose(2, 3, 1, 0).reshape(48, 48)
    np.testing.assert_array_equal(params["stage1"]["patch_embed"]["proj"]["kernel"], embed)
    assert params["head"]["kernel"].shape == (192, 2)


def test_training_starts_from_a_workdir(tiny, finished, records_folder, tmp_path):
    tiny.init_from = str(finished)
    params = start_training(tiny, records_folder, tmp_path / "work")
    expected = trained.read_trained(finished)[1]["params"]
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_a_folder_of_a_hub_is_a_starting_point_as_the_bundled_detector_is(tiny, tmp_path):
    folder = shutil.copytree(bundled.folder(), tmp_path / "hub")
    found = []
    for tiny.init_from in (bundled.NAME, str(folder)):
        found.append(convert.initial_arrays(tiny))
    assert found[0].keys() == found[1].keys()
    for place, array in found[0].items():
        np.testing.assert_array_equal(found[1][place], array)
    convert.export_official(folder, tmp_path / "w.safetensors")
    weights = named_tensors.read_weights(tmp_path / "w.safetensors")[1]
    np.testing.assert_array_equal(
        network.from_state_dict(weights)[1]["params"]["head"]["kernel"],
        bundled.read()[1]["params"]["head"]["kernel"],
    )


@pytest.mark.parametrize("given", ["missing.pth", "", "folder"])
def test_what_training_cannot_start_from(tiny, tmp_path, given):
    (tmp_path / "folder").mkdir()
    tiny.init_from = str(tmp_path / given) if given else str(
        write_checkpoint(tmp_path / "small.pth", {"conv1.weight": np.zeros((3, 3), np.float32)})
    )  # fmt: skip
    with pytest.raises(InputError, match=given or "another architecture"):
        convert.initial_arrays(tiny)
