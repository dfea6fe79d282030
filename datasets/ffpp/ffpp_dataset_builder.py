"""ffpp: FaceForensics++, by its official split.

python run.py --config=configs/ffpp.py --config.data.manual_dir=COPY --workdir=DIR
"""

from functools import partial
from typing import ClassVar

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_datasets.ffpp.sources import COMPRESSIONS, DFD, METHODS, list_videos
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records.benchmark_builder import BenchmarkBuilder, Plan, plan_benchmark
from deepfidelity_jax.records.benchmark_video import Extractor


class Builder(BenchmarkBuilder):
    """TFDS builder for FaceForensics++, with FaceShifter and DeepFakeDetection if asked for."""

    VERSION = tfds.core.Version("1.1.0")
    # Records of these versions, measured without landmarks, are read if they exist.
    SUPPORTED_VERSIONS: ClassVar = [tfds.core.Version("1.0.0")]
    OPTIONS = ("manual_dir", "bench_json", "compression", "methods", "incomplete", "beam")

    @classmethod
    def plan(cls, config: ConfigDict) -> Plan:
        """The videos of the chosen methods, compression and splits."""
        data = config.data
        chosen = tuple(data.methods)
        if data.compression not in COMPRESSIONS:
            raise InputError(
                f"config.data.compression is {data.compression!r}: one of {', '.join(COMPRESSIONS)}"
            )
        if not chosen or set(chosen) - set(METHODS):
            raise InputError(f"config.data.methods is {chosen}: choose from {', '.join(METHODS)}")
        methods = tuple(method for method in METHODS if method in chosen)
        if methods == (DFD,) and tuple(data.prepare) != ("test",):
            raise InputError(
                f"{DFD} has only a test split: add other methods to train on, or prepare that "
                "split alone with --config.data.prepare=\"('test',)\""
            )
        options = {
            "compression": data.compression,
            "methods": methods,
            "held": "DeepfakeBench frames" if data.bench_json else "videos",
        }
        return plan_benchmark(
            config,
            data.compression,
            options,
            partial(
                list_videos,
                compression=data.compression,
                methods=methods,
                bench_json=data.bench_json,
            ),
            Extractor,
            unit="videos",
        )
