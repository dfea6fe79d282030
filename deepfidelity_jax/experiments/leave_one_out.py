"""Training without each method of forgery in turn, tested on the one left out.

A figure on methods seen in training says little about other methods. Here each method is left out
of training, validation and the regressor once, and the detector is tested on it, on people that it
has not seen either. Each method has its own run in its own folder; all runs share the records.
"""

import copy
import csv
import json
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from deepfidelity_jax import pipeline
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.options import checks
from deepfidelity_jax.progress import say
from deepfidelity_jax.records.schema import ORIGINAL, metadata_of
from deepfidelity_jax.records.write import records_dir
from deepfidelity_jax.scoring.controls import CONTROLS, DEGRADATIONS, UNTOUCHED
from deepfidelity_jax.scoring.metrics import biases
from deepfidelity_jax.scoring.report import write_report
from deepfidelity_jax.workdir import held, keep_programs

TABLE = "leave_one_out.csv"


def run(config: ConfigDict, workdir: Path) -> dict[str, dict[str, Any]]:
    """Train without each of `config.leave_one_out`, and write WORKDIR/leave_one_out.csv.

    `A+B` leaves out both in one run, which is faster and a harder test. Finished runs are not
    repeated, and an interrupted run resumes.

    Returns:
      The metrics of each run, by the method left out.

    Raises:
      InputError: fewer than two methods, one that the test split does not hold, or one that
        `config.init_from` was trained with.
    """
    groups = tuple(config.leave_one_out)
    methods = [method for group in groups for method in group.split("+")]
    if len(methods) < 2 or len(set(methods)) < len(methods):
        raise InputError(f"config.leave_one_out is {groups}: name at least two methods, each once")
    plans = {group: plan(config, workdir, group) for group in groups}
    places = {group: workdir / f"without_{group}" for group in groups}
    runs = [(run_config, places[group]) for group, run_config in plans.items()]
    for run_config, place in runs:  # check before hours of preparation
        pipeline.check_place(run_config, place, "run")
    keep_programs(workdir)
    for group, folder in zip(plans, pipeline.prepare_records(runs), strict=True):
        require_tested(group, folder)  # and before hours of training
    results = {}
    for number, (group, run_config) in enumerate(plans.items(), start=1):
        say(f"training {number} of {len(plans)}, without {group}")
        place = places[group]
        with held(place, wait=True):
            pipeline.run(run_config, place)
        path = place / "eval" / run_config.data.dataset / "metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))
        for method in group.split("+"):
            results[method] = metrics
        write_table(results, workdir / TABLE)
    report = write_report(workdir, {})
    say(describe(results))
    say(f"table: {workdir / TABLE}")
    say(f"report: {report}")
    return results


def plan(config: ConfigDict, workdir: Path, group: str) -> ConfigDict:
    """The configuration of the run without the methods of a group; InputError if they are none."""
    run_config = copy.deepcopy(config).unlock()
    del run_config.leave_one_out
    run_config.data.records_dir = str(records_dir(config, workdir))
    run_config.train.leave_out = (*run_config.train.leave_out, *group.split("+"))
    checks.check(run_config)
    return run_config.lock()


def require_tested(group: str, folder: Path) -> None:
    """InputError if the test split of the records does not hold the methods of a group."""
    tested = metadata_of(folder).get("faces_found", {}).get("test", {}).keys() - {ORIGINAL}
    if absent := set(group.split("+")) - tested:
        raise InputError(
            f"config.leave_one_out names {', '.join(sorted(absent))}, but the test split holds "
            f"{', '.join(sorted(tested))}"
        )


def write_table(results: dict[str, dict[str, Any]], path: Path) -> None:
    """One row per method: faces, AUC per frame and video with intervals, share caught, controls.

    Real faces called fake and uncertain, untouched and degraded, and the class AUC of each control,
    are those of the run without the method; empty where it has none.
    """
    columns = ["left_out", "n_frames", "n_videos", "frame_auc", "low", "high", "video_auc",
               "video_low", "video_high", "fake_frame_acc"]  # fmt: skip
    verdicts = "called_fake", "called_uncertain"
    figures = [*product(verdicts, (UNTOUCHED, *DEGRADATIONS))]
    figures += [("class_auc", name) for name in CONTROLS]
    columns += [f"{figure}_{name}".replace(" ", "_") for figure, name in figures]
    with written_whole(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        for method, metrics in results.items():
            entry = metrics["by_method"][method]
            frame, video = (
                entry["ci"][name] or (None, None) for name in ("frame_auc", "video_auc")
            )
            controls = metrics.get("controls") or {}
            table.writerow([
                method, entry["n_frames"], entry["n_videos"], entry["frame_auc"], *frame,
                entry["video_auc"], *video, entry["fake_frame_acc"],
                *(controls.get(name, {}).get(figure) for figure, name in figures),
            ])  # fmt: skip


def describe(results: dict[str, dict[str, Any]]) -> str:
    """The table as lines of text, with mean and worst, real faces called fake and controls."""
    lines = ["methods left out of training, each tested by the run without it:"]
    entries = {method: metrics["by_method"][method] for method, metrics in results.items()}
    for method, entry in entries.items():
        interval = entry["ci"]["frame_auc"]
        shown = "[{:.3f}, {:.3f}]".format(*interval) if interval else "(no interval)"
        lines.append(
            f"  {method}: frame_auc {entry['frame_auc']:.3f} {shown}, {entry['n_frames']} faces"
        )
    worst = min(entries, key=lambda method: entries[method]["frame_auc"])
    mean = np.mean([entry["frame_auc"] for entry in entries.values()])
    lines.append(f"  mean {mean:.3f}, worst {entries[worst]['frame_auc']:.3f} ({worst})")
    runs = {id(metrics): metrics for metrics in results.values()}.values()
    reasons = dict.fromkeys(chain(*map(biases, runs)))
    lines += [f"  these figures are optimistic: {why}" for why in reasons]
    controls = [metrics["controls"] for metrics in runs if metrics.get("controls")]
    if controls:
        alarms = (
            f"{name} {np.mean([c[name]['called_fake'] for c in controls]):.1%}"
            for name in (UNTOUCHED, *DEGRADATIONS)
        )
        aucs = (
            f"{name} {np.mean([c[name]['class_auc'] for c in controls]):.2f}" for name in CONTROLS
        )
        unsure = np.mean([c[UNTOUCHED]["called_uncertain"] for c in controls])
        lines.append(f"  share of real faces called fake, mean over the runs: {', '.join(alarms)}")
        lines.append(f"  share of untouched real faces that are uncertain: {unsure:.1%}")
        lines.append(f"  class AUC, untouched against changed real faces: {', '.join(aucs)}")
    return "\n".join(lines)
