"""Staging on a cluster: `staging.stage` as an Apache Beam pipeline.

Finding faces takes nearly all of the preparation time, and sources do not depend on each other. So
the cluster finds the faces, and the machine that runs the command then writes the records. The
videos and `--config.data.records_dir` must be in a folder that all workers see under the same path
(NFS, Lustre, Filestore, a mounted bucket), and this package must be installed on the workers with
the extra `[beam]`. A killed run can be resumed on the cluster or without it. The options are Beam's
own:

    pip install -e '.[beam]'
    COMMAND="python run.py --config=configs/ffpp.py --mode=prepare --workdir=/shared/run
        --config.data.manual_dir=/shared/ffpp --config.data.records_dir=/shared/records"

    # Apache Flink, each worker in a container with this package
    $COMMAND --config.data.beam="--runner=FlinkRunner --flink_master=HOST:8081 --parallelism=64
        --environment_type=DOCKER --environment_config=IMAGE"

    # Apache Spark, through its Beam job server; workers as processes of the same environment
    $COMMAND --config.data.beam="--runner=PortableRunner --job_endpoint=HOST:8099
        --environment_type=EXTERNAL --environment_config=localhost:50000"

    # Google Dataflow; IMAGE is Beam's SDK image with this package and the share mounted
    $COMMAND --config.data.beam="--runner=DataflowRunner --project=PROJECT --region=REGION
        --temp_location=gs://BUCKET/tmp --sdk_container_image=IMAGE --experiments=use_runner_v2"

    # This machine, to try it out
    $COMMAND --config.data.beam="--runner=DirectRunner --direct_num_workers=2
        --direct_running_mode=multi_processing"

Only the last one has been tested; the others follow Beam's documentation.
"""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records.source import Produced, Source
from deepfidelity_jax.records.staging import produce_one

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError:
    raise InputError(
        "config.data.beam needs Apache Beam: pip install 'deepfidelity_jax[beam]'"
    ) from None


class FindFaces(beam.DoFn):
    """Stages the faces of one source; safe to retry, as a source already staged is skipped.

    produce: a picklable function of one source. folder: where the staged faces are kept.
    """

    def __init__(self, produce: Callable[[Any], Produced], folder: Path):
        super().__init__()
        self.produce, self.folder = produce, folder

    def process(self, source):
        """Yield the name of the source once it is staged."""
        produce_one(self.produce, source, self.folder)
        yield source.name


def stage_on_cluster(
    sources: Sequence[Source], produce: Callable[[Any], Produced], folder: Path, options: str
) -> None:
    """Run the pipeline on the runner named in `options`, and wait for it to end."""
    with beam.Pipeline(options=PipelineOptions(shlex.split(options))) as pipeline:
        _ = (
            pipeline
            | "list sources" >> beam.Create(list(sources))
            | "spread" >> beam.Reshuffle()  # otherwise one worker would process all of them
            | "find faces" >> beam.ParDo(FindFaces(produce, folder))
        )
