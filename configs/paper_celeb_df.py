"""Celeb-DF v2 by the paper's recipe and scoring, to compare with its published figures.

python run.py --config=configs/paper_celeb_df.py --config.data.manual_dir=COPY --workdir=DIR

Hardware, time and result: not measured here.
The paper's figures, by its own scoring: accuracy 100, AUC 100 (percent).
"""

from ml_collections import ConfigDict

from deepfidelity_configs import paper


def get_config() -> ConfigDict:
    """The official recipe on Celeb-DF v2."""
    config = paper.get_config()
    config.data.dataset = "celeb_df"
    # People in the official test list also have training videos; see celeb_df.py.
    config.leaks.allow = ("person:train-test", "person:validation-test")
    return config
