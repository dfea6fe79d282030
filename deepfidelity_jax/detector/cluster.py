"""Prediction on a cluster, as an Apache Beam pipeline; `records/beam.py` lists runners.

The machines share a folder that holds the inputs, the workdir and the output. Each verdict is kept
in its own file beside the output, so that a killed command continues with the inputs that have no
verdict yet. The lines are then written in order, and equal those of a single machine.
"""

import json
import shlex
from collections.abc import Generator, Sequence
from pathlib import Path

from deepfidelity_jax.detector.finding import Input, find, stamp
from deepfidelity_jax.detector.load import load
from deepfidelity_jax.detector.predict import PersonScore, Prediction, examine_found
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.files import fingerprint, written_whole

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError:
    raise InputError("--beam needs Apache Beam: pip install 'deepfidelity_jax[beam]'") from None


class Predict(beam.DoFn):
    """Predicts one file and keeps the verdict; each worker loads the detector once."""

    def __init__(self, workdir: str, faces: FaceSettings):
        super().__init__()
        self.workdir, self.faces = workdir, faces

    def setup(self):
        """Load the detector."""
        self.detector = load(self.workdir or None)
        self.detector.faces = self.faces

    def process(self, task: tuple[Input, Path]):
        """Yield the name of the file once its verdict is kept at the path."""
        given, path = task
        found = find(given, self.faces, self.detector.measure)
        (examined,) = examine_found(self.detector, [(given, found)])
        with written_whole(path, "w") as file:
            json.dump(examined and examined.prediction.to_dict(), file)
        yield given.name


def predict_on_cluster(
    detector, inputs: Sequence[Input], workdir: str, folder: Path, options: str
) -> Generator[Prediction | None, None, None]:
    """Run the pipeline, wait for it, and yield the verdicts in the order of the inputs.

    Args:
      detector: the `Detector` in `workdir`, with the face settings to use.
      inputs: the files.
      workdir: where the workers load the detector from; empty for the bundled one.
      folder: where verdicts are kept; the caller removes it.
      options: Beam's own.

    Yields:
      Each prediction; None for a file that is not a photograph or video.
    """
    folder.mkdir(exist_ok=True)
    # Named only once: a file may change, or go, before its verdict is read.
    tasks = [(each, verdict_path(folder, each, detector.fingerprint)) for each in inputs]
    todo = [(given, path) for given, path in tasks if not path.exists()]
    with beam.Pipeline(options=PipelineOptions(shlex.split(options))) as pipeline:
        _ = (
            pipeline
            | "list files" >> beam.Create(todo)
            | "spread" >> beam.Reshuffle()  # otherwise one worker would process all of them
            | "predict" >> beam.ParDo(Predict(workdir, detector.faces))
        )
    for _, path in tasks:
        values = json.loads(path.read_text())
        if values:
            values["faces"] = [PersonScore(**person) for person in values["faces"]]
        yield values and Prediction(**values)


def verdict_path(folder: Path, given: Input, detector: str) -> Path:
    """The file of a detector's verdict on an input; a new path if the input has changed."""
    return folder / f"{fingerprint(detector, given.name, stamp(given.path))}.json"
