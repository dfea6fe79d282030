"""Official tensors in, official tensors out: one table of names, nothing lost, nothing guessed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from official_weights import PLAIN, TINY, assert_equal, draw, with_heads

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.size import count_parameters
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig
from deepfidelity_jax.official import network

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


def test_heads_of_training_alone_have_no_official_name():
    plain, masked = (SSAAFormerConfig.tiny(mask_heads=heads) for heads in (False, True))
    assert network.name_tensors(masked) == network.name_tensors(plain)
    images = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda: SSAAFormer(masked).init(jax.random.key(0), images, train=False))
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    arrays, lines = network.start_from(network.to_state_dict(masked, variables), masked)
    assert lines == []
    assert not any("mask_head" in part for place in arrays for part in place)


def test_round_trip_is_exact():
    """Official to ours to official, every tensor and counter; and every array of ours is filled."""
    config = SSAAFormerConfig.tiny(symmetric=(1, 0, 2, 0), fidelity_head=True, ordinal_head=True)
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


@pytest.mark.slow
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

    @jax.jit
    def first_stage(variables, images):
        _, kept = SSAAFormer(PLAIN).apply(
            variables, images, train=False, mutable=["intermediates"],
            capture_intermediates=lambda module, _: module.name == "stage1",
        )  # fmt: skip
        return kept["intermediates"]["stage1"]["__call__"]

    (found,) = first_stage(variables, images)
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


@pytest.mark.slow
def test_a_single_head_keeps_its_logits():
    """A plain UniFormer has no token head, and its logits are the class head's."""
    weights = with_heads(draw(PLAIN), 2, names=("head",))
    config, variables = network.from_state_dict(weights)
    images = jnp.asarray(np.random.default_rng(2).normal(size=(2, 64, 64, 3)), jnp.float32)
    outputs = jax.jit(lambda v, x: SSAAFormer(config).apply(v, x, train=False))(variables, images)
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
