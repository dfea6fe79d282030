"""Tables written from other layouts end in the same records as the ordinary builders'."""

import contextlib
import json
import os
import shutil
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
import trees
from conftest import assert_told
from test_manifest import configured as table_config
from test_own_data import fill, many

from deepfidelity_configs import celeb_df, ffpp
from deepfidelity_configs import folder as folder_config
from deepfidelity_datasets.celeb_df.celeb_df_dataset_builder import Builder as CelebBuilder
from deepfidelity_datasets.face_folder.face_folder_dataset_builder import Builder as FolderBuilder
from deepfidelity_datasets.ffpp.ffpp_dataset_builder import Builder as FfppBuilder
from deepfidelity_datasets.manifest.__main__ import main
from deepfidelity_datasets.manifest.layouts import Stated, read_classes, read_deepfakebench
from deepfidelity_datasets.manifest.manifest_dataset_builder import Builder
from deepfidelity_datasets.manifest.sources import find_files, list_sources
from deepfidelity_datasets.manifest.table import read_table
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records.schema import FAKE

pytestmark = pytest.mark.usefixtures("one_core")

SHARES = (0.6, 0.2, 0.2)


@pytest.fixture
def convert(capfd):
    """Run the converter in this process: exit status, stdout, stderr."""

    def convert(*argv):
        capfd.readouterr()
        status = main([str(arg) for arg in argv])
        return status, *capfd.readouterr()

    return convert


def of_folder(folder, place, **changes):
    """The records that face_folder makes: rows of each split."""
    config = folder_config.get_config()
    settings = {
        "data.dir": str(folder), "data.splits": SHARES, "faces.detector": "none",
        "faces.size": 32, "faces.frames": 3, "quality.measure": "iso",
    }  # fmt: skip
    config.update_from_flattened_dict(settings | changes)
    return trees.build(FolderBuilder, config, place / "folder")[0]


def of_table(table, place, **changes):
    """The records of a table."""
    settings = {"faces.frames": 3, "quality.measure": "iso"}
    config = table_config(table, **(settings | changes))
    return trees.build(Builder, config, place / "table")[0]


def told(rows, *names):
    """What the rows of each split say, in any order."""
    return {
        split: Counter(
            tuple(sha256(row["image"]).hexdigest() if n == "image" else row[n] for n in names)
            for row in own
        )
        for split, own in rows.items()
    }


WHOLE = (
    "image", "path", "label", "method", "video_id", "frame", "quality", "fidelity", "origins",
)  # fmt: skip


def split_folders(form):
    """Pictures for each class in each split."""
    for split, count in (("train", 9), ("val", 3), ("test", 4)):
        for label in ("real", "fake/swap"):
            yield from many(form.format(split=split, label=label), count)


CLASSES = {
    "real and fake": ([*many("real", 20), *many("fake/swap", 20), *many("fake", 9, "q")], [], {}),
    "capitals": ([*many("Real", 20), *many("FAKE/gan/deep", 20)], [], {}),
    "0_real, 1_fake": (
        [*many("0_real", 20), *many("1_fake/swap", 20)],
        [],
        {"data.real_folder": "0_real", "data.fake_folder": "1_fake"},
    ),
    "original, manipulated": (
        [*many("original", 20), *many("manipulated/swap", 20)],
        ["--real=original", "--fake=manipulated"],
        {"data.real_folder": "original", "data.fake_folder": "manipulated"},
    ),
    "splits around": ([*split_folders("{split}/{label}")], [], {}),
    "splits inside": (
        [path.replace("fake/swap", "fake") for path in split_folders("{label}/{split}")],
        [],
        {},
    ),
}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in CLASSES if "original" not in name]


@pytest.mark.parametrize("name", ["original, manipulated", *SLOW])
def test_class_folders(convert, tmp_path, name):
    paths, said, options = CLASSES[name]
    folder = fill(tmp_path / "in", *paths)
    if name == "splits inside":
        (folder / "fake" / "val").rename(folder / "fake" / "valid")
    expected = of_folder(folder, tmp_path, **options)
    status, out, error = convert("classes", folder, folder / "t.csv", *said)
    assert (status, out) == (0, ""), error
    assert f"{len(paths)} rows in" in error
    found = of_table(folder / "t.csv", tmp_path)
    assert told(found, *WHOLE) == told(expected, *WHOLE)
    assert sum(map(len, found.values())) == len(paths)


