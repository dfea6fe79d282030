"""Each person in an input: the timeline, the faces shown, and the frames that they come from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from deepfidelity_jax.detector.predict import Evidence, Examination, PersonScore
from deepfidelity_jax.faces.cropping import Crop
from deepfidelity_jax.images import pictures, videos
from deepfidelity_jax.page.faces import encode_within, show_faces
from deepfidelity_jax.page.wording import clock

PEOPLE = 8  # people with pictures: who decides and the least real; others only get a table row
FRAME = 560  # pixels of the longer side of a frame that is shown
BYTES = 60_000  # most bytes of its JPEG
DOTS = 200  # above this many frames, those without a face shown get no dot and maybe no row


@dataclass(frozen=True)
class Lane:
    """One quantity over time: unbroken lines, in percent of the width and from the top.

    points: x and y of each frame, None where it is not measured. ends: the values at the top and at
    the bottom.
    """

    name: str
    lines: list[str]
    points: list[tuple[float, float] | None]
    ends: tuple[float, float]


def choose_people(people: Sequence[PersonScore], decides: int | None = None) -> list[int]:
    """The people with pictures, in the order of their numbers; always includes `decides`."""
    ranked = sorted(range(len(people)), key=lambda i: (i != decides, people[i].fidelity))
    return sorted(ranked[:PEOPLE])


def choose_faces(own: Evidence) -> dict[int, str]:
    """The faces of a person that are shown: index and reason, in the order of the frames."""
    if len(own.crops) == 1:
        return {0: "the only frame"}
    mean = own.fidelity.mean()
    wanted = {
        "lowest fidelity": int(own.fidelity.argmin()),
        "highest fidelity": int(own.fidelity.argmax()),
        "nearest to the mean": int(np.abs(own.fidelity - mean).argmin()),
    }
    chosen: dict[int, str] = {}
    for why, index in wanted.items():
        chosen[index] = f"{chosen[index]}, {why}" if index in chosen else why
    return dict(sorted(chosen.items()))


def describe_people(
    detector, path: Path, found: Examination, report: Callable[[str, float], None]
) -> dict[str, Any]:
    """What the page says about the people: `people`, `picture`, and the scale of the colours.

    Args:
      detector: a `Detector`.
      path: the file.
      found: what `examine` returned.
      report: called with each step and the share of it that is done.

    Raises formats.MediaError if the file can no longer be read.
    """
    info, moving = found.video, found.video is not None
    scores, evidence = found.prediction.faces, found.evidence
    shown = choose_people(scores, found.decides)
    chosen = {i: choose_faces(evidence[i]) for i in shown}
    crops = [evidence[i].crops[k] for i in shown for k in chosen[i]]
    faces, most, apart = show_faces(
        detector, crops, lambda share: report("explaining faces", share)
    )
    report("reading frames", 0.0)
    wanted = {
        (i, k): evidence[i].crops[k]
        for i in shown
        for k, why in chosen[i].items()
        if moving and ("lowest" in why or "highest" in why or "only" in why)
    }
    frames = read_frames(path, wanted, info.constant) if info else {}
    length = video_length(info, evidence) if info else 0.0
    step = widest_step(info.frames, found.prediction.frames) if info else 1
    pictured = iter(faces)
    people = []
    for i in shown:
        person = evidence[i]
        rows = [
            {
                "index": k,
                "anchor": f"person-{i}-frame-{crop.frame}" if k in chosen[i] else "",
                "time": clock(crop.time),
                "frame": crop.frame,
                "fidelity": float(person.fidelity[k]),
                "quality": float(q) if np.isfinite(q := person.quality[k]) else None,
                "detection": float(crop.score),
            }
            for k, crop in enumerate(person.crops)
        ]
        people.append(
            {
                "score": scores[i],
                "rows": rows,
                "dots": len(rows) <= DOTS,
                "table": rows[:: 1 + (len(rows) - 1) // DOTS],
                "lanes": draw_lanes(person, detector.threshold, length, step)
                if len(rows) > 1
                else [],
                "threshold": _height(
                    detector.threshold, *fidelity_ends(person, detector.threshold)
                ),
                "faces": [
                    {
                        **rows[k],
                        "why": why,
                        "width": min(person.crops[k].bbox[2:]),
                        "shown": next(pictured),
                        "picture": frames.get((i, k)),
                    }
                    for k, why in chosen[i].items()
                ],
            }
        )
    return {
        "people": people,
        "picture": None if moving else photograph(path, scores),
        "length": length,
        "moving": moving,
        "most": most,
        "apart": apart,
    }


# ------------------------------------------------------------------ the timeline


def widest_step(frames: int, looked: int) -> int:
    """The largest distance between sampled frames of a video, in frames.

    `looked` of `frames` frames are sampled, evenly spread, so that distances differ by at most one.
    Where the frames of a person are further apart, the person was not found in between.
    """
    return math.ceil(frames / max(1, looked))


def video_length(info: videos.VideoInfo, evidence: Sequence[Evidence]) -> float:
    """Seconds from the start to the end, or to the last face if that is later."""
    last = max(crop.time for person in evidence for crop in person.crops)
    return max(info.frames / info.rate, last)


def fidelity_ends(own: Evidence, threshold: float) -> tuple[float, float]:
    """Top and bottom of the axis, which always includes 0 and 1."""
    return max(1.0, threshold, own.fidelity.max()), min(0.0, threshold, own.fidelity.min())


def draw_lanes(own: Evidence, threshold: float, length: float, step: int) -> list[Lane]:
    """Fidelity, quality and detection of a person over time."""
    x = 1 + 98 * np.array([crop.time for crop in own.crops]) / max(length, 1e-9)
    frames = np.array([crop.frame for crop in own.crops])
    breaks = np.flatnonzero(np.diff(frames) > step) + 1
    detection = np.array([crop.score for crop in own.crops], np.float64)
    return [
        _lane("fidelity", x, own.fidelity, breaks, fidelity_ends(own, threshold)),
        _lane("quality", x, own.quality, breaks),
        _lane("detection", x, detection, breaks),
    ]


def _lane(
    name: str,
    x: Float[np.ndarray, "n"],
    values: Float[np.ndarray, "n"],
    breaks: Any,
    ends: tuple[float, float] | None = None,
) -> Lane:
    known = np.isfinite(values)
    if ends is None:
        ends = max([1.0, *values[known]]), min([0.0, *values[known]])
    points = [
        (float(a), _height(float(value), *ends)) if np.isfinite(value) else None
        for a, value in zip(x, values, strict=True)
    ]
    parts = np.split(np.arange(len(x)), breaks)
    lines = [
        " ".join(f"{points[k][0]:.2f},{points[k][1]:.2f}" for k in part if points[k])
        for part in parts
    ]
    return Lane(name, [line for line in lines if line], points, ends)


def _height(value: float, top: float, bottom: float) -> float:
    """Percent from the top."""
    return 4 + 92 * (top - value) / (top - bottom)


# ------------------------------------------------------------------ frames


def read_frames(
    path: Path, wanted: dict[tuple[int, int], Crop], constant: bool
) -> dict[tuple[int, int], str]:
    """The data URL of each crop's frame with a box around the face; none if it is unreadable.

    `constant`: as in the video's `VideoInfo`.
    """
    indices = sorted({crop.frame for crop in wanted.values()})
    urls = {}
    for frame in videos.read_frames_at(path, indices, constant) if indices else ():
        for key, crop in wanted.items():
            if crop.frame == frame.index:
                urls[key] = _encode_framed(frame.image, [(key[0], crop.bbox.tolist())])
    return urls


def photograph(path: Path, people: Sequence[PersonScore]) -> str:
    """The data URL of the photograph with a box around each person's face."""
    return _encode_framed(
        pictures.read_image(path), [(person.person, person.bbox) for person in people]
    )


