"""From an image or a video to a verdict: people are found, tracked, and scored one by one.

`list_inputs` finds the files, `predict_all` goes through them, `predict` takes one, and `examine`
keeps what its verdict was made from. The input as a whole gets the verdict of its least real
person.
"""

import json
import math
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from jaxtyping import Float

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces import tracking
from deepfidelity_jax.faces.cropping import Crop
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.images import formats, media, pictures

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SMALLEST_FACE = 32  # pixels of the face's box; fewer show no trace of a forgery
STATUSES = ("real", "fake", "uncertain", "no face", "unreadable")


@dataclass(frozen=True)
class PersonScore:
    """One person in an image or a video.

    Attributes:
      person: number within the input, from 0.
      fidelity: mean over the frames of this person, high is real.
      p_fake: probability of a fake.
      quality: mean face quality, by the measure of the training faces; None if not measured.
      spread: standard deviation of fidelity over the frames.
      frames: how many frames were scored.
      bbox: x, y, width, height in pixels where the face is largest.
      time: when that is, in seconds.
    """

    person: int
    fidelity: float
    p_fake: float
    quality: float | None
    spread: float
    frames: int
    bbox: list[float]
    time: float


@dataclass(frozen=True)
class Prediction:
    """The verdict on one input; one line of `--mode=predict`.

    Attributes:
      input: its path.
      status: one of STATUSES.
      fidelity: that of the least real person; None if nothing could be scored.
      p_fake: the same.
      threshold: fidelity at and above which a person is real.
      frames: sampled frames that could be read.
      faces: the people.
      note: why there is no score, or no quality.
      detector: `Detector.fingerprint`. It and the next two tell whether the line is still valid.
      bytes: size of the file when it was read; None if there is no file.
      modified: when it was last written, in UTC.
    """

    input: str
    status: str
    fidelity: float | None = None
    p_fake: float | None = None
    threshold: float = 0.0
    frames: int = 0
    faces: list[PersonScore] = field(default_factory=list)
    note: str = ""
    detector: str = ""
    bytes: int | None = None
    modified: str | None = None

    def to_dict(self) -> dict:
        """The line as plain values that strict JSON can hold."""
        return _rounded(asdict(self))

    def to_json(self) -> str:
        """The line as strict JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one person's score was made from, frame by frame.

    Attributes:
      crops: the faces, in the order of the frames.
      fidelity: of each.
      quality: of each; NaN where it is not measured.
    """

    crops: tuple[Crop, ...]
    fidelity: Float[np.ndarray, "n"]
    quality: Float[np.ndarray, "n"]


@dataclass(frozen=True, eq=False)
class Examination:
    """A prediction, and the evidence of each person in `prediction.faces`, in that order."""

    prediction: Prediction
    evidence: list[Evidence] = field(default_factory=list)


@dataclass(frozen=True)
class Input:
    """A file to predict.

    Attributes:
      path: the file.
      named: the user named it; otherwise it was found in a folder.
      reason: why it cannot be read, if that is known without opening it.
    """

    path: Path
    named: bool = False
    reason: str = ""


def list_inputs(given: Sequence[str]) -> tuple[list[Input], int]:
    """The files to predict: those named, and all below a named folder. None is opened.

    Returns:
      Each file once; and how many were left out because they are hidden.

    Raises:
      InputError: a path does not exist, or a folder has no image or video.
    """
    found, hidden = {}, 0
    for name in given:
        path = Path(name)
        if not path.is_dir():
            if not path.exists() and not path.is_symlink():
                raise InputError(f"--input={name}: no such file or folder")
            found[path] = Input(path, named=True)
            continue
        listing = media.list_files(path)
        reasons = {file: why for file, why in listing.left_out.items() if why != "hidden"}
        hidden += len(listing.left_out) - len(reasons)
        if not listing.files and not reasons:
            raise InputError(f"--input={name}: no photograph or video in this folder")
        for file in sorted([*listing.files, *reasons]):
            found.setdefault(file, Input(file, reason=reasons.get(file, "")))
    return list(found.values()), hidden


@dataclass
class Counts:
    """Inputs by status, and files that are no image or video by extension."""

    statuses: Counter = field(default_factory=Counter)
    left_out: Counter = field(default_factory=Counter)

    def describe(self) -> str:
        """One line of text for the terminal."""
        seen = ", ".join(f"{self.statuses[status]} {status}" for status in STATUSES)
        if not self.left_out:
            return seen
        kinds = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        left_out = ", ".join(f"{count} {kind}" for kind, count in kinds)
        return f"{seen}; left out, no photographs or videos: {left_out}"


