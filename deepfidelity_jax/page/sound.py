"""The sound of a video, copied as it is into the one that is written: nothing is encoded anew."""

import contextlib
from pathlib import Path

import av

from deepfidelity_jax.images.formats import PICTURES, format_of, open_file


class Sound:
    """All audio of a video; a context manager that closes the file.

    Attributes:
      missing: why some or all of it was not copied; empty if nothing is missing.
    """

    def __init__(self, path: Path):
        self.missing = ""
        self._target, self._streams, self._packet = None, {}, None
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open_file(path))
            self._source: av.container.InputContainer | None = None
            if format_of(file, path) not in PICTURES:  # an animation has none
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
        """Add the streams that the target can hold; before anything is written to it."""
        if self._source is None:
            return
        for stream in self._source.streams.audio:
            name = stream.codec_context.name
            if name in target.supported_codecs:
                self._streams[stream.index] = target.add_stream_from_template(stream)
            else:
                self.missing = f"{target.format.name} files cannot hold its sound ({name})"
        self._target = target
        self._packets = self._source.demux([self._source.streams[i] for i in self._streams])
        pictures = self._source.streams.video[0]
        self._start = float((pictures.start_time or 0) * pictures.time_base)
        self._take()

    def copy(self, until: float) -> None:
        """Copy what begins before a time, in seconds from the first frame on."""
        while self._packet is not None and self._packet.pts * self._packet.time_base < until:
            self._packet.stream = self._streams[self._packet.stream.index]
            self._target.mux(self._packet)
            self._take()

    def _take(self) -> None:
        """The next packet, its times counted from the first frame on; None at the end."""
        try:
            packets = iter(self._packets) if self._streams else iter(())
            packet = next((each for each in packets if each.pts is not None), None)
        except av.FFmpegError:
            packet, self.missing = None, "its sound is damaged and ends early"
        if packet is not None:
            shift = round(self._start / packet.time_base)
            packet.pts -= shift
            packet.dts = packet.dts if packet.dts is None else packet.dts - shift
        self._packet = packet
