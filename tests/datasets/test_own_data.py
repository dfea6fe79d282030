"""A folder of one's own: nothing mislabelled, nothing leaked, nothing lost."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import trees
from conftest import TREE

from deepfidelity_datasets.face_folder import splits
from deepfidelity_datasets.face_folder.inventory import Inventory
from deepfidelity_datasets.face_folder.sources import list_sources
from deepfidelity_jax.cli import main
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.images import formats
from deepfidelity_jax.records.own_files import describe
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL

pytestmark = pytest.mark.usefixtures("one_core")

SHARES = (0.6, 0.2, 0.2)


def picture(seed, size=16):
    """A few bytes of PNG, others for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_NEAREST)
    return cv2.imencode(".png", image)[1].tobytes()


def fill(folder, *paths, seed=0):
    """Pictures at these paths, no two alike."""
    for number, path in enumerate(paths):
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture(seed + number))
    return folder


def many(folder, count=12, name="p"):
    return [f"{folder}/{name}{chr(97 + n)}.png" for n in range(count)]


def refusal(folder, **options):
    """The one line that is said of a folder."""
    before = sorted(map(str, folder.rglob("*")))
    with pytest.raises(InputError) as error:
        list_sources(folder, SHARES, 0, **options)
    assert sorted(map(str, folder.rglob("*"))) == before, "nothing is written"
    assert "\n" not in str(error.value)
    return str(error.value)


# Labels


@pytest.mark.parametrize(("real", "fake"), [("real", "fake"), ("Real", "Fake"), ("REAL", "fAKE")])
def test_classes_count_in_any_case(tmp_path, real, fake):
    fill(tmp_path, *many(real, 30), *many(f"{fake}/Deepfakes", 30))
    found, notes, made = list_sources(tmp_path, SHARES, 0)
    assert not made
    assert not notes
    labels = {source.name: (source.label, source.method) for source in found}
    assert labels[f"{real}/pa.png"] == (REAL, ORIGINAL)
    assert labels[f"{fake}/Deepfakes/pa.png"] == (FAKE, "Deepfakes")
    assert len(labels) == 60


@pytest.mark.parametrize(
    "folders",
    [
        ("0_real", "1_fake"), ("reals", "fakes"), ("real_photos", "fake_photos"), ("0", "1"),
        ("0-a", "1-b"), ("original", "manipulated"), ("Originals", "DeepFakes"),
        ("people/real", "people/fake"), ("a/b/altered_images",), ("synthetic",), ("forged 2",),
        ("real", "fakes"), ("real", "fake", "original_sequences"), ("fake", "reals"),
        ("train/0_real", "train/1_fake", "test/0_real", "test/1_fake"),
        ("authentic", "ai_generated", "faceswap"), ("pristine", "face2face"), ("gan",),
    ],
)  # fmt: skip
def test_other_names_that_speak_of_a_class_are_refused_together(tmp_path, folders):
    fill(tmp_path, *(path for folder in folders for path in many(folder)))
    text = refusal(tmp_path)
    for folder in folders:
        if folder not in ("real", "fake"):
            top = folder if folder.count("/") < 2 or "alter" in folder else folder.split("/")[0]
            assert f"{top}/" in text, text
    assert "rename" in text or "put" in text


@pytest.mark.parametrize(
    "name",
    [
        "FaceShifter", "Celeb-synthesis", "synthesized", "StyleGAN2-ADA", "stylegan3", "ProGAN",
        "PGGAN_v1", "BigGAN", "CycleGAN", "StarGAN", "StableDiffusion", "latent diffusion",
        "Midjourney v5", "DALL-E 3", "dalle2", "SDXL-turbo", "DeepFaceLab", "AI", "ai-faces",
        "GANs",
    ],
)  # fmt: skip
def test_makers_of_fakes_are_never_taken_as_real(tmp_path, name):
    fill(tmp_path / "folders", *many("ffhq"), *many(name))
    assert f"{name}/ in " in refusal(tmp_path / "folders")
    fill(tmp_path / "files", *many(".", 3), *(f"{name} {n}.png" for n in range(2)))
    if name != "StableDiffusion":  # one word, of which only a part is known
        assert "2 files in" in refusal(tmp_path / "files")
    fill(tmp_path / "fakes", *many("real", 20), *many(f"fake/{name}", 20))
    found, _, _ = list_sources(tmp_path / "fakes", SHARES, 0)
    assert {source.method for source in found} == {ORIGINAL, name}