def test_a_source_above_the_current_folder_is_read_again_from_the_table(
    convert, tmp_path, monkeypatch
):
    fill(tmp_path / "data", *many("real", 20), *many("fake/swap", 20))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    status, _, error = convert("classes", f"{os.pardir}/data", "out.csv")
    assert status == 0, error
    found = Builder.configured(table_config("out.csv"), tmp_path / "records").builder_config
    assert (len(found.sources), found.notes) == (40, {})


@pytest.mark.parametrize("form", ["{split}/{label}", "{label}/{split}", "{split}/{label}/{split}"])
def test_folders_between_splits_and_classes_change_no_split(tmp_path, form):
    """Wherever they are put."""
    parts, split_of = form.split("/"), {"train": "train", "val": "validation", "test": "test"}
    for place in range(len(parts) + 1):
        for own in ((), ("celeb",), ("celeb", "part 1")):
            folder = tmp_path / f"{place}{len(own)}"
            paths = [*split_folders("/".join((*parts[:place], *own, *parts[place:])))]
            found = read_classes(fill(folder, *paths), Stated({}))
            assert len(found) == len(paths)
            for entry in found:
                (said,) = {split_of[p] for p in entry.path.parts if p in split_of}
                assert (entry.split, entry.label == FAKE) == (said, "fake" in entry.path.parts)
                assert entry.method not in split_of


def test_a_file_in_two_splits_is_refused(convert, tmp_path):
    for number, (near, far) in enumerate((("a/test/real", "a/test/fake"), ("real/test", "fake"))):
        paths = [f"train/{near}/a.png", f"train/{far}/a.png", "train/real/train/b.png"]
        folder = fill(tmp_path / str(number), *paths)
        assert_told(convert("classes", folder, tmp_path / "t.csv"), "two splits, test and train")
    album = fill(tmp_path / "album", *many("train/real/test", 3), *many("train/fake", 3))
    assert {entry.split for entry in read_classes(album, Stated({}))} == {"train"}


def test_two_names_of_splits_inside_the_classes_are_splits(tmp_path):
    """Also without the third, and in other words; neither is a method."""
    names = ("real/training", "real/val", "fake/gan/training", "fake/gan/val")
    folder = fill(tmp_path, *(path for name in names for path in many(name, 2)))
    found = {(entry.split, entry.method) for entry in read_classes(folder, Stated({}))}
    assert found == {(split, of) for split in ("train", "validation") for of in ("", "gan")}


def test_a_folder_of_frames_is_no_method(tmp_path):
    """Unless it holds another; a video file in it is made by it."""
    inside = ("v2", "swap/v3", "swap/deep/v4", "train/v5", "train/swap/v6", "test/gan/v7")
    fakes = [f"fake/{name}/{n:04d}.png" for name in inside for n in range(3)]
    reals = [f"real/{split}/v{n}/0001.png" for n, split in enumerate(("train", "test"))]
    folder = fill(tmp_path, *fakes, *reals)
    trees.write_numbered(folder / "fake/train/swap/clip.mp4", 1, count=2)
    found = read_classes(folder, Stated({}, video="folder"))
    methods = {entry.video_id: entry.method for entry in found if entry.label == FAKE}
    assert methods.pop("") == "swap"
    assert {video.removeprefix("fake/"): method for video, method in methods.items()} == {
        "v2": "", "swap/v3": "swap", "swap/deep/v4": "swap", "train/v5": "",
        "train/swap/v6": "swap", "test/gan/v7": "gan",
    }  # fmt: skip
    alone = read_classes(folder, Stated({}, video="none"))
    assert {entry.method for entry in alone} == {"", "v2", "swap", "v5", "gan"}


