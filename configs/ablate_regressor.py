"""Every regressor from features to fidelity on the same trained features, three seeds.

python run.py --mode=ablate --config=configs/ablate_regressor.py --workdir=DIR

Runs that differ in the regressor alone share a training, so there are three.
"""

from ml_collections import ConfigDict

from deepfidelity_configs import ablate
from deepfidelity_jax.fidelity.regressor import METHODS


def get_config() -> ConfigDict:
    """The base with one factor."""
    config = ablate.get_config()
    levels = tuple((method, {"fidelity.regressor": method}) for method in METHODS)
    config.ablate.factors = (("regressor", levels),)
    config.ablate.seeds = (0, 1, 2)
    return config
