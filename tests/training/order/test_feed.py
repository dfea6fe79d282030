"""A run that mines hard records, resumed: bit for bit the run that was not stopped."""

import json
import shutil

import pytest
from conftest import DEMO, assert_told

from deepfidelity_jax.training import checkpoint

MINING = (
    "--config.train.mining=1.0", "--config.train.curriculum=loss",
    "--config.train.curriculum_steps=6", "--config.train.steps=8", "--config.train.eval_every=4",
    "--config.train.checkpoint_every=2", "--config.train.keep=9",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.e2e
def test_mining_goes_on_where_it_was(command, finished, tmp_path):
    place = f"--config.data.records_dir={finished / 'records'}"
    own = [*MINING, place, "--mode=train"]
    done = command(tmp_path / "whole", *own).finish()
    assert done.returncode == 0, done.stderr
    whole = checkpoint.read_notes(tmp_path / "whole/checkpoints", 8)["checksums"]
    for kept in (2, 4, 6):
        again = shutil.copytree(tmp_path / "whole", tmp_path / f"from_{kept}")
        for step in range(kept + 2, 10, 2):
            shutil.rmtree(again / "checkpoints" / str(step))
        if kept < 4:
            shutil.rmtree(again / "difficulty")
        done = command(again, *own).finish()
        assert done.returncode == 0, done.stderr
        assert f"going on from step {kept} of 8" in done.stderr
        assert checkpoint.read_notes(again / "checkpoints", 8)["checksums"] == whole
    plain = [option for option in own if "mining" not in option and "curriculum" not in option]
    done = command(tmp_path / "plain", *plain).finish()
    assert done.returncode == 0, done.stderr
    other = checkpoint.read_notes(tmp_path / "plain/checkpoints", 8)["checksums"]
    assert other != whole, "what is drawn differs"
    lines = (tmp_path / "whole/metrics.jsonl").read_text().splitlines()
    assert len({json.loads(line)["step"] for line in lines}) == 8


def test_a_curriculum_needs_its_end(run, tmp_path):
    for options in (
        ("--config.train.curriculum=quality",),
        ("--config.train.curriculum_steps=5",),
    ):
        told = run(DEMO, *options, f"--workdir={tmp_path}")
        assert_told(told, "config.train.curriculum_steps")
