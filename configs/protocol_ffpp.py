"""FaceForensics++: train on one manipulation or without one, test on all four.

python run.py --mode=ablate --config=configs/protocol_ffpp.py --config.data.manual_dir=COPY \
    --workdir=DIR

The base trains on all four. The report shows every row on every manipulation; the CSV is
DIR/ablation_methods.csv. `--config.ablate.seeds="(0, 1, 2)"` repeats it. Splits are the official
ones. For data with other methods, name them in METHODS. configs/protocol_compression.py tests a
detector of the grid on c40, configs/cross.py on other datasets, with
--workdir=DIR/cells/NAME/seed_0.
"""

from ml_collections import ConfigDict

from deepfidelity_configs import ffpp

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


def get_config() -> ConfigDict:
    """The grid over the methods in training."""
    config = ffpp.get_config()
    only = [
        (f"{kept} alone", {"train.leave_out": tuple(m for m in METHODS if m != kept)})
        for kept in METHODS
    ]
    without = [(f"without {method}", {"train.leave_out": (method,)}) for method in METHODS]
    levels = (("all", {}), *only, *without)
    config.ablate = ConfigDict({"factors": (("trained on", levels),), "seeds": (0,)})
    return config
