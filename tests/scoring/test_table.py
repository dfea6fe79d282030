"""predictions.csv comes back as it was written, and videos are never mixed up."""

from dataclasses import fields, replace

import numpy as np
import pytest
from score_tables import table

from deepfidelity_configs import default
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.scoring.metrics import summarize
from deepfidelity_jax.scoring.table import (
    OPTIONAL,
    Predictions,
    cluster_rows,
    group_videos,
    read_groups,
    sources_of,
)


def test_a_video_scores_the_mean_of_its_frames():
    label = [1, 1, 1, 0, 0]
    found = summarize(
        table(label, [0.9, 0.9, 0.1, 0.4, 0.5], ["r", "r", "r", "f", "f"]), 0.5, "fixed"
    )
    assert found["video_auc"] == found["video_acc"] == 1
    assert found["frame_auc"] == pytest.approx(4 / 6)
    assert found["n_videos"] == 2


def test_same_names_in_different_methods_stay_apart():
    """The trap of averaging 000_003 of four methods into one video."""
    label = [1, 1, 0, 0, 0, 0]
    method = ["original", "original", "deepfakes", "deepfakes", "faceswap", "faceswap"]
    names = ["real/000", "real/001", *(f"{m}/000_003" for m in method[2:])]
    videos = group_videos(table(label, [0.9, 0.8, 0.1, 0.3, 0.5, 0.7], names, method))
    assert videos.video_id.tolist() == [
        "deepfakes/000_003",
        "faceswap/000_003",
        "real/000",
        "real/001",
    ]
    np.testing.assert_allclose(videos.fidelity, [0.2, 0.6, 0.9, 0.8], rtol=1e-6)
    assert videos.label.tolist() == [0, 0, 1, 1]
    assert videos.of_frame.tolist() == [2, 3, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("label", "method"), [([1, 0], ["original", "swap"]), ([0, 0], ["swap", "blend"])]
)
def test_a_name_that_stands_for_two_videos_is_refused(label, method):
    with pytest.raises(InputError, match=r"000_003.*unique"):
        group_videos(table(label, [0.9, 0.1], ["000_003"] * 2, method))


def test_same_names_in_different_datasets_stay_apart():
    one = table([1, 0], [0.9, 0.2], ["000", "001"])
    columns = {field.name: np.tile(getattr(one, field.name), 2) for field in fields(one)}
    columns["dataset"] = ["d", "d", "e", "e"]
    columns["label"] = [1, 0, 0, 1]
    columns["method"] = ["original", "swap", "swap", "original"]
    assert len(group_videos(Predictions(**columns)).label) == 4


def test_csv_round_trip(tmp_path):
    rng = np.random.default_rng(8)
    names = [
        "a,b.png",
        'line\nbreak "quoted".png',
        "<script>.png",
        "naïve 顔.png",
        "byte\udcff.png",
    ]
    written = replace(
        table([0, 1, 0, 1, 0], rng.random(5)),
        path=names,
        quality=[np.nan, 1e-30, 1e30, -0.1, 1 / 3],
    )
    path = tmp_path / "eval" / "predictions.csv"
    written.write_csv(path)
    read = Predictions.read_csv(path)
    for field in fields(written):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(written, field.name))
    header, first = path.read_bytes().split(b"\n")[:2]
    assert header == (
        b"path,dataset,split,method,video_id,frame,label,quality,fidelity_target,fidelity,p_fake"
    )
    assert b",fake," in first
    made = replace(written, origins=["video/1", "video/1 video/2", "", "", ""])
    made.write_csv(path)
    assert path.read_bytes().split(b"\n")[0] == header + b",origins"
    np.testing.assert_array_equal(Predictions.read_csv(path).origins, made.origins)
    shown = replace(written, people=["person/1", "person/1 person/2", "", "", ""])
    shown.write_csv(path)
    assert path.read_bytes().split(b"\n")[0] == header + b",people"
    np.testing.assert_array_equal(Predictions.read_csv(path).people, shown.people)
    doubtful = replace(written, fidelity_deviation=[0.1, 0.2, 0.3, np.nan, 1 / 3])
    doubtful.write_csv(path)
    assert path.read_bytes().split(b"\n")[0] == header + b",fidelity_deviation"
    np.testing.assert_array_equal(
        Predictions.read_csv(path).fidelity_deviation, doubtful.fidelity_deviation
    )
    assert [file.name for file in path.parent.iterdir()] == ["predictions.csv"]


