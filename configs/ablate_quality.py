"""How quality becomes the target: measured by ISO/IEC 29794-5 components or not, linear or by rank.

python run.py --mode=ablate --config=configs/ablate_quality.py --workdir=DIR

`none` gives plain labels. For the paper's measure add a level with your ArcFace checkpoint:
("ser_fiq", {"quality.measure": "ser_fiq", "quality.weights": "FILE"}).
"""

from ml_collections import ConfigDict

from deepfidelity_configs import ablate

FACTORS = (
    (
        "target",
        (
            ("iso", {}),
            ("learned", {"quality.measure": "learned"}),
            ("trace", {"quality.measure": "trace"}),
            ("iso by rank", {"fidelity.mapping": "rank"}),
            ("iso, one range", {"fidelity.quality_range": "both"}),
            ("none", {"quality.measure": "none"}),
        ),
    ),
)


def get_config() -> ConfigDict:
    """The base with one factor."""
    config = ablate.get_config()
    config.ablate.factors = FACTORS
    config.ablate.seeds = (0, 1, 2)
    return config