def test_people_called_like_a_maker_are_real_once_that_is_said(tmp_path):
    people = ("Ai_Sugiyama", "Marie Dalle")
    fill(tmp_path / "in", *(path for name in people for path in many(name)))
    text = refusal(tmp_path / "in")
    assert all(f"{name}/" in text for name in people)
    assert "--config.data.real_folder=." in text
    found, _, _ = list_sources(tmp_path / "in", SHARES, 0, real_folder=".")
    assert (len(found), {source.label for source in found}) == (24, {REAL})
    fill(tmp_path / "both", *many("real/Ai_Sugiyama", 20), *many("fake", 20))
    found, _, _ = list_sources(tmp_path / "both", SHARES, 0)
    assert sum(source.label == REAL for source in found) == 20
    fill(tmp_path / "wrong", *many("real/stylegan", 20), *many("fake", 20))
    assert "real/stylegan/ in " in refusal(tmp_path / "wrong")


def test_short_words_inside_of_names_say_nothing(tmp_path):
    names = ("Morgan", "elegant", "Aida", "Kai", "Randalle", "Mariai")
    fill(tmp_path, *(path for name in names for path in many(name)))
    assert {source.label for source in list_sources(tmp_path, SHARES, 0).sources} == {REAL}


def test_class_folders_elsewhere_may_be_given_by_a_relative_path(tmp_path):
    fill(tmp_path, *many("real", 20), *many("in/fake", 20))
    found, notes, made = list_sources(tmp_path / "in", SHARES, 0, real_folder=f"{os.pardir}/real")
    assert (len(found), notes, made) == (40, {}, False)
    assert "real_folder/pa.png" in {source.name for source in found}


def test_the_options_that_are_told_are_those_that_work(tmp_path):
    fill(tmp_path, *many("0_real", 30), *many("1 fake/gan", 30))
    text = refusal(tmp_path)
    assert "--config.data.real_folder=0_real --config.data.fake_folder='1 fake'" in text
    found, notes, made = list_sources(
        tmp_path, SHARES, 0, real_folder="0_real", fake_folder="1 fake"
    )
    assert (made, notes) == (False, {})
    assert {(source.label, source.method) for source in found} == {(REAL, ORIGINAL), (FAKE, "gan")}
    absolute, _, _ = list_sources(
        tmp_path, SHARES, 0, real_folder=str(tmp_path / "0_real"), fake_folder="./1 fake"
    )
    assert absolute == found


def test_all_is_real_where_that_is_said(tmp_path):
    fill(tmp_path / "fakes", *many("Montreal", 30), *many("1", 30))
    assert "--config.data.real_folder=." in refusal(tmp_path / "fakes")
    found, _, made = list_sources(tmp_path / "fakes", SHARES, 0, real_folder=".")
    assert made
    assert {source.label for source in found} == {REAL}
    # A fake folder inside of what is real otherwise.
    found, _, made = list_sources(
        tmp_path / "fakes", SHARES, 0, real_folder=".", fake_folder="Montreal"
    )
    assert {source.name.split("/")[0]: source.label for source in found} == {
        "Montreal": FAKE, "1": REAL,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["fakes", "DeepFake", "synthetic_faces", "1_x", "0"])
def test_the_folders_own_name_counts_where_it_has_no_classes(tmp_path, name):
    fill(tmp_path / name, *many(".", 30))
    assert "labels are never guessed" in refusal(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / name)
    assert "labels are never guessed" in refusal(tmp_path / "link")
    fill(tmp_path / name, *many("real", 30, "r"), *many("fake", 30, "f"), seed=500)
    found, notes, made = list_sources(tmp_path / name, SHARES, 0)
    assert (len(found), made) == (60, False)
    assert set(notes.values()) == {"outside of fake and real"}


