"""A table of scores: every bad row is named, and every file finds its row."""

import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.quality import table


def written(tmp_path, text):
    path = tmp_path / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_scores_are_read(tmp_path):
    path = written(tmp_path, 'path,score\na.jpg,0.5\n"b, c.jpg",-1e-3\n\n')
    assert table.read_scores(path) == {"a.jpg": 0.5, "b, c.jpg": -0.001}


def test_columns_are_found_by_name_and_a_byte_order_mark_is_no_part_of_it(tmp_path):
    path = written(tmp_path, "\ufeffscore,model,path\n0.5,x,a.jpg\n")
    assert table.read_scores(str(path)) == {"a.jpg": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1.*path,score"),
        ("a.jpg,0.5\n", "line 1.*path,score"),
        ("path,score\na.jpg,0.5\nb.jpg\n", "line 3"),
        ("path,score\na.jpg,0.5,9\n", "line 2"),
        ("path,score\n,0.5\n", "line 2"),
        ("path,score\na.jpg,good\n", "line 2: the score 'good' is not a finite number"),
        ("path,score\na.jpg,nan\n", "line 2.*finite"),
        ("path,score\na.jpg,inf\n", "line 2.*finite"),
        ("path,score\na.jpg,1\nb.jpg,1\na.jpg,1\n", "line 4.*a.jpg"),
    ],
)
def test_a_bad_row_is_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        table.read_scores(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        table.read_scores(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="cannot be read"):
        table.read_scores(tmp_path)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"path,score\n\xff\xfe\x80,1\n")
    with pytest.raises(InputError, match=r"binary\.csv"):
        table.read_scores(binary)


@pytest.mark.parametrize(
    "row",
    [
        "real/a.jpg", "./real/a.jpg", "real\\a.jpg", ".\\real\\a.jpg", "/data/in/real/a.jpg",
        "C:\\data\\real\\a.jpg", "/elsewhere/real/a.jpg", "in/real/a.jpg", "a.jpg",
    ],
)  # fmt: skip
def test_a_table_finds_a_file_however_it_writes_its_path(row):
    names = ["real/a.jpg", "real/aa.jpg", "fake/b.jpg"]
    assert table.match_scores({row: 2.0}, names, "/data/in") == {"real/a.jpg": 2.0}


def test_a_table_that_may_mean_two_files_is_refused():
    names = ["a.jpg", "real/b.jpg", "fake/b.jpg", "fake/x/b.jpg", "real/c\u0327.jpg"]
    # A whole name comes first; names are the same in both ways to write them.
    assert table.match_scores({"a.jpg": 1.0, "ç.jpg": 2.0}, names, "in") == {
        "a.jpg": 1.0, names[-1]: 2.0,
    }  # fmt: skip
    with pytest.raises(InputError, match=r"'b.jpg' may be 3 files in in, such as real/b.jpg and"):
        table.match_scores({"b.jpg": 1.0}, names, "in")
    with pytest.raises(InputError, match=r"'real/b.jpg' and './real/b.jpg' are one file"):
        table.match_scores({"real/b.jpg": 1.0, "./real/b.jpg": 1.0}, names, "in")
    with pytest.raises(InputError, match="has x, y, z; the folder has a.jpg, real/b.jpg"):
        table.match_scores(dict.fromkeys("xyzw", 1.0), names, "in")
    with pytest.raises(InputError, match="no path"):
        table.match_scores({"other/a.jpg": 1.0}, names, "/data/in")
