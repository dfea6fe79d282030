"""Held against PyTorch: equal weights give equal outputs, gradients, statistics and updates."""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import unflatten_dict

from deepfidelity_configs import default
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig
from deepfidelity_jax.official import network
from deepfidelity_jax.training.optimizer import optimizer
from deepfidelity_jax.training.step import TrainState, train_step
from deepfidelity_jax.weight_files import named_tensors

torch = pytest.importorskip("torch")
baseline = pytest.importorskip("torch_baseline")
from make_golden import (  # noqa: E402
    GOLDEN,
    LEARNING_RATE,
    MULTIPLES,
    NETWORK,
    TOKEN_WEIGHT,
    WEIGHT_DECAY,
    as_torch,
    compute,
    randomise,
    settings,
)

TINY = {"depths": (1, 1, 3, 1), "widths": (48, 64, 128, 192), "head_dim": 32}


def make_images(height, width, count=2):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (count, height, width, 3)).astype(np.float32)


def assert_same(ours, theirs, tolerance):
    """To `tolerance` of the largest value."""
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@functools.cache
def compiled(config):
    return jax.jit(functools.partial(SSAAFormer(config).apply, train=False))


def assert_same_outputs(model, path, sizes=((64, 96),), ema=True):
    """Of a model and what conversion finds in a file; the network it found."""
    config, variables = network.from_state_dict(named_tensors.read_weights(path, ema)[1])
    for size in sizes:
        images = make_images(*size)
        with torch.no_grad():
            expected = model.eval()(as_torch(images))
        found = compiled(config)(variables, images)
        for name in ("features", "class_logits", "logits"):
            assert_same(getattr(found, name), getattr(expected, name), 1e-4)
        if expected.token_logits is not None:
            assert_same(found.token_logits, expected.token_logits, 1e-4)
    return config


def save(model, path):
    torch.save(model.state_dict(), path)
    return path


@pytest.mark.parametrize("symmetric", [None, (3, 4, 8, 3), (0, 0, 0, 0), (1, 0, 2, 0)])
def test_each_symmetric_setting(symmetric, tmp_path):
    model = randomise(baseline.build("small", symmetric=symmetric))
    config = assert_same_outputs(model, save(model, tmp_path / "weights.pth"))
    assert config.symmetric == ((3, 0, 0, 0) if symmetric is None else symmetric)


def test_small_at_the_size_of_the_paper(tmp_path):
    model = randomise(baseline.build("small"))
    assert_same_outputs(model, save(model, tmp_path / "weights.pth"), [(224, 224)])


def test_a_uniformer_with_one_head_of_imagenet(tmp_path):
    options = {"symmetric": (0, 0, 0, 0), "num_classes": 1000, "aux_head": False}
    model = randomise(baseline.build("small", **options))
    assert_same_outputs(model, save(model, tmp_path / "uniformer_small.pth"))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["large", "base"])
@pytest.mark.parametrize("symmetric", [None, (5, 0, 3, 1), (0, 0, 0, 0)])
def test_each_variant_at_two_sizes(variant, symmetric, tmp_path):
    model = randomise(baseline.build(variant, symmetric=symmetric))
    path = save(model, tmp_path / "weights.pth")
    config = assert_same_outputs(model, path, [(224, 224), (160, 288)])
    assert network.variant_of(config) == variant


def nest_in_training_checkpoint(key):
    """As the official training saves: arguments and optimizer beside the weights."""

    def nest(weights, other):
        content = {
            "epoch": 2,
            "arch": "uniformer_large_ls_tl",
            key: weights,
            "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(4)}}, "param_groups": []},
            "version": 2,
            "args": argparse.Namespace(lr=1.2e-3, data="faces", aa="rand-m9-mstd0.5-inc1"),
            "metric": 98.9,
        }
        return {"state_dict": other, **content}

    return nest


def nest_under_module(nest):
    """As DistributedDataParallel names them."""
    return lambda weights, other: nest({f"module.{k}": x for k, x in weights.items()}, other)


def nest_bare(weights, other):
    return weights