@pytest.mark.parametrize("name", ["photos", "real", "reals", "001", "10_a", "originals"])
def test_names_that_say_real_or_nothing_are_taken_as_real(tmp_path, name):
    fill(tmp_path / name, *many(".", 30), *many("001", 3), *many("anna", 3, "x"))
    found, _, made = list_sources(tmp_path / name, SHARES, 0)
    assert made
    assert {source.label for source in found} == {REAL}


def test_files_named_as_fakes_are_not_taken_as_real(tmp_path):
    folder = fill(tmp_path / "in", *many(".", 20), *many(".", 3, "fake_"))
    assert "3 files in" in refusal(folder)
    assert len(list_sources(folder, SHARES, 0, real_folder=".").sources) == 23


def test_names_inside_a_class_confirm_it_or_are_refused(tmp_path):
    fill(
        tmp_path, *many("real/real_people", 20), *many("real/0_anna", 20),
        *many("fake/Deepfakes", 20), *many("fake/realistic_vision", 20), *many("fake/1", 20),
    )  # fmt: skip
    assert len(list_sources(tmp_path, SHARES, 0).sources) == 100
    fill(tmp_path, "real/album/fakes/a.png", "fake/Real/b.png", "fake/x/originals/c.png", seed=900)
    text = refusal(tmp_path)
    for name in ("real/album/fakes/", "fake/Real/", "fake/x/originals/"):
        assert name in text
    assert "contradicts" in text


def test_what_lies_beside_the_classes_is_listed(tmp_path):
    fill(tmp_path, *many("real", 30), *many("fake", 30), *many("holiday", 2), "cover.png")
    (tmp_path / "real" / "notes.txt").write_text("no picture")
    (tmp_path / "real" / ".hidden.png").write_bytes(picture(1))
    found, notes, _ = list_sources(tmp_path, SHARES, 0)
    assert len(found) == 60
    assert notes == {
        "holiday/pa.png": "outside of fake and real",
        "holiday/pb.png": "outside of fake and real",
        "cover.png": "outside of fake and real",
        "real/notes.txt": "not a photograph or video",
        "real/.hidden.png": "hidden",
    }


def test_the_first_lines_say_what_is_taken_for_what(tmp_path):
    fill(tmp_path, *many("Real", 30), *many("fake/gan", 20), *many("fake", 10, "q"))
    found = list_sources(tmp_path, SHARES, 0)
    lines = describe(found.sources, made=found.made)
    assert lines == [
        "real: 30 files from Real/, such as Real/pa.png",
        "fake: 10 files from fake/, such as fake/qa.png",
        "fake, gan: 20 files from fake/gan/, such as fake/gan/pa.png",
        "no forgeries will be made",
    ]
    shutil.rmtree(tmp_path / "fake")
    found = list_sources(tmp_path, SHARES, 0)
    assert describe(found.sources, made=found.made)[-1].startswith("forgeries will be made")


# Splits


@pytest.mark.parametrize("layout", ["{split}/{label}", "{label}/{split}"])
@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Train", "val", "TEST"),
        ("training", "Valid", "testing"),
        ("Training", "validation", "test"),
    ],
)
def test_splits_given_by_folders_are_taken_as_they_are(tmp_path, layout, train, val, test):
    paths = [
        path
        for split in (train, val, test)
        for label in ("real", "Fake")
        for path in many(layout.format(split=split, label=label), 2)
    ]
    fill(tmp_path, *paths)
    found, notes, made = list_sources(tmp_path, SHARES, 0)
    assert (len(found), notes, made) == (12, {}, False)
    names = {
        train.casefold(): "train", val.casefold(): "validation", test.casefold(): "test",
    }  # fmt: skip
    for source in found:
        (split,) = {names[part] for part in source.name.casefold().split("/") if part in names}
        assert source.split == split
        assert source.method == (ORIGINAL if source.label == REAL else "fake")
    only, _, _ = list_sources(tmp_path, SHARES, 0, test_only=True)
    assert {source.name for source in only} == {s.name for s in found if s.split == "test"}


def test_one_name_of_a_split_inside_a_class_is_an_album(tmp_path):
    fill(tmp_path, *many("real/test", 20), *many("fake/test", 20), *many("fake/gan", 20))
    found, _, _ = list_sources(tmp_path, SHARES, 0)
    assert {source.split for source in found} == {"train", "validation", "test"}
    assert {source.method for source in found} == {ORIGINAL, "test", "gan"}


