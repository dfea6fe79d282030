"""FaceForensics++, with its official split.

python run.py --config=configs/ffpp.py --config.data.manual_dir=COPY --workdir=DIR

Hardware: one accelerator of 40 GB or more; preparation on as many cores as there are.
Time: not measured here. datasets/ffpp/README.md estimates the preparation.
Result: not measured here. The paper reports, for c23: accuracy 98.89, video AUC 99.67, with the
large variant, weights pretrained on ImageNet, and its own scoring (best threshold on the test
scores, videos that share a target merged).
"""

from ml_collections import ConfigDict

from deepfidelity_configs import default


def get_config() -> ConfigDict:
    """The configuration for FaceForensics++ c23 and its four classic methods."""
    config = default.get_config()
    config.data.dataset = "ffpp"
    config.data.workers = 8
    config.faces.size = 256
    config.train.steps = 40_000
    return config
