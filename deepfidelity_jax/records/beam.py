"""Faces found on a cluster: the work of `preparation.stage` as an Apache Beam pipeline.

Finding faces is nearly all of a preparation, and every source is worked on apart. So that is what a
cluster does; the records are then written by the machine that gave the command. The videos and
`--config.data.records_dir` must lie in a folder that all workers see under the same path (NFS,
Lustre, Filestore, a mounted bucket), and this package must be installed on them with the extra
`[beam]`. A killed run goes on, on the cluster or off it. The options are Beam's own:

    pip install -e '.[beam]'
    COMMAND="python run.py --config=configs/ffpp.py --mode=prepare --workdir=/shared/run
        --config.data.manual_dir=/shared/ffpp --config.data.records_dir=/shared/records"

    # Apache Flink, each worker in a container with this package
    $COMMAND --config.data.beam="--runner=FlinkRunner --flink_master=HOST:8081 --parallelism=64
        --environment_type=DOCKER --environment_config=IMAGE"

    # Apache Spark, through its Beam job server; workers as processes of the same environment
    $COMMAND --config.data.beam="--runner=PortableRunner --job_endpoint=HOST:8099
        --environment_type=EXTERNAL --environment_config=localhost:50000"

    # Google Dataflow, IMAGE made from Beam's SDK image with this package and the share mounted
    $COMMAND --config.data.beam="--runner=DataflowRunner --project=PROJECT --region=REGION
        --temp_location=gs://BUCKET/tmp --sdk_container_image=IMAGE --experiments=use_runner_v2"

    # This machine, to try it
    $COMMAND --config.data.beam="--runner=DirectRunner --direct_num_workers=2
        --direct_running_mode=multi_processing"

Only the last was run here; the others are as Beam's documentation gives them.
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
    """Stages the faces of a source in a file, written once however often its bundle is tried.

    produce: a picklable function of one source. folder: where `preparation` looks for the files.
    """

    def __init__(self, produce: Callable[[Any], Produced], folder: Path):
        super().__init__()
        self.produce, self.folder = produce, folder

    def process(self, source):
        """The source's name, when it is staged."""
        produce_one(self.produce, source, self.folder)
        yield source.name


def stage(
    sources: Sequence[Source], produce: Callable[[Any], Produced], folder: Path, options: str
) -> None:
    """Run the pipeline on the runner that `options` name, and wait for it."""
    with beam.Pipeline(options=PipelineOptions(shlex.split(options))) as pipeline:
        _ = (
            pipeline
            | "list sources" >> beam.Create(list(sources))
            | "spread" >> beam.Reshuffle()  # or one worker would do all that it was handed
            | "find faces" >> beam.ParDo(FindFaces(produce, folder))
        )
