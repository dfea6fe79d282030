"""Training with different fakes: all families, only the recorded fakes, or without some families.

python run.py --mode=ablate --config=configs/ablate_forgery.py --workdir=DIR

Every run is tested on all families, including those left out. Five training runs per seed,
from scratch, because the bundled weights were trained on every family. The data must have no fakes
of their own: rendered faces, or a folder of real faces. For a benchmark's own methods
there is configs/protocol_ffpp.py.
"""

from ml_collections import ConfigDict

from deepfidelity_configs import ablate

FACTORS = (
    (
        "forgeries",
        (
            ("all", {}),
            ("recorded", {"data.fresh_forgeries": False}),
            ("no swaps", {"train.leave_out": ("swap", "warped_swap", "part_swap")}),
            ("no texture", {"train.leave_out": ("resynthesis", "generated", "inpainted")}),
            ("no seamless", {"train.leave_out": ("whole_face", "morph")}),
        ),
    ),
)


def get_config() -> ConfigDict:
    """The base from scratch with one factor."""
    config = ablate.from_scratch()
    config.ablate.factors = FACTORS
    config.ablate.seeds = (0, 1, 2)
    return config
