"""The paper's two ideas, each on and off: fidelity from quality, and symmetric attention.

python run.py --mode=ablate --config=configs/ablate_paper.py --workdir=DIR

Without the first, targets are plain labels; without the second, no block uses the mirror image.
Twelve training runs from scratch, because the bundled weights were trained with both.
"""

from ml_collections import ConfigDict

from deepfidelity_configs import ablate

FACTORS = (
    ("quality", (("on", {}), ("off", {"quality.measure": "none"}))),
    ("symmetry", (("on", {}), ("off", {"model.symmetric": (0, 0, 0, 0)}))),
)


def get_config() -> ConfigDict:
    """The base from scratch with two factors."""
    config = ablate.from_scratch()
    config.ablate.factors = FACTORS
    config.ablate.seeds = (0, 1, 2)
    return config
