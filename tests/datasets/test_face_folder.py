"""A folder becomes records: labels, methods and splits by file, damaged files listed."""

import shutil
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import trees
from PIL import Image

from deepfidelity_datasets.face_folder.extractor import (
    FEW,
    SEVERAL,
    Extractor,
    extractor_of,
    identities,
)
from deepfidelity_datasets.face_folder.face_folder_dataset_builder import Builder
from deepfidelity_datasets.face_folder.sources import list_sources
from deepfidelity_datasets.face_folder.splits import draw
from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.forgeries import families
from deepfidelity_jax.images.pictures import decode_image, encode_image
from deepfidelity_jax.leaks.training_pictures import digests_of, digests_of_training
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records import schema
from deepfidelity_jax.records.own_files import Source
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL, SOURCES, SPLITS, Records
from deepfidelity_jax.records.source import LEFT_OUT, sum_tallies

pytestmark = pytest.mark.usefixtures("one_core")

SHARES = (0.6, 0.2, 0.2)


def paint(seed, size=48):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 215, (5, 5, 3)).astype(np.float32)
    image = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + rng.normal(0, rng.uniform(1, 12), image.shape), 0, 255).astype(np.uint8)


def write(folder, count, seed=0, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(paint(seed + number)).save(folder / f"{seed + number:03d}.{suffix}")


def write_video(path, seed, frames=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (48, 48))
    for number in range(frames):
        writer.write(np.roll(paint(seed), number, axis=1))
    writer.release()


def prepare(config, folder, place):
    """Build the records of a folder; all rows of all splits, and the metadata."""
    config.data.dataset = "face_folder"
    config.data.dir, config.data.splits = str(folder), SHARES
    config.faces.detector, config.faces.size, config.faces.frames = "none", 48, 3
    builder = Builder.configured(config, place)
    builder.download_and_prepare()
    place = Path(builder.data_path)
    rows = {}
    for split in schema.splits_of(place):
        opened = Records(place, split)
        rows[split] = [opened[index] for index in range(len(opened))]
    return rows, schema.metadata_of(place)


def test_a_split_is_drawn_by_the_key_alone():
    keys = [f"{number:064x}" for number in range(4000)]
    drawn = [draw(key, SHARES, 0) for key in keys]
    for split, share in zip(SPLITS, SHARES, strict=True):
        assert drawn.count(split) / len(keys) == pytest.approx(share, abs=0.03)
    assert drawn == [draw(key, (6, 2, 2), 0) for key in keys]
    moved = sum(a != draw(key, SHARES, 1) for key, a in zip(keys, drawn, strict=True))
    assert moved > 1000
    assert {draw(key, (0.5, 0.5, 0.0), 0) for key in keys} == {"train", "validation"}


def test_labels_and_methods_come_from_folders(tmp_path):
    write(tmp_path / "real" / "people", 10)
    write(tmp_path / "fake" / "swap", 6, seed=100)
    write(tmp_path / "fake", 6, seed=200)
    write(tmp_path / "fake" / "gan" / "b", 8, seed=300)
    sources, notes, made = list_sources(tmp_path, SHARES, 0, group="file")
    assert not made
    assert not notes
    found = {source.name: (source.label, source.method) for source in sources}
    assert found["real/people/003.png"] == (REAL, ORIGINAL)
    assert found["fake/swap/100.png"] == (FAKE, "swap")
    assert found["fake/200.png"] == (FAKE, "fake")
    assert found["fake/gan/b/300.png"] == (FAKE, "gan")
    assert len(found) == 30
    for label in (REAL, FAKE):
        assert {source.split for source in sources if source.label == label} == set(SPLITS)


def test_the_same_bytes_are_taken_once(tmp_path):
    write(tmp_path / "real", 20)
    write(tmp_path / "fake", 20, seed=100)
    shutil.copy(tmp_path / "real" / "003.png", tmp_path / "real" / "again.png")
    sources, notes, _ = list_sources(tmp_path, SHARES, 0)
    assert notes == {"real/again.png": "the same bytes as real/003.png"}
    assert len(sources) == 40
    shutil.copy(tmp_path / "real" / "004.png", tmp_path / "fake" / "lie.png")
    with pytest.raises(
        InputError, match=r"^1 file is in two classes .* real/004.png; keep one copy$"
    ):
        list_sources(tmp_path, SHARES, 0)
    shutil.copy(tmp_path / "real" / "005.png", tmp_path / "fake" / "other.png")
    with pytest.raises(InputError, match=r"^2 files are in two classes .*; keep one copy of each$"):
        list_sources(tmp_path, SHARES, 0)


def test_folders_that_will_not_do(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        list_sources(tmp_path / "missing", SHARES, 0)
    with pytest.raises(InputError, match="holds 0 photographs"):
        list_sources(tmp_path, SHARES, 0)
    write(tmp_path / "fake", 9)
    with pytest.raises(InputError, match="no real/"):
        list_sources(tmp_path, SHARES, 0)
    write(tmp_path / "real", 3, seed=50)
    with pytest.raises(InputError, match=r"real holds 3 .* at least 8"):
        list_sources(tmp_path, SHARES, 0)


def test_real_and_fake_photographs(tmp_path, tiny):
    write(tmp_path / "in" / "real", 12)
    write(tmp_path / "in" / "fake" / "gan", 12, seed=100)
    (tmp_path / "in" / "real" / "text.jpg").write_text("no picture")
    rows, metadata = prepare(tiny, tmp_path / "in", tmp_path / "out")
    assert rows.keys() == set(SPLITS), "nothing is forged where there are fakes"
    everything = [row for split in rows.values() for row in split]
    assert len(everything) == 24
    assert len({row["video_id"] for row in everything}) == 24
    assert metadata["notes"] == {"real/text.jpg": "not a photograph or video"}
    (left_out,) = (tmp_path / "out").glob(f"*/*/{Builder.VERSION}/{LEFT_OUT}")
    assert left_out.read_text() == "path,reason\nreal/text.jpg,not a photograph or video\n"
    for row in everything:
        assert row["method"] == (ORIGINAL if row["label"] == REAL else "gan")
        assert row["path"] == row["video_id"]
        pixels = decode_image(row["image"])
        assert pixels.shape == (48, 48, 3)
        source = np.asarray(Image.open(tmp_path / "in" / row["path"]))
        assert np.abs(pixels.astype(int) - source).mean() < 4
    assert_targets(rows)


def assert_targets(rows):
    """Each class of the training split fills its range; nothing leaves it."""
    for label, low, high in ((FAKE, 0.0, 0.4), (REAL, 0.6, 1.0)):
        train = [row for row in rows["train"] if row["label"] == label]
        train.sort(key=lambda row: row["quality"])
        assert train[0]["fidelity"] == pytest.approx(low, abs=1e-6)
        assert train[-1]["fidelity"] == pytest.approx(high, abs=1e-6)
        assert [row["fidelity"] for row in train] == sorted(row["fidelity"] for row in train)
        for row in (row for split in rows.values() for row in split if row["label"] == label):
            assert low <= row["fidelity"] <= high + 1e-6


def test_names_that_a_prefix_does_not_match_are_told(tmp_path, tiny, capsys):
    write(tmp_path / "in" / "real", 12)
    write(tmp_path / "in" / "fake", 12, seed=100)
    tiny.data.group = pattern = r"prefix:\d\d[0-6]"
    prepare(tiny, tmp_path / "in", tmp_path / "out")
    said = f"6 of 24 names do not begin like config.data.group={pattern}, such as fake/107.png: "
    assert f"{said}each is a group of its own" in capsys.readouterr().err


def test_several_people_in_a_fake_count_as_fake_and_are_counted(tmp_path):
    picture = tmp_path / "a.png"
    Image.fromarray(trees.film(3, count=1, people=2)[0]).save(picture)
    extract = Extractor(FaceSettings(size=48), Measure("none"), {}, 0)
    sources = [
        Source(f"{split}/{label}", str(picture), label, "x", split)
        for split, label in (("train", FAKE), ("train", REAL), ("test", FAKE))
    ]
    seen = [(source, extract(source)) for source in sources]
    for source, produced in seen:
        assert {face.label for face in produced.faces} == {source.label}
        assert len({face.video_id for face in produced.faces}) == 2
    total, listed = sum_tallies(seen)
    assert total == {"train": {SEVERAL: 1}, "test": {SEVERAL: 1}}
    assert listed["train"] == {SEVERAL: {f"train/{FAKE}": 1}}


def test_a_donor_is_of_another_group(tmp_path):
    """The parts of one recording do not swap faces."""
    for number in range(12):
        write_video(tmp_path / "in" / f"{'abcdef'[number // 2]}{number}.mp4", number)
    sources = list_sources(tmp_path / "in", (0.6, 0.2, 0.2), 1, group="prefix:[a-f]").sources
    assert len({source.origins for source in sources}) == 6
    recipe = SimpleNamespace(faces=FaceSettings(size=48), measure=Measure("none"), seed=0)
    extract = extractor_of(sources, recipe, made=True)
    own = Path(sources[0].path).name[0]
    others = [
        path for path, names in extract.donors[sources[0].split]
        if names.isdisjoint(identities(sources[0]))
    ]  # fmt: skip
    assert {Path(path).name[0] for path in others} & {own} == set()
    assert len(others) == len(extract.donors[sources[0].split]) - 2


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("prefix:id\\d+_", ["a/id0_1.png", "b/id0_2.png"]),
        ("folder", ["p0/photo.png", "p0/clip.mp4"]),
    ],
)
def test_files_of_a_group_share_an_identity_whatever_and_wherever_they_are(tmp_path, group, names):
    write(tmp_path / "in", 16)
    for number, name in enumerate(names):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith("mp4"):
            write_video(path, 90)
        else:
            Image.fromarray(paint(90 + number)).save(path)
    sources = list_sources(tmp_path / "in", (0.6, 0.2, 0.2), 1, group=group).sources
    first, second = (identities(source) for source in sources if source.name in names)
    assert first & second


