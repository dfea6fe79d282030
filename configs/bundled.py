"""The recipe of the detector that comes with the package: small faces, ten families of forgeries.

python -m deepfidelity_datasets.synthetic_faces FACES 400
python run.py --config=configs/bundled.py --config.data.dir=FACES --workdir=FIRST
python run.py --config=configs/bundled.py --config.data.dir=FACES --config.init_from=FIRST \
    --workdir=DIR

FACES also holds photographs of one person each, under licences that let you distribute models
trained on them. The second training starts from the weights of the first; docs/detector.md has the
figures of both. `python -m deepfidelity_jax.detector.bundled DIR FOLDER` packs the result.
"""

from ml_collections import ConfigDict

from deepfidelity_configs import folder


def get_config() -> ConfigDict:
    """The configuration for portraits about 200 pixels high."""
    config = folder.get_config()
    config.data.group = "file"
    config.data.splits = (0.80, 0.10, 0.10)
    folder.set_sizes(config, crop=108, view=96)
    config.fidelity.percentile = 2.0
    config.train.steps = 14_000
    config.train.fidelity_weight = 1.0
    config.train.ema_decay = 0.999
    config.train.eval_every = 2000
    config.train.checkpoint_every = 500
    return config
