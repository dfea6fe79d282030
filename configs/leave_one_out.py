"""Train once without each forgery family, and test on the family left out.

python run.py --config=configs/leave_one_out.py --config.data.dir=FOLDER --workdir=DIR

FOLDER holds photographs or videos of real people, one person each. For a folder or a benchmark with
its own fakes, name their methods:
--config.leave_one_out="('Deepfakes', 'FaceSwap')"; 'A+B' leaves out both at once. Each training
is a separate run in DIR/without_NAME; all share the records. The same command resumes after an
interruption. The table is DIR/leave_one_out.csv, with each run's false alarms under one strength of
six degradations; for five grades of eleven, use --mode=robustness --workdir=DIR/without_NAME.
"""

from ml_collections import ConfigDict

from deepfidelity_configs import folder
from deepfidelity_jax.forgeries.families import FAMILIES


def get_config() -> ConfigDict:
    """The configuration for a folder with smaller faces and shorter training runs."""
    config = folder.get_config()
    config.leave_one_out = tuple(FAMILIES)
    folder.set_sizes(config, crop=108, view=96)
    config.train.steps = 6000
    config.train.eval_every = 3000
    config.train.checkpoint_every = 500
    return config
