"""Does the order of training data matter? Shuffled, easy first (quality, loss), hard more often.

python run.py --mode=ablate --config=configs/ablate_curriculum.py --workdir=DIR

All records take part after 300 steps, half of the 600, whatever --config.train.steps is. Losses
are measured every hundred steps. Twelve training runs take half an hour on two cores.
docs/experiments.md explains the options and has the results.
"""

from ml_collections import ConfigDict

from deepfidelity_configs import ablate


def get_config() -> ConfigDict:
    """The base with one factor."""
    config = ablate.get_config()
    config.train.eval_every = 100
    ends = {"train.curriculum_steps": 300}
    order = (
        ("shuffled", {}),
        ("easy first, by quality", {"train.curriculum": "quality"} | ends),
        ("easy first, by loss", {"train.curriculum": "loss"} | ends),
        ("hard more often", {"train.mining": 1.0}),
    )
    config.ablate.factors = (("order", order),)
    config.ablate.seeds = (0, 1, 2)
    return config
