"""Videos are written frame for frame, smaller with a higher constant rate factor."""

import importlib.util
import io

import numpy as np
import pytest
import trees
from PIL import Image

from deepfidelity_jax.images import formats, h264, videos

there = pytest.mark.skipif(not h264.is_there(), reason="PyAV is not installed")


@there
def test_a_video_keeps_its_frames_in_their_places(tmp_path):
    clip, sizes = tmp_path / "clip.avi", []
    trees.write_numbered(clip, 0, 12)
    before = list(videos.read_frames(clip, 12))
    for crf in (23, 43):
        again = tmp_path / f"{crf}.mp4"
        h264.recompress_video(clip, again, crf)
        assert videos.video_info(again).rate == videos.video_info(clip).rate
        after = list(videos.read_frames(again, 12))
        assert [frame.index for frame in after] == [frame.index for frame in before]
        distance = [[np.abs(a.image.astype(int) - b.image).mean() for b in before] for a in after]
        assert np.argmin(distance, axis=1).tolist() == list(range(12))
        sizes.append(again.stat().st_size)
    assert sizes[1] < sizes[0]


@there
def test_odd_sides_are_filled_up():
    file, face = io.BytesIO(), np.full((33, 47, 3), 90, np.uint8)
    face[-1] = 200
    with h264.write_mp4(file, 25, 18) as write:
        write(face, 0.0)
    import av

    file.seek(0)
    with av.open(file) as container:
        (frame,) = (one.to_ndarray(format="rgb24") for one in container.decode(video=0))
    assert frame.shape == (34, 48, 3)
    assert np.abs(frame[33].astype(int) - 200).max() < 20, "the last row is repeated"


@there
def test_frames_are_shown_at_their_times(tmp_path):
    times = [0.0, 0.04, 0.08, 1.08, 1.0801, 2.0]
    with h264.write_mp4(str(tmp_path / "a.mp4"), 25, 18) as write:
        for number, time in enumerate(times):
            write(np.full((32, 32, 3), 40 * number, np.uint8), time)
    frames = list(videos.read_frames(tmp_path / "a.mp4", 6))
    assert [frame.time for frame in frames] == pytest.approx(times, abs=1e-4)
    assert [round(frame.image.mean() / 40) for frame in frames] == list(range(6))


@there
@pytest.mark.parametrize("last", [0.2, 10.2])
def test_the_last_frame_is_shown_until_the_end(tmp_path, last):
    """At 25 frames per second, then at 5; the last one has a time of its own."""
    times = [i / 25 if i < 10 else 0.4 + (i - 10) / 5 for i in range(20)]
    path, end = tmp_path / "a.mp4", times[-1] + last
    with h264.write_mp4(str(path), 25, 18, end=end) as write:
        for number, time in enumerate(times):
            write(np.full((32, 32, 3), 10 * number, np.uint8), time)
    assert h264.find_end(path, videos.video_info(path)) == pytest.approx(end, abs=1e-3)
    import av

    with av.open(str(path)) as container:
        assert container.duration / 1e6 == pytest.approx(end, abs=1e-3)


@there
def test_an_end_that_a_file_does_not_tell_is_that_of_its_rate(tmp_path):
    trees.write_numbered(tmp_path / "a.avi", 0, 12)
    assert h264.find_end(tmp_path / "a.avi", videos.VideoInfo(12, 25.0)) == pytest.approx(0.48)
    images = [Image.new("RGB", (32, 32), (20 * n, 0, 0)) for n in range(3)]
    gif = tmp_path / "a.gif"
    images[0].save(gif, save_all=True, append_images=images[1:], duration=[100, 100, 3000])
    assert h264.find_end(gif, videos.video_info(gif)) == pytest.approx(3.2)


@there
def test_what_is_no_video_is_told(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
    with pytest.raises(formats.MediaError):
        h264.recompress_video(tmp_path / "clip.mp4", tmp_path / "out.mp4", 23)


def test_without_pyav_there_is_none(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not h264.is_there()