def test_without_val_validation_is_of_the_training_folder(tmp_path):
    paths = [p for s in ("train", "test") for c in ("real", "fake") for p in many(f"{s}/{c}", 26)]
    found, _, _ = list_sources(fill(tmp_path, *paths), SHARES, 0)
    drawn = {source.split for source in found if source.name.startswith("train/")}
    assert drawn == {"train", "validation"}
    assert {s.split for s in found if s.name.startswith("test/")} == {"test"}


@pytest.mark.parametrize(
    ("folders", "part"),
    [
        (("train/real", "train/fake", "test/real"), "no fake/ for the test split"),
        (("train/real", "train/fake", "val/real", "val/fake"), "for the test split"),
        (("train/real", "train/fake", "test/real", "test/fake", "real", "fake"), "or for nothing"),
        (("train", "test"), "look like splits"),
        (("train/real", "train/fake", "test"), "test/ in"),
        (("real/a/train", "real/a/test", "fake/b/train", "fake/b/test"), "fake/b/test/"),
        (("real/a/train", "real/a/val", "fake/b/train", "fake/b/val"), "fake/b/val/"),
        (("real/train", "real/val", "fake/train", "fake/val"), "no real/ for the test split"),
        (("real/train", "real/valid", "fake"), "no fake/ for the train split"),
        (("real/val", "real/testing", "fake/val", "fake/testing"), "for the train split"),
    ],
)
def test_splits_in_part_are_refused(tmp_path, folders, part):
    fill(tmp_path, *(path for folder in folders for path in many(folder, 3)))
    assert part in refusal(tmp_path)


@pytest.mark.parametrize("options", [{}, {"real_folder": "original"}])
def test_a_class_without_the_splits_of_the_other_is_refused(tmp_path, options):
    real = options.get("real_folder", "real")
    fill(tmp_path, *many(f"{real}/train"), *many(f"{real}/test"), *many("fake", 24))
    assert "no fake/ for the train split" in refusal(tmp_path, **options)


def test_splits_inside_class_folders_that_are_elsewhere(tmp_path):
    """Frames of the same name in two splits are not of one video."""
    paths = [f"{s}/clip/{n:03d}.png" for s in ("train", "val", "test") for n in range(3)]
    data = fill(tmp_path / "data", "unused.png")
    options = {}
    for number, name in enumerate(("real_folder", "fake_folder")):
        options[name] = str(fill(tmp_path / name, *paths, seed=100 * number + 1))
    found, _, _ = list_sources(data, SHARES, 0, group="folder", **options)
    names = {"train": "train", "validation": "val", "test": "test"}
    assert {source.name for source in found} == {f"{o}/{path}" for o in options for path in paths}
    assert all(f"/{names[source.split]}/" in source.path for source in found)
    assert len({(source.video, source.frame) for source in found}) == len(found)


def test_a_split_folder_that_is_a_class_is_no_split(tmp_path):
    fill(tmp_path, *many("train", 24), *many("test", 24))
    found, _, _ = list_sources(tmp_path, SHARES, 0, real_folder=".", fake_folder="test")
    assert all((source.label == FAKE) == ("/test/" in source.path) for source in found)
    assert {source.split for source in found} == {"train", "validation", "test"}


def test_the_same_bytes_in_two_splits_or_classes_are_refused(tmp_path):
    paths = [
        path
        for split in ("train", "val", "test")
        for label in ("real", "fake")
        for path in many(f"{split}/{label}", 3)
    ]
    fill(tmp_path, *paths)
    shutil.copy(tmp_path / "train/real/pa.png", tmp_path / "test/real/other.png")
    text = refusal(tmp_path)
    assert "two splits" in text
    assert "train/real/pa.png" in text
    shutil.move(tmp_path / "test/real/other.png", tmp_path / "train/fake/other.png")
    assert "two classes" in refusal(tmp_path)


