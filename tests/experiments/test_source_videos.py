"""Video files are encoded again, and each face is found again in its place or is lost."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import trees

from deepfidelity_jax.experiments.source_videos import (
    STRENGTHS,
    Clip,
    forget,
    list_clips,
    overlap,
    recompress,
)
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.images import h264
from deepfidelity_jax.images.pictures import decode_image

CROPS = FaceSettings(detector="none", yunet="", margin=1.3, size=64, frames=4)
WHOLE = (0.0, 0.0, 64.0, 64.0)
there = pytest.mark.skipif(not h264.is_there(), reason="PyAV is not installed")


@dataclass(frozen=True)
class Source:
    name: str
    path: str
    label: int


def frames(count=8):
    """Noise that stays, and a bright square that moves."""
    ground = np.random.default_rng(0).integers(60, 140, (64, 64, 3), dtype=np.uint8)
    shown = []
    for number in range(count):
        image = ground.copy()
        image[20:40, 6 * number : 6 * number + 12] = 255
        shown.append(image)
    return shown


def test_only_what_is_in_a_video_of_its_label_counts(tmp_path):
    trees.write_video(tmp_path / "a.avi", frames(2))
    cv2.imwrite(str(tmp_path / "b.png"), frames(1)[0])
    (tmp_path / "c.avi").write_bytes(b"no video")
    sources = [Source(name, str(tmp_path / name), 1) for name in ("a.avi", "b.png", "c.avi")]
    rows = [("a.avi", 1), ("a.avi", 0), ("b.png", 1), ("c.avi", 1), ("gone.avi", 1)]
    records = [
        {"path": path, "label": label, "video_id": f"{path} {label}", "frame": 3, "bbox": WHOLE}
        for path, label in rows
    ]
    (clip,) = list_clips(sources, records)
    # The second was forged from a crop of the real video.
    assert clip == Clip("a.avi", str(tmp_path / "a.avi"), (("a.avi 1", 3, WHOLE),))


def test_overlap_is_intersection_over_union():
    a, b = np.array([0.0, 0, 10, 10]), np.array([5.0, 0, 10, 20])
    assert overlap(a, b) == pytest.approx(50 / 250)
    assert overlap(a, a) == 1
    assert overlap(a, np.array([20.0, 0, 5, 5])) == 0


@there
def test_faces_are_those_of_their_frames_and_worse_with_every_grade(tmp_path, capsys, one_core):
    shown, path = frames(), tmp_path / "a.avi"
    trees.write_video(path, shown)
    elsewhere = (200.0, 200.0, 30.0, 30.0)
    faces = (("v", 1, WHOLE), ("v", 5, WHOLE), ("v", 3, elsewhere), ("v", 2, WHOLE))
    clips = [
        Clip("a.avi", str(path), faces),
        Clip("damaged.mp4", str(tmp_path / "none"), faces[:1]),
    ]
    (tmp_path / "none").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
    changes = []
    for grade in (1, 5):
        folder = tmp_path / f"grade {grade}"
        found = recompress(clips, CROPS, grade, folder)
        # Four frames of eight are looked at, 1, 3, 5 and 7; no face is at the other place of 3.
        assert set(found) == {("v", 1), ("v", 5)}
        assert "could not be recompressed: 1 " in capsys.readouterr().err
        pictures = {frame: decode_image(found["v", frame]).astype(int) for frame in (1, 5)}
        for frame, picture in pictures.items():
            distance = [np.abs(picture - one).mean() for one in shown]
            assert int(np.argmin(distance)) == frame
        changes.append(np.abs(pictures[5] - shown[5]).mean())
        assert not list(folder.glob("*.mp4"))
    assert STRENGTHS[0] < STRENGTHS[-1]
    assert changes[1] > 1.2 * changes[0]
    # What is there is not made again, even if the video is gone.
    path.unlink()
    again = recompress(clips, CROPS, 5, folder)
    assert again == found
    forget(folder)
    assert not folder.exists()
