"""Equal to PyTorch, without PyTorch: outputs, gradients, statistics and updates of a golden file.

`make_golden.py` wrote the file. Ours are computed by this very file in a process of its own, since
the tests turn off the optimisations of XLA with which a user's programs run.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from deepfidelity_configs import default
from deepfidelity_jax.network.fold import fold
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig, normalise
from deepfidelity_jax.official import network
from deepfidelity_jax.training.optimizer import optimizer
from deepfidelity_jax.training.step import TrainState, train_step

GOLDEN = Path(__file__).parent / "golden"


def read_golden():
    """The golden arrays by group and official name, the loss, and the settings of the step."""
    found = {}
    with np.load(GOLDEN / "ssaaformer.npz") as file:
        for name in file.files:
            group, _, tensor = name.partition("/")
            if tensor:
                found.setdefault(group, {})[tensor] = file[name]
            else:
                found[name] = file[name]
    found["settings"] = json.loads(str(found["settings"]))
    return found


def as_ours(golden, *groups):
    """The official tensors of groups, the last first, as our variables."""
    own = SSAAFormerConfig(**golden["settings"]["network"])
    tensors = {name: x for group in groups for name, x in golden[group].items()}
    return unflatten_dict(network.fill(tensors, own, network.name_tensors(own)))


def compute(path):
    """Write what we compute of the golden weights and batch, by path in our variables."""
    golden, config = read_golden(), default.get_config()
    config.train.update(warmup_steps=0, clip_norm=0.0, fidelity_weight=0.0, ranking_weight=0.0)
    config.train.update(golden["settings"]["train"])
    model = SSAAFormer(SSAAFormerConfig(**golden["settings"]["network"]))
    variables, batch = as_ours(golden, "before"), golden["batch"]
    images = normalise(jnp.asarray(batch["image"]))

    def evaluate(model, variables):
        outputs = jax.jit(functools.partial(model.apply, train=False))(variables, images)
        found = outputs._asdict()
        del found["mask_logits"]  # empty: the official network has no such heads
        return {"logits": outputs.logits} | found

    found = {"outputs": evaluate(model, variables)}
    found["folded"] = evaluate(model.clone(folded=True), fold(variables, model.config))

    chain = optimizer(config.train)
    moments = chain.init(variables["params"])
    state = TrainState(jnp.zeros((), jnp.int32), variables, variables, moments)
    after, metrics = jax.jit(functools.partial(train_step, model=model, config=config))(
        state, jax.tree.map(jnp.asarray, batch)
    )
    found["statistics"] = after.variables["batch_stats"]
    # Adam's first moment is a tenth of the first gradient.
    found["gradients"] = jax.tree.map(lambda m: 10 * m, after.opt_state[1][0].mu)

    gradients = as_ours(golden, "before", "gradients")["params"]

    @jax.jit
    def update(params, state, multiple):
        scaled = jax.tree.map(lambda g: multiple * g, gradients)
        updates, state = chain.update(scaled, state, params)
        return optax.apply_updates(params, updates), state

    params = variables["params"]
    for multiple in golden["settings"]["multiples"]:
        params, moments = update(params, moments, multiple)
    found["updated"] = params
    found["loss"] = metrics["loss"]
    arrays = {name: x for name, x in flatten_dict(found, sep="/").items() if x is not None}
    np.savez(path, **arrays)


@pytest.fixture(scope="module")
def golden():
    return read_golden()


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """`compute` with XLA's optimisations, as nested dicts."""
    path = tmp_path_factory.mktemp("golden") / "ours.npz"
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(path) as file:
        return unflatten_dict({name: file[name] for name in file.files}, sep="/")


def compare(found, expected, tolerance):
    """Each tensor to `tolerance` of its largest value or, if it vanishes, a millionth of all."""
    found, expected = (flatten_dict(tree, sep="/") for tree in (found, expected))
    assert found.keys() == expected.keys()
    floor = 1e-6 * max(np.abs(x).max() for x in expected.values())
    wrong = {}
    for name, x in expected.items():
        assert found[name].shape == x.shape
        error = np.abs(found[name] - x).max()
        if not error <= max(tolerance * np.abs(x).max(), floor):
            wrong[name] = error
    assert not wrong


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 2 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("form", ["outputs", "folded"])
def test_the_outputs(ours, golden, form):
    compare(ours[form], golden["outputs"], 1e-4)


@pytest.mark.slow
def test_the_loss_of_a_step(ours, golden):
    assert float(ours["loss"]) == pytest.approx(float(golden["loss"]), rel=1e-5)


@pytest.mark.slow
def test_every_gradient_of_a_step(ours, golden):
    expected = as_ours(golden, "before", "gradients")["params"]
    compare(ours["gradients"], expected, 1e-3)


@pytest.mark.slow
def test_the_running_statistics_of_a_step(ours, golden):
    compare(ours["statistics"], as_ours(golden, "after")["batch_stats"], 1e-5)


@pytest.mark.slow
def test_the_updates_of_adamw(ours, golden):
    """By equal gradients, lest rounding turn the sign of one that vanishes."""
    before, after = (as_ours(golden, name)["params"] for name in ("before", "after"))
    rate = golden["settings"]["train"]["learning_rate"]
    compare(ours["updated"], after, 1e-5)
    moves = jax.tree.map(lambda new, old: new - old, after, before)
    own_moves = jax.tree.map(lambda new, old: new - old, ours["updated"], before)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=3e-4 * rate), own_moves, moves)
    assert max(np.abs(move).max() for move in jax.tree.leaves(moves)) > 2 * rate


if __name__ == "__main__":
    compute(sys.argv[1])
