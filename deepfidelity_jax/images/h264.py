"""H.264 encoding by x264, which comes with PyAV (the extra `video`)."""

import contextlib
import importlib.util
import io
import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import UInt8

from deepfidelity_jax.images import formats, videos

Picture = UInt8[np.ndarray, "h w 3"]


def is_there() -> bool:
    """Whether PyAV is installed, with x264 in it."""
    if importlib.util.find_spec("av") is None:
        return False
    import av

    return "libx264" in av.codecs_available


@contextlib.contextmanager
def write_mp4(
    file: str | io.BytesIO,
    rate: float | int,
    crf: float | int,
    sound: Any = None,
    end: float | None = None,
) -> Iterator[Callable[[Picture, float], None]]:
    """A function that adds a frame (RGB) to an MP4 file, shown from a time in seconds on.

    Times rise; `rate` is the usual number of frames per second, `crf` the constant rate factor.
    Sides are made even by repeating the last row or column. A `page.sound.Sound` is copied beside
    the frames. The last frame is shown until `end`; by default for the usual time of a frame.
    """
    import av

    fraction = Fraction(max(rate, 0.001)).limit_denominator(10_000)
    # Fine enough for any time, and an integer for frames at the usual rate.
    tick = Fraction(1, fraction.numerator * math.ceil(90_000 / fraction.numerator))
    with av.open(file, "w", format="mp4") as container:
        stream: Any = None
        before = -1

        def write(image: Picture, time: float) -> None:
            nonlocal stream, before
            height, width = image.shape[:2]
            even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            if stream is None:
                stream = container.add_stream("libx264", fraction)
                stream.codec_context.time_base = tick
                stream.height, stream.width = even.shape[:2]
                stream.pix_fmt, stream.options = "yuv420p", {"crf": str(int(crf))}
                if end is not None:  # the last packet has to be that of the last frame
                    stream.options |= {"bf": "0"}
                if sound:
                    sound.begin(container)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            frame.pts, frame.time_base = max(before + 1, round(time / tick)), tick
            before = frame.pts
            container.mux(stream.encode(frame))
            if sound:
                sound.copy(time)

        yield write
        if stream is not None:
            for packet in stream.encode():
                if end is not None and packet.pts == before:
                    packet.duration = max(1, round(end / tick) - before)
                container.mux(packet)
            if sound:
                sound.copy(math.inf)


def find_end(path: str | os.PathLike, info: videos.VideoInfo) -> float:
    """Seconds from a video's first frame to the end of its last one.

    From `info` if the file does not say.
    """
    import av

    with formats.open_file(path) as file:
        if formats.format_of(file, path) in formats.PICTURES:
            return info.frames / info.rate
        with contextlib.suppress(av.FFmpegError), av.open(file, "r") as container:
            stream = container.streams.video[0]
            packets = (packet for packet in container.demux(stream) if packet.pts is not None)
            ends = ((packet.pts, packet.duration or 0) for packet in packets)
            last, duration = max(ends, default=(0, 0))
            if duration:
                return float((last + duration - (stream.start_time or 0)) * stream.time_base)
    return info.frames / info.rate


def recompress_video(path: str | os.PathLike, output: str | os.PathLike, crf: float | int) -> None:
    """Encode a whole video again, upright and without sound, frame for frame.

    A frame that cannot be decoded is replaced by the next one, so that all others keep their
    numbers. Raises MediaError as `video_info` does.
    """
    info, written = videos.video_info(path), 0
    with write_mp4(os.fspath(output), info.rate, crf) as write:
        for frame in videos.read_frames_at(path, range(info.frames)):
            while written <= frame.index:
                write(frame.image, written / info.rate)
                written += 1
