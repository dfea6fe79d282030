"""The video with boxes, person numbers and the running score drawn in.

Faces are scored only in the sampled frames (`config.faces.frames`). There the box is thick. Between
two sampled frames it is thin, its position is interpolated, and the last score stays.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from deepfidelity_jax.detector.predict import Evidence, Examination
from deepfidelity_jax.images import formats, h264, videos
from deepfidelity_jax.page.people import draw_box, widest_step

Picture = UInt8[np.ndarray, "h w 3"]
WITHOUT_PYAV = (
    "without sound, and MPEG-4, which browsers do not play; both need "
    "pip install 'deepfidelity_jax[video]'"
)


def annotate(
    path: Path, found: Examination, output: str | Path, report: Callable[[str, float], None]
) -> str:
    """Write the annotated video with the sound of the input, completely or not at all.

    Without PyAV (the extra `video`) it is MPEG-4, not H.264, and has no sound.

    Args:
      path: the video.
      found: what `examine` returned.
      output: a name that ends in .mp4.
      report: called with the step and the share of it that is done.

    Returns:
      What the video lacks, as text; empty if it lacks nothing.
    """
    info, output = found.video or videos.video_info(path), Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.stem[:100]}.{os.getpid()}.mp4")
    step = widest_step(info.frames, found.prediction.frames)
    try:
        with contextlib.ExitStack() as stack:
            sound = _sound_of(path, stack)
            opened = (
                h264.write_mp4(str(partial), info.rate, 20, sound, h264.find_end(path, info))
                if sound
                else _write_mpeg4(partial, info.rate)
            )
            write = stack.enter_context(opened)
            for frame in videos.read_frames_at(path, range(info.frames)):
                write(draw(frame.image, frame.index, found, step), frame.time)
                if frame.index % 10 == 0:
                    report("drawing frames", frame.index / info.frames)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return sound.missing if sound else WITHOUT_PYAV


def _sound_of(path: Path, stack: contextlib.ExitStack) -> Any:
    """The `Sound` of a video; None where PyAV is not installed."""
    if not h264.is_there():
        return None
    from deepfidelity_jax.page.sound import Sound

    return stack.enter_context(Sound(path))


def draw(image: Picture, index: int, found: Examination, step: int) -> Picture:
    """A frame with the people in it drawn in.

    Args:
      image: the frame.
      index: index of the frame.
      found: what `examine` returned.
      step: the usual distance between sampled frames, in frames.
    """
    drawn = image.copy()
    for number, evidence in enumerate(found.evidence):
        located = locate(evidence, index, step)
        if located is None:
            continue
        box, last, exact = located
        running = evidence.fidelity[: last + 1].mean()
        text = f"{number}: {evidence.fidelity[last]:.2f} (mean so far {running:.2f})"
        draw_box(drawn, box, text, 3 if exact else 1)
    threshold = found.prediction.threshold
    _caption(drawn, f"fidelity; real from {threshold:.2f}")
    return drawn


def locate(own: Evidence, index: int, step: int) -> tuple[list[float], int, bool] | None:
    """A person's box in a frame, the row of the last scored frame, and whether it is this frame.

    None where the person was not found around this frame.
    """
    frames = np.array([crop.frame for crop in own.crops])
    last = int(np.searchsorted(frames, index, "right")) - 1
    if last < 0:
        return None
    before = own.crops[last]
    if before.frame == index:
        return before.bbox.tolist(), last, True
    if last + 1 == len(frames) or frames[last + 1] - frames[last] > step:
        return None
    share = (index - frames[last]) / (frames[last + 1] - frames[last])
    box = (1 - share) * before.bbox + share * own.crops[last + 1].bbox
    return box.tolist(), last, False


def _caption(image: Picture, text: str) -> None:
    scale = max(0.45, max(image.shape[:2]) / 1800)
    corner, font = (8, image.shape[0] - 10), cv2.FONT_HERSHEY_SIMPLEX
    pen = max(1, round(scale * 1.6))
    for colour, width in (((0, 0, 0), pen + 4), ((255, 255, 255), pen)):
        cv2.putText(image, text, corner, font, scale, colour, width, cv2.LINE_AA)


@contextlib.contextmanager
def _write_mpeg4(path: Path, rate: float) -> Iterator[Callable[[Picture, float], None]]:
    """At a constant rate: frames are repeated or left out to keep the time.

    OpenCV writes a rate that is no whole number in thousandths, and MPEG-4 takes 65535 at most.
    """
    rate = round(rate, 3) if rate <= 65 else round(rate)
    writer: cv2.VideoWriter | None = None
    written = 0

    def write(image: Picture, time: float) -> None:
        nonlocal writer, written
        if writer is None:
            size = image.shape[1], image.shape[0]
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
            if not writer.isOpened():
                raise formats.MediaError(f"OpenCV writes no MPEG-4 at {rate:g} frames per second")
        while written <= round(time * rate):
            writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            written += 1

    try:
        yield write
    finally:
        if writer is not None:
            writer.release()
