"""Official weights in, official weights out: one table of names, nothing lost, nothing guessed."""

import json
import shutil
from functools import cache

import jax
import jax.numpy as jnp
import joblib
import numpy as np
import pytest
from sklearn.svm import SVR
from torch_bytes import write_checkpoint

import deepfidelity_jax as df
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.size import count_parameters
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig
from deepfidelity_jax.official import convert, network
from deepfidelity_jax.training import loop, step
from deepfidelity_jax.weight_files import named_tensors

TINY = SSAAFormerConfig.tiny(symmetric=(1, 0, 2, 0))
PLAIN = SSAAFormerConfig.tiny(symmetric=(0, 0, 0, 0))


def draw(config, seed=0):
    """Official weights far from their start."""
    rng = np.random.default_rng(seed)
    weights = {}
    for tensor in network.name_tensors(config):
        centre = 1.0 if "norm" in tensor.name and tensor.name.endswith(("weight", "var")) else 0.0
        values = centre + 0.2 * rng.uniform(-1, 1, tensor.shape)
        weights[tensor.name] = values.astype(np.float32)
    return weights


def with_heads(weights, classes, names=("head", "aux_head")):
    """The same trunk with heads of so many classes."""
    trunk = {name: x for name, x in weights.items() if not name.startswith(("head", "aux_head"))}
    rng = np.random.default_rng(1)
    for name in names:
        trunk[f"{name}.weight"] = rng.normal(size=(classes, 192)).astype(np.float32)
        trunk[f"{name}.bias"] = rng.normal(size=classes).astype(np.float32)
    return trunk


@cache
def compiled(config):
    return jax.jit(
        lambda variables, images: SSAAFormer(config).apply(variables, images, train=False)
    )


def score(config, variables, size=64):
    images = np.random.default_rng(2).normal(size=(2, size, size, 3))
    return compiled(config)(variables, jnp.asarray(images, jnp.float32))


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, strict=True, err_msg=name)


def without_counters(weights):
    return {name: x for name, x in weights.items() if not name.endswith("num_batches_tracked")}


# ------------------------------------------------------------------ the table


def official_names():
    """The official names and shapes of SSAAFormer-L, spelled out."""
    shapes = {}

    def add(prefix, **tensors):
        shapes.update({f"{prefix}.{name.replace('__', '.')}": s for name, s in tensors.items()})

    stages = zip((5, 10, 24, 7), (3, 128, 192, 448), (128, 192, 448, 640), strict=True)
    for stage, (depth, before, c) in enumerate(stages, 1):
        side = 4 if stage == 1 else 2
        add(f"patch_embed{stage}.proj", weight=(c, before, side, side), bias=(c,))
        add(f"patch_embed{stage}.norm", weight=(c,), bias=(c,))
        one = (1, 1) if stage <= 2 else ()
        for i in range(depth):
            block = f"blocks{stage}.{i}"
            add(f"{block}.pos_embed", weight=(c, 1, 3, 3), bias=(c,))
            add(f"{block}.mlp.fc1", weight=(4 * c, c, *one), bias=(4 * c,))
            add(f"{block}.mlp.fc2", weight=(c, 4 * c, *one), bias=(c,))
            gamma = (1, c, 1, 1) if stage <= 2 else (c,)
            add(block, gamma_1=gamma, gamma_2=gamma)
            for norm in ("norm1", "norm2"):
                add(f"{block}.{norm}", weight=(c,), bias=(c,))
                if stage <= 2:
                    add(f"{block}.{norm}", running_mean=(c,), running_var=(c,))
            if stage <= 2:
                add(f"{block}.conv1", weight=(c, c, 1, 1), bias=(c,))
                add(f"{block}.conv2", weight=(c, c, 1, 1), bias=(c,))
                add(f"{block}.attn", weight=(c, 1, 5, 5), bias=(c,))
            else:
                add(f"{block}.attn.qkv", weight=(3 * c, c), bias=(3 * c,))
                add(f"{block}.attn.proj", weight=(c, c), bias=(c,))
            if stage == 1:
                add(block, w=(2,))
    add("norm", weight=(640,), bias=(640,), running_mean=(640,), running_var=(640,))
    add("head", weight=(2, 640), bias=(2,))
    add("aux_head", weight=(2, 640), bias=(2,))
    return shapes


