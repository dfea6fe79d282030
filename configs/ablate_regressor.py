"""Every regressor and every head on the same trained network, three seeds.

python run.py --mode=ablate --config=configs/ablate_regressor.py --workdir=DIR

Cells that differ only in the regressor share a training run, so there are three. Each includes
the ordinal head.
"""

from ml_collections import ConfigDict

from deepfidelity_configs import ablate
from deepfidelity_jax.fidelity.regressor import METHODS
from deepfidelity_jax.network.outputs import HEADS


def get_config() -> ConfigDict:
    """The base with one factor."""
    config = ablate.get_config()
    config.train.ordinal_weight = 3.0
    levels = tuple((method, {"fidelity.regressor": method}) for method in (*METHODS, *HEADS))
    config.ablate.factors = (("regressor", levels),)
    config.ablate.seeds = (0, 1, 2)
    return config
