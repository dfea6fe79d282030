"""DeepfakeBench's lists: both separators, frames by number, each video once, damage told."""

import json

import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records import deepfakebench

ANCHORS = ("original_sequences", "manipulated_sequences")


def write(path, tree):
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return path


def entry(*frames):
    return {"label": "FF-DF", "frames": list(frames), "masks": []}


@pytest.mark.parametrize(
    "path",
    [
        "FaceForensics++/manipulated_sequences/Deepfakes/c23/frames/071_054/012.png",
        "FaceForensics++\\manipulated_sequences\\Deepfakes\\c23\\frames\\071_054\\012.png",
        "D:\\sets\\rgb\\manipulated_sequences/Deepfakes\\c23/frames/071_054/012.png",
        "/data/original_sequences/copy/manipulated_sequences/Deepfakes/c23/frames/071_054/012.png",
        "manipulated_sequences/Deepfakes/c23/frames/071_054/012.png",
    ],
)
def test_paths_are_of_the_dataset_whatever_machine_wrote_them(path):
    expected = "manipulated_sequences/Deepfakes/c23/frames/071_054/012.png"
    assert deepfakebench.cut_before(path, ANCHORS) == expected


def test_paths_lead_nowhere_else():
    for path in (
        "elsewhere/071_054/012.png",
        "/".join(["manipulated_sequences", *[".."] * 3, "etc/1.png"]),
    ):
        with pytest.raises(ValueError, match="goes through none of"):
            deepfakebench.cut_before(path, ANCHORS)


def test_a_video_is_listed_once_with_frames_by_number(tmp_path):
    place = "x\\manipulated_sequences\\Deepfakes\\c23\\frames\\071_054\\"
    frames = [f"{place}{n}.png" for n in (100, 20, 3)]
    tree = {
        "FaceForensics++": {
            "FF-DF": {
                "train": {"c23": {"071_054": entry(*frames)}, "c40": {"071_054": entry(frames[0])}},
                "val": {"c23": {"071_054": entry(*frames)}},
                "test": {"c23": {"071_054": entry(*frames), "054_071": entry(frames[1])}},
            }
        }
    }
    found = deepfakebench.read(write(tmp_path / "a.json", tree), ANCHORS)
    assert [(video.levels[1], video.name, len(video.frames)) for video in found] == [
        ("c23", "071_054", 3), ("c40", "071_054", 1), ("c23", "054_071", 1),
    ]  # fmt: skip
    assert [frame.rsplit("/", 1)[1] for frame in found[0].frames] == ["3.png", "20.png", "100.png"]
    assert found[0].label == "FF-DF"


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ("{not json", "not a DeepfakeBench list"),
        ({}, "not a DeepfakeBench list"),
        ([1, 2], "not a DeepfakeBench list"),
        ({"FF": {"FF-DF": {"train": {"a": {"frames": ["b/1.png"]}}}}}, "goes through none of"),
        (
            {"FF": {"FF-DF": {"train": {"a": {"frames": ["original_sequences/x.png"]}}}}},
            "no frame number",
        ),
        ({"FF": {"FF-DF": {"train": {}}}}, "no video with frames"),
        ({"FF": {"FF-DF": {"train": {"a": {"frames": []}}}}}, "no video with frames"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, tree, reason):
    with pytest.raises(InputError, match=reason) as error:
        deepfakebench.read(write(tmp_path / "a.json", tree), ANCHORS)
    assert "\n" not in str(error.value)
    assert str(tmp_path / "a.json") in str(error.value)


def test_a_missing_list_is_told(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: no such file or directory; give"):
        deepfakebench.read(tmp_path / "none.json", ANCHORS)


def test_a_list_may_begin_with_a_mark_and_is_refused_in_another_encoding(tmp_path):
    frame = "manipulated_sequences/Deepfakes/c23/frames/071_054/3.png"
    text = json.dumps({"FaceForensics++": {"FF-DF": {"train": {"071_054": entry(frame)}}}})
    path = tmp_path / "list.json"
    path.write_text(text, encoding="utf-8-sig")
    assert [video.frames for video in deepfakebench.read(path, ANCHORS)] == [(frame,)]
    path.write_text(text, encoding="utf-16")
    with pytest.raises(InputError, match="not a DeepfakeBench list .*codec"):
        deepfakebench.read(path, ANCHORS)
