"""The sound of a video, copied into the video that is written without encoding it again."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from deepfidelity_jax.images.formats import PICTURES, format_of, open_file
from deepfidelity_jax.processes.faults import disk_error


class Sound:
    """All audio streams of a video; a context manager that closes the file.

    Attributes:
      missing: why some or all of it was not copied; empty if nothing is missing.
    """

    def __init__(self, path: Path):
        self.missing = ""
        self._target: Any = None
        self._streams: dict[int, Any] = {}
        self._packets: Iterator[av.Packet] = iter(())
        self._packet: av.Packet | None = None  # read already, not yet copied
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open_file(path))
            self._source: av.container.InputContainer | None = None
            if format_of(file, path) not in PICTURES:  # an animation has no sound
                try:
                    self._source = stack.enter_context(av.open(file, "r"))
                except av.FFmpegError:
                    self.missing = "its sound cannot be read"
            self._stack = stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stack.close()

    def begin(self, target: av.container.OutputContainer) -> None:
        """Add the streams that the target can hold. Call before anything is written to it."""
        if self._source is None:
            return
        for stream in self._source.streams.audio:
            name = stream.codec_context.name if stream.codec_context else "unknown codec"
            if name in target.supported_codecs:
                self._streams[stream.index] = target.add_stream_from_template(stream)
            else:
                self.missing = f"{target.format.name} files cannot hold its sound ({name})"
        if self._streams:
            self._target, self._packets = target, self._read()

    def copy(self, until: float) -> None:
        """Copy the packets that begin before a time, in seconds from the first frame."""
        try:
            while (packet := self._packet or next(self._packets, None)) is not None:
                self._packet = packet
                if packet.pts * packet.time_base >= until:
                    return
                self._packet = None
                packet.stream = self._streams[packet.stream.index]
                self._target.mux(packet)
        except av.FFmpegError as error:
            if disk_error(error):
                raise
            self.missing, self._packets = "its sound is damaged and ends early", iter(())

    def _read(self) -> Iterator[av.Packet]:
        """The packets, with times counted from the first frame."""
        assert self._source is not None
        pictures = self._source.streams.video[0]
        start = (pictures.start_time or 0) * pictures.time_base
        for packet in self._source.demux([self._source.streams[i] for i in self._streams]):
            if packet.pts is None or packet.dts is None:  # the mark of a stream's end
                continue
            shift = round(start / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            yield packet
