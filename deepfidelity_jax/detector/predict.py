"""Verdicts on photographs and videos: people found, tracked and scored apart."""

import json
import math
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces import tracking
from deepfidelity_jax.images import formats, media, pictures


@dataclass(frozen=True)
class PersonScore:
    """One person in a photograph or video.

    person: a number inside the input. fidelity: mean over the person's frames, high is real.
    p_fake: the same as a probability. quality: mean, as the training faces' was measured; None
    where it cannot be. spread: standard deviation of the fidelity over frames. frames: how many
    were scored. bbox and time: x, y, width, height in pixels and seconds, where the face is
    largest.
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
    """One input's verdict, and one line of `--mode=predict`.

    status: one of STATUSES. fidelity and p_fake: its least real person's; None where nothing could
    be scored, and `note` says why. threshold: fidelity at and above which a person is called real.
    frames: sampled frames that could be read. detector: `Detector.fingerprint`. bytes, modified:
    of the file when it was read, None where there is none; UTC. By these three it is told whether a
    line still stands.
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
        """Plain values of strict JSON."""
        return _rounded(asdict(self))

    def to_json(self) -> str:
        """One line of strict JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STATUSES = ("real", "fake", "uncertain", "no face", "unreadable")


@dataclass(frozen=True)
class Input:
    """A file to predict.

    named: given by itself, not found in a folder. reason: why it cannot be read, where that shows
    without opening it.
    """

    path: Path
    named: bool = False
    reason: str = ""


def list_inputs(given: Sequence[str]) -> tuple[list[Input], int]:
    """Files as they are, folders as what lies below them; nothing is opened.

    Returns:
      Each file once; and how many were left out because they are hidden.

    Raises:
      InputError: a path does not exist, or a folder is empty.
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
    """How many inputs have each status; of files in folders that are no media, each extension."""

    statuses: Counter = field(default_factory=Counter)
    left_out: Counter = field(default_factory=Counter)

    def describe(self) -> str:
        """One line for a person."""
        seen = ", ".join(f"{self.statuses[status]} {status}" for status in STATUSES)
        if not self.left_out:
            return seen
        kinds = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        left_out = ", ".join(f"{count} {kind}" for kind, count in kinds)
        return f"{seen}; left out, no photographs or videos: {left_out}"


def predict_all(detector, inputs: Sequence[Input], lines, progress) -> Counts:
    """Predict every input that has no line yet, with a `Detector`, and write its line.

    Args:
      detector: the `Detector`.
      inputs: in their order.
      lines: a `Lines`.
      progress: a `Progress` of the inputs.
    """
    counts = Counts()
    for each in inputs:
        if status := lines.kept.get(str(each.path)):
            counts.statuses[status] += 1
            continue
        if _is_no_media(each):
            counts.left_out[each.path.suffix.lower() or "without extension"] += 1
        else:
            prediction = predict(detector, each.path, each.reason)
            progress.clear()
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
    """Score every person in one photograph or video with a `Detector`.

    `reason`: why it cannot be read, if that is known.
    """
    about = {"input": str(path), "threshold": detector.threshold, "detector": detector.fingerprint}
    about |= stamp(path)
    if reason:
        return Prediction(status="unreadable", note=reason, **about)
    try:
        extraction = tracking.extract(path, detector.faces)
    except (formats.MediaError, OSError) as error:
        return Prediction(status="unreadable", note=str(error), **about)
    about["frames"] = extraction.frames
    if not extraction.people:
        return Prediction(status="no face", note=extraction.note, **about)
    people, notes = [], [extraction.note] if extraction.note else []
    for number, person in enumerate(extraction.people):
        score, reason = _score_person(detector, number, person)
        people.append(score)
        note = f"quality not measured: {reason}"
        if score.quality is None and note not in notes:
            notes.append(note)
    least_real = min(people, key=lambda person: person.fidelity)
    return Prediction(
        status="real" if least_real.fidelity >= detector.threshold else "fake",
        fidelity=least_real.fidelity,
        p_fake=least_real.p_fake,
        faces=people,
        note=", ".join(notes),
        **about,
    )


def stamp(path: Path) -> dict[str, int | str | None]:
    """What a file is known again by: its size, and when it was last written; None for no file."""
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            since = EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
            return {"bytes": status.st_size, "modified": since.isoformat(timespec="microseconds")}
    except (OSError, OverflowError):
        pass
    return {"bytes": None, "modified": None}


def _score_person(detector, number: int, person: tracking.Person) -> tuple[PersonScore, str]:
    """The score, and why faces have no quality where some have none."""
    # Encoded and decoded as recorded faces are: the network sees the same pixels.
    images = [pictures.decode_image(crop.image) for crop in person.crops]
    scores = detector.fidelity(np.stack(images)).astype(np.float64)
    mean = float(scores.mean())
    qualities, reason = detector.quality(
        [crop.image for crop in person.crops], [crop.landmarks for crop in person.crops]
    )
    measured = qualities[np.isfinite(qualities)]
    largest = max(person.crops, key=lambda crop: crop.bbox[2] * crop.bbox[3])
    score = PersonScore(
        person=number,
        fidelity=mean,
        p_fake=float(detector.p_fake(np.array([mean]))[0]),
        quality=float(measured.mean()) if measured.size else None,
        spread=float(scores.std()),
        frames=len(images),
        bbox=[float(value) for value in largest.bbox],
        time=float(largest.time),
    )
    return score, reason


def _rounded(value):
    """Six decimals are more than a score is worth, and NaN is no JSON."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
