"""The whole path on rendered faces: no download, no accelerator.

python run.py --config=configs/demo.py --workdir=/tmp/demo
"""

from ml_collections import ConfigDict

from deepfidelity_configs import default


def get_config() -> ConfigDict:
    """The demo's configuration."""
    config = default.get_config()
    config.data.dataset = "synthetic_faces"
    config.data.identities = 560
    config.data.clips = 2
    config.data.splits = (0.76, 0.08, 0.16)
    config.faces.size = 112
    config.faces.frames = 3

    # With three forgeries of each real face, more weight on the real ones parts the classes better
    # and orders the fakes worse by quality (people beside the three splits: frame AUC 0.835 and
    # Spearman 0.40 at 0, 0.856 and 0.37 at 0.24). A few outliers do not set the range of quality.
    config.fidelity.percentile = 2.0
    config.fidelity.balance = 0.25
    config.fidelity.C = 1.0
    config.fidelity.gamma = 1.0

    config.model.variant = "tiny"
    config.model.image_size = 96
    config.model.eval_crop = 0.93
    config.model.drop_path = 0.0

    # Quality is lost as it is in the records, which the sources of training are clean of.
    config.augment.crop_scale = (0.75, 1.0)
    config.augment.jitter = 0.0
    config.augment.degrade_p = 0.75
    config.augment.recompress_p = 0.0
    config.augment.erase_p = 0.0

    config.train.steps = 1500
    config.train.batch_size = 16
    config.train.learning_rate = 1e-3
    config.train.warmup_steps = 100
    config.train.ema_decay = 0.99
    config.train.eval_every = 375
    config.train.checkpoint_every = 375
    return config
