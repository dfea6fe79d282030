"""A trained workdir is read back, or refused in one line."""

import json

import jax
import numpy as np
import pytest
from training_states import read_state

from deepfidelity_jax.detector.trained import config_from_notes, read_trained
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.training.checkpoint import best_step, read_notes


def test_the_best_checkpoint_is_read(finished, tiny):
    config, variables, step = read_trained(finished)
    folder = finished / "checkpoints"
    assert step == best_step(folder)
    assert json.loads(config.to_json()) == json.loads(read_notes(folder, step)["config"])
    tiny.train.steps = step
    expected = read_state(finished, tiny).ema
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_an_untrained_workdir_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no trained detector"):
        read_trained(tmp_path)


@pytest.mark.parametrize("notes", [{}, {"config": "{"}, {"config": None}])
def test_a_checkpoint_without_a_configuration_is_refused(tmp_path, notes):
    with pytest.raises(InputError, match="damaged: it holds no configuration"):
        config_from_notes(notes, tmp_path)
