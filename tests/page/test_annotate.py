"""The annotated video has every frame, its boxes where the faces are, and nothing elsewhere."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import trees

from deepfidelity_jax.detector.predict import Evidence, Examination, Prediction
from deepfidelity_jax.faces.cropping import Crop
from deepfidelity_jax.images import h264, videos
from deepfidelity_jax.page import annotate
from deepfidelity_jax.page.people import draw_box


def crop(frame, x):
    box = np.float32([x, 40, 30, 30])
    blank = np.zeros((8, 8, 3), np.uint8)
    return Crop(frame, frame / 25, b"", blank, box, np.zeros((5, 2), np.float32), 0.9)


def found(*frames):
    crops = tuple(crop(frame, 20.0 + 2 * frame) for frame in frames)
    own = Evidence(crops, np.linspace(0.2, 0.8, len(frames)), np.full(len(frames), np.nan))
    return Examination(Prediction("a.mp4", "real", threshold=0.5), [own])


def test_boxes_move_between_frames_and_not_where_the_person_is_lost():
    (own,) = found(2, 6, 10, 30, 34).evidence
    assert annotate.locate(own, 1, 4) is None
    assert annotate.locate(own, 6, 4) == ([32, 40, 30, 30], 1, True)
    box, last, exact = annotate.locate(own, 9, 4)
    assert (box, last, exact) == ([38, 40, 30, 30], 1, False)
    assert annotate.locate(own, 20, 4) is None, "not found between 10 and 30"
    assert annotate.locate(own, 35, 4) is None


@pytest.mark.parametrize(
    ("index", "text", "thickness"),
    [
        (6, "0: 0.50 (mean so far 0.35)", 3),
        (8, "0: 0.50 (mean so far 0.35)", 1),
        (10, "0: 0.80 (mean so far 0.50)", 3),
    ],
)
def test_a_frame_tells_the_last_score_and_the_mean_so_far(index, text, thickness):
    grey = np.full((240, 480, 3), 120, np.uint8)
    expected = grey.copy()
    draw_box(expected, [20.0 + 2 * index, 40.0, 30.0, 30.0], text, thickness)
    annotate._caption(expected, "fidelity; real from 0.50")
    assert (annotate.draw(grey, index, found(2, 6, 10), 4) == expected).all()


@pytest.mark.parametrize("modern", [True, False])
def test_all_frames_are_written_and_boxes_are_drawn(tmp_path, monkeypatch, modern):
    if modern and importlib.util.find_spec("av") is None:
        pytest.skip("PyAV is not installed")
    if not modern:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    clip, output = tmp_path / "clip.mp4", tmp_path / "out" / "a.mp4"
    grey = [np.full((120, 160, 3), 120, np.uint8)] * 12
    trees.write_video(clip, grey)
    shares = []
    lacks = annotate.annotate(clip, found(2, 6, 10), output, lambda _, s: shares.append(s))
    assert lacks == ("" if modern else annotate.WITHOUT_PYAV)
    info = videos.video_info(output)
    assert (info.frames, info.rate) == (12, 25)
    frames = {frame.index: frame.image for frame in videos.read_frames(output, 12)}
    # The left side of the box, at x = 20 + 2 * frame.
    for index in (2, 8, 10):
        x = 20 + 2 * index
        assert np.abs(frames[index][50:66, x - 2 : x + 3].astype(int) - 120).max() > 60
    assert np.abs(frames[0][30:90].astype(int) - 120).max() < 30, "before the person is found"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mp4"]
    assert all(0 <= share <= 1 for share in shares)


@pytest.mark.skipif(not h264.is_there(), reason="PyAV is not installed")
@pytest.mark.parametrize("modern", [True, False])
def test_frames_keep_their_times(tmp_path, monkeypatch, modern):
    """Half of them at 25 frames per second, half at 5; the grey tells which frame it is."""
    clip, output = tmp_path / "clip.mp4", tmp_path / "a.mp4"
    times = [i / 25 if i < 10 else 0.4 + (i - 10) / 5 for i in range(20)]
    with h264.write_mp4(str(clip), 25, 18, end=12.4) as write:
        for number, time in enumerate(times):
            write(np.full((120, 160, 3), 10 * number, np.uint8), time)
    if not modern:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    annotate.annotate(clip, found(2, 6, 10), output, lambda *_: None)
    shown = {
        round(frame.image[78:96].mean() / 10): frame.time
        for frame in videos.read_frames(output, 99)
    }
    off = [abs(time - times[number]) for number, time in shown.items()]
    assert set(shown) >= set(range(11, 20))
    assert max(off) < (1e-3 if modern else 0.3)
    if modern:
        written = h264.find_end(output, videos.video_info(output))
        assert written == pytest.approx(12.4, abs=1e-3)


def test_a_failure_leaves_nothing(tmp_path):
    clip = tmp_path / "clip.mp4"
    trees.write_numbered(clip, 0, 4)

    def fail(step, share):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        annotate.annotate(Path(clip), found(0, 2), tmp_path / "a.mp4", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
