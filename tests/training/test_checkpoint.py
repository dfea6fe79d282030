"""Checkpoints: the newest and the best are kept, and damage is told in one line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import no_more_files

from deepfidelity_jax.detector.load import load
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.training import checkpoint
from deepfidelity_jax.training.checkpoint import METRICS, Checkpoints, best_step, latest_step, steps
from deepfidelity_jax.training.step import create_state

NOTES = {"config": "{}", "data": "7"}


def make_state(seed=0):
    key = jax.random.key(seed)
    return {
        "step": jnp.array(seed),
        "ema": {"kernel": jax.random.normal(key, (200, 300)), "bias": jnp.arange(5.0)},
    }


ABSTRACT = checkpoint.on_one_device(jax.eval_shape(make_state))


def save(folder, scores, keep=2, metric=METRICS["validation"]):
    """One checkpoint a score; None where there was no validation."""
    with Checkpoints(folder, keep) as checkpoints:
        for step, value in enumerate(scores, 1):
            metrics = None if value is None else {metric: value}
            checkpoints.save(step, make_state(step), NOTES, metrics)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_keeps_the_newest_and_the_best(tmp_path):
    save(tmp_path, [0.6, 0.9, None, 0.8, None, None])
    assert steps(tmp_path) == [2, 5, 6]
    assert latest_step(tmp_path) == 6
    assert best_step(tmp_path) == 2
    assert_equal(checkpoint.restore(tmp_path, 2, ABSTRACT), make_state(2))
    notes = checkpoint.read_notes(tmp_path, 2)
    assert notes["metrics"] == {"val_frame_auc": 0.9}
    assert NOTES.items() <= notes.items()


def test_weights_of_one_step_are_told_apart(tmp_path):
    for name, seed in (("a", 1), ("again", 1), ("b", 2)):
        with Checkpoints(tmp_path / name, 1) as checkpoints:
            checkpoints.save(4, make_state(seed), NOTES, None)
    a, again, b = (checkpoint.digest_of_weights(tmp_path / x, 4) for x in ("a", "again", "b"))
    assert a == again != b


def test_of_equals_the_later_and_without_scores_the_newest(tmp_path):
    save(tmp_path / "a", [0.9, 0.9])
    assert best_step(tmp_path / "a") == 2
    save(tmp_path / "b", [None, None])
    assert best_step(tmp_path / "b") == 2


def test_the_best_on_test_is_found_under_its_own_name_and_the_older_one(tmp_path):
    """Older versions called the score of the test split `val_frame_auc`."""
    save(tmp_path, [0.7, 0.8], metric="val_frame_auc")
    with Checkpoints(tmp_path, 2) as checkpoints:
        for step, score in ((3, 0.9), (4, 0.6)):
            checkpoints.save(step, make_state(step), NOTES, {METRICS["test"]: score})
    assert checkpoint.read_notes(tmp_path, 3)["metrics"] == {"test_frame_auc": 0.9}
    assert best_step(tmp_path) == 3
    save(tmp_path / "older", [0.7, 0.9, 0.8], metric="val_frame_auc")
    assert best_step(tmp_path / "older") == 2


def test_nothing_there(tmp_path):
    assert steps(tmp_path / "none") == []
    assert latest_step(tmp_path) is None
    assert best_step(tmp_path) is None


def test_what_a_killed_write_leaves_is_no_checkpoint(tmp_path):
    save(tmp_path, [0.9])
    (tmp_path / "7").mkdir()
    (tmp_path / "8.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    assert steps(tmp_path) == [1]
    # Writing goes on over it.
    with Checkpoints(tmp_path, 2) as checkpoints:
        assert latest_step(tmp_path) == 1
        checkpoints.save(7, make_state(7), NOTES, None)
    assert_equal(checkpoint.restore(tmp_path, 7, ABSTRACT), make_state(7))


def test_a_step_already_saved_stays_as_it_is(tmp_path):
    save(tmp_path, [0.9])
    with Checkpoints(tmp_path, 2) as checkpoints:
        checkpoints.save(1, make_state(5), NOTES, None)
    assert_equal(checkpoint.restore(tmp_path, 1, ABSTRACT), make_state(1))


def test_a_part_can_be_read_alone(tmp_path):
    save(tmp_path, [0.9])
    found = checkpoint.restore(tmp_path, 1, {"ema": ABSTRACT["ema"]})
    assert_equal(found, {"ema": make_state(1)["ema"]})


def test_another_model_is_refused(tmp_path):
    save(tmp_path, [0.9])
    other = ABSTRACT | {"ema": {"kernel": jax.ShapeDtypeStruct((3, 3), jnp.float32)}}
    with pytest.raises(InputError, match="damaged"):
        checkpoint.restore(tmp_path, 1, checkpoint.on_one_device(other))


# A read abandoned is told as a warning, of no interest here.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(tmp_path):
    save(tmp_path, [0.9])
    with no_more_files(), pytest.raises(InputError) as error:
        checkpoint.restore(tmp_path, 1, ABSTRACT)
    assert str(error.value).startswith(
        f"checkpoint {tmp_path / '1'} cannot be read: too many open files"
    )
    assert_equal(checkpoint.restore(tmp_path, 1, ABSTRACT), make_state(1))


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def damages(content):
    """What may happen to a file: gone, cut, emptied, bytes flipped."""
    yield None
    yield b""
    yield content[: len(content) // 2]
    for place in (0, len(content) // 3, len(content) // 2, len(content) - 1):
        flipped = bytearray(content)
        flipped[place] ^= 0xFF
        yield bytes(flipped)


# Reads abandoned at the first damage are told as warnings, of no interest here.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damage_is_told_or_harmless(tmp_path):
    """Whatever file is gone, cut or changed: one line of InputError, or the values as they were."""
    save(tmp_path, [0.9])
    found = {"told": 0, "harmless": 0}
    for path in files_of(tmp_path / "1"):
        content = path.read_bytes()
        for damage in damages(content):
            if damage is None:
                path.unlink()
            else:
                path.write_bytes(damage)
            try:
                notes = checkpoint.read_notes(tmp_path, 1)
                restored = checkpoint.restore(tmp_path, 1, ABSTRACT)
            except InputError as error:
                assert "\n" not in str(error)
                assert str(tmp_path / "1") in str(error)
                found["told"] += 1
            else:
                assert_equal(restored, make_state(1))
                assert NOTES.items() <= notes.items()
                found["harmless"] += 1
            path.write_bytes(content)
    assert found["told"] > found["harmless"] / 2, found


def test_eight_devices_save_what_one_reads(on_eight_devices, tiny):
    """A training state saved in eight parts, here on whatever there is."""
    folder = on_eight_devices / "checkpoints"
    model = build_model(tiny)
    abstract = jax.eval_shape(lambda: create_state(model, tiny))
    last = latest_step(folder)
    state = checkpoint.restore(folder, last, checkpoint.on_one_device(abstract))
    assert int(state.step) == last == tiny.train.steps
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(state)} == {1}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    logits = load(on_eight_devices).logits(np.full((1, 32, 32, 3), 128, np.uint8))
    assert np.isfinite(logits).all()


def test_a_checkpoint_carries_config_and_iterator(finished):
    folder = finished / "checkpoints"
    last = latest_step(folder)
    notes = checkpoint.read_notes(folder, last)
    assert json.loads(notes["config"]) == json.loads((finished / "config.json").read_text())
    assert json.loads(notes["data"]) == {"next_index": last}


@pytest.mark.parametrize(
    "name", ["runs [v2]", "all*", "what?", "back\\slash", "gs:", "latin-\udce4"]
)
def test_a_name_that_breaks_checkpoints_is_refused_before_any_work(tmp_path, name):
    with pytest.raises(InputError, match="the checkpoint library cannot work in") as error:
        Checkpoints(tmp_path / name / "checkpoints", 2)
    assert "\n" not in str(error.value)
    assert not (tmp_path / name).exists()


def test_an_older_checkpoint_stays_until_the_new_one_is_read_back(tmp_path):
    """Here the new one is damaged once it is written, before the next comes."""

    def save_over_damage():
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            checkpoints.save(1, make_state(1), NOTES, None)
            checkpoints.save(2, make_state(2), NOTES, None)
            checkpoints._checkpointer.wait()
            for path in (tmp_path / "2").rglob("d/*"):
                path.write_bytes(bytes(path.stat().st_size))
            checkpoints.save(3, make_state(3), NOTES, None)

    with pytest.raises(InputError, match=r"checkpoint .*2 is damaged"):
        save_over_damage()
    assert steps(tmp_path) == [1, 2]
    assert_equal(checkpoint.restore(tmp_path, 1, ABSTRACT), make_state(1))