def test_the_official_names():
    tensors = network.name_tensors(SSAAFormerConfig.large())
    assert len({tensor.name for tensor in tensors}) == len(tensors)
    assert {tensor.name: tensor.shape for tensor in tensors} == official_names()
    trained = [t for t in tensors if "running" not in t.name]
    assert sum(int(np.prod(t.shape)) for t in trained) == 98_824_462


def test_round_trip_is_exact():
    """Official to ours to official, every tensor and counter; and every array of ours is filled."""
    config = SSAAFormerConfig.tiny(symmetric=(1, 0, 2, 0), fidelity_head=True)
    weights = draw(config)
    found, variables = network.from_state_dict(weights)
    assert found == config
    shapes = jax.eval_shape(
        lambda: SSAAFormer(config).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    )
    assert jax.tree.map(lambda x: (x.shape, x.dtype.name), variables) == jax.tree.map(
        lambda x: (x.shape, "float32"), dict(shapes)
    )
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == count_parameters(config)
    back = network.to_state_dict(config, variables)
    counters = {name for name in back if name.endswith("num_batches_tracked")}
    assert counters == {n.replace("running_var", "num_batches_tracked")
                        for n in weights if n.endswith("running_var")}  # fmt: skip
    assert all(back.pop(name) == 0 for name in counters)
    assert_equal(back, weights)


def test_convolutions_and_products_are_the_official_ones():
    """Against convolutions with the official OIHW weights, stage 1 of a plain network."""
    weights = draw(PLAIN)
    _, variables = network.from_state_dict(weights)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 64, 3)), jnp.float32)

    def conv(x, name, stride=1, padding="SAME", groups=1):
        y = jax.lax.conv_general_dilated(
            x, weights[f"{name}.weight"], (stride, stride), padding, feature_group_count=groups,
            dimension_numbers=("NHWC", "OIHW", "NHWC"), precision="highest",
        )  # fmt: skip
        return y + weights[f"{name}.bias"]

    def norm(x, name):
        mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        x = (x - mean) / np.sqrt(var + 1e-5)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = conv(images, "patch_embed1.proj", 4, "VALID")
    x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    x = x * weights["patch_embed1.norm.weight"] + weights["patch_embed1.norm.bias"]
    b = "blocks1.0"
    x = x + conv(x, f"{b}.pos_embed", groups=48)
    y = conv(norm(x, f"{b}.norm1"), f"{b}.conv1")
    x = x + conv(conv(y, f"{b}.attn", groups=48), f"{b}.conv2")
    y = conv(norm(x, f"{b}.norm2"), f"{b}.mlp.fc1")
    x = x + conv(jax.nn.gelu(y, approximate=False), f"{b}.mlp.fc2")

    _, kept = SSAAFormer(PLAIN).apply(
        variables, images, train=False, mutable=["intermediates"],
        capture_intermediates=lambda module, _: module.name == "stage1",
    )  # fmt: skip
    (found,) = kept["intermediates"]["stage1"]["__call__"]
    np.testing.assert_allclose(found, x, atol=2e-5 * float(jnp.abs(x).max()))


def test_queries_keys_values_stay_in_order():
    weights = draw(TINY)
    _, variables = network.from_state_dict(weights)
    kernel = variables["params"]["stage3"]["plain"]["attn"]["qkv"]["kernel"]
    np.testing.assert_array_equal(kernel[0], weights["blocks3.2.attn.qkv.weight"].T)
    kernel = variables["params"]["stage3"]["symmetric"]["attn"]["qkv"]["kernel"]
    np.testing.assert_array_equal(kernel[1], weights["blocks3.1.attn.qkv.weight"].T)


# ------------------------------------------------------------------ what the tensors say


