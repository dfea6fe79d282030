"""WildDeepfake by the paper's recipe and scoring, to compare with its published figures.

python run.py --config=configs/paper_wild_deepfake.py --config.data.manual_dir=COPY --workdir=DIR

Hardware, time and result: not measured here.
The paper's figures, by its own scoring: accuracy 88.34, AUC 92.33 (percent).
"""

from ml_collections import ConfigDict

from deepfidelity_configs import paper


def get_config() -> ConfigDict:
    """The official recipe on WildDeepfake."""
    config = paper.get_config()
    config.data.dataset = "wild_deepfake"
    # The images are face crops, but SER-FIQ needs landmarks, so the face is detected in each crop.
    config.faces.detector = "mtcnn"
    return config
