"""Rendered people: splits by person, real and fake coded alike, quality lost alike."""

import numpy as np
import pytest

from deepfidelity_datasets.synthetic_faces.__main__ import main
from deepfidelity_datasets.synthetic_faces.clips import FEW, STRONGEST, Clip, Renderer
from deepfidelity_datasets.synthetic_faces.synthetic_faces_dataset_builder import Builder
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces import tracking
from deepfidelity_jax.faces.detection import FaceSettings
from deepfidelity_jax.forgeries import families
from deepfidelity_jax.images.pictures import decode_image, encode_image
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records import schema
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL, SOURCES, SPLITS, Records


@pytest.fixture(scope="module")
def rows(records_folder):
    found = {}
    for split in (*SPLITS, SOURCES):
        opened = Records(records_folder, split)
        found[split] = [opened[index] for index in range(len(opened))]
    return found


def identity(row):
    return row["video_id"].split("_")[0]


def test_no_person_is_in_two_splits(rows):
    people = {split: {identity(row) for row in rows[split]} for split in SPLITS}
    assert {name: len(found) for name, found in people.items()} == dict.fromkeys(SPLITS, 2)
    assert len(set.union(*people.values())) == 6
    assert {identity(row) for row in rows[SOURCES]} == people["train"]


def test_records_say_what_they_are(rows):
    everything = [row for split in SPLITS for row in rows[split]]
    keys = [(row["video_id"], row["frame"]) for row in everything]
    assert len(set(keys)) == len(keys)
    for row in everything:
        real = row["method"] == ORIGINAL
        assert row["label"] == (REAL if real else FAKE)
        assert row["video_id"].partition(":")[2] == ("" if real else row["method"])
        assert decode_image(row["image"]).shape == (64, 64, 3)
        assert 1 - STRONGEST <= row["known_quality"] <= 1
        assert ((row["landmarks"] > 0) & (row["landmarks"] < 64)).all()
        low, high = (0.6, 1.0) if real else (0.0, 0.4)
        assert low <= row["fidelity"] <= high + 1e-6


def test_every_clip_is_forged_in_a_few_ways(rows):
    for split in ("train", "validation", "test"):
        clips = {}
        for row in rows[split]:
            clips.setdefault(row["video_id"].partition(":")[0], []).append(row["method"])
        assert len(clips) == 2
        for methods in clips.values():
            assert sorted(methods)[::2] == sorted(methods)[1::2], "both frames alike"
            assert len(set(methods)) == 1 + FEW
            assert set(methods) <= {ORIGINAL, *families.FAMILIES}


def test_targets_fill_their_ranges_in_training(rows):
    for label, low, high in ((FAKE, 0.0, 0.4), (REAL, 0.6, 1.0)):
        found = sorted(
            (row["quality"], row["fidelity"]) for row in rows["train"] if row["label"] == label
        )
        assert found[0][1] == pytest.approx(low, abs=1e-6)
        assert found[-1][1] == pytest.approx(high, abs=1e-6)
        assert [target for _, target in found] == sorted(target for _, target in found)


def test_sources_are_the_clean_training_clips(rows):
    real = {(row["video_id"], row["frame"]) for row in rows["train"] if row["label"] == REAL}
    assert {(row["video_id"], row["frame"]) for row in rows[SOURCES]} == real
    assert {row["known_quality"] for row in rows[SOURCES]} == {1.0}
    assert {row["label"] for row in rows[SOURCES]} == {REAL}


def tables(image):
    """A JPEG's quantisation tables and sampling: how it was coded."""
    from io import BytesIO

    from PIL import Image, JpegImagePlugin

    with Image.open(BytesIO(image)) as opened:
        return opened.quantization, JpegImagePlugin.get_sampling(opened)


def test_real_and_fake_are_coded_alike(rows):
    """Sources all but lossless: training encodes what it makes of them."""
    for split in (*SPLITS, SOURCES):
        quality = 100 if split == SOURCES else 95
        expected = tables(encode_image(np.zeros((64, 64, 3), np.uint8), quality))
        for row in rows[split]:
            assert tables(row["image"]) == expected


def test_a_clip_is_a_function_of_seed_and_number():
    people = {"test": (4, 5)}

    def render(seed):
        clip = Clip(4, 0, "test")
        return Renderer(48, 1, Measure("none"), people, seed)(clip).faces

    first, again, other = render(0), render(0), render(1)
    assert [face.image for face in first] == [face.image for face in again]
    assert first[0].image != other[0].image
    methods = [face.method for face in first]
    assert methods[0] == ORIGINAL
    assert set(methods[1:]) <= set(families.FAMILIES)


def test_what_was_found_is_in_the_metadata(records_folder):
    metadata = schema.metadata_of(records_folder)
    found = dict(metadata["faces_found"]["test"])
    assert found.pop(ORIGINAL) == 4
    assert set(found) <= set(families.FAMILIES)
    assert sum(found.values()) == 4 * FEW
    assert metadata["quality"]["measure"] == "iso"
    assert metadata["faces"]["size"] == 64
    assert metadata["fidelity_scale"]["real"] == [0.6, 1.0]
    assert metadata["notes"] == {}
    assert set(metadata["clipped"]) == set(SPLITS)


def test_too_few_people(tiny, tmp_path):
    for option, value in (("identities", 5), ("clips", 0)):
        tiny.data[option], before = value, tiny.data[option]
        with pytest.raises(InputError, match="at least 6 people"):
            Builder.configured(tiny, tmp_path)
        tiny.data[option] = before


def test_the_name_of_the_records_follows_the_recipe(tiny, tmp_path):
    name = Builder.configured(tiny, tmp_path).builder_config.name
    assert Builder.configured(tiny, tmp_path).builder_config.name == name
    for option, value in (("data.clips", 3), ("faces.size", 80), ("seed", 1)):
        before = tiny[option]
        tiny.update_from_flattened_dict({option: value})
        assert Builder.configured(tiny, tmp_path).builder_config.name != name
        tiny.update_from_flattened_dict({option: before})


def test_people_are_written_as_pictures_in_which_faces_are_found(tmp_path, capsys):
    folder = tmp_path / "people"
    assert main([str(folder), "4"]) == 0
    pictures = sorted(folder.iterdir())
    assert [path.name for path in pictures] == [f"rendered_{i:04d}.jpg" for i in range(4)]
    held = [path.read_bytes() for path in pictures]
    assert len(set(held)) == 4
    found = [tracking.extract(path, FaceSettings(size=64)).people for path in pictures]
    assert [len(people) for people in found] == [1] * 4

    pictures[2].unlink()
    pictures[1].write_bytes(b"kept")
    assert main([str(folder), "4"]) == 0
    assert (pictures[2].read_bytes(), pictures[1].read_bytes()) == (held[2], b"kept")
    assert main([str(folder), "0"]) == 2
    assert "COUNT is 0" in capsys.readouterr().err
