"""The whole path on rendered faces: no download, no accelerator.

python run.py --config=configs/demo.py --workdir=/tmp/demo
"""

from ml_collections import ConfigDict

from deepfidelity_configs import default


def get_config() -> ConfigDict:
    """The demo's configuration."""
    config = default.get_config()
    config.data.dataset = "synthetic_faces"
    config.data.identities = 64
    config.data.splits = (0.65, 0.10, 0.25)
    config.faces.size = 112
    config.faces.frames = 4

    config.model.variant = "tiny"
    config.model.image_size = 96
    config.model.drop_path = 0.0

    config.augment.crop_scale = (0.75, 1.0)
    config.augment.jitter = 0.0
    config.augment.degrade_p = 0.1
    config.augment.recompress_p = 0.1
    config.augment.erase_p = 0.0

    config.train.steps = 600
    config.train.batch_size = 32
    config.train.learning_rate = 1e-3
    config.train.warmup_steps = 60
    config.train.ema_decay = 0.98
    config.train.log_every = 25
    config.train.eval_every = 150
    config.train.checkpoint_every = 150
    return config