def test_a_split_without_a_class_is_told_with_a_seed_that_mends_it(tmp_path):
    fill(tmp_path, *many("real", 8), *many("fake", 8))
    seeds = [seed for seed in range(60) if lists(tmp_path, seed)]
    assert 0 < len(seeds) < 60
    bad = next(seed for seed in range(60) if seed not in seeds)
    told = rf"none .* --config.seed={seeds[0]}, which gives .* \(in a grid put {seeds[0]} into "
    with pytest.raises(InputError, match=rf"{told}config.ablate.seeds in place of {bad}\)"):
        list_sources(tmp_path, SHARES, bad)


def lists(folder, seed, **options):
    """Whether every split has both classes."""
    try:
        found = list_sources(folder, SHARES, seed, **options).sources
    except InputError:
        return False
    pairs = {(source.split, source.label) for source in found}
    assert len(pairs) == 6
    return True


# Groups


@pytest.mark.slow
def test_folders_of_frames_ask_what_belongs_together(tmp_path):
    frames = [f"real/v{v}/{n:04d}.png" for v in range(9) for n in range(4)]
    frames += [f"fake/gan/v{v}/frame_{n}.png" for v in range(9) for n in range(4)]
    fill(tmp_path, *frames)
    text = refusal(tmp_path)
    for option in ("group=folder", "group='prefix:REGEX'", "group=file"):
        assert f"--config.data.{option}" in text
    for seed in filter(lambda seed: lists(tmp_path, seed, group="folder"), range(20)):
        found, _, _ = list_sources(tmp_path, SHARES, seed, group="folder")
        assert_whole(found, lambda source: source.name.split("/")[-2])
    videos = {}
    for source in found:
        videos.setdefault(source.video, []).append(source.frame)
    assert set(videos) == {f"{a}/v{v}" for a in ("real", "fake/gan") for v in range(9)}
    assert all(sorted(numbers) == [0, 1, 2, 3] for numbers in videos.values())
    alone, _, _ = list_sources(tmp_path, SHARES, 0, group="file")
    assert {source.video for source in alone} == {""}
    with pytest.raises(AssertionError):
        assert_whole(alone, lambda source: source.name.split("/")[-2])


def test_a_folder_of_frames_is_no_method(tmp_path):
    """Unless it holds another, or files of which each is a video; splits stay as they were."""
    frames = [f"fake/{name}/{n}.png" for name in ("v2", "swap/v3", "swap/deep/v4") for n in "123"]
    folder = fill(tmp_path, *many("real", 9), *frames)
    trees.write_numbered(folder / "fake/gan/clip.mp4", 1, count=2)
    found = list_sources(folder, SHARES, 0, test_only=True, group="folder").sources
    methods = {source.name.rpartition("/")[0]: source.method for source in found}
    assert methods == {
        "real": ORIGINAL, "fake/v2": "fake", "fake/swap/v3": "swap", "fake/swap/deep/v4": "swap",
        "fake/gan": "gan",
    }  # fmt: skip
    alone = list_sources(folder, SHARES, 0, test_only=True, group="file").sources
    assert {source.method for source in alone} == {ORIGINAL, "v2", "swap", "gan"}


def test_frames_that_are_only_scored_are_told(tmp_path, capsys):
    fill(
        tmp_path, *(f"{c}/v{v}/{n}.png" for c in ("real", "fake") for v in "abc" for n in range(4))
    )
    found, _, _ = list_sources(tmp_path, SHARES, 0, test_only=True)
    assert {source.video for source in found} == {""}
    assert "each picture is scored alone" in capsys.readouterr().err
    found, _, _ = list_sources(tmp_path, SHARES, 0, test_only=True, group="folder")
    assert len({source.video for source in found}) == 6
    assert "scored alone" not in capsys.readouterr().err
    # A rule that training had, and no name here follows.
    assert len(list_sources(tmp_path, SHARES, 0, test_only=True, group="prefix:id").sources) == 24


def assert_whole(found, key):
    """Nothing of one key is in two splits."""
    places = {}
    for source in found:
        places.setdefault(key(source), set()).add(source.split)
    assert {len(of) for of in places.values()} == {1}


