"""SSAAFormer: its outputs, the paper's symmetry, its start, and one result with less memory."""

import dataclasses
import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.ssaaformer import Block, SSAAFormer, SSAAFormerConfig, Stage

SMALLEST = SSAAFormerConfig(
    depths=(3, 1, 2, 1),
    widths=(16, 24, 32, 48),
    head_dim=16,
    layer_scale=0.5,
    symmetric=(1, 0, 2, 0),
    fidelity_head=True,
    ordinal_head=True,
)


def make_images(h=64, w=64, n=3):
    return jnp.asarray(np.random.default_rng(0).normal(size=(n, h, w, 3)), jnp.float32)


def randomise(tree, seed=1):
    """Every tensor of these shapes away from its start, so that no zero or one hides a term."""
    rng = np.random.default_rng(seed)

    def draw(path, shape):
        centre = 1.0 if path[-1].key in ("scale", "var") else 0.0
        return jnp.asarray(centre + 0.2 * rng.uniform(-1, 1, shape.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, tree)


@pytest.fixture(scope="module")
def variables():
    init = SSAAFormer(SMALLEST).init
    return randomise(jax.eval_shape(lambda: init(jax.random.key(0), make_images(), train=False)))


@cache
def compiled(config=SMALLEST, train=False):
    """The network as one compiled function of (variables, images, seed): outputs and statistics."""

    @jax.jit
    def run(variables, images, seed=0):
        options = {"mutable": ["batch_stats"], "rngs": {"dropout": jax.random.key(seed)}}
        return SSAAFormer(config).apply(variables, images, train=train, **options)

    return run


def evaluate(variables, images, config=SMALLEST):
    return compiled(config)(variables, images)[0]


def loss_and_gradient(model, variables):
    """A loss that reads every output, and its gradient by parameter."""
    rng = np.random.default_rng(2)

    def loss(params):
        outputs, _ = model.apply(
            {**variables, "params": params}, make_images(), train=True, mutable=["batch_stats"]
        )
        read = (
            outputs.class_logits, outputs.token_logits, outputs.fidelity, outputs.ordinal_logits
        )  # fmt: skip
        return sum((y * rng.normal(size=y.shape)).sum() for y in read)

    return jax.jit(jax.value_and_grad(loss))(variables["params"])


@pytest.fixture(scope="module")
def reference(variables):
    return loss_and_gradient(SSAAFormer(SMALLEST), variables)


def test_a_configuration_survives_json():
    config = SSAAFormerConfig.small(symmetric=(3, 1, 0, 0), layer_scale=0.1)
    again = SSAAFormerConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert again == config
    assert hash(again) == hash(config)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"depths": (1, 2, 3)}, "depths has 3 numbers"),
        ({"symmetric": (3, 0, 0, 0)}, "3 of the 1 blocks in stage 1"),
        ({"symmetric": (-1, 0, 0, 0)}, "-1 of the 1 blocks in stage 1"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
        ({"head_dim": 48}, "width 128 is not a multiple of head_dim 48"),
    ],
)
def test_impossible_configurations_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        SSAAFormerConfig.tiny(**changes)


@pytest.mark.parametrize(("h", "w"), [(100, 96), (96, 16), (0, 32)])
def test_impossible_sizes_are_refused(variables, h, w):
    with pytest.raises(ValueError, match=f"images of {h}x{w}.*multiples of 32"):
        SSAAFormer(SMALLEST).apply(variables, jnp.zeros((1, h, w, 3)), train=False)


