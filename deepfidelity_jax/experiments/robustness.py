"""A trained detector under graded degradations: AUC and real faces called fake at each severity.

The test faces are degraded after they have been found and cropped, and judged as in `predict`:
fake, real or uncertain. The video files that they come from are also encoded again, and the faces
found again (`source_videos`). The predictions of every grade are kept in WORKDIR/robustness/, and
finished grades are not repeated.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ml_collections import ConfigDict

from deepfidelity_jax.detector.load import Detector, identify, load_fitted
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.experiments import robustness_chart, robustness_summary, source_videos
from deepfidelity_jax.experiments.source_videos import KIND, Clip
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.fidelity.scale import FAKE, REAL
from deepfidelity_jax.files import fingerprint, written_whole
from deepfidelity_jax.forgeries.graded import DEGRADATIONS, Face
from deepfidelity_jax.images import h264
from deepfidelity_jax.images.pictures import decode_image, encode_image
from deepfidelity_jax.options import checks
from deepfidelity_jax.progress import Progress, say
from deepfidelity_jax.records import schema
from deepfidelity_jax.records.write import records_dir
from deepfidelity_jax.scoring import controls, cross_dataset, metrics
from deepfidelity_jax.scoring.exported_features import find_test_records
from deepfidelity_jax.scoring.report import write_report
from deepfidelity_jax.scoring.table import Predictions, sources_of
from deepfidelity_jax.workdir import read_config, write_json, write_text

VIDEOS, FRAMES = 200, 4  # most videos of a class, and most frames of a video
PLACE = "robustness"  # in the workdir
UNTOUCHED = "untouched"
COLUMNS = (
    "degradation", "grade", "strength", "n_frames", "n_videos", "frame_auc", "frame_auc_low",
    "frame_auc_high", "video_auc", "video_auc_low", "video_auc_high", "false_alarms",
    "false_alarms_low", "false_alarms_high", "caught", "caught_low", "caught_high",
    "uncertain_real", "uncertain_fake", "lost", "aggregate",
)  # fmt: skip


def run(workdir: Path, given: tuple | None = None) -> list[dict[str, Any]]:
    """Score every grade that is missing; write table, curves, examples and the report.

    Args:
      workdir: of a finished run.
      given: the other arguments of `cross_dataset.evaluate_folder`, to score the user's own files;
        by default the run's own test split is scored.

    Returns:
      The rows of the table; the first one is untouched.

    Raises:
      InputError: the workdir holds no finished run, or its records are gone.
    """
    config = checks.complete(read_config(workdir))
    detector = load_fitted(workdir)
    dataset = config.data.dataset
    if given:
        dataset = cross_dataset.evaluate_folder(workdir, *given)["dataset"]
    folder = find_test_records(workdir, dataset)
    if folder is None:
        raise InputError(f"the records of {dataset} are gone or changed: run --mode=run again")
    records = choose(schema.Records(folder, "test"))
    faces = [decode_image(record["image"]) for record in records]
    config.data.dataset, origins = dataset, [record["origins"] for record in records]
    if not sources_of(config, origins, is_own=not given)["people"]:
        config.eval.cluster = "video"
    place = workdir / PLACE / dataset
    stamp = {
        "detector": detector.fingerprint,
        "records": schema.identity(folder),
        "faces": len(records),
        "frames": "in order",  # earlier versions took them as recorded, which is shuffled
        **({"people": "named"} if config.eval.cluster == "person" else {}),  # they named none
    }
    _start(place, fingerprint(stamp), identify(workdir))
    clips, settings = _find_clips(workdir, given, folder, records)
    kinds = [*_available(), *([KIND] if clips else [])]
    # The faces that are in video files have a grade 0 of their own.
    wanted = [(kind, grade) for kind in kinds for grade in range(kind != KIND, 6)]
    wanted.insert(0, (UNTOUCHED, 0))
    done = [cell for cell in wanted if _file(place, *cell).exists()]
    progress = Progress(len(wanted), len(done), "severities", did="scored")
    for kind, grade in wanted:
        if (kind, grade) not in done:
            scored = records
            if kind == KIND:
                if grade:
                    staging = _staging(place, grade)
                    encoded = source_videos.recompress(clips, settings, grade, staging)
                else:
                    encoded = source_videos.as_recorded(clips, records)
                scored = [face for face in records if (face["video_id"], face["frame"]) in encoded]
                images = [decode_image(encoded[face["video_id"], face["frame"]]) for face in scored]
            else:
                images = degrade(records, faces, kind, grade)
            score(detector, scored, images, config).write_csv(_file(place, kind, grade))
            source_videos.forget(_staging(place, grade))
            progress.advance()
    progress.end()
    calibration = detector.fidelity_model.calibration
    rows = [summarize(_file(place, *cell), *cell, calibration, config) for cell in wanted]
    for row in rows:
        if row["degradation"] == KIND:
            row["lost"] = sum(len(clip.faces) for clip in clips) - row["n_frames"]
    write_table(rows, place / "table.csv")
    robustness_summary.write(rows, place / "overall.csv")
    write_text(place / "curves.svg", robustness_chart.draw_svg(rows))
    with written_whole(place / "examples.jpg") as file:
        file.write(encode_image(draw_examples(records)))
    report = write_report(workdir, cross_dataset.pictures_of(workdir))
    say(describe(rows, calibration))
    say(f"table: {place / 'table.csv'}")
    say(f"report: {report}")
    return rows


def choose(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most VIDEOS videos of each class and FRAMES faces of each, evenly spaced in time.

    Records are shuffled, and so is what is returned.
    """
    videos: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for row in range(len(records)):
        record = records[row]
        frames = videos.setdefault((record["label"], record["video_id"]), [])
        frames.append((record["frame"], row))
    kept = []
    for label in (FAKE, REAL):
        of_class = [frames for (kind, _), frames in videos.items() if kind == label]
        for frames in controls.spaced(of_class, VIDEOS):
            kept += [row for _, row in controls.spaced(sorted(frames), FRAMES)]
    return [records[row] for row in sorted(kept)]