def test_videos_are_divided_whole(tmp_path, tiny):
    for number in range(10):
        write_video(tmp_path / "in" / "real" / f"{number}.mp4", number)
        write_video(tmp_path / "in" / "fake" / f"{number}.mp4", 100 + number)
    rows, _ = prepare(tiny, tmp_path / "in", tmp_path / "out")
    split_of = {}
    for split, found in rows.items():
        for row in found:
            split_of.setdefault(row["video_id"], set()).add(split)
    assert len(split_of) == 20
    assert {len(splits) for splits in split_of.values()} == {1}
    frames = {row["frame"] for row in rows["train"]}
    assert frames == {1, 3, 5}, "evenly over six"
    assert sum(map(len, rows.values())) == 60


def test_real_photographs_alone_are_forged(tmp_path, tiny):
    write(tmp_path / "in", 16)
    rows, metadata = prepare(tiny, tmp_path / "in", tmp_path / "out")
    assert rows.keys() == {*SPLITS, SOURCES}
    owners, corners = {}, []
    for split in SPLITS:
        real = {row["path"]: row for row in rows[split] if row["label"] == REAL}
        fakes = [row for row in rows[split] if row["label"] == FAKE]
        kinds = {}
        for fake in fakes:
            assert fake["path"] in real, "a fake stays in the split of its face"
            assert fake["video_id"] == f"{fake['path']}:{fake['method']}"
            kinds.setdefault(fake["path"], []).append(fake["method"])
            # Encoded once, alike: the two differ in the forged part, not all over.
            pair = [decode_image(row["image"]).astype(int) for row in (fake, real[fake["path"]])]
            change = np.abs(pair[0] - pair[1]).max(axis=-1)
            assert change.max() > 0
            corners.append(np.median(change[[0, 0, -1, -1], [0, -1, 0, -1]]))
        for made in kinds.values():
            assert len(made) == len(set(made)) == (FEW if split == "train" else 10)
            assert set(made) <= set(families.FAMILIES)
        assert kinds.keys() == real.keys()
        owners[split] = set(real)
    assert np.median(corners) <= 6
    assert not owners["train"] & owners["test"]
    assert not owners["train"] & owners["validation"]
    assert not owners["test"] & owners["validation"]
    clean = {row["path"]: row["image"] for row in rows[SOURCES]}
    recorded = {row["path"]: row["image"] for row in rows["train"] if row["label"] == REAL}
    assert clean.keys() == recorded.keys(), "training draws its forgeries from its faces alone"
    for path, image in clean.items():
        # Encoded once more, as training does, they are what was recorded.
        again = decode_image(encode_image(decode_image(image))).astype(int)
        assert np.abs(again - decode_image(recorded[path])).mean() < 4
        assert len(image) > 1.5 * len(recorded[path]), "next to nothing is lost before"
    assert metadata["faces_found"]["train"][ORIGINAL] == len(recorded)
    assert_targets(rows)


