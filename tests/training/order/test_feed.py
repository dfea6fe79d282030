"""A run that mines hard records, resumed: bit for bit the run that was not stopped."""

import shutil

import pytest
from conftest import DEMO, OPTIONS, TINY, assert_told

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.forgeries.families import FAMILIES
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.training import checkpoint
from deepfidelity_jax.training.order.feed import Feed

MINING = (
    "--config.train.mining=1.0", "--config.train.curriculum=loss",
    "--config.train.curriculum_steps=6", "--config.train.steps=8", "--config.train.eval_every=4",
    "--config.train.checkpoint_every=2", "--config.train.keep=9",
    # A step by the schedule of the tiny run is the same program.
    f"--config.train.schedule_steps={TINY['train.steps']}",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.e2e
def test_mining_goes_on_where_it_was(run, finished, tmp_path):
    place = f"--config.data.records_dir={finished / 'records'}"
    own = [DEMO, *OPTIONS, *MINING, place, "--mode=train"]
    status, _, error = run(*own, f"--workdir={tmp_path / 'whole'}")
    assert status == 0, error
    measured = sorted(path.name for path in (tmp_path / "whole/difficulty").iterdir())
    assert measured == ["4.npz"], "at the evaluation that others follow"
    whole = checkpoint.read_notes(tmp_path / "whole/checkpoints", 8)["checksums"]
    for kept in (2, 6):
        again = shutil.copytree(tmp_path / "whole", tmp_path / f"from_{kept}")
        for step in range(kept + 2, 10, 2):
            shutil.rmtree(again / "checkpoints" / str(step))
        if kept < 4:
            shutil.rmtree(again / "difficulty")
        status, _, error = run(*own, f"--workdir={again}")
        assert status == 0, error
        assert f"resuming from step {kept} of 8" in error
        assert checkpoint.read_notes(again / "checkpoints", 8)["checksums"] == whole


def test_batches_that_cannot_be_made_are_told_first(records_folder, tiny, tmp_path):
    """Before a network is made or the first record is read for a batch."""
    model = build_model(tiny)
    tiny.train.batch_size = 7
    with pytest.raises(InputError, match="batch_size is 7: give a multiple of 2"):
        Feed(tiny, records_folder, tmp_path, model)
    tiny.data.fresh_forgeries = False
    Feed(tiny, records_folder, tmp_path, model)
    tiny.data.fresh_forgeries, tiny.train.batch_size = True, 8
    tiny.train.leave_out = tuple(FAMILIES)
    with pytest.raises(InputError, match="leaves no family of forgeries"):
        Feed(tiny, records_folder, tmp_path, model)


def test_a_curriculum_needs_its_end(run, tmp_path):
    for options in (
        ("--config.train.curriculum=quality",),
        ("--config.train.curriculum_steps=5",),
        ("--config.train.curriculum=loss", "--config.train.curriculum_steps=5"),
    ):
        told = run(DEMO, *options, f"--workdir={tmp_path}")
        assert_told(told, "config.train.curriculum_steps")
