"""What a run does about leaks, once for the same records and options."""

from pathlib import Path

from ml_collections import ConfigDict

from deepfidelity_jax.files import fingerprint
from deepfidelity_jax.leaks import shared_sources, training_pictures
from deepfidelity_jax.records import schema
from deepfidelity_jax.workdir import Stages

REPORT = "leaks.json"  # in the workdir


def check(config: ConfigDict, folder: Path, workdir: Path, undecided: str) -> None:
    """Check the records in `folder` for leaks between splits, see `shared_sources.require_none`."""
    report, stages = workdir / REPORT, Stages(workdir)
    allow = config.leaks.allow
    inputs = fingerprint(schema.identity(folder), sorted(allow), bool(undecided))
    if not stages.done("leaks", inputs, report):
        shared_sources.require_none(folder, allow, report, undecided=undecided)
        stages.finish("leaks", inputs)


def remember(config: ConfigDict, folder: Path, workdir: Path, start: str, *, begun: bool) -> None:
    """Store the digests of the training pictures in the workdir.

    `start` is the folder of the detector that training starts from, if any, and `begun` whether
    there are weights; see `training_pictures.remember`.
    """
    stages = Stages(workdir)
    inputs = fingerprint(schema.identity(folder), config.init_from)
    if not stages.done("seen", inputs, workdir / training_pictures.SEEN):
        training_pictures.remember(folder, workdir, start, begun=begun)
        stages.finish("seen", inputs)
