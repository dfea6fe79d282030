"""Records are opened in every process, and never damaged ones."""

import json
import pickle
import shutil

import pytest
from conftest import change_records, no_more_files

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records import schema


def test_datasets_and_their_builders():
    names = schema.datasets()
    assert names == [
        "celeb_df",
        "face_folder",
        "ffpp",
        "manifest",
        "synthetic_faces",
        "wild_deepfake",
    ]
    for name in names:
        assert f".{name}." in schema.builder_class(name).__module__
    with pytest.raises(InputError, match="'mars', but datasets/ holds celeb_df, face_folder"):
        schema.builder_class("mars")


def test_metadata_that_changed_is_refused(tmp_path):
    metadata = {"seed": 1, "fidelity_scale": {"fake_quality": [0.1, 0.9]}}
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(metadata))
    assert schema.metadata_of(tmp_path) == metadata, "earlier versions wrote no checksum"
    whole = metadata | {schema.CHECKSUM: schema.checksum(metadata)}
    assert schema.checksum(whole) == whole[schema.CHECKSUM]
    path.write_text(json.dumps(whole))
    assert schema.metadata_of(tmp_path) == whole
    path.write_text(json.dumps(whole).replace("0.9", "0.8"))
    with pytest.raises(InputError, match=r"damaged or incomplete .metadata.json has changed"):
        schema.metadata_of(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="damaged or incomplete"):
        schema.metadata_of(tmp_path)


def test_records_are_told_from_others_of_their_name(records_folder, tmp_path):
    """Wherever they lie; also from those that an earlier preparation left there."""
    place = tmp_path.joinpath(*records_folder.parts[-3:])
    shutil.copytree(records_folder, place)
    assert schema.identity(place) == schema.identity(records_folder)
    change_records(place)
    whole, before = schema.identity(place), schema.identity(records_folder)
    assert whole.split(" ")[0] == before.split(" ")[0] == "/".join(records_folder.parts[-3:])
    assert whole != before
    info = place / "dataset_info.json"
    written = json.loads(info.read_text())
    written["splits"][0]["numBytes"] = "1"
    info.write_text(json.dumps(written))
    assert schema.identity(place) != whole, "the same counts of other pictures"


def test_records_travel_to_other_processes(records_folder):
    records = schema.Records(records_folder, "test")
    first = records[0]
    assert first["image"][:2] == b"\xff\xd8", "still encoded"
    assert all(type(first[key]) is str for key in ("method", "video_id", "path", "origins"))
    again = pickle.loads(pickle.dumps(records))
    assert len(again) == len(records) == schema.splits_of(records_folder)["test"]
    assert again[0]["image"] == first["image"]
    with pytest.raises(IndexError):
        records[len(records)]


def test_damaged_records_are_one_line(records_folder, tmp_path):
    copy = shutil.copytree(records_folder, tmp_path / "copy")
    for path in copy.glob("*test*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"the records in .*copy are damaged") as error:
        schema.Records(copy, "test")[0]
    assert "\n" not in str(error.value)


def test_records_that_cannot_be_read_are_not_called_damaged(records_folder):
    wanted = r"the records in .* cannot be read: too many open files"
    for read in (
        schema.metadata_of,
        schema.splits_of,
        lambda folder: schema.Records(folder, "test")[0],
    ):
        read(records_folder)
        with no_more_files(), pytest.raises(InputError, match=wanted):
            read(records_folder)