def test_every_file_gets_a_row_or_is_named(convert, tmp_path):
    """What cannot be read is a row, whose reason preparation gives."""
    folder = fill(tmp_path / "in", *many("real", 20), *many("fake/swap/v0", 20))
    broken = ("real/broken.jpg", "fake/swap/v0/broken.png", "fake/swap/broken.mp4")
    for name in broken:
        (folder / name).touch()
    for name in ("real/notes.txt", "cover.jpg"):  # the second is in no class
        (folder / name).touch()
    (folder / "real/.hidden.png").touch()
    (folder / "real/dangling.png").symlink_to("nowhere.png")
    status, _, error = convert("classes", folder, folder / "t.csv", "--video=folder")
    assert status == 0, error
    for name, reason in (
        ("real/notes.txt", "empty file"), ("cover.jpg", "empty file"),
        ("real/.hidden.png", "hidden"), ("real/dangling.png", "a link to nothing"),
    ):  # fmt: skip
        assert f"  {name}: {reason}\n" in error
    table = read_table(folder / "t.csv")
    rows = table.rows
    assert len(rows) == 43
    by_path = {row.path: (row.method, row.video_id) for row in rows}
    assert [by_path[name] for name in broken] == [
        ("original", ""), ("swap", "fake/swap/v0"), ("swap", ""),
    ]  # fmt: skip
    files = find_files(folder / "t.csv", table, folder)
    notes = list_sources(folder / "t.csv", files, SHARES, 0, test_only=True).notes
    assert notes == dict.fromkeys(broken, "empty file")


def test_long_lists_of_what_is_not_taken_are_cut(convert, tmp_path):
    folder = fill(tmp_path / "in", *many("real", 3), *many("fake", 3))
    for number in range(25):
        (folder / f"{number}.txt").write_text("no picture")
    _, _, error = convert("classes", folder, tmp_path / "t.csv")
    assert error.count(".txt: not a photograph or video") == 10
    assert "  and 15 more\n" in error


@pytest.mark.slow
def test_frames_in_folders(convert, tmp_path):
    names = [
        f"{split}/{label}/{split[0]}{clip}/{frame:03d}.png"
        for split, clips in (("train", 3), ("val", 2), ("test", 2))
        for label in ("real", "fake/swap")
        for clip in range(clips)
        for frame in range(4)
    ]
    folder = fill(tmp_path / "in", *names)
    assert_told(convert("classes", folder, folder / "t.csv"), "frames of videos", "--video=folder")
    expected = of_folder(folder, tmp_path, **{"data.group": "folder"})
    assert convert("classes", folder, folder / "t.csv", "--video=folder")[0] == 0
    found = of_table(folder / "t.csv", tmp_path)
    assert WHOLE[-1] == "origins"  # in a folder, videos of one name are one group
    assert told(found, *WHOLE[:-1]) == told(expected, *WHOLE[:-1])
    assert {row["origins"] for row in expected["test"]} == {"group/test/t0", "group/test/t1"}
    assert {row["frame"] for row in found["test"]} == {0, 1, 2, 3}


@pytest.mark.slow
def test_the_dfdc(convert, tmp_path):
    """Videos as face_folder reads them; a fake and its original in one split."""
    listed = {}
    for number in range(12):
        part = tmp_path / "dfdc" / f"dfdc_train_part_{number % 2}"
        for name, about in (
            (f"r{number}.mp4", {"label": "REAL", "split": "train"}),
            (f"f{number}.mp4", {"label": "FAKE", "split": "train", "original": f"r{number}.mp4"}),
        ):
            trees.write_numbered(part / name, 10 * number + len(about), count=2)
            listed.setdefault(part, {})[name] = about
            place = tmp_path / "in" / about["label"].lower() / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(part / name, place)
    for part, videos in listed.items():
        (part / "metadata.json").write_text(json.dumps(videos))
    table = tmp_path / "dfdc" / "t.csv"
    assert convert("dfdc", tmp_path / "dfdc", table)[0] == 0
    found = of_table(table, tmp_path, seed=working_seed(table, tmp_path))
    expected = of_folder(tmp_path / "in", tmp_path, seed=1)
    names = ("image", "label", "frame", "quality")
    assert sum(told(found, *names).values(), Counter()) == sum(
        told(expected, *names).values(), Counter()
    )
    splits = {}
    for split, rows in found.items():
        for row in rows:
            splits.setdefault(row["origins"], set()).add(split)
            assert row["label"] == int(Path(row["path"]).name.startswith("r"))
    assert splits.keys() == {f"person/r{number}" for number in range(12)}
    assert all(len(of) == 1 for of in splits.values())
    assert sum(map(len, found.values())) == 48


