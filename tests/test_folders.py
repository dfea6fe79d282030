"""One folder, wherever it lies."""

import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from deepfidelity_jax import folders
from deepfidelity_jax.errors import InputError


@pytest.fixture
def run(tmp_path):
    place = tmp_path / "runs [1]" / "one"
    (place / "checkpoints" / "5").mkdir(parents=True)
    (place / "config.json").write_text("{}")
    (place / "checkpoints" / "5" / "état").write_bytes(b"\0\1")
    return place


def test_a_folder_on_disk_is_taken_as_it_lies(run, tmp_path):
    assert folders.fetch(str(run), "config.json", tmp_path / "copies") == run
    assert not (tmp_path / "copies").exists()


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bucket", "zip in a bucket"])
def test_the_same_files_from_everywhere(run, tmp_path, kind):
    place = run.parent
    if kind != "bucket":
        form = kind.split()[0]
        place = shutil.make_archive(tmp_path / "given", form, run.parent.parent, run.parent.name)
    if "bucket" in kind:  # another file system by its address
        place = f"file://{place}"
    place = str(place)
    found = folders.fetch(place, "config.json", tmp_path / "copies")
    assert found.is_relative_to(tmp_path / "copies")
    assert (found / "config.json").read_text() == "{}"
    assert (found / "checkpoints" / "5" / "état").read_bytes() == b"\0\1"


def test_the_least_deep_is_meant(run, tmp_path):
    inner = run / "deeper"
    inner.mkdir()
    shutil.copy(run / "config.json", inner)
    place = shutil.make_archive(tmp_path / "given", "zip", run.parent)
    assert folders.fetch(place, "config.json", tmp_path / "copies").name == "one"


def test_one_of_several_is_never_guessed(run, tmp_path):
    shutil.copytree(run, run.parent / "two")
    with pytest.raises(InputError, match=r"holds 2 such folders, one, two: give one"):
        folders.fetch(str(run.parent), "config.json", tmp_path / "copies")


def test_splits_around_classes_are_one_folder(tmp_path):
    place = tmp_path / "deep" / "faces"
    for inner in ("train/Real", "train/Fake", "test/Real", "test/Fake"):
        (place / inner).mkdir(parents=True)
    assert folders.fetch(str(tmp_path), ("real", "train"), tmp_path / "copies") == place
    assert folders.fetch(str(place / "test"), ("real", "train"), tmp_path) == place / "test"


def test_what_will_not_do_is_one_line(run, tmp_path):
    text, broken = tmp_path / "text.zip", tmp_path / "broken.tar.gz"
    text.write_text("no archive")
    whole = shutil.make_archive(tmp_path / "whole", "gztar", run)
    broken.write_bytes(Path(whole).read_bytes()[:100])
    for place, told in (
        (tmp_path / "missing", "no such file or folder"),
        (f"file://{tmp_path}/missing", "missing"),
        ("nowhere://bucket/run", "nowhere://bucket/run cannot be read"),
        (text, "not a readable .zip, .tar or .tar.gz"),
        (broken, "not a readable .zip, .tar or .tar.gz"),
        (run / "checkpoints", "holds no config.json"),
    ):
        with pytest.raises(InputError) as caught:
            folders.fetch(str(place), "config.json", tmp_path / "copies")
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_writes_nothing_outside(tmp_path, kind):
    payload = tmp_path / "config.json"
    payload.write_text("{}")
    name = "/".join(["..", "..", "outside", "config.json"])
    place = tmp_path / f"evil.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(place, "w") as file:
            file.write(payload, name)
    else:
        with tarfile.open(place, "w") as file:
            file.add(payload, name)
    with pytest.raises(InputError):
        folders.fetch(str(place), "config.json", tmp_path / "a" / "b" / "copies")
    assert not list(tmp_path.rglob("outside"))
