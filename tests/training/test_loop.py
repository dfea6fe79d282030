"""Training: the same on eight devices, after being killed, and in every tensor."""

import functools
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trees
from PIL import Image
from training_states import read_state

from deepfidelity_datasets.face_folder.face_folder_dataset_builder import Builder as FolderBuilder
from deepfidelity_datasets.ffpp.ffpp_dataset_builder import Builder
from deepfidelity_jax import provenance
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.network.ssaaformer import cut_patches, normalise
from deepfidelity_jax.records import schema
from deepfidelity_jax.records.schema import ORIGINAL
from deepfidelity_jax.training import checkpoint, loop, sharding, step
from deepfidelity_jax.training.batches import evaluation_batches
from deepfidelity_jax.training.loop import StepLog, StopSignal
from deepfidelity_jax.training.metrics_log import MetricsLog
from deepfidelity_jax.training.order.feed import Feed
from deepfidelity_jax.training.validation import Validation


def read_metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses_of(workdir):
    return {line["step"]: line["loss"] for line in read_metrics(workdir) if "loss" in line}


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
    before = provenance.read_times(tmp_path)["train"]
    assert "interrupted" in before
    done = training.finish()
    assert done.returncode == 0, done.stderr
    assert f"resuming from step {left} of {tiny.train.steps}" in done.stderr
    assert_equal_ends(tmp_path, finished, tiny)
    assert provenance.read_times(tmp_path)["train"]["seconds"] > before["seconds"] > 0


def test_what_is_left_out_has_no_part_in_the_start(tmp_path, tiny, one_core):
    """The first layer is whitened as by records that never held the method."""
    copied = trees.ffpp(tmp_path / "in", ("Deepfakes", "FaceSwap"))

    def start(methods, left_out=()):
        config = trees.set_up(tiny, "ffpp", copied, methods=methods)
        config.train.leave_out = left_out
        builder = Builder.configured(config, tmp_path / "records")
        builder.download_and_prepare()
        model = build_model(config)
        places = loop._places_of(model, config, sharding.data_mesh(config.train.batch_size))
        state = loop._fresh_state(model, config, places, Path(builder.data_path), None)
        return state.variables["params"]["stage1"]["patch_embed"]["proj"]["kernel"]

    without = start(("Deepfakes", "FaceSwap"), left_out=("FaceSwap",))
    np.testing.assert_allclose(without, start(("Deepfakes",)), atol=1e-5)
    assert not np.allclose(without, start(("Deepfakes", "FaceSwap")), atol=1e-3)


def test_the_first_layer_is_whitened_for_the_pictures_it_will_see(tmp_path, tiny, one_core):
    """Views are cut out of the crops, whose finest detail would be lost if they were shrunk."""
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in range(12):
        picture = rng.integers(0, 256, (36, 36, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / "in" / f"{number}.png")
    config = trees.set_up(tiny, "face_folder", "", dir=str(tmp_path / "in"), group="file")
    config.faces.size = 36
    config.model.image_size, config.model.eval_crop = 32, 32 / 36
    builder = FolderBuilder.configured(config, tmp_path / "records")
    builder.download_and_prepare()
    folder, model = Path(builder.data_path), build_model(config)
    places = loop._places_of(model, config, sharding.data_mesh(config.train.batch_size))
    state = loop._fresh_state(model, config, places, folder, None)
    proj = state.variables["params"]["stage1"]["patch_embed"]["proj"]
    (batch,) = evaluation_batches(schema.Records(folder, "train"), 32, 32 / 36, 99)
    patches = np.asarray(cut_patches(normalise(jnp.asarray(batch["image"])), 4), np.float64)
    patches = patches.reshape(-1, patches.shape[-1])
    outputs = patches @ np.asarray(proj["kernel"]) + np.asarray(proj["bias"])
    assert outputs.var(axis=0)[: patches.shape[-1]].max() < 1.01


def test_equal_trainings_in_one_process_are_traced_once(
    records_folder, tiny, tmp_path, one_core, monkeypatch
):
    """Whatever the folders, as in the cells of a grid; another seed is another program."""
    traced = []

    @functools.wraps(step.train_step)  # its name is part of the compiled program's key
    def traced_step(state, batch, *, model, config):
        traced.append(config.seed)
        return step.train_step(state, batch, model=model, config=config)

    monkeypatch.setattr(loop, "train_step", traced_step)
    tiny.train.schedule_steps = tiny.train.steps  # the first seed's program is that of the run
    tiny.train.steps = tiny.train.eval_every = 1
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        tiny.seed, tiny.data.records_dir = seed, name
        loop.train(tiny, records_folder, tmp_path / name)
    assert traced == [0, 1]


def test_what_is_left_out_is_neither_trained_nor_validated_on(tmp_path, tiny, one_core):
    """Whatever is drawn for a step, and whatever picks the checkpoint, is of the other methods."""
    methods = ("Deepfakes", "FaceSwap")
    config = trees.set_up(tiny, "ffpp", trees.ffpp(tmp_path / "in", methods), methods=methods)
    config.data.fresh_forgeries = False
    builder = Builder.configured(config, tmp_path / "records")
    builder.download_and_prepare()
    folder, model = Path(builder.data_path), build_model(config)

    def taken(left_out):
        config.train.leave_out = left_out
        feed = Feed(config, folder, tmp_path, model)
        validation = Validation(model, config, folder, sharding.data_mesh(1))
        assert validation.auc == "val_frame_auc"
        return [[own["method"] for own in part.records] for part in (feed, validation)]

    for whole, without in zip(taken(()), taken(("FaceSwap",)), strict=True):
        assert set(whole) == {ORIGINAL, *methods}
        assert without == [method for method in whole if method != "FaceSwap"]


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


def test_told_to_stop_in_the_last_evaluation_it_stops(
    finished, records_folder, tiny, tmp_path, monkeypatch
):
    """Once it is saved; otherwise the run would go on to features and the report."""
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    shutil.rmtree(tmp_path / "checkpoints" / str(tiny.train.steps))
    evaluate = Validation.__call__

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*arguments)

    monkeypatch.setattr(Validation, "__call__", interrupted)
    with pytest.raises(SystemExit) as stopped:
        loop.train(tiny, records_folder, tmp_path)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert checkpoint.latest_step(tmp_path / "checkpoints") == tiny.train.steps
    loop.train(tiny, records_folder, tmp_path)


