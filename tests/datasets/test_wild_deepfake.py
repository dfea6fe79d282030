"""WildDeepfake: archives read as they are, sequences kept apart, damage that costs itself only."""

import copy
import tarfile

import pytest
import trees

from deepfidelity_datasets.wild_deepfake.sources import (
    ARCHIVES,
    FOLDERS,
    METHOD,
    hold_out,
    list_archives,
)
from deepfidelity_datasets.wild_deepfake.wild_deepfake_dataset_builder import Builder
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL, SPLITS
from deepfidelity_jax.records.source import LEFT_OUT

pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    return trees.wild_deepfake(tmp_path_factory.mktemp("wild"))


def test_the_archives_are_plain_and_compressed_under_one_name(copied):
    kinds = {path.read_bytes()[:2] == b"\x1f\x8b" for path in copied.glob("*/*.tar.gz")}
    assert kinds == {True, False}


def test_records_of_the_official_layout(copied, tmp_path, tiny):
    before = sorted(copied.rglob("*"))
    config = trees.set_up(tiny, "wild_deepfake", copied)
    config.data.splits = (0.65, 0.35, 0.0)
    rows, metadata = trees.build(Builder, config, tmp_path / "out")
    assert sorted(copied.rglob("*")) == before, "nothing is unpacked"
    videos, groups = {}, {split: set() for split in SPLITS}
    for split in SPLITS:
        for row in rows[split]:
            videos.setdefault(row["video_id"], []).append(row["frame"])
            folder, number, label, _ = row["video_id"].split("/")
            assert folder == f"{label}_{'test' if split == 'test' else 'train'}"
            groups[split].add((folder.split("_")[1], number))
            assert row["label"] == (REAL if label == "real" else FAKE)
            assert row["method"] == (ORIGINAL if label == "real" else METHOD)
            assert trees.told(decode_image(row["image"])) == row["frame"]
            assert row["path"] == f"{row['video_id']}/{row['frame']}.png"
    # Two sequences an archive; sequence 0 is in all of them and is never taken for one.
    assert len(videos) == 2 * 16
    for video_id, frames in videos.items():
        # Of 3, 5 ... 14, 20: numbers 1, 4, 7 and 10 of twelve; of three all.
        expected = [5, 8, 11, 14] if video_id.endswith("/0") else [7, 9, 100]
        assert sorted(frames) == expected, video_id
    assert len(groups["validation"]) == 2
    assert not groups["train"] & groups["validation"], "a number is on one side, real and fake"
    assert len(groups["train"]) == 4
    assert metadata["tally"]["test"]["videos"] == 8


def test_a_table_of_qualities_is_by_the_paths_of_the_records(copied, tmp_path, tiny):
    config = trees.set_up(tiny, "wild_deepfake", copied)
    config.data.splits = (0.65, 0.35, 0.0)
    config.quality.measure = "none"
    paths = [
        row["path"]
        for rows in trees.build(Builder, config, tmp_path / "plain")[0].values()
        for row in rows
    ]
    table = tmp_path / "table.csv"
    table.write_text("path,score\n" + "".join(f"./{path},{n}\n" for n, path in enumerate(paths)))
    config.quality.measure, config.quality.csv = "csv", str(table)
    rows, _ = trees.build(Builder, config, tmp_path / "scored")
    found = {row["path"]: row["quality"] for split in rows.values() for row in split}
    assert found == {path: number for number, path in enumerate(paths)}
    table.write_text("path,score\n" + "".join(f"real_train/{n}.png,1\n" for n in range(5)))
    three = ", ".join(f"real_train/{n}.png" for n in range(3))
    with pytest.raises(InputError, match=f"the table has {three}, and faces are of ") as raised:
        trees.build(Builder, config, tmp_path / "nothing")
    assert str(raised.value).partition("faces are of ")[2].partition(")")[0].count(", ") == 2


