"""celeb_df: Celeb-DF v2, by its own test list.

python run.py --config=configs/celeb_df.py --config.data.manual_dir=COPY --workdir=DIR
"""

from functools import partial
from typing import ClassVar

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_datasets.celeb_df.sources import list_videos
from deepfidelity_jax.records.benchmark_builder import (
    BenchmarkBuilder,
    Plan,
    plan_benchmark,
    validation_share,
)
from deepfidelity_jax.records.benchmark_video import Extractor


class Builder(BenchmarkBuilder):
    """TFDS builder for Celeb-DF v2."""

    VERSION = tfds.core.Version("1.1.0")
    # Records of these versions, measured without landmarks, are read if they exist.
    SUPPORTED_VERSIONS: ClassVar = [tfds.core.Version("1.0.0")]
    OPTIONS = ("manual_dir", "bench_json", "splits", "incomplete", "beam")

    @classmethod
    def plan(cls, config: ConfigDict) -> Plan:
        """The videos of the chosen splits."""
        share = validation_share(config)
        listed = partial(list_videos, validation=share, bench_json=config.data.bench_json)
        options = {
            "validation": share,
            "held": "DeepfakeBench frames" if config.data.bench_json else "videos",
        }
        return plan_benchmark(config, "v2", options, listed, Extractor, unit="videos")