def predict_all(
    detector,
    inputs: Sequence[Input],
    lines,
    progress,
    make: Callable[..., Prediction] | None = None,
    is_done: Callable[[Path], bool] = lambda path: True,
) -> Counts:
    """Predict every input that has no line yet, and write its line.

    Args:
      detector: a `Detector`.
      inputs: the files, in order.
      lines: a `Lines`.
      progress: a `Progress` that counts the inputs.
      make: makes the prediction, and whatever else is wanted of an input; None is `predict`.
      is_done: whether that has been made of an input that has a line.
    """
    counts = Counts()
    for each in inputs:
        kept = lines.kept.get(str(each.path))
        if kept and is_done(each.path):
            counts.statuses[kept] += 1
            continue
        if _is_no_media(each):
            counts.left_out[each.path.suffix.lower() or "without extension"] += 1
        else:
            prediction = (make or predict)(detector, each.path, each.reason)
            progress.clear()
            if not kept:
                lines.write(prediction)
            counts.statuses[prediction.status] += 1
        progress.advance()
    progress.end()
    return counts


def _is_no_media(given: Input) -> bool:
    if given.named or given.reason:
        return False
    try:
        media.identify(given.path)
    except formats.NotMedia:
        return True
    except formats.MediaError:
        pass
    return False


def predict(detector, path: Path, reason: str = "") -> Prediction:
    """Find and score every person in one image or video; the arguments are those of `examine`."""
    return examine(detector, path, reason).prediction


def examine(detector, path: Path, reason: str = "") -> Examination:
    """`predict`, with what each person's score was made from.

    Args:
      detector: a `Detector`.
      path: the file.
      reason: why it cannot be read, if that is known.
    """
    about = {"input": str(path), "threshold": detector.threshold, "detector": detector.fingerprint}
    about |= stamp(path)
    if reason:
        return Examination(Prediction(status="unreadable", note=reason, **about))
    try:
        extraction = tracking.extract(path, detector.faces)
    except (formats.MediaError, OSError) as error:
        return Examination(Prediction(status="unreadable", note=str(error), **about))
    about["frames"] = extraction.frames
    if not extraction.people:
        return Examination(Prediction(status="no face", note=extraction.note, **about))
    people, evidence, notes = [], [], [extraction.note] if extraction.note else []
    for number, person in enumerate(extraction.people):
        own, reason = _examine_person(detector, person)
        score = _score_person(detector, number, own)
        people.append(score)
        evidence.append(own)
        note = f"quality not measured: {reason}"
        if score.quality is None and note not in notes:
            notes.append(note)
    least_real = min(people, key=lambda person: person.fidelity)
    fitted = detector.fidelity_model
    status, reason = decide(fitted.calibration, fitted.scale, least_real)
    prediction = Prediction(
        status=status,
        fidelity=least_real.fidelity,
        p_fake=least_real.p_fake,
        faces=people,
        note=", ".join([*notes, reason] if reason else notes),
        **about,
    )
    return Examination(prediction, evidence)


def decide(
    calibration: Calibration, scale: FidelityScale | None, person: PersonScore
) -> tuple[str, str]:
    """The verdict on a person, one of STATUSES, and why it is uncertain if it is.

    Only a detector that was fitted with an abstention band is ever uncertain.
    """
    verdict, limit = str(calibration.verdicts(person.fidelity)), calibration.fake_below
    if limit is None:
        return verdict, ""
    side = min(person.bbox[2:])
    if side < SMALLEST_FACE:
        return "uncertain", f"uncertain: the face is {side:.0f} pixels wide, too few to judge"
    if person.quality is not None and scale is not None and person.quality < scale.real_quality[0]:
        return "uncertain", "uncertain: the quality is below that of the training faces"
    if verdict == "uncertain":
        return verdict, f"uncertain: below the threshold, but fakes are below {limit:.4f}"
    return verdict, ""


def stamp(path: Path) -> dict[str, int | str | None]:
    """Size of a file, and when it was last written; None if it is no regular file."""
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            since = EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
            return {"bytes": status.st_size, "modified": since.isoformat(timespec="microseconds")}
    except (OSError, OverflowError):
        pass
    return {"bytes": None, "modified": None}


def _examine_person(detector, person: tracking.Person) -> tuple[Evidence, str]:
    """The score of each frame, and why a face has no quality if one has none."""
    # The crops are encoded as JPEG and decoded again, as recorded faces are.
    images = [pictures.decode_image(crop.image) for crop in person.crops]
    scores = detector.fidelity(np.stack(images)).astype(np.float64)
    qualities, reason = detector.quality(
        [crop.image for crop in person.crops], [crop.landmarks for crop in person.crops]
    )
    return Evidence(person.crops, scores, qualities), reason


def _score_person(detector, number: int, own: Evidence) -> PersonScore:
    mean = float(own.fidelity.mean())
    measured = own.quality[np.isfinite(own.quality)]
    largest = max(own.crops, key=lambda crop: crop.bbox[2] * crop.bbox[3])
    return PersonScore(
        person=number,
        fidelity=mean,
        p_fake=float(detector.p_fake(np.array([mean]))[0]),
        quality=float(measured.mean()) if measured.size else None,
        spread=float(own.fidelity.std()),
        frames=len(own.crops),
        bbox=[float(value) for value in largest.bbox],
        time=float(largest.time),
    )


def _rounded(value):
    """Numbers with six decimals, and None for NaN, which JSON does not have."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