def _find_clips(
    workdir: Path, given: tuple | None, folder: Path, records: Sequence[dict[str, Any]]
) -> tuple[list[Clip], FaceSettings | None]:
    """The video files of the records, and their face settings; prints what is skipped."""
    if not h264.is_there():
        say("both H.264 rows are skipped: they need PyAV, pip install 'deepfidelity_jax[video]'")
        return [], None
    try:
        if given:
            _, _, builder = cross_dataset.plan_folder(workdir, *given)
        else:
            config = checks.complete(read_config(workdir))
            builder_class = schema.builder_class(config.data.dataset)
            builder = builder_class.configured(config, records_dir(config, workdir))
    except InputError as error:
        say(f"{KIND} is skipped: {error}")
        return [], None
    clips = []
    if Path(builder.data_path) == folder:
        clips = source_videos.list_clips(getattr(builder.builder_config, "sources", ()), records)
    if not clips:
        say(f"{KIND} is skipped: none of the test faces come from video files that are here")
        return [], None
    count = sum(len(clip.faces) for clip in clips)
    if count < len(records):
        say(f"{KIND}: {count} of the {len(records)} test faces; the others are not from a video")
    return clips, builder.builder_config.recipe.faces


def degrade(
    records: Sequence[dict[str, Any]], faces: Sequence[Face], kind: str, grade: int
) -> list[Face]:
    """The records' faces after one degradation, which gets those of a video in order of time.

    Grade 0 leaves them unchanged.
    """
    of_video: dict[str, list[int]] = {}
    for row in sorted(range(len(records)), key=lambda row: records[row]["frame"]):
        of_video.setdefault(records[row]["video_id"], []).append(row)
    images = list(faces)
    for name, rows in of_video.items():
        for row, image in zip(
            rows, change([faces[r] for r in rows], kind, grade, name), strict=True
        ):
            images[row] = image
    return images


def score(
    detector: Detector, records: Sequence[dict[str, Any]], faces: Sequence[Face], config: ConfigDict
) -> Predictions:
    """The predictions for the records, from their `faces`."""
    fidelity = controls.compute(detector.fidelity, faces) if faces else np.zeros(0, np.float32)
    return Predictions(
        path=[record["path"] for record in records],
        dataset=[config.data.dataset] * len(records),
        split=["test"] * len(records),
        method=[record["method"] for record in records],
        video_id=[record["video_id"] for record in records],
        frame=[record["frame"] for record in records],
        label=[record["label"] for record in records],
        quality=[record["quality"] for record in records],
        fidelity_target=[np.nan] * len(records),
        fidelity=fidelity,
        p_fake=detector.p_fake(fidelity),
        **sources_of(config, [record["origins"] for record in records]),
    )


def change(faces: Sequence[Face], kind: str, grade: int, video_id: str) -> list[Face]:
    """The faces of one video after a degradation, encoded and decoded like recorded faces."""
    if grade == 0:
        return list(faces)
    degradation = DEGRADATIONS[kind]
    rng = controls.start_random(video_id, grade)
    changed = degradation.apply(faces, degradation.strengths[grade - 1], rng)
    return [decode_image(encode_image(face)) for face in changed]


