"""What a video file says about itself: its tracks, and where it should end. Nothing is decoded.

MP4 and Matroska are trees of parts, each with a name and a length. Unreadable files and other
containers yield no tracks.
"""

import io
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

Walk = Callable[[io.BufferedIOBase, int, int], Iterator[tuple[bytes, int, int]]]

MOST = 20_000  # parts of a file that are looked at, lest a file of tiny ones takes long
VIDEO, SOUND = "video", "sound"

# MP4: ISO/IEC 14496-12.
HANDLERS = {b"vide": VIDEO, b"soun": SOUND}
ENTRY = 78  # bytes of a video's sample entry before its boxes

# Matroska: RFC 9559.
SEGMENT, TRACKS, TRACK, TYPE = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\x83"
PICTURE, COLOUR, TRANSFER = b"\xe0", b"\x55\xb0", b"\x55\xba"
TYPES = {1: VIDEO, 2: SOUND}

# Marks of the tracks in other containers, which stand in the first HEADER bytes.
HEADER = 1 << 16
MARKS = {
    "ASF": {
        bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b"): VIDEO,
        bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b"): SOUND,
    },
    "Ogg": {
        **dict.fromkeys((b"\x80theora", b"BBCD\0", b"\x01video\0", b"OVP80"), VIDEO),
        **dict.fromkeys((b"OpusHead", b"\x01vorbis", b"\x7fFLAC", b"Speex   "), SOUND),
    },
}


class Track(NamedTuple):
    """One stream: its content, VIDEO or SOUND, and its transfer function by ITU-T H.273, else 0."""

    content: str
    transfer: int = 0


def list_tracks(file: io.BufferedIOBase, kind: str) -> list[Track]:
    """The tracks of an open file of this format, as far as it tells; the file is rewound."""
    try:
        if kind == "MP4":
            return list(_mp4_tracks(file))
        if kind == "Matroska":
            return list(_matroska_tracks(file))
        file.seek(0)
        head = file.read(HEADER) if kind in MARKS else b""
        return [Track(content) for mark, content in MARKS.get(kind, {}).items() if mark in head]
    finally:
        file.seek(0)


def is_sound(file: io.BufferedIOBase, kind: str) -> bool:
    """Whether an open file has tracks, but none with pictures; a cover is no track."""
    return {track.content for track in list_tracks(file, kind)} == {SOUND}


def is_cut(file: io.BufferedIOBase, kind: str) -> bool:
    """Whether an open file ends before a part that holds its frames does; it is rewound."""
    size = file.seek(0, io.SEEK_END)
    walk, holds = {
        "AVI": (_chunks, b"RIFF"), "MP4": (_boxes, b"mdat"), "Matroska": (_elements, SEGMENT)
    }.get(kind, (_boxes, b""))  # fmt: skip
    try:
        parts = _Tree(file, walk).walk(0, size if holds else 0)
        return any(name == holds and end > size for name, _, end in parts)
    finally:
        file.seek(0)


class _Tree:
    """The parts of an open file; those after the first MOST are ignored."""

    def __init__(self, file: io.BufferedIOBase, walk: Walk):
        self._file, self._walk, self._left = file, walk, MOST

    def walk(self, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Name, begin and end of each part in a place; the last may end after `end`."""
        for part in self._walk(self._file, start, end):
            if not self._left:
                return
            self._left -= 1
            yield part

    def find(self, start: int, end: int, *path: bytes) -> Iterator[tuple[int, int]]:
        """Where each part at this path begins and ends."""
        if not path:
            yield start, end
            return
        for name, inner, outer in self.walk(start, end):
            if name == path[0]:
                yield from self.find(inner, min(outer, end), *path[1:])

    def read(self, start: int, end: int, *path: bytes) -> bytes:
        """The first bytes of the first part at this path; empty if there is none."""
        for inner, outer in self.find(start, end, *path):
            self._file.seek(inner)
            return self._file.read(max(0, min(outer - inner, 16)))
        return b""


def _mp4_tracks(file: io.BufferedIOBase) -> Iterator[Track]:
    tree, size = _Tree(file, _boxes), file.seek(0, io.SEEK_END)
    for movie in itertools.islice(tree.find(0, size, b"moov"), 1):
        for track in tree.find(*movie, b"trak"):
            handler = tree.read(*track, b"mdia", b"hdlr")[8:12]
            if handler in HANDLERS:
                yield Track(HANDLERS[handler], _mp4_transfer(tree, track))


def _mp4_transfer(tree: _Tree, track: tuple[int, int]) -> int:
    for start, end in tree.find(*track, b"mdia", b"minf", b"stbl", b"stsd"):
        for _, inner, outer in itertools.islice(tree.walk(start + 8, end), 1):
            colour = tree.read(inner + ENTRY, min(outer, end), b"colr")
            if colour[:4] in (b"nclx", b"nclc"):
                return int.from_bytes(colour[6:8])
    return 0


def _matroska_tracks(file: io.BufferedIOBase) -> Iterator[Track]:
    tree, size = _Tree(file, _elements), file.seek(0, io.SEEK_END)
    for tracks in itertools.islice(tree.find(0, size, SEGMENT, TRACKS), 1):
        for track in tree.find(*tracks, TRACK):
            content = TYPES.get(int.from_bytes(tree.read(*track, TYPE)))
            if content:
                transfer = tree.read(*track, PICTURE, COLOUR, TRANSFER)
                yield Track(content, int.from_bytes(transfer))


def _boxes(file: io.BufferedIOBase, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of each MP4 box; the last may end after `end`."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        size, inner = int.from_bytes(head[:4]), 8
        if size == 1:
            size, inner = int.from_bytes(head[8:16]), 16
        size = size or end - start  # 0: to the end
        if size < inner:
            return
        yield head[4:8], start + inner, start + size
        start += size


def _elements(file: io.BufferedIOBase, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of each element of Matroska; the last may end after `end`."""
    while start < end:
        file.seek(start)
        head = file.read(12)
        named = 9 - head[0].bit_length() if head else 9
        if named > 4 or len(head) <= named:
            return
        width = 9 - head[named].bit_length()
        most = (1 << 7 * width) - 1
        size, inner = int.from_bytes(head[named : named + width]) & most, start + named + width
        outer = end if size == most else inner + size  # all ones: unknown
        yield head[:named], inner, outer
        start = outer


def _chunks(file: io.BufferedIOBase, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of each RIFF chunk; the last may end after `end`."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(8)
        size = int.from_bytes(head[4:], "little")
        yield head[:4], start + 8, start + 8 + size
        start += 8 + size + size % 2
