"""Files are read as they say, turned so that high is real; what they do not say is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
from score_tables import simulated

from deepfidelity_jax.comparison.prediction_files import read_all
from deepfidelity_jax.errors import InputError

TEXT = "path,label,score\na.png,fake,0.9\nb.png,REAL,0.2\n"


@pytest.fixture
def other(tmp_path):
    def write(text=TEXT, name="other.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def ours(tmp_path):
    path = tmp_path / "ours" / "predictions.csv"
    table = simulated(np.random.default_rng(0), videos=12)
    table.write_csv(path, {"group_age": ["young", "old"] * 24})
    return table, str(path)


def test_a_high_score_means_what_is_told(other):
    two = [other(), other(name="two.csv")]
    fake, real = read_all(two, ["fake", "real"], [0.5, 0.5], None)
    assert fake.label.tolist() == real.label.tolist() == [0, 1]
    assert fake.score.tolist() == [-0.9, -0.2]
    assert real.score.tolist() == [0.9, 0.2]
    assert fake.calls_real(fake.score).tolist() == [False, True]
    assert real.calls_real(real.score).tolist() == [True, False]
    # From the threshold on a score means the class that a high one means.
    assert not fake.calls_real(np.array([-0.5]))[0]
    assert real.calls_real(np.array([0.5]))[0]


def test_our_files_bring_their_threshold_and_groups(ours, other, tmp_path):
    table, path = ours
    beside = tmp_path / "ours" / "metrics.json"
    found = read_all([path, other()], ["fake"], [], None)[0]
    assert found.threshold is None
    assert "metrics.json" in found.threshold_from
    beside.write_text(json.dumps({"threshold": 0.25, "threshold_from": "validation"}))
    found = read_all([path, other()], ["fake"], [], None)[0]
    assert (found.threshold, found.threshold_from, found.high) == (0.25, "validation", "real")
    np.testing.assert_array_equal(found.score, table.fidelity)
    assert found.groups == {"group_age": ["young", "old"] * 24}
    beside.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_all([path, other()], ["fake"], [], None)


def test_a_photograph_without_a_video_id_is_one_of_its_own(other):
    text = "path,label,score,video_id,frame\n./a.png,real,.1,,0\nb.png,real,.2,,0\nc,fake,.9,v,0\n"
    found, _ = read_all([other(text), other(text, "two.csv")], ["fake"], [], None)
    assert found.video == found.columns["video_id"] == ["a.png", "b.png", "v"]
    with pytest.raises(InputError, match="record 3: video_id and path are both empty"):
        read_all([other(text.replace("b.png", "")), other(name="two.csv")], ["fake"], [], None)


def test_people_and_originals_are_sources_and_other_columns_are_named(other):
    text = "path,label,score,frame,person,people,origins,group_age,dataset,Person\n"
    text += "a,real,1,0,Ann Lee,person/5,,old,d,x\nb,fake,0,0,,,video/1 video/2,old,d,x\n"
    found, plain = read_all([other(text), other(name="two.csv")], ["fake"], [], None)
    assert [names.split() for names in found.sources] == [
        ["person/Ann%20Lee", "person/5"], ["video/1", "video/2"],
    ]  # fmt: skip
    assert found.unused == ["dataset", "Person"]
    assert plain.sources == plain.unused == []


def test_a_spreadsheet_may_have_saved_them(ours, other):
    table, path = ours
    before = read_all([path, other()], ["fake"], [], None)[0]
    saved = Path(path).read_text(encoding="utf-8")
    Path(path).write_text(saved.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    found = read_all([path, other()], ["fake"], [], None)[0]
    assert (found.columns, found.groups) == (before.columns, before.groups)
    np.testing.assert_array_equal(found.score, table.fidelity)


@pytest.mark.parametrize(
    ("text", "one", "told"),
    [
        ("path,label\na,fake\n", None, "lacks the columns score"),
        ("", None, "lacks the columns path, label, score"),
        (TEXT.replace("fake", "0"), None, "--one=fake or --one=real"),
        (TEXT.replace("fake", "maybe"), None, "record 2: the label is 'maybe'"),
        (TEXT.replace("fake", "2"), "real", "record 2: the label is '2'"),
        (TEXT.replace("0.9", "high"), None, "record 2: the score 'high'"),
        (TEXT.replace("0.2", "nan"), None, "record 3: the score 'nan'"),
        (TEXT.replace("0.2", "inf"), None, "record 3: the score 'inf'"),
        (TEXT + "c.png,fake\n", None, "record 4: expected 3 values"),
        ("path,label,score,score\na,fake,1,2\n", None, "has two columns 'score': keep one"),
        ("fidelity,path,path\n", None, "has two columns 'path': keep one"),
    ],
)
def test_what_a_file_may_not_hold(other, text, one, told):
    with pytest.raises(InputError, match=told) as caught:
        read_all([other(text), other(name="two.csv")], ["fake"], [], one)
    assert "\n" not in str(caught.value)


def test_what_has_to_be_told(other, ours, tmp_path):
    path = other()
    for paths, high, thresholds, told in (
        ([path], ["fake"], [], "two or more"),
        ([path, path], ["fake"], [], "given twice"),
        ([path, ours[1]], [], [], "give --high=fake or --high=real"),
        ([path, ours[1]], ["fake", "real"], [], "--high is given 2 times, but 1 of the files"),
        ([path, other(name="2.csv")], ["fake"], [1.0, 2.0, 3.0], "--threshold is given 3 times"),
        ([path, str(tmp_path / "none.csv")], ["fake"], [], "cannot be read"),
        ([path, str(tmp_path)], ["fake"], [], "cannot be read"),
    ):
        with pytest.raises(InputError, match=told):
            read_all(paths, high, thresholds, None)


def test_labels_in_numbers_mean_what_is_told(other):
    text = "path,label,score\na,1,0.9\nb,0,0.1\n"
    for one, expected in (("fake", [0, 1]), ("real", [1, 0])):
        found = read_all([other(text), other(text, "two.csv")], ["fake"], [], one)
        assert found[0].label.tolist() == expected


def test_harmless_differences_and_rows_without_a_score(other):
    text = '\ufeffpath,label,score\r\n.\\x\\a.png,Fake,\r\n"x/b, c.png", real ,0.5\r\n'
    found = read_all([other(text), other(name="two.csv")], ["real"], [], None)[0]
    assert found.columns == {"path": ["x/b, c.png"]}
    assert found.unscored == ["x/a.png"]