def test_all_of_a_labelled_folder_is_a_test_split(tmp_path, tiny):
    write(tmp_path / "in" / "real", 1)
    write(tmp_path / "in" / "fake" / "gan", 2, seed=100)
    write(tmp_path / "in", 1, seed=200)
    tiny.data.prepare = ("test",)
    rows, metadata = prepare(tiny, tmp_path / "in", tmp_path / "out")
    assert rows.keys() == {"test"}
    found = {row["path"]: (row["label"], row["method"]) for row in rows["test"]}
    assert found == {
        "real/000.png": (REAL, ORIGINAL),
        "fake/gan/100.png": (FAKE, "gan"),
        "fake/gan/101.png": (FAKE, "gan"),
    }
    assert metadata["notes"] == {"200.png": "outside of fake and real"}
    # By its bytes: known again wherever it lies, and another one when a picture changes.
    copy = shutil.copytree(tmp_path / "in", tmp_path / "copy")
    names = []
    for folder in (tmp_path / "in", copy):
        tiny.data.dir = str(folder)
        names.append(Builder.configured(tiny, tmp_path / "out").builder_config.name)
    write(copy / "real", 1, seed=0, suffix="bmp")
    names.append(Builder.configured(tiny, tmp_path / "out").builder_config.name)
    assert names[0] == names[1] != names[2]


