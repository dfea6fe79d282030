"""The training state that a run ended with."""

import jax

from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.training import checkpoint, step


def read_state(workdir, config):
    """The training state at the end of a run."""
    abstract = jax.eval_shape(lambda: step.create_state(build_model(config), config))
    folder = workdir / "checkpoints"
    return checkpoint.restore(folder, config.train.steps, checkpoint.on_one_device(abstract))
