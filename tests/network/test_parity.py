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
cross_entropy = torch.nn.functional.cross_entropy

SMALLEST = {
    "depths": (3, 1, 2, 1),
    "widths": (16, 24, 32, 48),
    "head_dim": 16,
    "layer_scale": 0.5,
    "symmetric": (2, 0, 1, 0),
}
TINY = {"depths": (1, 1, 3, 1), "widths": (48, 64, 128, 192), "head_dim": 32}


def randomise(model, seed=0):
    """Statistics far from 0 and 1, layer scale far from 1e-6, mirror weights unequal."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like, low, high):
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for name, x in model.state_dict().items():
            kind = name.rsplit(".", 1)[-1]
            if kind == "num_batches_tracked":
                x.fill_(7)
            elif kind == "running_var":
                x.copy_(10 ** uniform(x, -3, 1))
            elif kind == "running_mean":
                x.copy_(uniform(x, -2, 2))
            elif kind == "w":
                x.copy_(torch.tensor([0.8, -0.5]) + uniform(x, -0.2, 0.2))
            elif kind.startswith("gamma"):
                x.copy_(uniform(x, 0.2, 0.6))
            elif "norm" in name:
                x.copy_(uniform(x, 0.5, 1.5) if kind == "weight" else uniform(x, -0.5, 0.5))
            elif kind == "bias":
                x.copy_(uniform(x, -0.3, 0.3))
            elif x.ndim == 2:
                x.mul_(2)
    return model


def make_images(height, width, count=2):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (count, height, width, 3)).astype(np.float32)


def as_torch(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2)


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


LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.05
# Updates by these multiples of one gradient: the first alone would show no more than its sign.
MULTIPLES = (1.0, 0.3, 2.0)


@pytest.fixture(scope="module")
def theirs():
    """A training step by PyTorch: batch, loss, gradients; what was before, and after updates."""
    torch.manual_seed(0)
    model = randomise(baseline.SSAAFormer(**SMALLEST)).train()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    rng = np.random.default_rng(1)
    batch = {
        "image": rng.integers(0, 256, (8, 64, 64, 3), np.uint8),
        "label": rng.integers(0, 2, 8).astype(np.int32),
        "forged": rng.random((8, 4)).astype(np.float32),
        "fidelity": np.zeros(8, np.float32),
    }
    outputs = model(as_torch(batch["image"].astype(np.float32) / 127.5 - 1))
    label, forged = torch.tensor(batch["label"]).long(), torch.tensor(batch["forged"])
    targets = torch.stack([forged, 1 - forged], dim=-1)
    of_class = cross_entropy(outputs.class_logits, label, label_smoothing=0.1)
    of_tokens = cross_entropy(outputs.token_logits.flatten(0, 1), targets.flatten(0, 1))
    loss = of_class + 0.5 * of_tokens
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    named = dict(model.named_parameters())
    decayed = [p for name, p in named.items() if is_kernel(name, p)]
    others = [p for name, p in named.items() if not is_kernel(name, p)]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for multiple in MULTIPLES:
        for name, parameter in named.items():
            parameter.grad = multiple * gradients[name]
        adamw.step()
    return {
        "batch": batch,
        "before": before,
        "loss": loss.item(),
        "gradients": before | gradients,
        "after": model.state_dict(),
    }


def is_kernel(name, parameter):
    """What is decayed: matrices and convolutions; no norm, bias, layer scale or mirror weight."""
    return parameter.ndim > 1 and "gamma" not in name


@pytest.fixture(scope="module")
def ours(theirs):
    """The same step by `train_step`: state before and after, and the loss."""
    config = default.get_config()
    config.train.learning_rate = LEARNING_RATE
    config.train.weight_decay = WEIGHT_DECAY
    config.train.warmup_steps = 0
    config.train.clip_norm = 0.0
    config.train.token_weight = 0.5
    config.train.fidelity_weight = config.train.ranking_weight = 0.0
    model = SSAAFormer(SSAAFormerConfig(**SMALLEST))
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
    config = SSAAFormerConfig(**SMALLEST)
    weights = {name: x.numpy() for name, x in state_dict.items()}
    return unflatten_dict(network.fill(weights, config, network.name_tensors(config)))


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
    compare(found, converted(theirs["gradients"])["params"], 1e-3)


def test_the_running_statistics_of_a_step(ours, theirs):
    after = converted(theirs["after"])["batch_stats"]
    compare(ours["after"].variables["batch_stats"], after, 1e-5)


def test_the_updates_of_adamw(ours, theirs):
    """Of equal gradients, lest rounding turn the sign of what vanishes."""
    before, after = (converted(theirs[name])["params"] for name in ("before", "after"))
    gradients = converted(theirs["gradients"])["params"]
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