def test_splits_that_a_folder_does_not_give(tmp_path, tiny):
    write(tmp_path / "real", 9)
    tiny.data.dir, tiny.data.prepare = str(tmp_path), ("test",)
    with pytest.raises(InputError, match="needs the folders real/ and fake/"):
        Builder.configured(tiny, tmp_path / "out")
    tiny.data.prepare = ("train", "test")
    with pytest.raises(InputError, match=r"config.data.prepare is \('train', 'test'\)"):
        Builder.configured(tiny, tmp_path / "out")


def test_what_training_saw_is_known_again(tmp_path, tiny):
    """By the file, and by the crop, whatever file the same pixels come in."""
    tiny.data.splits = SHARES
    write(tmp_path / "in" / "real", 16)
    write(tmp_path / "in" / "fake", 16, seed=100)
    prepare(tiny, tmp_path / "in", tmp_path / "out")
    (info,) = (tmp_path / "out").glob("*/*/*/dataset_info.json")
    seen = digests_of_training(info.parent)
    split_of = {source.name: source.split for source in list_sources(tmp_path / "in", SHARES, 0)[0]}
    for path, split in split_of.items():
        known = sha256((tmp_path / "in" / path).read_bytes()).hexdigest() in seen
        assert known == (split != "test")
    assert set(seen.values()) == {path for path, split in split_of.items() if split != "test"}
    for kind in ("real", "fake"):
        (tmp_path / "again" / kind).mkdir(parents=True)
    for path in split_of:
        target = tmp_path / "again" / Path(path).with_suffix(".bmp")
        Image.open(tmp_path / "in" / path).save(target)
    tiny.data.prepare = ("test",)
    prepare(tiny, tmp_path / "again", tmp_path / "other")
    (info,) = (tmp_path / "other").glob("*/*/*/dataset_info.json")
    for digest, path in digests_of(info.parent, "test").items():
        assert (digest in seen) == (split_of[path.replace(".bmp", ".png")] != "test")