def _encode_framed(
    image: UInt8[np.ndarray, "h w 3"], boxes: Sequence[tuple[int, Sequence[float]]]
) -> str:
    zoom = min(1.0, FRAME / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    for person, box in boxes:
        draw_box(small, [value * zoom for value in box], f"{person}")
    return encode_within(small, BYTES)


def draw_box(
    image: UInt8[np.ndarray, "h w 3"], box: Sequence[float], text: str, thickness: int = 2
) -> None:
    """Draw a box with a text above it into an image: white on black, readable on any background."""
    x, y, w, h = box
    corners = (round(x), round(y)), (round(x + w), round(y + h))
    scale = max(0.45, max(image.shape[:2]) / 1600)
    heavy = round(thickness * max(1.0, max(image.shape[:2]) / 800))
    cv2.rectangle(image, *corners, (0, 0, 0), heavy + 2, cv2.LINE_AA)
    cv2.rectangle(image, *corners, (255, 255, 255), heavy, cv2.LINE_AA)
    font, pen = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(scale * 1.6))
    (width, height), below = cv2.getTextSize(text, font, scale, pen)
    pad = 4
    left = int(np.clip(corners[0][0], 0, max(0, image.shape[1] - width - 2 * pad)))
    top = corners[0][1] - height - below - 2 * pad
    top = int(np.clip(top, 0, max(0, image.shape[0] - height - below - 2 * pad)))
    cv2.rectangle(
        image, (left, top), (left + width + 2 * pad, top + height + below + 2 * pad), (0, 0, 0), -1
    )
    cv2.putText(
        image,
        text,
        (left + pad, top + pad + height),
        font,
        scale,
        (255, 255, 255),
        pen,
        cv2.LINE_AA,
    )
