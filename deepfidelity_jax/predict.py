"""Verdicts on photographs and videos: people found, tracked and scored apart."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from deepfidelity_jax import faces, media
from deepfidelity_jax.errors import InputError


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

    status: real, fake, no face or unreadable. fidelity and p_fake: its least real person's; None
    where nothing could be scored, and `note` says why. threshold: fidelity at and above which a
    person is called real. frames: sampled frames that could be read.
    """

    input: str
    status: str
    fidelity: float | None
    p_fake: float | None
    threshold: float
    frames: int
    faces: list[PersonScore] = field(default_factory=list)
    note: str = ""

    def to_json(self) -> str:
        """One line of strict JSON."""
        return json.dumps(_rounded(asdict(self)), allow_nan=False)


def predict(detector, path: Path) -> Prediction:
    """Score every person in one photograph or video with a `Detector`."""
    threshold = detector.threshold
    try:
        extraction = faces.extract(path, detector.faces)
    except (media.MediaError, OSError) as error:
        return Prediction(str(path), "unreadable", None, None, threshold, 0, note=str(error))
    if not extraction.people:
        note = extraction.note
        return Prediction(str(path), "no face", None, None, threshold, extraction.frames, note=note)
    people, notes = [], [extraction.note] if extraction.note else []
    for number, person in enumerate(extraction.people):
        score, reason = _score_person(detector, number, person)
        people.append(score)
        note = f"quality not measured: {reason}"
        if score.quality is None and note not in notes:
            notes.append(note)
    least_real = min(people, key=lambda person: person.fidelity)
    return Prediction(
        input=str(path),
        status="real" if least_real.fidelity >= threshold else "fake",
        fidelity=least_real.fidelity,
        p_fake=least_real.p_fake,
        threshold=threshold,
        frames=extraction.frames,
        faces=people,
        note=", ".join(notes),
    )


def _score_person(detector, number: int, person: faces.Person) -> tuple[PersonScore, str]:
    """The score, and why faces have no quality where some have none."""
    # Encoded and decoded as recorded faces are: the network sees the same pixels.
    images = [media.decode_image(crop.image) for crop in person.crops]
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


def expand_inputs(inputs: Sequence[str]) -> Iterator[Path]:
    """Files as they are, folders as the photographs and videos in them.

    InputError for a path that does not exist and for a folder without any.
    """
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = media.list_media(path)
            if not found:
                raise InputError(f"--input={given}: no photograph or video in this folder")
            yield from found
        elif path.exists():
            yield path
        else:
            raise InputError(f"--input={given}: no such file or folder")


def _rounded(value):
    """Six decimals are more than a score is worth, and NaN is no JSON."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