def test_the_averaged_weights_are_validated(finished, records_folder, tiny):
    """What is logged at the last step is of them, not of the weights that learn."""
    state = read_state(finished, tiny)
    validation = Validation(build_model(tiny), tiny, records_folder, sharding.data_mesh(1))
    (logged,) = (
        line
        for line in read_metrics(finished)
        if "val_loss" in line and line["step"] == tiny.train.steps
    )
    found = validation(state.ema)
    expected = pytest.approx({name: logged[name] for name in found}, abs=1e-5)
    assert found == expected
    assert validation(state.variables) != expected


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


def test_a_gradient_that_is_not_finite_stops_the_run_before_a_save(tiny, tmp_path):
    """The loss of the step is from before the update."""
    log = StepLog(tiny, MetricsLog(tmp_path, after=0), 0)
    log.add(
        1, {"loss": jnp.float32(1), "accuracy": jnp.float32(1), "grad_norm": jnp.float32("inf")}
    )
    with pytest.raises(FloatingPointError, match="norm of the gradient is inf at step 1"):
        log.flush()


def test_a_finished_run_is_left_alone(finished, records_folder, tiny, tmp_path):
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("records"))
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "checkpoints").rglob("*")}
    loop.train(tiny, records_folder, tmp_path / "run")
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "checkpoints").rglob("*")}
    assert files == after
    assert losses_of(tmp_path / "run") == losses_of(finished)


def test_metrics_are_written_a_step_late_and_before_a_save(tiny, tmp_path):
    tiny.train.log_every = 2
    log = StepLog(tiny, MetricsLog(tmp_path, after=0), 0)

    def add(number):
        metrics = {"loss": number, "accuracy": 0.5, "grad_norm": 1.0}
        log.add(number, jax.tree.map(jnp.float32, metrics))
        return list(losses_of(tmp_path).items())

    assert [add(number) for number in (1, 2, 3, 4)] == [[], [], [(2, 2.0)], [(2, 2.0)]]
    add(5)
    log.flush()
    log.flush()
    assert losses_of(tmp_path) == {2: 2.0, 4: 4.0, 5: 5.0}
    log.evaluated(5, {"test_frame_auc": 0.75, "test_loss": 0.5})
    log.close()
    last = {"step": 5, "test_frame_auc": 0.75, "test_loss": 0.5}
    assert read_metrics(tmp_path)[-1] == last
    for line in read_metrics(tmp_path)[:-1]:
        assert line["learning_rate"] == pytest.approx(float(log.schedule(line["step"] - 1)))
        assert line["images_per_s"] > 0


def test_a_first_signal_is_remembered_and_a_second_one_stops_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert not stop.asked
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
