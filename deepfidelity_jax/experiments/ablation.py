"""A grid of options: one run for each combination of levels and each seed, and one table.

`config.ablate` has the seeds and the factors, each with named levels and the options that each
level sets. The first levels of all factors form the base, with which the other cells are compared
in pairs: same seed, same test faces. Each cell is an ordinary run in WORKDIR/cells/NAME/seed_N.
Cells share the records that are the same, and those that differ only in regressor or scoring share
a training run.
"""

import copy
import functools
import itertools
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from deepfidelity_jax import pipeline, provenance
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.experiments import ablation_table
from deepfidelity_jax.files import fingerprint
from deepfidelity_jax.options import checks
from deepfidelity_jax.progress import say
from deepfidelity_jax.records import schema
from deepfidelity_jax.records.write import records_dir
from deepfidelity_jax.scoring.metrics import biases
from deepfidelity_jax.scoring.report import write_report
from deepfidelity_jax.scoring.table import Predictions
from deepfidelity_jax.workdir import Stages, flatten, held, keep_programs, write_json

# Options that do not affect training.
AFTER_TRAINING = (
    "eval.", "fidelity.C", "fidelity.epsilon", "fidelity.gamma", "fidelity.balance",
    "fidelity.tune", "fidelity.regressor", "fidelity.calibration",
)  # fmt: skip
# Names of factors and levels become folders and cells of tables.
UNFIT = re.compile(r"[/|\\\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Cell:
    """One combination of levels with one seed.

    name: the levels that differ from the base, or 'base'. changed: the options it sets, by dotted
    name. config: the config of its run. place: its workdir.
    """

    name: str
    seed: int
    changed: dict[str, object]
    config: ConfigDict
    place: Path

    @property
    def training(self) -> str:
        """A key that is equal for cells that share a training run."""
        options = flatten(json.loads(self.config.to_json()))
        return fingerprint(
            sorted((k, v) for k, v in options.items() if not k.startswith(AFTER_TRAINING))
        )


def run(config: ConfigDict, workdir: Path) -> None:
    """Run every cell that is not finished, and write WORKDIR/ablation.csv, .md, .tex and a report.

    ablation_methods.csv has the AUC of each cell on each method of forgery.

    Raises:
      InputError: the grid is wrong, or a cell cannot be run.
    """
    cells = plan(config, workdir)
    for cell in cells:  # check before hours of preparation
        pipeline.check_place(cell.config, cell.place, "run")
    keep_programs(workdir)
    # And before hours of training.
    folders = pipeline.prepare_records([(cell.config, cell.place) for cell in cells])
    require_same_faces(cells, folders)
    trained: dict[str, Cell] = {}
    for number, cell in enumerate(cells, start=1):
        say(f"run {number} of {len(cells)}: {cell.name}, seed {cell.seed}")
        with held(cell.place, wait=True):  # the cell's own command may still be running
            if cell.training in trained:
                share_training(trained[cell.training].place, cell.place)
            pipeline.run(cell.config, cell.place)
        trained.setdefault(cell.training, cell)
    results = [read_result(cell) for cell in cells]
    rows = ablation_table.summarize(results, config.eval.bootstrap)
    ablation_table.write(rows, workdir / "ablation")
    by_method = ablation_table.summarize_methods(results)
    ablation_table.write_methods(*by_method, workdir / "ablation_methods.csv")
    report = write_report(workdir, {})
    say(ablation_table.describe(rows))
    for why in dict.fromkeys(itertools.chain(*(biases(result.metrics) for result in results))):
        say(f"  these figures are optimistic: {why}")
    say(f"tables: {workdir / 'ablation'}.csv, .md, .tex, and ablation_methods.csv beside them")
    say(f"report: {report}")


def list_commands(
    config: ConfigDict,
    workdir: Path,
    config_file: str,
    given: dict[str, object],
    program: Sequence[str],
) -> Iterator[str]:
    """One shell command for each training of the grid, for any scheduler, in any folder.

    The other cells share these training runs; the command for the whole grid runs those cells and
    writes the table. `given`: options from the command line, by dotted name. `program`: the words
    that start the command line.
    """
    seen = set()
    for cell in plan(config, workdir):
        if cell.training not in seen:
            seen.add(cell.training)
            place = str(cell.config.data.records_dir)
            changed = given | cell.changed | {"seed": cell.seed, "data.records_dir": place}
            options = [
                f"--config.{key}={value}"
                for key, value in changed.items()
                if not key.startswith("ablate.")
            ]
            words = [*program, f"--config={config_file}", *options, f"--workdir={cell.place}"]
            # Relative paths, of options too, are relative to this folder.
            yield f"{shlex.join(['cd', str(Path.cwd())])} && {shlex.join(words)}"


def plan(config: ConfigDict, workdir: Path) -> list[Cell]:
    """The cells of the grid, the base first within each seed; InputError if the grid is wrong."""
    factors, seeds = config.ablate.factors, tuple(config.ablate.seeds)
    if not factors or not seeds or len(set(seeds)) < len(seeds):
        raise InputError("config.ablate needs at least one factor and one seed, each seed once")
    _require_clear(factors)
    cells = []
    for seed in seeds:
        for levels in itertools.product(*(levels for _, levels in factors)):
            parts = [
                f"{name} {level}"
                for (name, choices), (level, _) in zip(factors, levels, strict=True)
                if level != choices[0][0]
            ]
            name = ", ".join(parts) or "base"
            changed = {key: value for _, options in levels for key, value in options.items()}
            cell_config = copy.deepcopy(config).unlock()
            del cell_config.ablate
            cell_config.seed = seed
            cell_config.data.records_dir = str(records_dir(config, workdir))
            unknown = sorted(changed.keys() - flatten(cell_config.to_dict()).keys())
            if unknown:
                raise InputError(f"config.ablate sets {unknown[0]}, which is not an option")
            cell_config.lock().update_from_flattened_dict(changed)
            checks.check(cell_config)
            folder = name.replace(", ", "+").replace(" ", "_")
            place = workdir / "cells" / folder / f"seed_{seed}"
            cells.append(Cell(name, seed, changed, cell_config, place))
    if len({cell.place for cell in cells}) < len(cells):
        raise InputError("two cells of config.ablate have the same name")
    return cells


def _require_clear(factors: Sequence) -> None:
    """InputError if levels or options are named twice, or a name fits no folder or table."""
    setters = {"seed": "the seeds"}
    for name, levels in factors:
        if len({level for level, _ in levels}) < max(2, len(levels)):
            raise InputError(f"factor {name!r} of config.ablate needs two levels, each name once")
        for word in (name, *(level for level, _ in levels)):
            if unfit := UNFIT.search(str(word)):
                raise InputError(
                    f"config.ablate has the name {word!r}, which becomes a folder and a cell of a "
                    f"table: give one without {unfit[0]!r}"
                )
        for option in dict.fromkeys(option for _, options in levels for option in options):
            if option in setters:
                raise InputError(
                    f"config.ablate sets {option} by {setters[option]} and by factor {name!r}, and "
                    "one would override the other: set it by one of them only"
                )
            setters[option] = f"factor {name!r}"


def require_same_faces(cells: Sequence[Cell], folders: Sequence[Path]) -> None:
    """InputError if a cell would be tested on other faces than the base of its seed.

    There would be no paired difference. A cell that has already started training is reported, not
    refused. `folders`: the records of each cell.
    """
    faces = functools.cache(
        lambda folder: [_face(record) for record in schema.Records(folder, "test")]
    )
    base = {cell.seed: folder for cell, folder in zip(cells, folders, strict=True)
            if cell.name == "base"}  # fmt: skip
    for cell, folder in zip(cells, folders, strict=True):
        if folder == base[cell.seed] or faces(folder) == faces(base[cell.seed]):
            continue
        problem = (
            f"the cell {cell.name!r} is tested on {len(faces(folder))} faces that are not the "
            f"{len(faces(base[cell.seed]))} of the base, seed {cell.seed}"
        )
        if not (cell.place / "checkpoints").exists():
            raise InputError(
                f"{problem}: options of config.ablate must not change what is tested, nor which "
                "faces get a quality"
            )
        say(f"{problem}: it has no difference from it")


def _face(record: Mapping[str, Any]) -> tuple:
    """What tells a test face from others, as in predictions.csv."""
    return tuple(record[name] for name in ablation_table.SAME)


def share_training(source: Path, place: Path) -> None:
    """Give a new workdir the finished training and features of another, without copying bytes."""
    if (place / "checkpoints").exists():
        return
    place.mkdir(parents=True, exist_ok=True)
    partial = place / "checkpoints.partial"
    for unfinished in (partial, place / "features"):  # of a killed command
        shutil.rmtree(unfinished, ignore_errors=True)
    for name in ("features", "metrics.jsonl", "training_pictures.json", "leaks.json"):
        if (source / name).is_dir():
            shutil.copytree(source / name, place / name, copy_function=_link, dirs_exist_ok=True)
        elif (source / name).exists():
            shutil.copy(source / name, place / name)
    stages = json.loads((source / "stages.json").read_text(encoding="utf-8"))
    for name, inputs in stages.items():
        if name not in ("fit", "evaluate"):
            Stages(place).finish(name, inputs)
    times = provenance.read_times(source).items()
    shared = {name: usage for name, usage in times if name.startswith(("train", "features "))}
    write_json(place / provenance.TIMES, shared)
    # Last, because it marks the workdir as complete.
    shutil.copytree(source / "checkpoints", partial, copy_function=_link)
    partial.rename(place / "checkpoints")


def read_result(cell: Cell) -> ablation_table.Result:
    """Metrics and predictions of a finished cell."""
    eval_dir = cell.place / "eval" / cell.config.data.dataset
    times = provenance.read_times(cell.place)
    times.pop("prepare", None)  # other cells may share the records
    return ablation_table.Result(
        cell.name,
        cell.seed,
        json.loads((eval_dir / "metrics.json").read_text(encoding="utf-8")),
        Predictions.read_csv(eval_dir / "predictions.csv"),
        sum(usage["seconds"] for usage in times.values()),
        max((usage["peak_mib"] for usage in times.values()), default=0),
    )


def _link(source: str, target: str) -> str:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