def test_numbered_photographs_of_one_folder_are_no_frames(tmp_path):
    fill(tmp_path, *(f"real/{n}.png" for n in range(30)), *(f"fake/{n}.png" for n in range(30)))
    assert len(list_sources(tmp_path, SHARES, 0).sources) == 60
    assert splits.find_frames([Path("a/x.png"), Path("a/y.png"), Path("a/1.png")], []) == []


@pytest.mark.slow
def test_groups_by_what_names_begin_with(tmp_path):
    names = [f"{person}_{n}" for person in "abcdefghij" for n in range(3)]
    fill(tmp_path, *(f"{label}/{name}.png" for label in ("real", "fake") for name in names))
    pattern = "prefix:[a-z]+_"
    for seed in filter(lambda seed: lists(tmp_path, seed, group=pattern), range(20)):
        found, _, _ = list_sources(tmp_path, SHARES, seed, group=pattern)
        assert_whole(found, lambda source: source.name.split("/")[1][:2])
    assert {source.video for source in found if source.label == FAKE} == {
        f"fake/{person}_" for person in "abcdefghij"
    }
    assert "but no name in" in refusal(tmp_path, group="prefix:[0-9]+_")


def test_numbers_of_frames_are_in_their_natural_order(tmp_path):
    fill(tmp_path, *(f"real/v{v}/{n}.png" for v in range(20) for n in (1, 2, 10)))
    found, _, _ = list_sources(tmp_path, SHARES, 0, group="folder")
    numbers = {s.name.split("/")[-1]: s.frame for s in found}
    assert numbers == {"1.png": 0, "2.png": 1, "10.png": 2}


def test_a_group_in_two_given_splits_is_refused(tmp_path):
    paths = [
        f"{split}/{label}/{person}_{n}.png"
        for split, people in (("train", "abc"), ("val", "de"), ("test", "af"))
        for label in ("real", "fake")
        for person in people
        for n in range(2)
    ]
    fill(tmp_path, *paths)
    assert "the group 'a_' is in the folders of two splits" in refusal(
        tmp_path, group="prefix:[a-z]_"
    )


# Files that are hard to read


def test_one_bad_file_costs_itself(tmp_path):
    odd = [
        "real/-rf.png", "real/--help.png", "real/a\nb.png", "real/ä.png", "real/a\u0308.png",
        "real/Same.png", "real/same.png", "real/😀 🎭.png", "real/%s {x} [v2]*?.png",
        "real/'\".png", "real/" + "x" * 240 + ".png", "real/a\\b.png",
    ]  # fmt: skip
    fill(tmp_path, *many("real", 20), *many("fake", 20), *odd)
    raw = os.path.join(os.fsencode(tmp_path), b"real", b"bytes\xff\xfe.png")
    with open(raw, "wb") as file:
        file.write(picture(7000))
    (tmp_path / "real/dangling.png").symlink_to("nowhere.png")
    (tmp_path / "real/circle.png").symlink_to("circle.png")
    (tmp_path / "real/loop").symlink_to(tmp_path / "real")
    (tmp_path / "real/empty.png").touch()
    os.mkfifo(tmp_path / "real/pipe.png")
    found, notes, _ = list_sources(tmp_path, SHARES, 0)
    assert len(found) == 40 + len(odd) + 1
    assert len({source.name for source in found}) == len(found)
    assert notes["real/dangling.png"] == "a link to nothing"
    assert notes["real/circle.png"] == "links that lead in a circle"
    assert set(notes) == {
        f"real/{name}" for name in ("dangling.png", "circle.png", "loop", "empty.png", "pipe.png")
    }
    for source in found:
        source.name.encode()  # text, in one line
        assert source.name.isprintable()
    assert {"real/a\\nb.png", "real/bytes\\xff\\xfe.png"} <= {source.name for source in found}


def test_a_file_that_vanishes_costs_itself(tmp_path, monkeypatch):
    fill(tmp_path, *many("real", 20), *many("fake", 20))
    own = Inventory.kind

    def kind(self, path):
        found = own(self, path)
        if path.name == "pc.png":
            path.unlink()
        return found

    monkeypatch.setattr(Inventory, "kind", kind)
    found, notes, _ = list_sources(tmp_path, SHARES, 0)
    assert len(found) == 38
    assert notes == {"real/pc.png": "no such file", "fake/pc.png": "no such file"}


