"""What a container says about its tracks and its end is believed; sound alone is no video."""

import io

import pytest
from samples import counted_video, sound_file, timed_video, told

from deepfidelity_jax.images import containers, formats, media, videos

TIMES = [number / 30 for number in range(60)]


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_a_video_that_is_cut_off_says_so(tmp_path, name):
    path = tmp_path / name
    if name == "a.avi":
        counted_video(path, frames=60, codec="MJPG")
    else:
        pytest.importorskip("av")
        timed_video(path, TIMES, **({"movflags": "faststart"} if name == "a.mp4" else {}))
    assert videos.video_info(path).note == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    info = videos.video_info(path)
    assert 10 < info.frames < 55
    assert info.note == f"the file is cut off: {info.frames} of at least 60 frames"


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_what_of_a_video_is_not_shown_is_noted(tmp_path, name):
    pytest.importorskip("av")
    path = timed_video(tmp_path / name, TIMES, streams=2)
    assert videos.video_info(path).note == "the first of 2 video streams"
    assert [told(frame.image) for frame in videos.read_frames(path, 3)] == [10, 30, 50]
    for transfer, note in ((1, ""), (18, "HDR (HLG), read without tone mapping")):
        timed_video(path, TIMES, transfer=transfer)
        assert videos.video_info(path).note == note


@pytest.mark.parametrize(
    ("codec", "container"),
    [("aac", "mp4"), ("aac", "mov"), ("aac", "3gp"), ("libopus", "webm"), ("libopus", "matroska"),
     ("libopus", "ogg"), ("flac", "ogg")],
)  # fmt: skip
def test_sound_alone_is_no_video(tmp_path, codec, container):
    pytest.importorskip("av")
    path = sound_file(tmp_path / "a", codec, container)
    with pytest.raises(formats.NotMedia, match="an audio file"):
        media.identify(path)
    with pytest.raises(formats.MediaError, match="an audio file"):
        media.identify(path.rename(tmp_path / "a.mp4"))


@pytest.mark.parametrize("kind", [*formats.VIDEOS, "PNG"])
def test_arbitrary_bytes_tell_nothing(tmp_path, kind):
    for content in (b"", bytes(5000), b"\xff" * 5000, b"\0\0\0\1mdat", b"\x1aE\xdf\xa3\x80\x18"):
        (tmp_path / "a").write_bytes(content)
        with formats.open_file(tmp_path / "a") as file:
            assert containers.list_tracks(file, kind) == []
            assert not containers.is_cut(file, kind)
            assert file.tell() == 0


class CountedFile(io.BytesIO):
    reads = 0

    def read(self, *arguments):
        self.reads += 1
        return super().read(*arguments)


def test_a_file_of_tiny_parts_takes_no_longer_than_its_first_ones():
    """The limit is on the whole file: 50 tracks of 1,000 parts would pass a limit on each."""

    def element(name, content):
        return name + (1 << 56 | len(content)).to_bytes(8) + content

    def box(name, content):
        return (8 + len(content)).to_bytes(4) + name + content

    track = element(containers.TRACK, b"\xec\x80" * 1000)
    matroska = element(containers.SEGMENT, element(containers.TRACKS, track * 50))
    mp4 = box(b"moov", box(b"trak", box(b"free", b"") * 1000) * 50)
    for kind, content in (("Matroska", matroska), ("MP4", mp4)):
        file = CountedFile(content)
        assert containers.list_tracks(file, kind) == []
        assert 1000 < file.reads <= containers.MOST + 1000
