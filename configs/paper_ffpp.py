"""FaceForensics++ c23 by the paper's recipe and scoring, to compare with its published figures.

python run.py --config=configs/paper_ffpp.py --config.data.manual_dir=COPY --workdir=DIR

Hardware, time and result: not measured here.
The paper's figures, by its own scoring: accuracy 98.89, AUC 99.67 (percent).
"""

from ml_collections import ConfigDict

from deepfidelity_configs import paper


def get_config() -> ConfigDict:
    """The official recipe on FaceForensics++ c23."""
    config = paper.get_config()
    config.data.dataset = "ffpp"
    return config