def working_seed(table, place):
    """A seed that gives every split some of each class."""
    for seed in range(50):
        with contextlib.suppress(InputError):
            Builder.configured(table_config(table, seed=seed), place)
            return seed
    raise AssertionError("no seed does")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["celeb_df", "ffpp"])
def test_deepfakebench(convert, tmp_path, name):
    """Every frame, as the benchmark's own builder records it where it takes as many."""
    if name == "ffpp":
        listed = trees.bench_ffpp(tmp_path / "bench", ("Deepfakes", "FaceSwap"), separator="\\")
        config, builder = ffpp.get_config(), FfppBuilder
        options = {"methods": ("Deepfakes", "FaceSwap")}
    else:
        listed = trees.bench_celeb_df(tmp_path / "bench")
        config, builder, options = celeb_df.get_config(), CelebBuilder, {}
        refused = convert("deepfakebench", listed, tmp_path / "no.csv")
        assert_told(refused, "two values of split", "--without-splits")
    trees.set_up(config, name, listed.parent, bench_json=str(listed), **options)
    config.faces.frames, config.quality.measure = len(trees.BENCH_FRAMES), "none"
    expected, _ = trees.build(builder, config, tmp_path / "bench_records")
    table = listed.parent / "t.csv"
    done = convert("deepfakebench", listed, table, "--without-splits")
    assert done[0] == 0, done[2]
    changes = {"faces.size": 48, "quality.measure": "none"}
    found = of_table(table, tmp_path, seed=working_seed(table, tmp_path), **changes)

    def gathered(rows):
        return Counter(
            (sha256(row["image"]).hexdigest(), row["label"], row["fidelity"])
            for own in rows.values()
            for row in own
        )

    # The benchmark leaves out who would be in two splits.
    assert not gathered(expected) - gathered(found)
    assert len(gathered(found)) >= len(gathered(expected)) > 50
    videos = {row["video_id"] for own in found.values() for row in own}
    for own in found.values():
        for row in own:
            assert row["video_id"].split("/")[-1] == row["path"].split("/")[-2]
    assert len(videos) * len(trees.BENCH_FRAMES) == sum(map(len, found.values()))


def test_absolute_paths_of_frames_stay_absolute(tmp_path):
    listed = trees.bench_ffpp(tmp_path / "bench", ("Deepfakes",))
    listed.write_text(listed.read_text().replace("FaceForensics++/", f"{listed.parent}/./Face/"))
    listed = shutil.move(listed, tmp_path / "list.json")
    found = [entry.path for entry in read_deepfakebench(listed, Stated({}))]
    assert found
    assert all(path.is_relative_to(tmp_path / "bench" / "Face") for path in found)


def test_compressions_of_the_same_videos(convert, tmp_path):
    listed = trees.bench_ffpp(tmp_path, ("Deepfakes",))
    tree = json.loads(listed.read_text())
    for label in tree["FaceForensics++"].values():
        label["train"]["c40"] = label["train"]["c23"]
    listed.write_text(json.dumps(tree))
    assert_told(convert("deepfakebench", listed, tmp_path / "t.csv"), "'c23', 'c40'")
    assert convert("deepfakebench", listed, tmp_path / "t.csv", "--compression=c23")[0] == 0


def crops(tmp_path):
    """`train/real/...` and on, as face_folder reads them: the folder and its files."""
    names = [*split_folders("{split}/{label}")]
    return fill(tmp_path / "in", *names), names


@pytest.mark.slow
def test_gend(convert, tmp_path):
    """Lists of paths, one for each source and split."""
    folder = tmp_path / "gend"
    kinds = {"real": "real", "DF": "fake/DF"}
    places = {}
    for split, clips in (("train", 3), ("val", 2), ("test", 2)):
        for source in kinds:
            names = [
                f"datasets/FF/{source}/{split}{clip}/{frame:03d}.png"
                for clip in range(clips)
                for frame in (0, 15)
            ]
            fill(folder, *names, seed=1000 * len(places))
            places[split, source] = names
            path = folder / "config" / split / f"{source}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(names))
            for name in names:
                copy = tmp_path / "in" / split / kinds[source] / Path(name).parent.name
                copy.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / name, copy)
    expected = of_folder(tmp_path / "in", tmp_path, **{"data.group": "folder"})
    assert_told(convert("gend", folder / "config", tmp_path / "no.csv"), "--dir=FOLDER")
    done = convert("gend", folder / "config", folder / "t.csv", f"--dir={folder}")
    assert done[0] == 0, done[2]
    found = of_table(folder / "t.csv", tmp_path)
    same = ("image", "label", "method", "frame", "quality", "fidelity")
    assert told(found, *same) == told(expected, *same)


