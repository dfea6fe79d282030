"""Photographs, videos or ready crops that a table lists with their labels.

python run.py --config=configs/manifest.py --config.data.manifest=TABLE --workdir=runs/table

TABLE is a .csv, .parquet or .jsonl with the columns path and label; datasets/manifest/README.md has
the others.
"""

from ml_collections import ConfigDict

from deepfidelity_configs import folder


def get_config() -> ConfigDict:
    """The configuration for a folder, with a table instead of the folder."""
    config = folder.get_config()
    config.data.dataset = "manifest"
    return config
