"""From exported features to a fitted regressor, and from there to predictions and metrics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import stored
from deepfidelity_jax.fidelity.alternatives import fit_alternative
from deepfidelity_jax.fidelity.arrays import GaussianProcess, Head, deviation, regress
from deepfidelity_jax.fidelity.calibration import Calibration, calibrate, p_fake
from deepfidelity_jax.fidelity.regressor import Regressor, balance, fit_regressor
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.network.outputs import HEADS
from deepfidelity_jax.progress import say
from deepfidelity_jax.records import own_files
from deepfidelity_jax.scoring import metrics, official
from deepfidelity_jax.scoring.controls import CONTROLS, DEGRADATIONS, UNTOUCHED
from deepfidelity_jax.scoring.exported_features import Features
from deepfidelity_jax.scoring.table import Predictions, count_frames
from deepfidelity_jax.statistics import groups as by_group
from deepfidelity_jax.statistics import operating, reliability
from deepfidelity_jax.statistics.aggregation import aggregate, cluster_sources, join_people
from deepfidelity_jax.statistics.intervals import Level
from deepfidelity_jax.workdir import write_json


def fit(
    config: ConfigDict, training: Features, validation: Features, scale: FidelityScale
) -> stored.FidelityModel:
    """Fit the regressor on training faces, and calibrate it on validation videos."""
    regressor = fit_chosen(config, training)
    scores = score(regressor, validation)
    _, video = np.unique(validation.video_id, return_inverse=True)
    size = np.bincount(video)
    mean = np.bincount(video, scores) / size
    label = np.bincount(video, validation.label) / size
    calibration = calibrate(
        mean, label.astype(np.int64), middle=scale.middle, method=config.fidelity.calibration
    )
    say(
        f"regressor: {_describe_regressor(regressor.settings)}; "
        f"threshold {calibration.threshold:.4f}, "
        f"{'from validation' if not calibration.note else 'fixed: ' + calibration.note}"
    )
    # A forgery made from a file has its path, and is another file.
    files = zip(validation.path, validation.method, strict=True)
    _, file = np.unique(["\0".join(names) for names in files], return_inverse=True)
    kept = stored.Validation(scores, validation.label, video, file)
    return stored.FidelityModel(scale, regressor, calibration, validation=kept)


def fit_chosen(config: ConfigDict, training: Features) -> Regressor:
    """Fit the regressor that `config.fidelity.regressor` names; a head needs no fit."""
    options = config.fidelity
    if options.regressor in HEADS:
        if options.tune:
            say(f"config.fidelity.tune: the {options.regressor} has no settings, nothing is tuned")
        column = HEADS.index(options.regressor)
        error = float(np.mean(np.abs(training.answers[:, column] - training.fidelity)))
        settings = {"regressor": options.regressor, "rows_given": len(training.label)}
        return Regressor(Head(np.int32(column)), settings | {"train_mae": error})
    arguments: dict[str, Any] = {
        "gamma": options.gamma,
        "tune": options.tune,
        "groups": cluster_sources(
            np.unique(training.video_id, return_inverse=True)[1], training.path
        ),
        "weights": balance(training.label, options.balance),
        "seed": config.seed,
    }
    data = (training.feature, training.fidelity)
    if options.regressor == "svr":
        return fit_regressor(*data, C=options.C, epsilon=options.epsilon, **arguments)
    return fit_alternative(options.regressor, *data, **arguments)


def _describe_regressor(settings: Mapping[str, Any]) -> str:
    if "support_vectors" in settings:
        return f"{settings['support_vectors']} support vectors of {settings['rows']} faces"
    if "rows" not in settings:
        return f"{settings['regressor'].replace('_', ' ')} of the network, nothing fitted"
    name, rows, given = (settings[key] for key in ("regressor", "rows", "rows_given"))
    shown = f"{rows} faces" if rows == given else f"{rows} of {given} faces, drawn at random"
    return f"{name.replace('_', ' ')} fitted to {shown}"


def score(regressor: Regressor, features: Features) -> np.ndarray:
    """Fidelity of each row (float32)."""
    return np.asarray(
        regress(regressor.arrays, jnp.asarray(features.feature), jnp.asarray(features.answers))
    )


def deviations(regressor: Regressor, features: Features) -> np.ndarray:
    """Standard deviation of the fidelity of each row (float32); NaN if the regressor has none."""
    if isinstance(regressor.arrays, GaussianProcess):
        return np.asarray(deviation(regressor.arrays, jnp.asarray(features.feature)))
    return np.full(len(features.label), np.nan, np.float32)


def evaluate(
    config: ConfigDict,
    model: stored.FidelityModel,
    features: Features,
    split: str,
    folder: Path,
    *,
    picked_here: bool = False,
    about: Mapping[str, Any] | None = None,
    sources: Mapping[str, Sequence[str]] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    boxes: Float32[np.ndarray, "n 4"] | None = None,
) -> dict:
    """Score a split, and write predictions.csv and metrics.json to `folder`.

    Args:
      config: seed, options of `eval`, and the name of the dataset.
      model: regressor and calibration.
      features: of the split.
      split: its name.
      folder: where the files go.
      picked_here: whether the checkpoint was chosen on this same split; noted in metrics.json.
      about: more entries for metrics.json.
      sources: from `table.sources_of`.
      groups: `{group_...: the group of each face}`.
      boxes: of the faces, as in the records; by default unknown.

    Returns:
      The metrics, as in metrics.json.

    Raises:
      InputError: an option of `eval` needs data that the records or fidelity.npz lack.
    """
    scores = score(model.regressor, features)
    table = Predictions(
        path=features.path,
        dataset=[config.data.dataset] * len(scores),
        split=[split] * len(scores),
        method=features.method,
        video_id=features.video_id,
        frame=features.frame,
        label=features.label,
        quality=features.quality,
        fidelity_target=features.fidelity,
        fidelity=scores,
        p_fake=p_fake(model.calibration, scores),
        fidelity_deviation=deviations(model.regressor, features),
        **(sources or {}),
    )
    calibration, options = model.calibration, config.eval
    levels = metrics.configured_levels(table, config)
    validation, of_videos = _validation_videos(model, options.aggregate, options.top_share)
    summary = {
        "dataset": config.data.dataset,
        "split": split,
        "n_files": len(set(features.path)),
        **(about or {}),
    }
    summary |= metrics.summarize(
        table,
        calibration.threshold,
        calibration.threshold_from,
        seed=config.seed,
        replicates=options.bootstrap,
        levels=levels,
        video_threshold=of_videos.threshold,
    )
    if "by_frames" in summary:
        per_video = count_frames(table)
        summary["frame_sampling"] = {
            "frames": config.faces.frames, "spacing": "even",
            "least": int(per_video.min()), "most": int(per_video.max()),
        }  # fmt: skip
    frames, videos = (
        reliability.describe(level.scored(p_fake(fitted, level.score)), levels.draws)
        for level, fitted in ((levels.frames, calibration), (levels.videos, of_videos))
    )
    summary["calibration"] = {
        "method": calibration.method,
        "from": "validation" if calibration.is_fitted else calibration.threshold_from,
        "classes": "weighted alike", "frame": frames, "video": videos,
    }  # fmt: skip
    wanted = operating.Wanted(
        options.wanted_fpr, options.cost_missed, options.cost_false_alarm, options.prevalence
    )
    summary["operating_points"] = {
        "level": "video",
        **metrics.count_classes("n_videos", levels.videos.label),
        **operating.describe(
            levels.videos, levels.draws, of_videos.threshold, of_videos.threshold_from, validation,
            wanted,
        ),
    }  # fmt: skip
    if of_videos.fake_below is not None:
        summary["verdicts"] = {
            "level": "video",
            **metrics.count_classes("n_videos", levels.videos.label),
            **operating.describe_verdicts(
                levels.videos, levels.draws, of_videos.threshold, of_videos.fake_below,
                metrics.poor_videos(levels, table, model.scale),
                metrics.small_videos(levels, table, boxes),
            ),
        }  # fmt: skip
    if groups:
        summary["by_group"] = {
            name: _groups(levels, column, calibration.threshold, of_videos.threshold)
            for name, column in groups.items()
        }
    summary |= {"fake_below": calibration.fake_below, "checkpoint_picked_here": picked_here}
    if config.eval.official_scoring:
        summary["official_scoring"] = official.official_scoring(table)
    if np.isfinite(features.known_quality).any():
        name = "fidelity_known_quality_spearman"
        metrics.add_rank_correlation(summary, name, features.known_quality, levels)
    (folder / "metrics.json").unlink(missing_ok=True)  # it says whose rows the predictions are
    table.write_csv(folder / "predictions.csv", groups)
    write_json(folder / "metrics.json", summary)
    return summary


def groups_of(folder: Path, paths: Iterable[str]) -> dict[str, list[str]]:
    """The `group_*` columns of the records in `folder`: the value of each path, '' if none."""
    columns = own_files.groups_of(folder)
    return {name: [of_path.get(path, "") for path in paths] for name, of_path in columns.items()}


def _validation_videos(
    model: stored.FidelityModel, name: str, share: float
) -> tuple[Level | None, Calibration]:
    """The validation videos scored by an aggregate, and the calibration for these scores.

    The calibration was fitted on means, which are also the scores of people. For median and
    top_share it is fitted again. No videos if fidelity.npz lacks the data for them.
    """
    faces = model.validation
    if faces is None and name in ("median", "top_share"):
        raise InputError(
            f"config.eval.aggregate is {name}, but fidelity.npz lacks the validation scores that "
            "its threshold needs: use mean, or fit again with --mode=fit"
        )
    if faces is None:
        return None, model.calibration
    score = aggregate(name, faces.fidelity, faces.video, share)
    label = np.zeros(len(score), np.int64)
    label[faces.video] = faces.label
    if name == "least_person":
        if faces.file is None:
            return None, model.calibration
        # By label too: earlier versions wrote one number for a file and what was forged from it.
        lead, _ = join_people(score, faces.video, 2 * faces.file + faces.label)
        score, label = score[lead], label[lead]
    # Rounded like the scores that are compared with thresholds, as a threshold is such a score.
    level = Level(label, score.astype(np.float32), np.arange(len(score)))
    if name not in ("median", "top_share") or not model.calibration.is_fitted:
        return level, model.calibration
    middle = model.scale.middle
    again = calibrate(score, label, middle=middle, method=model.calibration.method)
    return level, replace(again, fake_below=None)


def _groups(levels: metrics.Levels, column: Sequence, of_frames: float, of_videos: float) -> dict:
    """Figures of each group: of videos, or of frames if a video has faces of several groups."""
    column = np.array(column, object)
    of_frame = levels.grouped.of_frame
    first = np.unique(of_frame, return_index=True)[1]
    if (column == column[first][of_frame]).all():
        entry = by_group.describe(levels.videos, column[first], levels.draws, of_videos)
        return {"level": "video", "threshold": of_videos, **entry}
    entry = by_group.describe(levels.frames, column, levels.draws, of_frames)
    return {"level": "frame", "threshold": of_frames, **entry}


def _describe_verdicts(verdicts: dict) -> str:
    shown = [
        f"{name} called fake {verdicts[f'{kind}_called_fake']:.1%}, "
        f"uncertain {verdicts[f'{kind}_uncertain']:.1%}"
        for name, kind in (("real", "real"), ("fakes", "fake"))
        if verdicts[f"{kind}_called_fake"] is not None
    ]
    return f"  by predict's rule: {'; '.join(shown)} ({verdicts['n_videos']} videos)"


def _describe_controls(controls: dict) -> list[str]:
    shown = [
        f"{name} {entry['called_fake']:.1%}"
        for name, entry in controls.items()
        if name == UNTOUCHED or name in DEGRADATIONS
    ]
    aucs = [f"{name} {controls[name]['class_auc']:.2f}" for name in CONTROLS]
    return [
        f"  share of {controls['n']} real faces called fake: {', '.join(shown)}",
        f"  class AUC, untouched against changed real faces, ideally 0.5: {', '.join(aucs)}",
    ]


def describe(summary: dict, dataset: str, split: str) -> str:
    """The main figures as lines of text for the terminal."""

    def value(name, entry=summary):
        if entry[name] is None:
            return f"{name} not available"
        interval = entry["ci"][name]
        shown = "[{:.4f}, {:.4f}]".format(*interval) if interval else "(no interval)"
        return f"{name} {entry[name]:.4f} {shown}"

    source = summary["threshold_from"]
    lines = [
        f"{dataset}, {split} split: {summary['n_frames']} faces, {summary['n_videos']} videos or "
        f"photographs; 95% intervals over {summary['cluster']}",
        f"  {value('frame_auc')}   {value('video_auc')}",
        f"  {value('frame_acc')}   {value('video_acc')}   "
        f"at threshold {summary['threshold']:.4f}, "
        f"{'fixed' if source == 'fixed' else 'from ' + source}"
        + (f", videos at {summary['video_threshold']:.4f}" if "video_threshold" in summary else ""),
    ]
    if "verdicts" in summary:
        lines.append(_describe_verdicts(summary["verdicts"]))
    lines += [f"  these figures are optimistic: {why}" for why in metrics.biases(summary)]
    if summary.get("training_checked") is False:
        lines.append("  not checked against the training pictures: their records are not available")
    if "official_scoring" in summary:
        scoring = summary["official_scoring"]
        auc, acc = (
            "none" if scoring[name] is None else f"{scoring[name]:.4f}" for name in ("auc", "acc")
        )
        lines.append(
            f"  official scoring, for comparison only: auc {auc}   acc {acc}   at threshold "
            f"{scoring['threshold']:.2f}, the best on these scores; "
            f"{scoring['n_groups']} groups by name"
        )
    for method, entry in summary["by_method"].items():
        lines.append(f"  {method}: {value('frame_auc', entry)}   {entry['n_frames']} faces")
    if summary.get("controls"):
        lines += _describe_controls(summary["controls"])
    for name, title in (
        ("fidelity_quality_spearman", "measured quality"),
        ("fidelity_known_quality_spearman", "quality known by construction"),
    ):
        if name in summary:
            shown = [f"{key} {x:.3f}" for key, x in summary[name].items() if x is not None]
            if shown:
                lines.append(f"  fidelity against {title}, Spearman: {', '.join(shown)}")
    return "\n".join(lines)