@pytest.mark.slow
def test_forensichub(convert, tmp_path):
    """Arrays of paths and labels, one for each split."""
    folder, names = crops(tmp_path)
    expected = of_folder(folder, tmp_path)
    for split in ("train", "val", "test"):
        entries = [
            {"path": name, "label": int("/fake/" in name), "mask": None}
            for name in names
            if name.startswith(split)
        ]
        (tmp_path / "lists").mkdir(exist_ok=True)
        (tmp_path / "lists" / f"{split}.json").write_text(json.dumps(entries))
    done = convert("forensichub", tmp_path / "lists", folder / "t.csv", f"--dir={folder}")
    assert done[0] == 0, done[2]
    found = of_table(folder / "t.csv", tmp_path)
    same = ("image", "path", "label", "video_id", "frame", "quality", "fidelity")
    assert told(found, *same) == told(expected, *same)


def test_what_a_layout_does_not_say_is_refused(convert, tmp_path):
    out = tmp_path / "t.csv"
    numbered = fill(tmp_path / "n", *many("0", 3), *many("1", 3))
    assert_told(convert("classes", numbered, out), "labels are never guessed", "--real=NAME")
    assert convert("classes", numbered, tmp_path / "n.csv", "--real=0", "--fake=1")[0] == 0
    beside = fill(tmp_path / "b", *many("real", 3), *many("fake", 3), "holiday/a.png")
    assert_told(convert("classes", beside, out), "holiday", "never guessed")
    both = fill(tmp_path / "c", *many("real", 3), *many("real/fake", 3))
    assert_told(convert("classes", both, out), "names both classes")
    one = fill(tmp_path / "o", *many("real", 3))
    assert_told(convert("classes", one, out), "only real files")
    some = fill(tmp_path / "s", *many("train/real", 3), *many("fake", 3))
    assert_told(convert("classes", some, out), "gives splits, but none for")
    listed = trees.bench_ffpp(tmp_path / "bench", ("Deepfakes",))
    listed.write_text(listed.read_text().replace("FF-DF", "FF-New"))
    assert_told(convert("deepfakebench", listed, out), "'FF-New'", "--fake=FF-New")
    pairs = tmp_path / "pairs.json"
    pairs.write_text(json.dumps([["a.png", "a_mask.png"]]))
    assert_told(convert("forensichub", pairs, out), "entry 1", "has no labels")
    pairs.write_text("[")
    assert_told(convert("forensichub", pairs, out), "is not JSON")
    assert_told(convert("dfdc", tmp_path / "n", out), "no metadata.json")
    (tmp_path / "n" / "metadata.json").write_text(json.dumps({"a.mp4": {"label": "?"}}))
    assert_told(convert("dfdc", tmp_path / "n", out), "a.mp4 has no label REAL or FAKE")
    (tmp_path / "short.txt").write_text("real/000.png\n")
    assert_told(convert("gend", tmp_path / "short.txt", out), "line 1", "KIND/VIDEO/FRAME")
    assert not out.exists()


def test_wrong_commands_are_one_line(convert, tmp_path):
    folder = fill(tmp_path / "in", *many("real", 3), *many("fake", 3))
    out = tmp_path / "t.csv"
    assert_told(convert("cells", folder, out), "invalid choice: 'cells'")
    assert_told(convert("classes", folder), "required: OUT")
    assert_told(convert("classes", tmp_path / "nowhere", out), "no such file or folder")
    assert_told(convert("classes", folder, tmp_path / "t.txt"), "must end in .csv")
    assert_told(convert("classes", folder, out, "--real=a", "--fake=a"), "both name a")
    assert convert("classes", folder, out)[0] == 0
    assert_told(convert("classes", folder, out), "exists: remove it")
