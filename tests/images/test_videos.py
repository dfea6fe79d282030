"""Frames of videos: counted truly, spread evenly, each the frame that it says."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image
from samples import counted_video, numbered, timed_video, told, trimmed_video

from deepfidelity_jax.images import pictures, videos
from deepfidelity_jax.images.formats import MediaError


def test_indices_are_the_middles_of_even_shares():
    assert videos.spread_indices(300, 3) == [50, 150, 250]
    assert videos.spread_indices(5, 32) == [0, 1, 2, 3, 4]
    assert videos.spread_indices(300, 32) == [int((i + 0.5) * 300 / 32) for i in range(32)]
    assert videos.spread_indices(7, 1) == [3]


def test_frames_are_spread_over_the_whole_video(tmp_path):
    path = counted_video(tmp_path / "a.mp4")
    frames = list(videos.read_frames(path, 6))
    assert [frame.index for frame in frames] == [7, 22, 37, 52, 67, 82]
    assert [told(frame.image) for frame in frames] == [7, 22, 37, 52, 67, 82]
    np.testing.assert_allclose([f.time for f in frames], [f.index / 30 for f in frames], atol=1e-3)
    assert [told(frame.image) for frame in videos.read_frames(path, 500)] == list(range(90))


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_seeking_reads_the_same_frames_as_stepping(tmp_path, monkeypatch, name):
    path = counted_video(tmp_path / name)
    assert videos.video_info(path) == videos.VideoInfo(90, 30.0, constant=True)
    monkeypatch.setattr(videos, "SEEK_FROM", 0)
    indices = [0, 5, 13, 40, 41, 77, 89]
    stepped = list(videos.read_frames_at(path, indices, constant=False))
    sought = list(videos.read_frames_at(path, indices, constant=True))
    assert [told(frame.image) for frame in stepped] == indices
    assert [told(frame.image) for frame in sought] == indices
    for a, b in zip(stepped, sought, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert (a.index, a.time) == (b.index, b.time)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_every_frame_of_a_variable_rate_is_reached(tmp_path, monkeypatch, name):
    """The first half is at 30 frames per second, the second at 5."""
    pytest.importorskip("av")
    monkeypatch.setattr(videos, "SEEK_FROM", 2)
    times = [i / 30 if i < 60 else 2 + (i - 60) / 5 for i in range(120)]
    path = timed_video(tmp_path / name, times)
    info = videos.video_info(path)
    assert (info.frames, info.constant) == (120, False)
    assert info.frames / info.rate == pytest.approx(14, abs=0.2)
    frames = list(videos.read_frames(path, 8))
    assert [told(frame.image) for frame in frames] == videos.spread_indices(120, 8)
    assert [f.time for f in frames] == pytest.approx([times[f.index] for f in frames], abs=1e-3)


def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path):
    pytest.importorskip("av")
    whole = timed_video(tmp_path / "whole.mp4", [i / 30 for i in range(100)])
    path = trimmed_video(tmp_path / "a.mp4", whole, 40)
    info = videos.video_info(path)
    assert (info.frames, info.note) == (60, "")
    frames = list(videos.read_frames(path, 6))
    assert [told(frame.image) for frame in frames] == [45, 55, 65, 75, 85, 95]
    assert [frame.index for frame in frames] == [5, 15, 25, 35, 45, 55]


@pytest.mark.parametrize(
    ("shape", "turned", "width", "height"),
    [("4/3", False, 213, 128), ("8/9", False, 160, 144), ("4/3", True, 128, 213),
     ("100/101", False, 160, 128), ("99", False, 160, 128)],
)  # fmt: skip
def test_pixels_are_square(tmp_path, shape, turned, width, height):
    pytest.importorskip("av")
    path = timed_video(tmp_path / "a.mp4", [i / 30 for i in range(12)], shape, turned)
    frames = list(videos.read_frames(path, 3))
    assert [frame.image.shape for frame in frames] == [(height, width, 3)] * 3
    upright = [np.rot90(frame.image) if turned else frame.image for frame in frames]
    assert [told(cv2.resize(image, (160, 128))) for image in upright] == [2, 6, 10]


@pytest.mark.parametrize("constant", [True, False])
def test_a_frame_that_is_not_there_is_left_out_not_repeated(tmp_path, monkeypatch, constant):
    monkeypatch.setattr(videos, "SEEK_FROM", 0)
    path = counted_video(tmp_path / "a.mp4", frames=20)
    frames = list(videos.read_frames_at(path, [10, 30, 50], constant))
    assert [told(frame.image) for frame in frames] == [10]


@pytest.mark.parametrize("claim", [0, 10, 60, 100_000])
def test_a_header_with_a_wrong_count_is_not_believed(tmp_path, claim):
    path = counted_video(tmp_path / "a.avi", frames=60, codec="MJPG")
    data = bytearray(path.read_bytes())
    stream = data.index(b"strh") + 8
    total = data.index(b"avih") + 8
    data[stream + 32 : stream + 36] = data[total + 16 : total + 20] = struct.pack("<I", claim)
    path.write_bytes(data)
    info = videos.video_info(path)
    assert (info.frames, info.note) == (60, "")
    assert [told(frame.image) for frame in videos.read_frames(path, 3)] == [10, 30, 50]


def test_a_video_cut_short_gives_what_it_still_holds(tmp_path):
    path = counted_video(tmp_path / "a.avi", frames=60, codec="MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    held = videos.video_info(path).frames
    assert 20 <= held <= 35
    frames = [told(frame.image) for frame in videos.read_frames(path, 4)]
    assert frames == videos.spread_indices(held, 4)


def test_a_bad_video_has_a_reason(tmp_path):
    whole = counted_video(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video " * 100)
    for name, reason in {
        "cut.mp4": "damaged",
        "empty.mp4": "empty file",
        "text.mp4": "not a photograph or video",
        "missing.mp4": "no such file",
    }.items():
        with pytest.raises(MediaError, match=reason):
            next(videos.read_frames(tmp_path / name, 4))


@pytest.mark.parametrize("shape", [1, "3/2"])
def test_frames_too_large_for_a_photograph_are_refused_before_they_are_read(
    tmp_path, monkeypatch, shape
):
    """The limit is on what a frame becomes, with square pixels."""
    pytest.importorskip("av")
    path = timed_video(tmp_path / "a.mp4", [i / 30 for i in range(4)], shape)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 160 * 128 + (shape == "3/2"))
    if shape == 1:
        assert videos.video_info(path).frames == 4
        monkeypatch.setattr(pictures, "MAX_PIXELS", 160 * 128 - 1)
    with pytest.raises(MediaError, match=f"{240 if shape != 1 else 160}x128 pixels, more than"):
        videos.video_info(path)


def test_an_animation_that_needs_more_memory_is_not_called_damaged(tmp_path, monkeypatch):
    def fail(image, kind):
        raise MemoryError

    frames = [Image.fromarray(numbered(number, (160, 128))) for number in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert videos.video_info(tmp_path / "a.gif").frames == 3
    monkeypatch.setattr(videos, "load_pixels", fail)
    with pytest.raises(MediaError, match="too large for the memory here"):
        videos.video_info(tmp_path / "a.gif")
