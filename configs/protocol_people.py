"""Nobody in two splits, and intervals over people: a table that names the person in every row.

python run.py --config=configs/protocol_people.py --config.data.manifest=TABLE --workdir=DIR

People are drawn into the splits; if TABLE has the column split, a person in two splits is refused.
FaceForensics++ needs no table: its official split shares no original video, and configs/ffpp.py
takes --config.eval.cluster=person. Celeb-DF's official test list shares people with its training
videos: test a detector of other data on it, with configs/cross.py.
"""

from ml_collections import ConfigDict

from deepfidelity_configs import manifest


def get_config() -> ConfigDict:
    """The configuration for a table, with people as clusters."""
    config = manifest.get_config()
    config.eval.cluster = "person"
    return config
