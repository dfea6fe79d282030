"""What was found in the sources, summed up for a person."""

import csv

import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records.source import (
    count_reasons,
    describe,
    require_both_classes,
    write_left_out,
)


def test_each_split_needs_both_classes():
    full = {"original": 1, "swap": 1}
    require_both_classes({name: full for name in ("train", "validation", "test")})
    for missing in ("original", "swap"):
        lacking = {key: value for key, value in full.items() if key != missing}
        found = {"train": full, "validation": full, "test": lacking}
        name = "real" if missing == "original" else "fake"
        with pytest.raises(InputError, match=f"no {name} face was found for the test split"):
            require_both_classes(found)
    with pytest.raises(InputError, match="validation.*config.data.splits or config.seed"):
        require_both_classes({"train": full, "test": full})
    with pytest.raises(InputError, match="or change config.faces.detector$"):
        require_both_classes({"test": {"swap": 1}}, ("test",))


def test_long_lists_of_notes_are_cut():
    text = describe({f"{n:02d}.jpg": "truncated JPEG" for n in range(25)})
    assert text.count("truncated JPEG") == 10
    assert text.endswith("and 15 more")
    text = describe({f"{n:02d}.jpg": "truncated JPEG" for n in range(25)}, "a.json")
    assert text.endswith("and 15 more, listed in a.json")


def test_notes_are_counted_in_one_line():
    notes = dict.fromkeys(map(str, range(5)), "hidden") | {"x": "no face", "a": "truncated JPEG"}
    assert count_reasons(notes) == "5 hidden, 1 no face, 1 truncated JPEG"
    assert describe(notes).startswith("  a: truncated JPEG\n  x: no face\n")
    eight = {str(n): note for n, note in enumerate("aabcdefgh")}
    assert count_reasons(eight) == "2 a, 1 b, 1 c, 1 d, 1 e, 1 f, 2 for other reasons"


def test_a_table_of_what_is_left_out(tmp_path):
    """Read back whole, whatever the names; an empty one says that nothing is."""
    reasons = {"b,\n.png": 'no "face"', "a\udcff.png": "hidden"}
    write_left_out(tmp_path / "t.csv", reasons, {"b,\n.png": 7})
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"path": "a\\udcff.png", "reason": "hidden", "line": ""},
        {"path": "b,\n.png", "reason": 'no "face"', "line": "7"},
    ]
    write_left_out(tmp_path / "t.csv", {}, {})
    assert (tmp_path / "t.csv").read_text() == "path,reason\n"