def summarize(
    path: Path, kind: str, grade: int, calibration: Calibration, config: ConfigDict
) -> dict[str, Any]:
    """One row of the table, from the predictions of a grade.

    `false_alarms` and `caught`: the shares of real faces and of fakes whose verdict is fake.
    """
    table = Predictions.read_csv(path)
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"degradation": kind, "grade": grade, "strength": _strength(kind, grade)}
    if not len(table.path):
        return row | {"n_frames": 0, "n_videos": 0}
    levels = metrics.configured_levels(table, config)
    summary = metrics.summarize(table, limit_of(calibration), "the run", levels=levels)
    verdicts = calibration.verdicts(table.fidelity)
    row |= {name: summary[name] for name in ("n_frames", "n_videos", "aggregate")}
    for name in ("frame_auc", "video_auc"):
        row[name] = summary[name]
        row[f"{name}_low"], row[f"{name}_high"] = summary["ci"][name] or (None, None)
    right, bounds = summary["real_frame_acc"], summary["ci"]["real_frame_acc"]
    if right is not None:
        row["false_alarms"] = 1 - right
    if bounds:
        row["false_alarms_low"], row["false_alarms_high"] = 1 - bounds[1], 1 - bounds[0]
    row["caught"] = summary["fake_frame_acc"]
    row["caught_low"], row["caught_high"] = summary["ci"]["fake_frame_acc"] or (None, None)
    for name, label in (("uncertain_fake", FAKE), ("uncertain_real", REAL)):
        if (table.label == label).any():
            row[name] = float(np.mean(verdicts[table.label == label] == "uncertain"))
    return row


def limit_of(calibration: Calibration) -> float:
    """The fidelity below which the verdict is fake."""
    limit = calibration.fake_below
    return calibration.threshold if limit is None else limit


def write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the rows as CSV."""
    with written_whole(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def describe(rows: Sequence[dict[str, Any]], calibration: Calibration) -> str:
    """The table as lines of text: severities 1 to 5 of each degradation, then mean and worst."""
    untouched, *degraded = rows
    lines = [
        f"{untouched['n_frames']} test faces of {untouched['n_videos']} videos or photographs; "
        f"fake: fidelity below {limit_of(calibration):.4f} ({calibration.threshold_from})",
        f"  untouched: frame_auc {_show(untouched['frame_auc'])}  "
        f"real called fake {_show(untouched['false_alarms'])}  "
        f"real uncertain {_show(untouched['uncertain_real'])}",
    ]
    degraded = [row for row in degraded if row["grade"]]
    for kind in dict.fromkeys(row["degradation"] for row in degraded):
        graded = [row for row in degraded if row["degradation"] == kind]
        aucs = " ".join(_show(row["frame_auc"]) for row in graded)
        wrong = " ".join(_show(row["false_alarms"]) for row in graded)
        lines.append(f"  {kind} ({graded[0]['strength']} ... {graded[-1]['strength']}): "
                     f"frame_auc {aucs}  real called fake {wrong}")  # fmt: skip
        if kind == KIND:
            found, lost = (
                " ".join(str(row[name]) for row in graded) for name in ("n_frames", "lost")
            )
            lines.append(f"    faces found again {found}, lost {lost}")
    for row in robustness_summary.overall(rows):
        words = robustness_summary.WORDS.get(row["figure"], row["figure"])
        lines.append(f"  {words}: mean {row['mean']:.3f}, worst {row['worst']:.3f} "
                     f"({row['degradation']}, {row['strength']})")  # fmt: skip
    return "\n".join(lines)


def draw_examples(records: Sequence[dict[str, Any]], side: int = 96) -> Face:
    """One real face in every grade: a row for each degradation, untouched in front."""
    record = next((record for record in records if record["label"] == REAL), records[0])
    face = decode_image(record["image"])
    lines = []
    for kind in _available():
        faces = [change([face], kind, grade, record["video_id"])[0] for grade in range(6)]
        shown = [cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in faces]
        lines.append(np.concatenate(shown, axis=1))
    return np.concatenate(lines)


def _strength(kind: str, grade: int) -> str:
    """The strength of a grade in words; none for grade 0."""
    if grade == 0:
        return ""
    degradation = DEGRADATIONS["H.264" if kind == KIND else kind]
    return degradation.words.format(degradation.strengths[grade - 1])


def _available() -> list[str]:
    return [kind for kind in DEGRADATIONS if kind != "H.264" or h264.is_there()]


def _start(place: Path, stamp: str, detector: str) -> None:
    """Remove what another detector made, or was made from other records."""
    mark = place / "made_from.json"
    noted = json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else {}
    if isinstance(noted, str):  # by an earlier version
        noted = {"stamp": noted}
    if noted.get("stamp") != stamp:
        for path in (*place.glob("*.csv"), *place.glob("*.svg"), *place.glob("*.jpg")):
            path.unlink()
        for grade in range(1, 6):
            source_videos.forget(_staging(place, grade))
    write_json(mark, {"stamp": stamp, "detector": detector})


def _file(place: Path, kind: str, grade: int) -> Path:
    return place / f"{kind}-{grade}.csv"


def _staging(place: Path, grade: int) -> Path:
    """Where the faces of recompressed videos are kept until their grade is scored."""
    return place / f"{KIND}-{grade}"


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".removeprefix("0")
