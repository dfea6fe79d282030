"""Repeat a finished run from the start, and report what differs."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from deepfidelity_jax import pipeline, provenance
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.options import checks
from deepfidelity_jax.progress import say
from deepfidelity_jax.training import checkpoint
from deepfidelity_jax.workdir import flatten, read_config, write_json

# Entries whose differences are only noted.
CIRCUMSTANCES = ("versions", "hardware")
# Entries whose values are compared: between versions of this package only those that both have.
VALUES = ("digests", "metrics")
REPORT = "report/verify.json"  # in the workdir
PACKAGE = "deepfidelity_jax"  # in `versions`


def verify(workdir: Path, config: ConfigDict | None = None) -> bool:
    """Run everything again in WORKDIR/verify and compare with report/run.json.

    Preparation, training, fit and evaluation are repeated. An interrupted repetition resumes.
    WORKDIR/verify is removed at the end, and report/verify.json holds the result.

    Args:
      workdir: a finished run, or a folder that holds only its report/run.json.
      config: config of the repetition; by default that in report/run.json. Options are compared as
        well.

    Returns:
      Whether nothing differs.

    Raises:
      InputError: the run is not finished, its data is gone, or its weights were converted.
    """
    recorded = provenance.read_run(workdir)
    require_training(workdir)
    if "config" not in recorded:  # an earlier version's
        recorded["config"] = json.loads(read_config(workdir).to_json())
    place = workdir / "verify"
    again = plan(config or checks.complete(ConfigDict(recorded["config"])), place)
    if (place / "config.json").exists():
        try:
            checks.require_same(place, again)
        except InputError:  # left by a repetition with other options
            shutil.rmtree(place)
    pipeline.check_place(again, place, "run")
    pipeline.run(again, place)
    repeated = provenance.read_run(place)
    differing = compare(recorded, repeated)
    write_json(workdir / REPORT, {"same": not differing, "differing": differing})
    for line in list_notes(recorded, repeated):
        say(f"note: {line}")
    if differing:
        say(f"{len(differing)} differences:")
        for line in differing:
            say(f"  {line}")
    else:
        names, numbers = (
            [key for key in repeated[part] if key in recorded[part]] for part in VALUES
        )
        say(f"no difference: options, {', '.join(names)} and {len(numbers)} numbers are the same")
    shutil.rmtree(place)
    return not differing


def require_training(workdir: Path) -> None:
    """InputError if the weights in `workdir` were converted from a file."""
    folder = workdir / "checkpoints"
    step = checkpoint.latest_step(folder)
    if step is not None and "converted_from" in (notes := checkpoint.read_notes(folder, step)):
        raise InputError(
            f"the weights in {workdir} were converted from {notes['converted_from']}: there is no "
            "training to repeat; --mode=evaluate scores them again"
        )


def plan(config: ConfigDict, place: Path) -> ConfigDict:
    """The configuration of the repetition: everything is written below `place`."""
    repetition = copy.deepcopy(config).unlock()
    repetition.data.records_dir = str(place.absolute() / "records")
    return repetition.lock()


def compare(recorded: dict[str, Any], repeated: dict[str, Any]) -> list[str]:
    """One line for each option, digest, count or number that differs between two runs.

    Options that change no result, such as paths, may differ.
    """
    before, after = (
        flatten(checks.complete(ConfigDict(run["config"])).to_dict())
        for run in (recorded, repeated)
    )
    lines = [
        f"config.{key} is {json.dumps(now)}, was {json.dumps(was)}"
        for key, was, now in list_differing(before, after)
        if checks.counts(key)
    ]
    for key, was, now in list_differing(recorded["faces"], repeated["faces"]):
        lines.append(f"{key}: {now}, was {was}")
    if recorded["step"] != repeated["step"]:
        lines.append(f"best step: {repeated['step']}, was {recorded['step']}")
    for name in VALUES:
        for key, was, now in list_differing(recorded[name], repeated[name]):
            if None not in (was, now):
                lines.append(f"{key}: {_shown(now)}, was {_shown(was)}")
            elif _of_one_version(recorded, repeated):
                lines.append(_only(key, was))
    return lines


def list_notes(recorded: dict[str, Any], repeated: dict[str, Any]) -> list[str]:
    """One line for each difference that does not count: in versions, hardware, and what is new."""
    lines = []
    for name in CIRCUMSTANCES:
        # Those of the training, which runs of earlier versions do not tell from the evaluation's.
        both = (run["times"].get("train", {}).get(name, run[name]) for run in (recorded, repeated))
        for key, was, now in list_differing(*both):
            lines.append(f"{name} differ: {key} was {was}, is {now}")
    for name in VALUES:
        for key, was, now in list_differing(recorded[name], repeated[name]):
            if None in (was, now) and not _of_one_version(recorded, repeated):
                lines.append(_only(key, was))
    return lines


def _of_one_version(recorded: dict[str, Any], repeated: dict[str, Any]) -> bool:
    """Whether one version of this package made both runs, so that they have the same figures."""
    one, other = (run["versions"].get(PACKAGE) for run in (recorded, repeated))
    return one == other


def _only(key: str, was: Any) -> str:
    return f"{key} is in the {'repeated' if was is None else 'recorded'} run only"


def _shown(value: str | float) -> str:
    return value[:12] if isinstance(value, str) else str(value)


def list_differing(before: dict, after: dict) -> list[tuple[str, Any, Any]]:
    """(key, value before, value after) where two dicts differ; None where one lacks the key."""
    return [
        (key, before.get(key), after.get(key))
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]