@pytest.mark.slow
@pytest.mark.parametrize(("h", "w"), [(96, 96), (160, 160), (64, 96)])
def test_outputs_fit_together_at_any_size(variables, h, w):
    outputs = evaluate(variables, make_images(h, w, n=2))
    tokens = (h // 32) * (w // 32)
    assert outputs.features.shape == (2, 48)
    assert outputs.token_logits.shape == (2, tokens, 2)
    assert outputs.fidelity.shape == (2, 2)
    assert all(y.dtype == jnp.float32 for y in jax.tree.leaves(outputs))
    # Both heads are linear: the token head on the mean token is the mean of its outputs.
    expected = outputs.class_logits + 0.5 * outputs.token_logits.max(axis=1)
    np.testing.assert_array_equal(outputs.logits, expected)
    assert all(np.isfinite(y).all() for y in jax.tree.leaves(outputs))


@pytest.mark.slow
def test_the_feature_is_both_heads_taken_as_identity(variables):
    """Heads that copy the feature's numbers make `logits` the exported feature."""
    config = dataclasses.replace(SMALLEST, num_classes=48)
    identity = {"kernel": jnp.eye(48), "bias": jnp.zeros(48)}
    params = {**variables["params"], "head": identity, "aux_head": identity}
    outputs = evaluate({**variables, "params": params}, make_images(), config)
    np.testing.assert_allclose(outputs.logits, outputs.features, rtol=1e-5, atol=1e-5)


def test_tokens_are_told_row_by_row(variables):
    """A change in one corner moves the token of that corner most."""
    images = make_images(64, 96, n=2)
    changed = images.at[:, -16:, :16].add(20.0)
    before, after = (evaluate(variables, x).token_logits for x in (images, changed))
    moved = np.abs(after - before).sum((0, 2))
    assert moved.argmax() == 3  # 2 rows of 3: the last row's first


@pytest.mark.slow
def test_every_slice_of_every_tensor_gets_a_gradient(reference):
    _, gradient = reference
    dead = []
    for path, g in jax.tree_util.tree_leaves_with_path(gradient):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        stacked = "/symmetric/" in name or "/plain/" in name
        for i, part in enumerate(np.asarray(g) if stacked else [np.asarray(g)]):
            if not np.isfinite(part).all() or np.abs(part).max() < 1e-9:
                dead.append(f"{name}[{i}]")
    assert not dead


LAST_BIAS = "stage4/plain/mlp/fc2/bias"


@pytest.mark.slow
def test_keeping_less_for_the_gradient_changes_nothing(variables, reference):
    loss, gradient = reference
    loss_, gradient_ = loss_and_gradient(SSAAFormer(SMALLEST, remat=True), variables)
    np.testing.assert_allclose(loss_, loss, rtol=1e-4)
    steepest = max(np.abs(g).max() for g in jax.tree.leaves(gradient))

    def compare(path, a, b):
        # The last bias before BatchNorm has no gradient but rounding's.
        vanishes = jax.tree_util.keystr(path, simple=True, separator="/").endswith(LAST_BIAS)
        atol = 1e-6 * steepest if vanishes else 1e-4 * np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=atol)

    jax.tree_util.tree_map_with_path(compare, gradient_, gradient)


@pytest.mark.slow
def test_blocks_run_in_order(variables):
    """The symmetric stack first, then the slices of the plain one."""
    stage = Stage(SMALLEST, 1, train=False, remat=False, folded=False)
    own = {key: tree["stage1"] for key, tree in variables.items()}

    @jax.jit
    def run(own, images):
        def patches(module, _):
            return module.name == "patch_embed"

        return stage.apply(own, images, jnp.zeros(3), capture_intermediates=patches)

    got, seen = run(own, make_images(n=2))
    x = seen["intermediates"]["patch_embed"]["__call__"][0]
    for stack, i in (("symmetric", 0), ("plain", 0), ("plain", 1)):
        part = {key: jax.tree.map(lambda p, i=i: p[i], own[key][stack]) for key in own}
        x = run_block(local=True, symmetric=stack == "symmetric")(part, x)
    np.testing.assert_allclose(got, x, rtol=1e-4, atol=1e-4 * np.abs(x).max())


@cache
def run_block(local, symmetric):
    """A block in evaluation as one compiled function of (variables, x)."""
    block = Block(SMALLEST, local=local, symmetric=symmetric, train=False, folded=False)
    return jax.jit(lambda variables, x: block.apply(variables, x, jnp.zeros(()))[0])


def mixing_branch(x, *, local, symmetric, weights=(1.0, 1.0)):
    """What a block adds to x by mixing tokens: position term and MLP are silenced."""
    symmetric_block = Block(SMALLEST, local=local, symmetric=True, train=False, folded=False)
    init = symmetric_block.init
    params = randomise(jax.eval_shape(lambda: init(jax.random.key(0), x, jnp.zeros(()))))["params"]
    params["w"] = jnp.asarray(weights)
    for silenced in (params["pos_embed"], params["mlp"]["fc2"]):
        silenced.update(jax.tree.map(jnp.zeros_like, silenced))
    if not symmetric:
        del params["w"]
    stats = {f"norm{i}": {"mean": jnp.full(32, 0.1), "var": jnp.full(32, 2.0)} for i in (1, 2)}
    variables = {"params": params, **({"batch_stats": stats} if local else {})}
    return run_block(local, symmetric)(variables, x) - x