def test_same_seed_same_records(tmp_path, tiny):
    write(tmp_path / "in", 10)
    first, _ = prepare(tiny, tmp_path / "in", tmp_path / "a")
    again, _ = prepare(tiny, tmp_path / "in", tmp_path / "b")
    for split, rows in first.items():
        assert [row["image"] for row in rows] == [row["image"] for row in again[split]]
        assert [row["video_id"] for row in rows] == [row["video_id"] for row in again[split]]
    tiny.seed = 1
    other, _ = prepare(tiny, tmp_path / "in", tmp_path / "a")
    assert {r["path"] for r in other["test"]} != {r["path"] for r in first["test"]}


def test_without_a_measure_targets_are_the_labels(tmp_path, tiny):
    write(tmp_path / "in", 10)
    tiny.quality.measure = "none"
    rows, _ = prepare(tiny, tmp_path / "in", tmp_path / "out")
    for row in (row for split in rows.values() for row in split):
        assert row["fidelity"] == row["label"]


def test_scores_of_a_table(tmp_path, tiny):
    write(tmp_path / "in" / "real", 10)
    write(tmp_path / "in" / "fake", 10, seed=100)
    tiny.seed = 2  # which gives every split both
    lines = [f"real/{n:03d}.png,{n}" for n in range(10)]
    lines += [f"{n}.png,{2 * n}" for n in range(100, 109)]  # by the file's name; one is missing
    (tmp_path / "scores.csv").write_text("path,score\n" + "\n".join(lines) + "\n")
    tiny.quality.measure, tiny.quality.csv = "csv", str(tmp_path / "scores.csv")
    rows, metadata = prepare(tiny, tmp_path / "in", tmp_path / "out")
    everything = [row for split in rows.values() for row in split]
    assert len(everything) == 19
    assert metadata["notes"] == {"fake/109.png": "no quality score for it"}
    for row in everything:
        number = int(row["path"].split("/")[1].split(".")[0])
        assert row["quality"] == (number if row["label"] == REAL else 2 * number)
    assert_targets(rows)


@pytest.mark.slow
def test_faces_are_found_in_photographs(tmp_path, tiny):
    """Rendered people on a wider ground; a wall without anybody is noted."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(12):
        rng = np.random.default_rng(number)
        face, _ = renderer.render(
            renderer.sample_identity(rng), renderer.sample_scene(rng),
            renderer.sample_poses(rng, 1)[0], 320,
        )  # fmt: skip
        ground = np.full((480, 640, 3), 110 + number, np.uint8)
        ground[80:400, 40 + 20 * number : 360 + 20 * number] = face
        Image.fromarray(ground).save(folder / f"{number:02d}.jpg", quality=95)
    Image.fromarray(np.full((480, 640, 3), 140, np.uint8)).save(folder / "wall.png")
    tiny.data.dir, tiny.data.splits, tiny.faces.size = str(folder), SHARES, 48
    tiny.seed = 1
    builder = Builder.configured(tiny, tmp_path / "out")
    builder.download_and_prepare()
    place = Path(builder.data_path)
    metadata = schema.metadata_of(place)
    assert metadata["notes"].pop("wall.png") == "no face"
    assert metadata["notes"] == {}
    assert metadata["faces"]["detector"] == "mtcnn"
    sources = Records(place, SOURCES)
    for index in range(len(sources)):
        row = sources[index]
        x, y, width, height = row["bbox"]
        left = 40 + 20 * int(row["path"][:2])
        assert left - 40 < x + width / 2 - 160 < left + 40
        assert 40 < y + height / 2 - 160 < 120
        assert 100 < max(width, height) < 340
