"""Pictures of training are known again by their bytes, whatever their names."""

import json

import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.leaks import training_pictures


def test_pictures_seen_in_training_are_refused_by_name(tmp_path):
    test = {"d1": "test/a.png", "d2": "test/b.png", "d3": "test/c.png"}
    training_pictures.require_unseen(test, {"d4": "real/a.png"}, tmp_path)
    with pytest.raises(InputError) as error:
        training_pictures.require_unseen(test, {"d1": "real/x.png", "d3": "test/c.png"}, tmp_path)
    line = str(error.value)
    assert f"{tmp_path} holds 2 of the pictures" in line
    assert "test/a.png (real/x.png), test/c.png; take them out" in line


def test_many_are_named_in_part(tmp_path):
    for count, rest in ((9, " and 4 more"), (6, " and 1 more"), (5, "")):
        seen = {str(number): f"{number}.png" for number in range(count)}
        with pytest.raises(InputError, match=rf"holds {count} of .*4.png{rest}; take") as error:
            training_pictures.require_unseen(seen, seen, tmp_path)
        assert str(error.value).count(".png") == 5


def test_what_a_workdir_remembers(tmp_path):
    assert training_pictures.seen_by(tmp_path) == {}
    kept = {"d1": "a.png"}
    (tmp_path / training_pictures.SEEN).write_text(json.dumps(kept))
    assert training_pictures.seen_by(tmp_path) == kept


def test_one_digest_for_many_faces():
    digest = training_pictures.digest_of_faces
    assert digest(["a", "b"]) == digest(["b", "a"]) != digest(["a", "c"])
    assert digest(iter(["a", "b"])) != digest(["ab", "c"])


def test_training_goes_on_with_what_was_seen_before(records_folder, tmp_path):
    """Validation and the clean sources count as training; so does what the weights came from."""
    before, work = tmp_path / "before", tmp_path / "work"
    before.mkdir()
    (before / training_pictures.SEEN).write_text(json.dumps({"d1": "a.png"}))
    training_pictures.remember(records_folder, work, str(before))
    seen = training_pictures.seen_by(work)
    own = training_pictures.digests_of_training(records_folder)
    assert seen == own | {"d1": "a.png"}
    for split in ("train", "validation", "sources"):
        assert training_pictures.digests_of(records_folder, split).keys() <= own.keys()
    test = training_pictures.digests_of(records_folder, "test")
    assert not test.keys() & own.keys()
    found = training_pictures.require_test_unseen(records_folder, work, ())
    assert found == training_pictures.digest_of_faces(test)
    training_pictures.remember(records_folder, work, begun=True)
    assert training_pictures.seen_by(work) == seen, "a workdir with weights forgets nothing"
    training_pictures.remember(records_folder, work)
    assert training_pictures.seen_by(work) == own, "without weights nothing was seen"
    (before / training_pictures.SEEN).write_text(json.dumps({next(iter(test)): "a.png"}))
    with pytest.raises(InputError, match="holds 1 of the pictures"):
        training_pictures.require_test_unseen(records_folder, before, ())
    with pytest.raises(InputError, match="holds 1 of the pictures"):
        training_pictures.remember(records_folder, work, str(before))
