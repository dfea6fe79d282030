"""The base of a grid of runs: rendered faces, few people, short training runs.

A grid imports this, and names its factors in `config.ablate`, as configs/ablate_regressor.py does:

python run.py --mode=ablate --config=configs/ablate_regressor.py --workdir=DIR

Each factor has named levels, and each level the options that it sets. The first levels are the base
that all others are compared with, seed by seed. `--list` prints one command per training run
instead, for a cluster. The table is DIR/ablation.csv, .md and .tex.

For your own photographs add --config.data.dataset=face_folder --config.data.dir=FOLDER; for a
benchmark --config.data.dataset=ffpp --config.data.manual_dir=COPY.
"""

from ml_collections import ConfigDict

from deepfidelity_configs import demo


def get_config() -> ConfigDict:
    """The demo with fewer people and steps, and a grid without factors."""
    config = demo.get_config()
    config.data.identities = 150
    config.train.steps = 600
    config.train.eval_every = 300
    config.train.checkpoint_every = 300
    config.ablate = ConfigDict({"factors": (), "seeds": (0,)})
    return config


def from_scratch() -> ConfigDict:
    """The base without the bundled weights, whose training would affect every level.

    It has more people and steps, another optimizer and a mask head, because a network from scratch
    learns little in a few hundred steps. Twelve training runs take an hour on two cores.
    """
    config = get_config()
    config.init_from = ""
    config.data.identities = 400
    config.data.clips = 1
    config.train.steps = 900
    config.train.optimizer = "muon"
    config.train.learning_rate = 2e-3
    config.train.mask_weight = 1.0
    config.train.eval_every = 450
    config.train.checkpoint_every = 450
    return config