@pytest.mark.parametrize("local", [True, False])
def test_equal_weights_add_a_mirror_symmetric_map(local):
    x = make_images(6, 8, n=2) @ jnp.asarray(np.random.default_rng(5).normal(size=(3, 32)))
    x = x.astype(jnp.float32)
    added = mixing_branch(x, local=local, symmetric=True)
    np.testing.assert_allclose(added, added[:, :, ::-1], atol=1e-5)
    plain = mixing_branch(x, local=local, symmetric=False)
    assert np.abs(plain - plain[:, :, ::-1]).max() > 1e-2


@pytest.mark.parametrize("local", [True, False])
def test_weights_pushed_apart_make_the_block_plain_or_mirrored(local):
    x = make_images(6, 8, n=2) @ jnp.asarray(np.random.default_rng(5).normal(size=(3, 32)))
    x = x.astype(jnp.float32)
    plain = mixing_branch(x, local=local, symmetric=False)
    kept = mixing_branch(x, local=local, symmetric=True, weights=(60.0, -60.0))
    mirrored = mixing_branch(x, local=local, symmetric=True, weights=(-60.0, 60.0))
    np.testing.assert_allclose(kept, plain, atol=1e-6)
    np.testing.assert_allclose(mirrored, plain[:, :, ::-1], atol=1e-5)


@pytest.mark.slow
def test_bfloat16_is_close_to_float32(variables):
    exact = evaluate(variables, make_images())
    rough = evaluate(variables, make_images(), dataclasses.replace(SMALLEST, dtype="bfloat16"))
    assert all(y.dtype == jnp.float32 for y in jax.tree.leaves(rough))
    error = np.linalg.norm(rough.features - exact.features) / np.linalg.norm(exact.features)
    assert 1e-6 < error < 2e-2


@pytest.mark.slow
def test_training_moves_every_running_statistic_and_evaluation_none(variables):
    _, new = compiled(train=True)(variables, make_images())
    moved = jax.tree.map(lambda a, b: (a != b).all(), new["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(moved))
    _, same = compiled(train=False)(variables, make_images())
    jax.tree.map(np.testing.assert_array_equal, same["batch_stats"], variables["batch_stats"])


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    config = dataclasses.replace(SMALLEST, drop_path=0.4)
    block = Block(config, local=True, symmetric=False, train=True, folded=False)
    x = jnp.ones((20_000, 2, 1, 3))
    kept = block.apply(
        {}, x, jnp.float32(0.25), method="_drop_path", rngs={"dropout": jax.random.key(0)}
    )
    kept = np.asarray(kept).reshape(len(x), -1)
    assert (kept == kept[:, :1]).all()
    np.testing.assert_allclose(np.unique(kept), [0, 1 / 0.75], rtol=1e-6)
    assert abs(kept.mean() - 1) < 0.02


@pytest.mark.slow
def test_drop_path_is_of_training_alone_and_of_the_key(variables):
    config = dataclasses.replace(SMALLEST, drop_path=0.5)
    train = compiled(config, train=True)
    zero, again, one = (train(variables, make_images(), i)[0].features for i in (0, 0, 1))
    np.testing.assert_array_equal(zero, again)
    assert np.abs(zero - one).max() > 1e-3
    evaluated = compiled(config, train=False)(variables, make_images())[0].features
    np.testing.assert_array_equal(evaluated, evaluate(variables, make_images()).features)


@pytest.mark.slow
def test_parameters_start_as_published():
    config = SSAAFormerConfig(
        depths=(2, 0, 1, 0), widths=(48, 48, 64, 64), head_dim=32, layer_scale=1e-6
    )
    model = SSAAFormer(config)
    start = jax.jit(lambda: model.init(jax.random.key(0), make_images(32, 32, 1), train=False))()
    params = start["params"]
    local, glob = params["stage1"]["symmetric"], params["stage3"]["plain"]
    for tensor, fan_in in (
        (params["stage1"]["patch_embed"]["proj"], 4 * 4 * 3),
        (local["mlp"]["fc2"], 4 * 48),
        (local["attn"], 25),
        (local["pos_embed"], 9),
    ):
        for p in tensor.values():
            assert 0.9 < np.abs(p).max() * fan_in**0.5 <= 1
            assert abs(p.std() * (3 * fan_in) ** 0.5 - 1) < 0.2
    for tensor in (glob["attn"]["qkv"], glob["mlp"]["fc1"], params["head"]):
        assert abs(tensor["kernel"].std() / 0.02 - 1) < 0.15
        assert not tensor["bias"].any()
    np.testing.assert_array_equal(local["w"], np.ones((2, 2)))
    np.testing.assert_array_equal(local["gamma_1"], np.full((2, 48), np.float32(1e-6)))
    first, second = local["conv1"]["kernel"]
    assert (first != second).mean() > 0.99