def test_csv_round_trip_of_no_rows(tmp_path):
    table([], []).write_csv(tmp_path / "p.csv")
    assert len(Predictions.read_csv(tmp_path / "p.csv")) == 0


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "path,label\na,fake\n",
        "{header}\na,d,test,swap,v,0,fake,1,1,1\n",
        "{header}\na,d,test,swap,v,0,false,1,1,1,1\n",
        "{header}\na,d,test,swap,v,0,fake,1,1,high,1\n",
    ],
)
def test_a_damaged_csv_is_named(tmp_path, text):
    path = tmp_path / "p.csv"
    if text is not None:
        names = [field.name for field in fields(Predictions)]
        header = ",".join(name for name in names if name not in OPTIONAL)
        path.write_text(text.format(header=header), encoding="utf-8")
    with pytest.raises(InputError, match=r"p\.csv"):
        Predictions.read_csv(path)


def test_a_column_that_is_there_twice_is_named(tmp_path):
    table([0, 1], [0.1, 0.9]).write_csv(tmp_path / "p.csv")
    lines = (tmp_path / "p.csv").read_text().splitlines()
    doubled = [f"{line},{last}" for line, last in zip(lines, ("fidelity", "1", "0"), strict=True)]
    (tmp_path / "p.csv").write_text("\n".join(doubled))
    with pytest.raises(InputError, match="has two columns 'fidelity': keep one"):
        Predictions.read_csv(tmp_path / "p.csv")


def test_columns_must_be_equally_long():
    with pytest.raises(ValueError, match="equal length"):
        replace(table([0, 1], [0.1, 0.9]), frame=[1])
    with pytest.raises(ValueError, match="labels must be"):
        table([0, 2], [0.1, 0.9])


def test_the_people_of_a_file_are_as_real_as_the_least_of_them():
    two = table([1, 1, 1, 1, 0, 0], [0.9, 0.7, 0.1, 0.3, 0.6, 0.8], ["a", "a", "b", "b", "c", "c"])
    two = replace(two, path=["clip"] * 4 + ["c1", "c2"])
    videos = group_videos(two, "least_person")
    assert videos.label.tolist() == [1, 0]
    np.testing.assert_allclose(videos.fidelity, [0.2, 0.7])
    assert videos.video_id.tolist() == ["b", "c"]
    assert videos.of_frame.tolist() == [0, 0, 0, 0, 1, 1]
    assert group_videos(two, "median").label.tolist() == [1, 1, 0]


def test_what_was_forged_from_a_file_is_another_file():
    """As our own forgeries are recorded: under the path of the real file, person by person."""
    names = [f"{person}{method}" for method in ("", ":swap", ":blend") for person in "ab"]
    methods = ["original"] * 2 + ["swap"] * 2 + ["blend"] * 2
    both = table([1, 1, 0, 0, 0, 0], [0.9, 0.8, 0.3, 0.4, 0.2, 0.1], names, methods)
    videos = group_videos(replace(both, path=["clip"] * 6), "least_person")
    found = dict(zip(videos.video_id, videos.fidelity, strict=True))
    assert found == pytest.approx({"b": 0.8, "a:swap": 0.3, "b:blend": 0.1})
    assert videos.label.tolist() == [1, 0, 0]


def test_rows_belong_together_by_file_original_or_person_in_every_table():
    one = table([1, 0, 1, 1], [0.5] * 4, ["a", "a:swap", "b", "c"])
    one = replace(one, path=["a", "a", "b", "c"])
    other = replace(table([0, 1], [0.5] * 2, ["d", "b"]), path=["d", "b"])

    def clusters(first, second):
        return [own.tolist() for own in cluster_rows([first, second])]

    assert clusters(one, other) == [[0, 0, 1, 2], [3, 1]]
    of_two = replace(other, people=["person/1 person/2", "person/2"])
    assert clusters(one, of_two) == [[0, 0, 1, 2], [1, 1]]
    shared = replace(one, origins=["video/a", "video/a", "video/b", "video/b"])
    assert clusters(shared, other) == [[0, 0, 1, 1], [2, 1]]


def test_files_of_a_group_belong_together():
    config = default.get_config()
    origins = ["group/a", "group/a person/1", "group/b", "video/c"]
    columns = sources_of(config, origins)
    assert columns["origins"] == ["group/a", "group/a", "group/b", "video/c"]
    four = replace(table([1, 1, 0, 0], [0.5] * 4, ["1", "2", "3", "4"]), path=["1", "2", "3", "4"])
    (clusters,) = cluster_rows([replace(four, **columns)])
    assert clusters.tolist() == [0, 0, 1, 2]


def test_groups_are_written_beside_the_columns(tmp_path):
    one = table([0, 1], [0.1, 0.9])
    one.write_csv(tmp_path / "p.csv", {"group_age": ["young", ""]})
    assert read_groups(tmp_path / "p.csv") == {"group_age": ["young", ""]}
    np.testing.assert_array_equal(Predictions.read_csv(tmp_path / "p.csv").fidelity, one.fidelity)
