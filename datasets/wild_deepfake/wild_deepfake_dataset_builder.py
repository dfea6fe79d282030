"""wild_deepfake: WildDeepfake, straight from its archives.

python run.py --config=configs/wild_deepfake.py --config.data.manual_dir=COPY --workdir=DIR
"""

from functools import partial
from typing import ClassVar

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_datasets.wild_deepfake.sources import Extractor, list_archives
from deepfidelity_jax.records.benchmark_builder import (
    BenchmarkBuilder,
    Plan,
    plan_benchmark,
    validation_share,
)


class Builder(BenchmarkBuilder):
    """TFDS builder for WildDeepfake."""

    VERSION = tfds.core.Version("1.1.0")
    # Records of these versions, measured without landmarks, are read if they exist.
    SUPPORTED_VERSIONS: ClassVar = [tfds.core.Version("1.0.0")]
    OPTIONS = ("manual_dir", "splits", "incomplete", "beam")

    @classmethod
    def plan(cls, config: ConfigDict) -> Plan:
        """The archives of the chosen splits."""
        share = validation_share(config)
        listed = partial(list_archives, validation=share)
        options = {"validation": share, "held": "archives"}
        return plan_benchmark(config, "archives", options, listed, Extractor, unit="archives")