def empty(config):
    """Tensors of the right shapes without any memory."""
    zero = np.zeros((), np.float32)
    return {t.name: np.broadcast_to(zero, t.shape) for t in network.name_tensors(config)}


@pytest.mark.parametrize("variant", network.VARIANTS)
@pytest.mark.parametrize("symmetric", [None, (0, 0, 0, 0), (1, 0, 2, 1)])
def test_the_network_is_inferred(variant, symmetric):
    config = getattr(SSAAFormerConfig, variant)(symmetric=symmetric)
    assert network.infer(empty(config)) == config


def test_another_number_of_classes_is_inferred():
    config = SSAAFormerConfig.small(symmetric=(0, 0, 0, 0), num_classes=1000)
    assert network.infer(empty(config)) == config


def test_all_problems_are_told_together():
    weights = draw(TINY)
    del weights["norm.bias"], weights["blocks3.1.attn.qkv.weight"]
    weights["blocks1.0.mystery"] = np.zeros(3, np.float32)
    weights["blocks1.0.gamma_1"] = np.zeros((1, 48, 1, 1), np.float32)
    weights["norm.weight"] = np.zeros(7, np.float32)
    weights["patch_embed2.proj.bias"] = np.full(64, np.nan, np.float32)
    weights["patch_embed3.proj.bias"] = np.zeros(128, np.int8)
    with pytest.raises(InputError) as told:
        network.from_state_dict(weights)
    for part in (
        "missing: blocks3.1.attn.qkv.weight, norm.bias;",
        "unexpected: blocks1.0.gamma_1, blocks1.0.mystery;",
        "misshapen: norm.weight [7] instead of [192]",
        "not finite numbers: patch_embed2.proj.bias, patch_embed3.proj.bias",
    ):
        assert part in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda w: {"conv1.weight": w["norm.bias"], "fc.bias": w["norm.bias"]},
            "another architect",
        ),
        (lambda w: {n: x for n, x in w.items() if "blocks4" not in n}, "another architecture"),
        (lambda w: {**w, "blocks4.1.w": w["head.bias"]}, "blocks4.\\*.w"),
        (lambda w: {**w, "blocks4.5.gamma_1": w["norm.bias"]}, r"none of large.*"),
    ],
)
def test_other_networks(change, told):
    with pytest.raises(InputError, match=told) as raised:
        network.from_state_dict(change(draw(TINY)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_other_precisions_become_float32(dtype):
    weights = {name: x.astype(dtype) for name, x in draw(TINY).items()}
    _, variables = network.from_state_dict(weights)
    assert {x.dtype.name for x in jax.tree.leaves(variables)} == {"float32"}
    expected = network.from_state_dict({n: x.astype(np.float32) for n, x in weights.items()})[1]
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_a_single_head_keeps_its_logits():
    """A plain UniFormer has no token head, and its logits are the class head's."""
    weights = with_heads(draw(PLAIN), 2, names=("head",))
    config, variables = network.from_state_dict(weights)
    outputs = score(config, variables)
    np.testing.assert_array_equal(outputs.logits, outputs.class_logits)
    assert np.ptp(outputs.logits) > 0


# ------------------------------------------------------------------ into another network


def test_starting_from_imagenet_weights():
    weights = with_heads(draw(PLAIN), 1000)
    arrays, lines = network.start_from(weights, TINY)
    assert set(network.shapes_of(TINY)) - set(arrays) == {
        ("params", head, leaf) for head in ("head", "aux_head") for leaf in ("kernel", "bias")
    }
    np.testing.assert_array_equal(arrays["params", "stage3", "symmetric", "w"], np.ones((2, 2)))
    assert len(lines) == 4 + 3
    assert "head.weight is [1000, 192] there and [2, 192] here: it starts anew" in lines
    assert "blocks3.1.w is missing: it starts at ones, an equal mix" in lines
    back = arrays["params", "stage3", "symmetric", "mlp", "fc1", "kernel"][1]
    np.testing.assert_array_equal(back, weights["blocks3.1.mlp.fc1.weight"].T)


def test_nothing_differs_in_silence():
    own = SSAAFormerConfig.tiny(symmetric=(1, 0, 2, 0), fidelity_head=True)
    arrays, lines = network.start_from(draw(own), own)
    assert lines == []
    assert arrays.keys() == network.shapes_of(own).keys()
    _, lines = network.start_from(draw(own), PLAIN)
    assert [line.split(" is left out")[0] for line in lines] == [
        "blocks1.0.w", "blocks3.0.w", "blocks3.1.w", "fidelity_head.bias", "fidelity_head.weight",
    ]  # fmt: skip
    _, lines = network.start_from(draw(PLAIN), own)
    assert sum("fidelity_head" in line for line in lines) == 2
    with pytest.raises(InputError, match="variant tiny, and the network is small"):
        network.start_from(draw(TINY), SSAAFormerConfig.small())
    incomplete = {name: x for name, x in draw(TINY).items() if name != "norm.bias"}
    with pytest.raises(InputError, match=r"missing: norm\.bias"):
        network.start_from(incomplete, TINY)


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
    outputs = compiled(TINY)(expected, prepared)
    features = detector.features(images)
    np.testing.assert_allclose(features, outputs.features, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(detector.logits(images), outputs.logits, rtol=1e-4, atol=1e-4)
    expected = joblib.load(svr).predict(features)
    np.testing.assert_allclose(detector.fidelity(images), expected, atol=1e-5)
    assert detector.threshold == 0.5
    assert detector.fidelity_model.calibration.threshold_from == "fixed"
    assert detector.fidelity_model.scale is None


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


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_out_and_in_again(official, tmp_path, suffix):
    convert.import_official(official, None, tmp_path / "one")
    path = tmp_path / f"weights.{suffix}"
    convert.export_official(tmp_path / "one", path)
    assert_equal(without_counters(named_tensors.read_weights(path)[1]), draw(TINY, 2))
    convert.import_official(path, None, tmp_path / "two")
    ends = [loop.read_trained(tmp_path / name)[1] for name in ("one", "two")]
    jax.tree.map(np.testing.assert_array_equal, *ends)


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
    config, variables, _ = loop.read_trained(tmp_path / "work")
    assert tuple(config.model.symmetric) == (1, 0, 0, 0)
    params = variables["params"]
    np.testing.assert_array_equal(params["stage1"]["symmetric"]["w"], [[1, 1]])
    np.testing.assert_array_equal(params["norm"]["bias"], weights["norm.bias"])
    fresh = jax.jit(lambda: step.create_state(step.build_model(config), config).variables)()
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
    with pytest.raises(InputError, match="already"):
        convert.import_official(official, svr, work)


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


def test_with_its_config_it_is_evaluated_as_if_trained(finished, command, tmp_path):
    """A run's weights, out to a file, back under the run's config, give the run's own metrics."""
    path, work = tmp_path / "weights.safetensors", tmp_path / "work"
    convert.export_official(finished, path)
    done = command(work, "--mode=convert", f"--input={path}").finish()
    assert done.returncode == 0, done.stderr
    shutil.copy(finished / "fidelity.npz", work)
    shutil.copytree(finished / "records", work / "records")
    done = command(work, "--mode=evaluate").finish()
    assert done.returncode == 0, done.stderr
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
    return loop.read_trained(workdir)[1]["params"]


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
    expected = loop.read_trained(finished)[1]["params"]
    jax.tree.map(np.testing.assert_array_equal, params, expected)


@pytest.mark.parametrize("given", ["missing.pth", "", "folder"])
def test_what_training_cannot_start_from(tiny, tmp_path, given):
    (tmp_path / "folder").mkdir()
    tiny.init_from = str(tmp_path / given) if given else str(
        write_checkpoint(tmp_path / "small.pth", {"conv1.weight": np.zeros((3, 3), np.float32)})
    )  # fmt: skip
    with pytest.raises(InputError, match=given or "another architecture"):
        convert.initial_arrays(tiny)
