"""Training: the same on eight devices, after being killed, and in every tensor."""

import functools
import json
import math
import os
import random
import shutil
import signal
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig
from deepfidelity_jax.records import schema
from deepfidelity_jax.training import checkpoint, loop, step, token_mixing
from deepfidelity_jax.training.batches import TOKEN, training_batches
from deepfidelity_jax.training.step import build_model, divide, train_step
from deepfidelity_jax.workdir import MetricsLog


def read_metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses_of(workdir):
    return {line["step"]: line["loss"] for line in read_metrics(workdir) if "loss" in line}


def read_state(workdir, config):
    """The training state at the end of a run."""
    abstract = jax.eval_shape(lambda: step.create_state(build_model(config), config))
    folder = workdir / "checkpoints"
    return checkpoint.restore(folder, config.train.steps, checkpoint.on_one_device(abstract))


def assert_equal_ends(workdir, finished, config):
    """Bit for bit: parameters, statistics, averages, moments; each step logged once."""
    ends = read_state(workdir, config), read_state(finished, config)
    jax.tree.map(np.testing.assert_array_equal, *ends)
    steps = range(1, config.train.steps + 1)
    for folder in (workdir, finished):
        logged = [line["step"] for line in read_metrics(folder) if "loss" in line]
        assert logged == list(steps)
        validated = [line["step"] for line in read_metrics(folder) if "val_loss" in line]
        assert validated == [s for s in steps if s % config.train.eval_every == 0]
    assert losses_of(workdir) == losses_of(finished)


def wait_for(found, process, seconds=300):
    """Wait until `found()`, or fail when the process ends before."""
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_eight_devices_give_the_losses_of_one(finished, on_eight_devices, tiny):
    one, eight = losses_of(finished), losses_of(on_eight_devices)
    assert one.keys() == eight.keys() == set(range(1, tiny.train.steps + 1))
    np.testing.assert_allclose(list(eight.values()), list(one.values()), rtol=1e-5, atol=1e-5)


def test_killed_and_started_again_ends_the_same(finished, tiny, command, tmp_path):
    place = f"--config.data.records_dir={finished / 'records'}"
    training = command(tmp_path, place, "--mode=train")
    process = training.start()
    wait_for(lambda: checkpoint.latest_step(tmp_path / "checkpoints"), process)
    time.sleep(random.uniform(0, 0.5))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    left = checkpoint.latest_step(tmp_path / "checkpoints")
    assert 0 < left < tiny.train.steps
    done = training.finish()
    assert done.returncode == 0, done.stderr
    assert f"going on from step {left} of {tiny.train.steps}" in done.stderr
    assert_equal_ends(tmp_path, finished, tiny)


def test_told_to_stop_it_saves_first(finished, tiny, command, tmp_path):
    place = f"--config.data.records_dir={finished / 'records'}"
    training = command(tmp_path, place, "--mode=train")
    process = training.start()
    log = tmp_path / "metrics.jsonl"
    wait_for(lambda: log.exists() and log.read_text().count("\n") > 2, process)
    process.terminate()
    error = process.communicate()[1]
    assert process.returncode == 128 + signal.SIGTERM, error
    left = checkpoint.latest_step(tmp_path / "checkpoints")
    assert f"stopped at step {left}, saved" in error
    assert [line["step"] for line in read_metrics(tmp_path)][-1] == left
    done = training.finish()
    assert done.returncode == 0, done.stderr
    assert_equal_ends(tmp_path, finished, tiny)


@pytest.fixture(scope="module")
def batch(records_folder):
    """One real batch of the tiny run."""
    from deepfidelity_configs import demo

    config = demo.get_config()
    config.model.image_size = 32
    batches = training_batches(
        schema.Records(records_folder, schema.SOURCES),
        loop.training_input(config, records_folder),
        batch_size=8,
        seed=0,
        forged=True,
    )
    return next(batches)


def test_every_tensor_learns(finished, tiny):
    """Adam's first moment, the average of a real run's gradients, is zero in no tensor."""
    state = read_state(finished, tiny)
    adam = [s for s in jax.tree.leaves(state.opt_state, is_leaf=_has_mean) if _has_mean(s)]
    assert len(adam) == 1
    assert jax.tree.structure(adam[0].mu) == jax.tree.structure(state.variables["params"])
    idle = [
        jax.tree_util.keystr(path)
        for path, mean in jax.tree_util.tree_leaves_with_path(adam[0].mu)
        if not np.any(mean)
    ]
    assert not idle


def _has_mean(state):
    return hasattr(state, "mu")


# The smallest network that has all parts, and that which has one block.
ALL_PARTS = SSAAFormerConfig(
    depths=(1, 1, 1, 1),
    widths=(16, 24, 32, 48),
    head_dim=16,
    symmetric=(1, 0, 0, 0),
    fidelity_head=True,
)
ONE_BLOCK = replace(ALL_PARTS, depths=(1, 0, 0, 0))


def create_state(network, config):
    """A fresh state of the network."""
    return jax.jit(lambda: step.create_state(SSAAFormer(network), config))()


def jit_step(network, config):
    """One training step of the network, as `config` is now."""
    model, config = SSAAFormer(network), config.copy_and_resolve_references()
    return jax.jit(functools.partial(train_step, model=model, config=config))


