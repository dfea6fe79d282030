"""Celeb-DF v2: the polarity of its list, a validation split by person, DeepfakeBench's traps."""

import copy
import shutil
from collections import Counter

import numpy as np
import pytest
import trees

from deepfidelity_datasets.celeb_df.celeb_df_dataset_builder import Builder
from deepfidelity_datasets.celeb_df.sources import (
    METHOD,
    TEST_LIST,
    hold_out,
    list_videos,
    people_of,
    read_test_list,
)
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL, SPLITS

pytestmark = pytest.mark.usefixtures("one_core")
SHARE = 0.3


def people(rows):
    return {origin for row in rows for origin in row["origins"].split()}


def check(rows, names, tested):
    """What must hold of the records, whatever they were made of."""
    videos = {split: {row["video_id"] for row in rows[split]} for split in SPLITS}
    assert videos["test"] == set(tested)
    assert not videos["train"] & videos["validation"]
    assert not (videos["train"] | videos["validation"]) & videos["test"]
    assert not people(rows["train"]) & people(rows["validation"])
    for split in SPLITS:
        for row in rows[split]:
            real = row["video_id"].split("/")[0] != "Celeb-synthesis"
            assert row["label"] == (REAL if real else FAKE)
            assert row["method"] == (ORIGINAL if real else METHOD)
            assert trees.told(decode_image(row["image"])) == row["frame"]
        assert {row["label"] for row in rows[split]} == {REAL, FAKE}
    everything = {f"{folder}/{name}" for folder, own in names.items() for name in own}
    left_out = everything - set.union(*videos.values())
    # Only fakes between the two sides are in neither.
    sides = [people(rows["train"]), people(rows["validation"])]
    for name in left_out:
        own = {f"person/id{person}" for person in people_of(*name.split("/"))}
        assert own & sides[0]
        assert own & sides[1]
    return left_out


def test_records_of_the_official_layout(tmp_path, tiny):
    names, tested = trees.celeb_names()
    config = trees.set_up(tiny, "celeb_df", trees.celeb_df(tmp_path / "in"))
    config.data.splits = (0.7, 0.3, 0.0)
    rows, metadata = trees.build(Builder, config, tmp_path / "out")
    left_out = check(rows, names, tested)
    # The circle of three that holds together is held out whole but for whom the share leaves.
    assert len(left_out) <= 5
    assert {row["frame"] for row in rows["train"]} == {1, 3, 6, 8}
    noted = {name for name, note in metadata["notes"].items() if note.startswith("made of")}
    assert noted == left_out
    listed = people(rows["test"])
    assert listed == {"person/id0", "person/id1", "person/id3", "person/id16"}


def test_one_is_real_in_the_official_list(tmp_path):
    root = trees.celeb_df(tmp_path / "in", write=lambda path, seed: touch(path))
    _, tested = trees.celeb_names()
    videos = {v.video_id: v for v in list_videos(root, SHARE).sources if v.split == "test"}
    assert videos.keys() == set(tested)
    assert videos["Celeb-real/id0_0001"].label == REAL
    assert videos["YouTube-real/00003"].label == REAL
    assert videos["Celeb-synthesis/id0_id1_0000"].label == FAKE
    lines = (root / TEST_LIST).read_text().splitlines()
    assert lines[0] == "1 Celeb-real/id0_0001.mp4"
    # Flipped, it contradicts the folders and is refused.
    flipped = "\n".join(f"{1 - int(line[0])}{line[1:]}" for line in lines)
    (root / TEST_LIST).write_text(flipped)
    with pytest.raises(InputError, match="label 0, but in the official list 1 is real"):
        list_videos(root, SHARE)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n\r\n"])
def test_the_list_may_end_in_any_way(tmp_path, ending):
    _, tested = trees.celeb_names()
    path = tmp_path / TEST_LIST
    path.write_bytes((trees.celeb_list(tested) + ending).encode())
    assert read_test_list(path) == {tuple(name.split("/")) for name in tested}


