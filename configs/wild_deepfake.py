"""WildDeepfake, read straight from its archives.

python run.py --config=configs/wild_deepfake.py --config.data.manual_dir=COPY --workdir=DIR

Hardware: one accelerator of 40 GB or more; preparation on as many cores as there are.
Time: not measured here. datasets/wild_deepfake/README.md estimates the preparation.
Result: not measured here. The paper reports accuracy 88.34 and video AUC 92.33, with the large
variant, weights pretrained on ImageNet, and its own scoring (best threshold on the test scores).
"""

from ml_collections import ConfigDict

from deepfidelity_configs import default


def get_config() -> ConfigDict:
    """The configuration for WildDeepfake, whose images are already face crops."""
    config = default.get_config()
    config.data.dataset = "wild_deepfake"
    config.data.workers = 8
    config.faces.detector = "none"
    config.faces.size = 224
    config.train.steps = 40_000
    return config
