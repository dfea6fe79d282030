"""Real faces with harmless changes, which a sound detector must not take for forgeries.

Degradations change the whole picture; controls change only a part, or too little to be seen. No
change adds content from another picture. Fidelity falls with quality by design, so controls are
judged by the class head: the AUC of its score, real minus fake, between untouched and changed
faces. Near .5 the head ignores the change; above, it takes the change for a forgery; below, for a
sign of a real face.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8

from deepfidelity_jax.detector.load import Detector
from deepfidelity_jax.faces.geometry import complete_landmarks, is_small
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.fidelity.scale import FAKE, REAL
from deepfidelity_jax.forgeries import families, graded
from deepfidelity_jax.forgeries.families import joins, masks, treatments, video_coding, warps
from deepfidelity_jax.images.pictures import decode_image, encode_image, recompress
from deepfidelity_jax.statistics.intervals import Level, add_statistics, draw_clusters
from deepfidelity_jax.statistics.ranking import auc

Face = UInt8[np.ndarray, "h w 3"]
Change = Callable[[Face, Float[np.ndarray, "5 2"], np.random.Generator], Face]

MOST = 300  # faces that are changed, one of each video
# The share of validation's real faces allowed below the limit for fakes: untouched, degraded, and
# in another shot of the same face. Small, because real pictures of another kind than those in
# validation fall below the limit several times as often.
UNTOUCHED, DEGRADED, OTHER_SHOTS = "untouched", "degraded", "other shots"
ALLOWED = {UNTOUCHED: 0.01, DEGRADED: 0.01, OTHER_SHOTS: 0.001}


def _whole(step: Callable[[Face, np.random.Generator], Face]) -> Change:
    """A change of the whole picture, made at `graded.SIDE` pixels."""
    return lambda face, points, rng: graded.at_side(face, lambda large: step(large, rng))


def _inside(step: Callable[[Face, np.random.Generator], Face]) -> Change:
    """A change inside the face alone, without a seam."""

    def change(face, points, rng):
        shape = face.shape[:2]
        mask = masks.draw(complete_landmarks(points, shape), shape, rng, masks.WHOLE)
        return joins.opacity(step(face, rng), face, masks.soften(mask, 0.02 * shape[1]))

    return change


def _move(face: Face, rng: np.random.Generator) -> Face:
    half = np.array([[1, 0, 0.5], [0, 1, 0.5]])
    return warps.warp_affine(face, half, face.shape[:2], cv2.INTER_CUBIC)


def _shot(number: int) -> Change:
    """The change to another shot of a face, as `number` draws it."""

    def change(face, points, rng):
        shot_rng = np.random.default_rng([number, *rng.integers(2**32, size=2)])
        return families.retake(families.Face(face, points), shot_rng).pixels

    return change


DEGRADATIONS: dict[str, Change] = {
    "blur of 3 px": _whole(lambda face, rng: graded.blur(face, 3.0, rng)),
    "JPEG 50": _whole(lambda face, rng: recompress(face, 50)),
    "half brightness": _whole(lambda face, rng: (face * 0.5).astype(np.uint8)),
    "half size": _whole(lambda face, rng: graded.resize(face, 0.5, rng)),
    "noise of 8": _whole(lambda face, rng: graded.add_noise(face, 8.0, rng)),
    "video coding": lambda face, points, rng: video_coding.code_frame(face, 40.0, 4, deblocks=True),
}
CONTROLS: dict[str, Change] = {
    "detail lost inside": _inside(
        lambda face, rng: cv2.GaussianBlur(face, (0, 0), rng.uniform(0.6, 2.0))
    ),
    "moved by half a pixel inside": _inside(_move),
    "recompressed": lambda face, points, rng: recompress(face, int(rng.integers(50, 90))),
    "smoothed inside": _inside(treatments.smooth_skin),
}

# Other poses, light and colours of a face, as in training.
SHOTS: tuple[Change, ...] = tuple(_shot(number) for number in range(16))


def real_faces(records: Sequence[dict[str, Any]], most: int = MOST) -> list[dict[str, Any]]:
    """One real record of each video, at most `most`, evenly spaced."""
    first = {}
    for record in records:
        if record["label"] == REAL:
            first.setdefault(record["video_id"], record)
    return spaced(list(first.values()), most)


def spaced(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the items, evenly spaced."""
    return [items[i * len(items) // most] for i in range(most)] if len(items) > most else [*items]


def start_random(video_id: str, *more: int) -> np.random.Generator:
    """The random numbers of a video, which do not depend on other videos; `more` tells draws apart.

    A video_id need not be valid text: it may come from the name of a file.
    """
    return np.random.default_rng([zlib.crc32(video_id.encode("utf-8", "surrogateescape")), *more])


def encode_changed(faces: Sequence[dict[str, Any]], change: Change | None) -> list[bytes]:
    """The faces after a change, encoded as recorded ones are; None leaves them."""
    if change is None:
        return [record["image"] for record in faces]

    def encode(record):
        rng = start_random(record["video_id"])
        return encode_image(change(decode_image(record["image"]), record["landmarks"], rng))

    return [encode(record) for record in faces]


def change_faces(faces: Sequence[dict[str, Any]], change: Change | None) -> list[Face]:
    """The faces after a change, encoded and decoded as recorded ones are; None leaves them."""
    return [decode_image(encoded) for encoded in encode_changed(faces, change)]


class Scores(NamedTuple):
    """Of changed faces: class score (real minus fake), and verdict, if the detector is fitted."""

    classes: Float[np.ndarray, "n"]
    verdicts: Shaped[np.ndarray, "n"] | None


def score_changes(
    detector: Detector, faces: Sequence[dict[str, Any]], changes: dict[str, Change]
) -> dict[str, Scores]:
    """Scores of each face: untouched, and after each change."""
    fitted, points = detector.fidelity_model, [face["landmarks"] for face in faces]
    small = is_small(np.array([face["bbox"] for face in faces]))
    scores, verdicts = {}, None
    for name, change in {UNTOUCHED: None, **changes}.items():
        encoded = encode_changed(faces, change)
        images = [decode_image(picture) for picture in encoded]
        logits = compute(detector.class_logits, images).astype(np.float64)
        if fitted:
            fidelity = compute(detector.fidelity, images).astype(np.float64)
            # Without a lower threshold, quality decides nothing and is not measured.
            poor = fitted.calibration.fake_below is not None and detector.is_poor(encoded, points)
            verdicts = fitted.calibration.verdicts(fidelity, poor, small)
        scores[name] = Scores(logits[:, 1] - logits[:, 0], verdicts)
    return scores


def compute(
    function: Callable[[np.ndarray], np.ndarray], images: Sequence[Face]
) -> Float[np.ndarray, "n ..."]:
    """A function of the detector on faces of any size: in one call if all have the same size."""
    alike = len({image.shape for image in images}) == 1
    parts = [np.stack(images)] if alike else [image[None] for image in images]
    return np.concatenate([function(part) for part in parts])


def measure(
    detector: Detector,
    records: Sequence[dict[str, Any]],
    *,
    seed: int,
    replicates: int,
) -> dict[str, Any]:
    """The entry `controls` of metrics.json.

    Returns:
      `n` faces, one per video; for each change `class_auc` between untouched and changed faces,
      with its interval over faces in `ci`; `called_fake` and `called_uncertain`, shares of the
      faces by the verdict of predict on each alone. Empty if there is no real face.
    """
    faces = real_faces(records)
    if not faces:
        return {}
    scores = score_changes(detector, faces, DEGRADATIONS | CONTROLS)
    n, untouched = len(faces), scores[UNTOUCHED].classes
    label = np.repeat(np.int32([REAL, FAKE]), n)
    draws = draw_clusters(np.full(n, REAL), seed, replicates)
    entry: dict[str, Any] = {"n": n}
    for name, (score, verdicts) in scores.items():
        figures: dict[str, Any] = {"ci": {}, "note": {}}
        if name != UNTOUCHED:
            # The bootstrap draws a face and its changed copy together.
            level = Level(label, np.concatenate([untouched, score]), np.tile(np.arange(n), 2))
            add_statistics(figures, level, draws, {"class_auc": auc})
        figures["called_fake"] = float(np.mean(verdicts == "fake"))
        figures["called_uncertain"] = float(np.mean(verdicts == "uncertain"))
        entry[name] = figures
    return entry


def with_limit(detector: Detector, faces: Sequence[dict[str, Any]]) -> Calibration:
    """The detector's calibration, with the limit below which a face is called fake.

    Unchanged if there are no real faces, or the calibration was not fitted on validation.

    Args:
      detector: fitted, without a limit.
      faces: from `real_faces` of the validation split.
    """
    calibration = detector.fidelity_model.calibration
    if not faces or not calibration.is_fitted:
        return calibration

    def fidelity(change: Change | None) -> Float[np.ndarray, "n"]:
        return compute(detector.fidelity, change_faces(faces, change)).astype(np.float64)

    fidelities = {
        name: fidelity(change) for name, change in {UNTOUCHED: None, **DEGRADATIONS}.items()
    }
    fidelities[OTHER_SHOTS] = np.concatenate([fidelity(shot) for shot in SHOTS])
    return replace(calibration, fake_below=min(fake_limit(fidelities), calibration.threshold))


def note_limit(calibration: Calibration) -> dict[str, dict[str, float]]:
    """What fidelity.npz notes about the limit of `with_limit`: the shares `allowed` below it."""
    return {} if calibration.fake_below is None else {"allowed": ALLOWED}


def fake_limit(fidelity: dict[str, Float[np.ndarray, "_"]]) -> float:
    """The fidelity below which a face is called fake, as few of validation's real faces are.

    The lowest of the limits for the untouched faces, for the faces after each degradation, and for
    their other shots.
    """
    return min(
        float(np.sort(scores)[int(ALLOWED.get(name, ALLOWED[DEGRADED]) * len(scores))])
        for name, scores in fidelity.items()
    )