def test_the_list_may_begin_with_a_mark_and_is_refused_in_another_encoding(tmp_path):
    _, tested = trees.celeb_names()
    path = tmp_path / TEST_LIST
    path.write_text(trees.celeb_list(tested), encoding="utf-8-sig")
    assert read_test_list(path) == {tuple(name.split("/")) for name in tested}
    path.write_text(trees.celeb_list(tested), encoding="utf-16")
    with pytest.raises(InputError, match=f"^{path} is not UTF-8 text: use the official list"):
        read_test_list(path)


def test_names_tell_the_people():
    assert people_of("Celeb-synthesis", "id16_id3_0007") == ("16", "3")
    assert people_of("Celeb-real", "id16_0007") == ("16",)
    assert people_of("YouTube-real", "00012") == ()


def test_the_whole_distribution_in_numbers(tmp_path):
    """590 + 300 + 5639 videos, 518 of them in the list; names as they are formed there."""
    rng = np.random.default_rng(0)
    circles = np.array_split(np.arange(59), 6)
    reals = [f"id{i % 59}_{i // 59:04d}" for i in range(590)]
    pairs = [(a, b) for circle in circles for a in circle for b in circle if a != b]
    fakes = [
        f"id{a}_id{b}_{i // len(pairs):04d}"
        for i in range(5639)
        for a, b in [pairs[i % len(pairs)]]
    ]
    strangers = [f"{i:05d}" for i in range(300)]
    folders = {"Celeb-real": reals, "YouTube-real": strangers, "Celeb-synthesis": fakes}
    for folder, names in folders.items():
        for name in names:
            touch(tmp_path / folder / f"{name}.mp4")
    chosen = [("Celeb-real", 108), ("YouTube-real", 70), ("Celeb-synthesis", 340)]
    tested = [
        f"{folder}/{name}" for folder, n in chosen for name in rng.choice(folders[folder], n, False)
    ]
    (tmp_path / TEST_LIST).write_text(trees.celeb_list(tested))
    holding = list_videos(tmp_path, 0.1 / 0.85)
    assert not holding.missing
    counts = Counter((video.split, video.label) for video in holding.sources)
    assert counts["test", REAL] == 178
    assert counts["test", FAKE] == 340
    # By subtraction 712 real and 5299 fake, divided; a fake between two sides is in neither.
    assert counts["train", REAL] + counts["validation", REAL] == 712
    between = len(holding.notes)
    assert counts["train", FAKE] + counts["validation", FAKE] + between == 5299
    assert 60 <= counts["validation", REAL] <= 110
    assert counts["validation", FAKE] >= 150
    assert between < 0.2 * 5299
    again = list_videos(tmp_path, 0.1 / 0.85)
    assert [(v.name, v.split) for v in again.sources] == [
        (v.name, v.split) for v in holding.sources
    ]


def test_people_who_belong_together_are_held_out_together():
    circles = [(("0", "1"), 3), (("1", "2"), 3), (("0", "2"), 3), (("3", "4"), 9), (("4", "5"), 2)]
    videos = [pair for pair, count in circles for _ in range(count)]
    assert hold_out(videos, 0.34) == {"3", "4"}  # two fakes are left out, not six
    assert hold_out(videos, 0.5) == {"3", "4", "5"}  # none are
    assert hold_out([("0",), ("1",)], 0.5) == set(), "nobody to tell apart"


def test_deepfakebench_frames_keep_to_the_official_list(tmp_path, tiny):
    path = trees.bench_celeb_df(tmp_path / "in")
    names, tested = trees.celeb_names()
    config = trees.set_up(tiny, "celeb_df", tmp_path / "in", bench_json=str(path))
    config.data.splits = (0.7, 0.3, 0.0)
    rows, _ = trees.build(Builder, config, tmp_path / "out")
    check(rows, names, tested)
    for row in rows["train"]:
        assert row["frame"] in (0, 10, 30, 111)
        folder, name = row["video_id"].split("/")
        assert row["path"] == f"{folder}/frames/{name}/{row['frame']:03d}.png"
        assert np.isfinite(row["landmarks"]).all()


