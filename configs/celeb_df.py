"""Celeb-DF v2, with its official test list.

python run.py --config=configs/celeb_df.py --config.data.manual_dir=COPY --workdir=DIR

Hardware: one accelerator of 40 GB or more; preparation on as many cores as there are.
Time: not measured here. datasets/celeb_df/README.md estimates the preparation.
Result: not measured here. The paper reports accuracy 100 and video AUC 100, with the large variant,
weights pretrained on ImageNet, and its own scoring (best threshold on the test scores, videos that
share a person merged).
"""

from ml_collections import ConfigDict

from deepfidelity_configs import default


def get_config() -> ConfigDict:
    """The configuration for Celeb-DF v2."""
    config = default.get_config()
    config.data.dataset = "celeb_df"
    config.data.workers = 8
    config.faces.size = 256
    # People in the official test list have other videos in the training data, in every published
    # result on Celeb-DF v2. Training and validation share nobody.
    config.leaks.allow = ("person:train-test", "person:validation-test")
    config.train.steps = 40_000
    return config