NESTINGS = {
    "bare": nest_bare,
    "model": lambda weights, other: {"model": weights},
    "state_dict": nest_in_training_checkpoint("state_dict"),
    "state_dict_ema": nest_in_training_checkpoint("state_dict_ema"),
    "module": nest_under_module(nest_bare),
    "module in state_dict_ema": nest_under_module(nest_in_training_checkpoint("state_dict_ema")),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older"])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_each_nesting(nesting, zipped, tmp_path):
    """Of the averaged weights where a file has both."""
    model, other = (randomise(baseline.SSAAFormer(**TINY), seed) for seed in (1, 2))
    content = NESTINGS[nesting](model.state_dict(), other.state_dict())
    path = tmp_path / "model_best.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_same_outputs(model, path)
    if "ema" in nesting:
        assert_same_outputs(other, path, ema=False)


@pytest.fixture(scope="module")
def theirs():
    """A training step by PyTorch: batch, loss, gradients; what was before, and after updates."""
    return compute()


@pytest.fixture(scope="module")
def ours(theirs):
    """The same step by `train_step`: state before and after, and the loss."""
    config = default.get_config()
    config.train.learning_rate = LEARNING_RATE
    config.train.weight_decay = WEIGHT_DECAY
    config.train.warmup_steps = 0
    config.train.clip_norm = 0.0
    config.train.token_weight = TOKEN_WEIGHT
    config.train.fidelity_weight = config.train.ranking_weight = 0.0
    model = SSAAFormer(SSAAFormerConfig(**NETWORK))
    variables = converted(theirs["before"])
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        ema=variables,
        opt_state=jax.jit(optimizer(config.train).init)(variables["params"]),
    )
    step = jax.jit(functools.partial(train_step, model=model, config=config))
    after, metrics = step(state, theirs["batch"])
    return {"config": config, "before": state, "after": after, "loss": float(metrics["loss"])}


def converted(state_dict):
    """By the table of names; `infer` would find none of our variants."""
    config = SSAAFormerConfig(**NETWORK)
    return unflatten_dict(network.fill(state_dict, config, network.name_tensors(config)))


def compare(found, expected, tolerance):
    """Each tensor to `tolerance` of its largest value or, if it vanishes, a millionth of all."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    sizes = jax.tree.map(lambda x: np.abs(x).max(), expected)
    floor = 1e-6 * max(jax.tree.leaves(sizes))
    errors = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - b).max(), found, expected)
    wrong = {
        jax.tree_util.keystr(path): (error, size)
        for (path, error), size in zip(
            jax.tree_util.tree_leaves_with_path(errors), jax.tree.leaves(sizes), strict=True
        )
        if error > max(tolerance * size, floor)
    }
    assert not wrong


def test_the_loss_of_a_step(ours, theirs):
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_every_gradient_of_a_step(ours, theirs):
    """Adam's first moment is a tenth of the first gradient."""
    mean = ours["after"].opt_state[1][0].mu
    found = jax.tree.map(lambda m: 10 * np.asarray(m), mean)
    compare(found, converted(theirs["before"] | theirs["gradients"])["params"], 1e-3)


def test_the_running_statistics_of_a_step(ours, theirs):
    after = converted(theirs["after"])["batch_stats"]
    compare(ours["after"].variables["batch_stats"], after, 1e-5)


def test_the_updates_of_adamw(ours, theirs):
    """Of equal gradients, lest rounding turn the sign of what vanishes."""
    before, after = (converted(theirs[name])["params"] for name in ("before", "after"))
    gradients = converted(theirs["before"] | theirs["gradients"])["params"]
    chain = optimizer(ours["config"].train)

    @jax.jit
    def update(params, state, multiple):
        updates, state = chain.update(
            jax.tree.map(lambda g: multiple * g, gradients), state, params
        )
        return optax.apply_updates(params, updates), state

    params, state = before, ours["before"].opt_state
    for multiple in MULTIPLES:
        params, state = update(params, state, multiple)
    compare(params, after, 1e-5)
    moved = 0.0
    for found, expected, start in zip(*map(jax.tree.leaves, (params, after, before)), strict=True):
        moved = max(moved, np.abs(expected - start).max())
        np.testing.assert_allclose(found - start, expected - start, atol=3e-4 * LEARNING_RATE)
    assert moved > 2 * LEARNING_RATE


def test_the_golden_file_is_what_pytorch_computes(theirs):
    with np.load(GOLDEN) as file:
        assert str(file["settings"]) == settings()
        for group in ("before", "batch", "outputs", "gradients", "after"):
            golden = {name: file[f"{group}/{name}"] for name in theirs[group]}
            # AdamW makes whole steps of gradients that are nearly zero, where rounding decides.
            compare(golden, theirs[group], 3e-3 if group == "after" else 1e-4)