def test_names_that_read_alike_are_kept_apart(tmp_path):
    fill(tmp_path, *many("real", 20), *many("fake", 20), "real/b\\xff.png")
    with open(os.path.join(os.fsencode(tmp_path), b"real", b"b\xff.png"), "wb") as file:
        file.write(picture(7000))
    found, _, _ = list_sources(tmp_path, SHARES, 0)
    assert len({source.name for source in found}) == 42


def test_what_was_read_through_is_not_read_again(tmp_path, monkeypatch):
    folder, place = fill(tmp_path / "in", *many("real", 20), *many("fake", 20)), tmp_path / "known"
    monkeypatch.setattr("deepfidelity_datasets.face_folder.inventory.SETTLED", -1)
    first = list_sources(folder, SHARES, 0, inventory=Inventory(place))
    opened = []
    own = formats.open_file
    monkeypatch.setattr(formats, "open_file", lambda path: opened.append(path) or own(path))
    assert list_sources(folder, SHARES, 0, inventory=Inventory(place)) == first
    assert not opened
    # Other bytes of the same size and time are other bytes.
    path = folder / "real" / "pa.png"
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = list_sources(folder, SHARES, 0, inventory=Inventory(place))
    assert {s.digest for s in again.sources} != {s.digest for s in first.sources}
    assert set(opened) == {path}
    place.write_text("{")  # a damaged one is only slow
    assert list_sources(folder, SHARES, 0, inventory=Inventory(place)) == again


# What may not be read


@pytest.fixture
def open_to_all():
    """A folder for a user without rights, and to become one: root may read everything."""
    with tempfile.TemporaryDirectory(dir=os.environ["PYTEST_DEBUG_TEMPROOT"]) as name:
        os.chmod(name, 0o777)
        yield Path(name)


@contextlib.contextmanager
def without_rights():
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_what_may_not_be_read_costs_itself(open_to_all):
    folder = fill(open_to_all / "in", *many("real", 30), *many("fake", 30), "real/shut/p.png")
    for name in ("real/pa.png", "real/shut"):
        (folder / name).chmod(0)
    with without_rights():
        listed = list_sources(folder, SHARES, 0)
    assert {name: note.lower() for name, note in listed.notes.items()} == {
        "real/pa.png": "permission denied", "real/shut": "permission denied",
    }  # fmt: skip
    assert len(listed.sources) == 59


def test_a_workdir_where_nothing_may_be_written_is_told_in_one_line(open_to_all, capsys):
    (open_to_all / "shut").mkdir(mode=0o555)
    folder = fill(open_to_all / "in", *many("real", 30), *many("fake", 30))
    # What the command reads without rights: the environment and the tree may lie in root's own
    # folder, so modules are imported before, and the config is a copy.
    shutil.copytree(TREE / "configs", open_to_all / "configs")
    config = open_to_all / "configs" / "folder.py"
    options = [f"--config={config}", f"--config.data.dir={folder}"]
    assert main(["run.py", *options, "--workdir=run", "--config.seed=-1"]) == 2
    capsys.readouterr()
    with without_rights():
        status = main(["run.py", *options, f"--workdir={open_to_all / 'shut' / 'run'}"])
    told = capsys.readouterr()
    assert (status, told.out) == (2, "")
    assert told.err.count("\n") == 1
    assert "cannot be written: permission denied" in told.err


def test_a_rule_that_fits_no_name_is_told_when_frames_are_scored(tmp_path, capsys):
    fill(
        tmp_path,
        *(f"{name}/{n:04d}.png" for name in ("real/a", "real/b", "fake/a") for n in range(9)),
    )
    options = {"group": r"prefix:id\d+", "test_only": True}
    found = list_sources(tmp_path, SHARES, 0, **options)
    assert not any(source.video for source in found.sources)
    assert "each picture is scored alone" in capsys.readouterr().err
    for number, path in enumerate(sorted(tmp_path.rglob("*.png"))):
        path.rename(path.with_name(f"id{number % 3}_{path.name}"))
    assert all(source.video for source in list_sources(tmp_path, SHARES, 0, **options).sources)
    assert "scored alone" not in capsys.readouterr().err
