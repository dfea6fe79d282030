"""From the faces in a file to a verdict: each person is scored separately, over all frames.

`predict` takes one file; `examine` also keeps the evidence for its verdict, `examine_all` does so
for many files, and `write_all` writes their lines. An input gets the worst verdict of its people.
"""

import contextlib
import json
import math
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from deepfidelity_jax.detector.finding import Found, Input, find, find_all
from deepfidelity_jax.faces.cropping import Crop
from deepfidelity_jax.faces.geometry import is_small
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.images import pictures, videos

AT_ONCE = 8  # faces scored in one call of the network, never fewer or more
STATUSES = ("real", "fake", "uncertain", "no face", "unreadable")
WORST_FIRST = ("fake", "uncertain", "real")


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
      time: the time of `bbox` in the video, in seconds.
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
      fidelity: of the person who decides the verdict; None if nothing could be scored.
      p_fake: of the same person.
      threshold: fidelity at and above which a person is real.
      frames: sampled frames that could be read.
      faces: the people.
      note: why there is no score, or anything else to know; empty otherwise.
      detector: `Detector.fingerprint`. It and the next two show whether the line is still valid.
      bytes: size of the file when it was read; None if there is no file.
      modified: when the file was last written, in UTC.
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
        """The line as values that strict JSON can hold."""
        return _rounded(asdict(self))

    def to_json(self) -> str:
        """The line as strict JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)


@dataclass(frozen=True, eq=False)
class Evidence:
    """The data behind one person's score, frame by frame.

    Attributes:
      crops: the faces, in the order of the frames.
      fidelity: of each face.
      quality: of each face; NaN where it is not measured.
    """

    crops: tuple[Crop, ...]
    fidelity: Float[np.ndarray, "n"]
    quality: Float[np.ndarray, "n"]


@dataclass(frozen=True, eq=False)
class Examination:
    """A prediction, and the evidence for it.

    Attributes:
      prediction: the verdict on the input.
      evidence: of each person in `prediction.faces`, in that order.
      decides: index of the person whose verdict the input gets; None if there is nobody.
      video: of a video with people, as in `Found`; else None.
    """

    prediction: Prediction
    evidence: list[Evidence] = field(default_factory=list)
    decides: int | None = None
    video: videos.VideoInfo | None = None


@dataclass
class Counts:
    """Counts of inputs by status, and of files that are not images or videos by extension."""

    statuses: Counter = field(default_factory=Counter)
    left_out: Counter = field(default_factory=Counter)

    @property
    def exit_status(self) -> int:
        """For scripts: 3 if any input is fake, else 4 if any is not clearly real, else 0."""
        if self.statuses["fake"]:
            return 3
        return 4 if self.statuses.total() > self.statuses["real"] else 0

    def describe(self) -> str:
        """One line of text for the terminal."""
        seen = ", ".join(f"{self.statuses[status]} {status}" for status in STATUSES)
        if not self.left_out:
            return seen
        kinds = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        left_out = ", ".join(f"{count} {kind}" for kind, count in kinds)
        return f"{seen}; not scored: {left_out}"


def examine_all(
    detector, inputs: Sequence[Input], workers: int = 1
) -> Generator[Examination | None, None, None]:
    """The verdicts on many files, in order, and the evidence for them.

    Args:
      detector: a `Detector`.
      inputs: the files.
      workers: number of processes that find faces; 1 uses this process.

    Yields:
      An examination; None for a file that was found in a folder and is not a photograph or video.
    """
    waiting: list[tuple[Input, Found]] = []
    with contextlib.closing(find_all(inputs, detector.faces, detector.measure, workers)) as stream:
        for given, found in zip(inputs, stream, strict=True):
            waiting.append((given, found))
            faces = sum(len(entry.crops) for _, entry in waiting)
            if workers == 1 or max(faces, len(waiting)) >= AT_ONCE:
                yield from examine_found(detector, waiting)
                waiting = []
    yield from examine_found(detector, waiting)


def write_all(inputs: Sequence[Input], todo: Sequence[Input], predictions, lines, progress):
    """Write the line of every input that has none yet.

    Args:
      inputs: the files, in order.
      todo: the files predicted now.
      predictions: of `todo`, in order; None for a file that is not a photograph or video.
      lines: a `Lines`.
      progress: a `Progress` that counts the inputs.

    Returns:
      The `Counts`.
    """
    counts, names = Counts(), {each.name for each in todo}
    for given in inputs:
        kept = lines.kept.get(given.name)
        if given.name not in names:
            counts.statuses[kept] += 1
            continue
        prediction = next(predictions)
        if prediction is None:
            counts.left_out[given.path.suffix.lower() or "without extension"] += 1
        else:
            progress.clear()
            if not kept:
                lines.write(prediction)
            counts.statuses[prediction.status] += 1
        progress.advance()
    progress.end()
    return counts


def predict(detector, path: Path) -> Prediction:
    """Find and score every person in one image or video; arguments as for `examine`."""
    return examine(detector, path).prediction


def examine(detector, path: Path, shown: str = "") -> Examination:
    """`predict`, with the evidence for each person's score.

    Args:
      detector: a `Detector`.
      path: the file.
      shown: its name in the prediction, if not its path.
    """
    given = Input(Path(path), named=True, shown=shown)
    found = find(given, detector.faces, detector.measure)
    (examination,) = examine_found(detector, [(given, found)])
    return examination


def examine_found(detector, founds: Sequence[tuple[Input, Found]]) -> list[Examination | None]:
    """The verdicts on files whose faces have been found, as `examine_all` yields them.

    Args:
      detector: a `Detector`.
      founds: pairs of a file and what was found in it.
    """
    scores = iter(score(detector, [crop for _, found in founds for crop in found.crops]))
    examinations: list[Examination | None] = []
    for given, found in founds:
        if found.is_no_media and not given.named:
            examinations.append(None)
            continue
        fidelities = [np.array([next(scores) for _ in person.crops]) for person in found.people]
        examinations.append(_examine_one(detector, given, found, fidelities))
    return examinations


def score(detector, crops: Sequence[Crop]) -> Float64[np.ndarray, "n"]:
    """Fidelity of encoded crops, AT_ONCE at a time, so that no score depends on other crops."""
    # The crops are encoded as JPEG and decoded again, as recorded faces are.
    images = [pictures.decode_image(crop.image) for crop in crops]
    fidelities = []
    for start in range(0, len(images), AT_ONCE):
        batch = images[start : start + AT_ONCE]
        blank = [np.zeros_like(batch[0])] * (AT_ONCE - len(batch))
        fidelities.append(detector.fidelity(np.stack(batch + blank))[: len(batch)])
    return np.concatenate([np.zeros(0), *fidelities])


def _examine_one(detector, given: Input, found: Found, scores) -> Examination:
    facts = {"input": given.name, "threshold": detector.threshold, "detector": detector.fingerprint}
    facts |= found.stamp | {"frames": found.frames}
    if not found.people:
        return Examination(Prediction(status=found.status, note=found.note, **facts))
    people, evidence, notes = [], [], [found.note] if found.note else []
    for number, (person, fidelity) in enumerate(zip(found.people, scores, strict=True)):
        reason = ""
        if found.qualities is None:
            quality, reason = detector.quality(
                [crop.image for crop in person.crops], [crop.landmarks for crop in person.crops]
            )
        else:
            quality = np.array(found.qualities[number])
        evidence.append(Evidence(person.crops, fidelity, quality))
        people.append(_summarise(detector, number, evidence[-1]))
        note = f"quality not measured: {reason}"
        if people[-1].quality is None and note not in notes:
            notes.append(note)
    fitted = detector.fidelity_model
    verdicts = [decide(fitted.calibration, fitted.scale, person) for person in people]
    # Faces that cannot be judged are ignored beside one that can and is as large: a face in the
    # background must not hide a fake or make the verdict on a portrait uncertain.
    sides = [min(person.bbox[2:]) for person in people]
    judged = max((sides[i] for i, verdict in enumerate(verdicts) if verdict.judged), default=0.0)
    count = [i for i, verdict in enumerate(verdicts) if verdict.judged or sides[i] > judged]
    if aside := len(people) - len(count):
        notes.append(f"{aside} of {len(people)} faces too small or too poor to judge")
    decides = min(count, key=lambda i: (WORST_FIRST.index(verdicts[i].status), people[i].fidelity))
    status, reason, _ = verdicts[decides]
    prediction = Prediction(
        status=status,
        fidelity=people[decides].fidelity,
        p_fake=people[decides].p_fake,
        faces=people,
        note=", ".join([*notes, reason] if reason else notes),
        **facts,
    )
    return Examination(prediction, evidence, decides, found.video)


class Verdict(NamedTuple):
    """The verdict on a person, one of STATUSES, why it is uncertain, and whether it was judged."""

    status: str
    reason: str = ""
    judged: bool = True


def decide(calibration: Calibration, scale: FidelityScale | None, person: PersonScore) -> Verdict:
    """The verdict on a person.

    Only a detector with a lower threshold, `fake_below`, is ever uncertain. A face of poor quality
    can be fake but not real, because many forgeries lower the quality themselves.
    """
    lower = calibration.fake_below
    if lower is not None and is_small(np.array(person.bbox)):
        side = math.floor(min(person.bbox[2:]))
        reason = f"uncertain: the face is {side} pixels wide, too small to judge"
        return Verdict("uncertain", reason, judged=False)
    poor = bool(scale and person.quality is not None and scale.is_poor(person.quality))
    verdict = str(calibration.verdicts(person.fidelity, poor))
    if verdict != "uncertain":
        return Verdict(verdict)
    if poor:
        reason = "uncertain: the quality is below the range of the real training faces"
        return Verdict(verdict, reason, judged=False)
    reason = f"uncertain: below the threshold, but not below the lower one, {lower:.4f}"
    return Verdict(verdict, reason)


def _summarise(detector, number: int, evidence: Evidence) -> PersonScore:
    """One person over all frames."""
    mean = float(evidence.fidelity.mean())
    measured = evidence.quality[np.isfinite(evidence.quality)]
    largest = max(evidence.crops, key=lambda crop: crop.bbox[2] * crop.bbox[3])
    return PersonScore(
        person=number,
        fidelity=mean,
        p_fake=float(detector.p_fake(np.array([mean]))[0]),
        quality=float(measured.mean()) if measured.size else None,
        spread=float(evidence.fidelity.std()),
        frames=len(evidence.crops),
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
