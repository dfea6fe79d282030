"""What a detector was trained on: by its features, by what it started from, or unknown."""

import numpy as np
import pytest

from deepfidelity_configs import default, ffpp, protocol_ffpp
from deepfidelity_jax.detector import bundled
from deepfidelity_jax.detector.seen_methods import has_seen, require_unseen
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.forgeries.families import FAMILIES


def trained(place, dataset, methods=(), left_out=(), start=""):
    """The folder of a finished run on these methods; without any, one that is not fitted."""
    config = default.get_config()
    config.data.dataset, config.train.leave_out, config.init_from = dataset, left_out, str(start)
    place.mkdir()
    (place / "config.json").write_text(config.to_json())
    if methods:
        (place / "features").mkdir()
    for split in ("train", "validation") if methods else ():
        column = np.array(["original", *methods])
        np.savez(place / "features" / f"{dataset}-{split}.npz", method=column)
    return place


def test_a_detector_has_seen_the_methods_of_its_records(tmp_path):
    own = trained(tmp_path / "own", "ffpp", ("Deepfakes", "FaceSwap"), left_out=("FaceSwap",))
    answers = {"Deepfakes": True, "FaceSwap": False, "Face2Face": False, "swap": False}
    assert {method: has_seen(own, method) for method in answers} == answers
    (own / "features" / "ffpp-validation.npz").write_bytes(b"half")
    assert has_seen(own, "Face2Face") is None
    assert has_seen(own, "FaceSwap") is False


def test_who_forges_has_seen_every_family(tmp_path):
    own = trained(tmp_path / "own", "face_folder", ("swap", "morph"), left_out=("generated",))
    assert has_seen(own, "self_blend") is True
    assert has_seen(own, "generated") is False
    assert has_seen(own, "Deepfakes") is False
    assert all(has_seen(bundled.folder(), family) for family in FAMILIES)
    assert has_seen(bundled.folder(), "Deepfakes") is False


def test_what_a_detector_started_from_counts(tmp_path):
    first = trained(tmp_path / "first", "face_folder", tuple(FAMILIES))
    second = trained(tmp_path / "second", "ffpp", ("Deepfakes",), start=first)
    assert has_seen(second, "swap") is True
    assert has_seen(second, "Face2Face") is False
    other = trained(tmp_path / "other", "ffpp", ("Deepfakes",), start="bundled")
    assert has_seen(other, "swap") is True
    lost = trained(tmp_path / "lost", "ffpp", ("Deepfakes",), start=tmp_path / "gone")
    assert has_seen(lost, "swap") is None
    assert has_seen(lost, "Deepfakes") is True
    moved = trained(tmp_path / "moved", "ffpp", ("Deepfakes",), start=tmp_path / "moved")
    assert has_seen(moved, "swap") is None, "it took the place of what it started from"


def test_only_what_is_known_is_claimed(tmp_path):
    config = ffpp.get_config()
    config.train.leave_out = ("Deepfakes",)
    config.init_from = "bundled"
    require_unseen(config)
    config.init_from = str(trained(tmp_path / "untold", "face_folder"))
    with pytest.raises(InputError, match="untold may have been trained with it"):
        require_unseen(config)
    config.init_from = str(trained(tmp_path / "seen", "ffpp", ("Deepfakes",)))
    with pytest.raises(InputError, match="names Deepfakes, but .*seen was trained with it"):
        require_unseen(config)


def test_the_protocol_starts_from_a_detector_of_ones_own(tmp_path):
    own = trained(tmp_path / "own", "face_folder", tuple(FAMILIES))
    config = protocol_ffpp.get_config()
    config.init_from = str(own)
    for _, changed in config.ablate.factors[0][1]:
        config.train.leave_out = changed.get("train.leave_out", ())
        require_unseen(config)