def test_frames_that_are_listed_and_not_there_are_missing(tmp_path):
    path = trees.bench_celeb_df(tmp_path)
    before = list_videos(tmp_path, SHARE, str(path))
    gone = {"Celeb-real/frames/id0_0001", "YouTube-real/frames/00000"}  # the first is for testing
    for place in gone:
        shutil.rmtree(tmp_path / "Celeb-DF-v2" / place)
    after = list_videos(tmp_path, SHARE, str(path))
    assert {v.name for v in before.sources} - {v.name for v in after.sources} >= gone
    more = Counter(after.missing) - Counter(before.missing)
    assert more == {
        ("Celeb-real/id0_0001", ("test",)): 1,
        ("YouTube-real (one of it)", ("train", "validation")): 1,
    }


def test_a_table_of_qualities_meets_its_frames(tmp_path, tiny):
    """However it writes their paths; one that may mean several frames is refused."""
    path = trees.bench_celeb_df(tmp_path / "in")
    config = trees.set_up(tiny, "celeb_df", tmp_path / "in", bench_json=str(path))
    config.data.splits = (0.7, 0.3, 0.0)
    frames = sorted((tmp_path / "in").rglob("frames/*/*.png"))
    table = tmp_path / "table.csv"
    rows = [f"{frame}".replace("/", "\\") if n % 2 else frame for n, frame in enumerate(frames)]
    table.write_text("path,score\n" + "".join(f"{row},{n}\n" for n, row in enumerate(rows)))
    config.quality.measure, config.quality.csv = "csv", str(table)
    rows, _ = trees.build(Builder, config, tmp_path / "out")
    expected = {str(frame): number for number, frame in enumerate(frames)}
    read = [row for split in rows.values() for row in split]
    assert len(read) > 50
    for row in read:
        assert row["quality"] == expected[next(p for p in expected if p.endswith(row["path"]))]
    table.write_text("path,score\n000.png,1\n")
    with pytest.raises(InputError, match="'000.png' may be .* files"):
        Builder.configured(config, tmp_path / "out")


def test_what_a_copy_lacks_is_said(tmp_path, tiny):
    root = trees.celeb_df(tmp_path / "in", write=lambda path, seed: touch(path))

    def message(folder=root, **data):
        config = trees.set_up(
            copy.deepcopy(tiny), "celeb_df", folder, **{"incomplete": False} | data
        )
        with pytest.raises(InputError) as error:
            Builder.configured(config, tmp_path / "out")
        assert "\n" not in str(error.value)
        return str(error.value)

    text = message()
    assert "videos of celeb_df, such as Celeb-real (one of it)" in text
    assert "finish the download" in text
    text = message(prepare=("test",))
    assert "lacks 513 videos of celeb_df" in text  # lines of the list
    (root / "Celeb-synthesis" / "id0_id1_0000.mp4").unlink()
    text = message(prepare=("test",))
    assert "such as Celeb-synthesis/id0_id1_0000, and holds 4" in text
    (root / TEST_LIST).write_text("1 Celeb-real/id0_0001.mp4\nnonsense\n")
    assert "line 2: 'nonsense' is not" in message(incomplete=True)
    (root / TEST_LIST).unlink()
    text = message(incomplete=True)
    assert f"{TEST_LIST}: the official test list is missing" in text
    assert "Celeb-real, Celeb-synthesis, YouTube-real" in text
    (tmp_path / "a").mkdir()
    assert "no Celeb-real/ or YouTube-real/ or Celeb-synthesis/" in message(tmp_path / "a")