def test_damage_costs_itself_only(tmp_path, tiny):
    root = trees.wild_deepfake(tmp_path / "in")
    cut = root / "fake_train" / "2.tar.gz"  # compressed
    cut.write_bytes(cut.read_bytes()[:-700])
    plain = root / "fake_train" / "3.tar.gz"
    plain.write_bytes(plain.read_bytes()[:3000])
    (root / "real_train" / "5.tar.gz").write_text("an error page instead of an archive")
    trees.write_archive(
        root / "real_test" / "1.tar.gz", {"a": [1, 2, 3], "b": [4]}, "real", True,
        damage=[("a", 2), ("b", 4)],
    )  # fmt: skip
    config = trees.set_up(tiny, "wild_deepfake", root)
    config.data.splits = (0.65, 0.35, 0.0)
    rows, metadata = trees.build(Builder, config, tmp_path / "out")
    numbers = {tuple(row["video_id"].split("/")[:2]) for split in SPLITS for row in rows[split]}
    lost = {("fake_train", "2"), ("fake_train", "3"), ("real_train", "5")}
    assert len(numbers) == 16 - 3
    assert not numbers & lost
    for folder, number in lost:
        note = metadata["notes"][f"{folder}/{number}.tar.gz"]
        assert note.startswith("a damaged or cut archive")
    assert metadata["tally"]["train"]["unreadable videos"] + metadata["tally"]["validation"].get(
        "unreadable videos", 0
    ) == 3  # fmt: skip
    frames = {row["frame"] for row in rows["test"] if row["video_id"] == "real_test/1/real/a"}
    assert frames == {1, 3}
    note = metadata["notes"]["real_test/1.tar.gz"]
    assert note == "a: 1 of 3 frames unreadable; b: a video without a readable frame"
    (left_out,) = (tmp_path / "out").glob(f"*/*/*/{LEFT_OUT}")
    names = {line.split(",")[0] for line in left_out.read_text().splitlines()[1:]}
    assert {f"{folder}/{number}.tar.gz" for folder, number in lost} <= names
    assert "real_test/1.tar.gz" not in names, "it has records"
    assert metadata["listed"]["test"]["unreadable frames"] == {"real_test/1/real/a": 1}
    assert metadata["listed"]["test"]["unreadable videos"] == {"real_test/1/real/b": 1}


def test_members_that_are_no_frames_are_passed_over(tmp_path, tiny):
    root = trees.wild_deepfake(tmp_path / "in")
    path = root / "real_test" / "2.tar.gz"
    (tmp_path / "x.png").write_bytes(b"resource fork")
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "x.png", "./2/real/0/._1.png")
        archive.add(tmp_path / "x.png", "./2/fake/0/1.png")  # not this archive's label
        archive.add(tmp_path / "x.png", "./2/real/0/1.txt")
    config = trees.set_up(tiny, "wild_deepfake", root)
    _, metadata = trees.build(Builder, config, tmp_path / "out")
    assert metadata["notes"]["real_test/2.tar.gz"] == "no real/<sequence>/<frame>.png in it"


def test_validation_has_a_share_of_each_kind():
    real = {str(n) for n in range(1, 41)}
    fake = {str(n) for n in range(1, 101)}
    held = hold_out([real, fake], 0.1)
    assert len(held & real) == 4
    assert len(held) == 10
    assert held == hold_out([real, fake], 0.1)


def test_what_a_copy_lacks_is_said(copied, tmp_path, tiny):
    def message(folder, **data):
        config = trees.set_up(
            copy.deepcopy(tiny), "wild_deepfake", folder, **{"incomplete": False} | data
        )
        with pytest.raises(InputError) as error:
            Builder.configured(config, tmp_path / "out")
        return str(error.value)

    text = message(copied)
    assert "lacks 1104 archives of wild_deepfake" in text
    assert "holds 16" in text
    # How many archives the test folders should have is not known.
    assert "lacks 1104 archives" in message(copied, prepare=("test",))
    assert "real_train/ or fake_train/" in message(tmp_path)
    unpacked = tmp_path / "unpacked"
    (unpacked / "real_train" / "1").mkdir(parents=True)
    assert "has 1 but no archive such as 1.tar.gz: give the archives" in message(unpacked)
    partly = tmp_path / "partly"
    partly.mkdir()
    for name in ("real_train", "fake_train", "real_test"):
        (partly / name).symlink_to(copied / name)
    text = message(partly, prepare=("test",))
    assert "lacks 1106 archives of wild_deepfake, such as fake_test/, and holds 2" in text
    assert len(list_archives(copied, 0.2).sources) == 16


def test_a_whole_copy_and_one_that_lacks_a_test_archive(tmp_path, tiny):
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        for number in range(ARCHIVES // 4):
            (tmp_path / folder / f"{number}.tar.gz").touch()
    config = trees.set_up(tiny, "wild_deepfake", tmp_path, incomplete=False, prepare=("test",))
    whole = Builder.configured(config, tmp_path / "out").builder_config.name
    config.data.manual_dir = ""
    assert Builder.configured(config, tmp_path / "out").builder_config.name == whole
    config.data.manual_dir = str(tmp_path)
    (tmp_path / "real_test" / "7.tar.gz").unlink()
    with pytest.raises(InputError, match="lacks 1 archives of wild_deepfake"):
        Builder.configured(config, tmp_path / "out")


@pytest.mark.parametrize("other", ["1.tar", "1.tgz"])
def test_two_archives_of_one_number_are_refused_at_once(tmp_path, other):
    root = trees.wild_deepfake(tmp_path / "in", train=2, test=1)
    (root / "fake_train" / other).write_bytes((root / "fake_train" / "1.tar.gz").read_bytes())
    with pytest.raises(InputError) as error:
        list_archives(root, 0.5)
    assert str(error.value).startswith(f"{root / 'fake_train'} has both 1.")
    assert other in str(error.value)
    assert "1.tar.gz" in str(error.value)