def test_bfloat16_learns_a_batch_by_heart(batch, tiny):
    """Computed in bfloat16, kept in float32."""
    tiny.train.warmup_steps, tiny.train.learning_rate = 1, 1e-3
    tiny.train.fidelity_weight = 1.0
    state, losses = create_state(ALL_PARTS, tiny), []
    step = jit_step(replace(ALL_PARTS, dtype="bfloat16"), tiny)
    for _ in range(12):
        state, metrics = step(state, batch)
        losses.append(float(metrics["class"]))
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0] - 0.05
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.variables)} == {"float32"}


def test_a_batch_in_parts_gives_the_gradient_of_the_whole(batch, tiny):
    """Where BatchNorm cannot tell the parts apart, as all hold the same pair."""
    whole = {key: np.concatenate([value[:2]] * 4) for key, value in batch.items()}
    state = create_state(ONE_BLOCK, tiny)
    one, metrics = jit_step(ONE_BLOCK, tiny)(state, whole)
    tiny.train.accumulate = 4
    in_parts = jit_step(ONE_BLOCK, tiny)
    parts, metrics_of_parts = in_parts(state, whole)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, metrics_of_parts, metrics)
    jax.tree.map(close, parts.opt_state, one.opt_state)
    # The running statistics of four small batches, not of one large one.
    running = [s.variables["batch_stats"]["norm"]["mean"] for s in (state, one, parts)]
    batch_mean = (running[1] - 0.9 * running[0]) / 0.1
    close(running[2], 0.9**4 * running[0] + (1 - 0.9**4) * batch_mean, atol=1e-5)
    # Parts that differ all count: another pair in the last part is another gradient.
    other = {key: np.concatenate([value[:6], value[4:6]]) for key, value in batch.items()}
    assert not np.allclose(in_parts(state, other)[1]["loss"], metrics["loss"], atol=1e-4)


def test_a_batch_is_divided_by_pairs():
    batch = {"image": jnp.arange(24.0).reshape(12, 2), "label": jnp.arange(12)}
    parts = divide(batch, 3)
    np.testing.assert_array_equal(parts["label"], [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]])
    np.testing.assert_array_equal(parts["image"][1, :, 0], [4, 6, 16, 18])


def test_tokens_are_mixed_before_the_network_sees_them(records_folder, tiny):
    """Exchanging in the step, labels left alone, is training on exchanged images."""
    side = 3
    tiny.model.image_size = side * TOKEN
    tiny.train.token_weight = tiny.train.ranking_weight = 0.0  # mixed images are not ranked
    folder = schema.Records(records_folder, "train")
    made_from = loop.training_input(tiny, records_folder)
    batch = next(training_batches(folder, made_from, batch_size=4, seed=0, forged=False))
    state = create_state(ONE_BLOCK, tiny)
    key = jax.random.key(tiny.seed + 2)
    boxes = [token_mixing.draw_box(jax.random.fold_in(key, i), side) for i in range(20)]
    number = next(i for i, box in enumerate(boxes) if 0 < box.mean() < 1)
    state = state.replace(step=jnp.array(number))
    exchanged = token_mixing.exchange(jnp.asarray(batch["image"], jnp.float32), boxes[number])
    by_hand = batch | {"image": exchanged.astype(jnp.uint8)}
    expected = jit_step(ONE_BLOCK, tiny)(state, by_hand)
    tiny.train.token_mixing = "unlabelled"
    found = jit_step(ONE_BLOCK, tiny)(state, batch)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, found, expected)


def test_a_loss_that_is_not_finite_stops_the_run(finished, records_folder, tiny, tmp_path):
    """From a checkpoint with one parameter lost; it stays the newest."""
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    state = read_state(finished, tiny)
    variables = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), state.variables)
    notes = checkpoint.read_notes(tmp_path / "checkpoints", tiny.train.steps)
    for saved in checkpoint.steps(tmp_path / "checkpoints"):
        shutil.rmtree(tmp_path / "checkpoints" / str(saved))
    with checkpoint.Checkpoints(tmp_path / "checkpoints", 2) as checkpoints:
        state = state.replace(variables=variables, step=jnp.array(4))
        checkpoints.save(4, state, {k: notes[k] for k in ("config", "data")}, None)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 5"):
        loop.train(tiny, records_folder, tmp_path)
    assert checkpoint.steps(tmp_path / "checkpoints") == [4]


def test_a_finished_run_is_left_alone(finished, records_folder, tiny, tmp_path):
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("records"))
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "checkpoints").rglob("*")}
    loop.train(tiny, records_folder, tmp_path / "run")
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "checkpoints").rglob("*")}
    assert files == after
    assert losses_of(tmp_path / "run") == losses_of(finished)


def test_half_a_line_of_metrics_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n{"st')
    log = MetricsLog(tmp_path, after=1)
    log.write(2, {"loss": 0.5})
    log.close()
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2}, {"step": 2, "loss": 0.5}]


@pytest.mark.parametrize(
    ("group", "values", "told"),
    [
        ("model", {"variant": "huge"}, "large, base, small, tiny"),
        ("model", {"image_size": 100}, "multiple of 32"),
        ("model", {"dtype": "float99"}, "float99"),
        ("model", {"symmetric": (99, 0, 0, 0)}, "config.model"),
    ],
)
def test_a_network_that_cannot_be(tiny, group, values, told):
    tiny[group].update(values)
    with pytest.raises(InputError, match=told) as raised:
        build_model(tiny)
    assert "\n" not in str(raised.value)
