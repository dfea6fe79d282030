"""A table of files: read rightly or refused in one line, every row a record or its reason."""

import csv
import json
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TREE, assert_told
from test_own_data import picture

from deepfidelity_configs import manifest as manifest_config
from deepfidelity_datasets.manifest.manifest_dataset_builder import Builder
from deepfidelity_datasets.manifest.sources import find_files, list_sources
from deepfidelity_datasets.manifest.table import read_table
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.leaks import shared_sources
from deepfidelity_jax.records.own_files import groups_of
from deepfidelity_jax.records.schema import (
    CHECKSUM,
    FAKE,
    ORIGINAL,
    REAL,
    SPLITS,
    Records,
    metadata_of,
)
from deepfidelity_jax.records.source import LEFT_OUT

pytestmark = pytest.mark.usefixtures("one_core")

SHARES = (0.6, 0.2, 0.2)
COUNT = 24
CONFIG = f"--config={TREE / 'configs' / 'manifest.py'}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """`r/0.png` and on, `f/0.png` and on; all differ."""
    place = tmp_path_factory.mktemp("pictures")
    for number, kind in enumerate("rf"):
        (place / kind).mkdir()
        for index in range(COUNT):
            data = picture(1000 * number + index)
            (place / kind / f"{index}.png").write_bytes(data)
    return place


def rows_of(*columns):
    """A row for every picture, with these further columns empty."""
    names = [(kind, index) for kind in "rf" for index in range(COUNT)]
    label = {"r": "real", "f": "fake"}
    return [
        {"path": f"{kind}/{index}.png", "label": label[kind]} | dict.fromkeys(columns, "")
        for kind, index in names
    ]


def text_of(rows, mark=","):
    """The rows as text of a CSV file."""
    lines = [mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]
    return "\n".join(lines) + "\n"


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(data)
    return path


def configured(table, folder="", **changes):
    config = manifest_config.get_config()
    settings = {
        "data.manifest": str(table), "data.dir": str(folder), "data.splits": SHARES,
        "faces.detector": "none", "faces.size": 32, "quality.measure": "none",
    }  # fmt: skip
    config.update_from_flattened_dict(settings | changes)
    return config


def listed(table, folder, place, **changes):
    """What the builder lists, without preparing it."""
    return Builder.configured(configured(table, folder, **changes), place).builder_config


def prepared(config, place):
    """Rows of each split, and the folder of the records."""
    builder = Builder.configured(config, place)
    builder.download_and_prepare()
    folder = Path(builder.data_path)
    metadata = metadata_of(folder)
    rows = {}
    for split in metadata["faces_found"]:
        opened = Records(folder, split)
        rows[split] = [opened[index] for index in range(len(opened))]
    return rows, folder


def changed(number, **values):
    """A CSV file in which one row has other values."""
    rows = rows_of(*(name for name in values if name not in ("path", "label")))
    rows[number] |= values
    return text_of(rows)


def with_column(name, value_of, **others):
    rows = rows_of(name, *others)
    for number, row in enumerate(rows):
        row[name] = value_of(number)
    return rows


def every_fourth(number):
    return "test" if number % 4 == 0 else "Train"


def spread(number):
    return ("train", "val", "test")[number % 3]


PLAIN = text_of(rows_of())
PEOPLE = [row | {"person": f"p{n // 2}"} for n, row in enumerate(with_column("split", spread))]
VIDEOS = [row | {"video_id": f"v{n // 2}"} for n, row in enumerate(rows_of())]
MIXED_VIDEO = [*VIDEOS[:-1], VIDEOS[-1] | {"video_id": "v0"}]

DAMAGED = {
    "empty": ("", "is empty"),
    "blank lines": ("\n\n \n", "no column path and label"),
    "only a header": ("path,label\n", "is empty"),
    "no header": (PLAIN.split("\n", 1)[1], "no column path and label", "first line"),
    "no label column": (PLAIN.replace("label", "class", 1), "no column label"),
    "no path column": (PLAIN.replace("path", "pathh", 1), "no column path", "'pathh'"),
    "semicolons": (text_of(rows_of(), ";"), "separate values by commas, not by ;"),
    "tabs": (text_of(rows_of(), "\t"), "not by tabs"),
    "a column twice": (PLAIN.replace("path,label", "path,label,Label", 1), "two columns 'label'"),
    "a value too many": (PLAIN + "r/x.png,real,more\n", "3 values, but the header has 2"),
    "a value too few": (PLAIN + "r/x.png\n", f"line {2 * COUNT + 2}: 1 values"),
    "an open quote": (PLAIN.replace("r/5.png", '"r/5.png'), "line"),
    "a huge field": (PLAIN + "x" * 200_000 + ",real\n", "field larger than field limit"),
    "not UTF-8": (PLAIN.encode() + b"\xff\xfe.png,real\n", "not UTF-8"),
    "UTF-16": (PLAIN.encode("utf-16"), "not UTF-8"),
    "a zero byte": (PLAIN + "a\0b.png,real\n", "unusable character"),
    "no path": (changed(3, path=" "), "line 5: no path"),
    "no label": (changed(3, label=" "), "line 5: no label"),
    "NaN label": (changed(3, label="nan"), "line 5: the label is 'nan'"),
    "another label": (changed(3, label="2"), "the label is '2'"),
    "numbers": (PLAIN.replace("real", "1").replace("fake", "0"), "config.data.real_label=0"),
    "unknown split": (changed(3, split="dev"), "the split is 'dev'", "train, training, val"),
    "splits in part": (changed(3, split="test"), "no split, but other rows have one"),
    "no test split": (text_of(with_column("split", lambda n: "train")), "for the split test"),
    "quality a word": (changed(3, quality="good"), "line 5: the quality 'good'"),
    "quality infinite": (changed(3, quality="inf"), "line 5: the quality 'inf'"),
    "real, forged": (changed(3, method="swap"), "a real face with the method 'swap'"),
    "fake, original": (changed(COUNT, method="original"), "a fake with the method 'original'"),
    "the same row": (PLAIN + "r/3.png,real\n", "r/3.png is in line 5 already"),
    "the same file": (PLAIN + "./r//3.png,fake\n", "r/3.png is in line 5 already"),
    "out of the folder": (changed(3, path="..//r/3.png"), "line 5", "leads out of"),
    "only real": (text_of(rows_of()[:COUNT]), "lists 0 fake"),
    "too few": (text_of(rows_of()[COUNT - 2 : COUNT + 9]), "lists 2 real", "at least 8"),
    "no file there": (PLAIN.replace("/", "/missing"), "none of which is there", "config.data.dir"),
    "person in two splits": (
        text_of(PEOPLE), "person 'p0' is in two splits, train", "person:train-validation",
    ),
    "video in two splits": (
        text_of(PEOPLE).replace("person", "video_id", 1), "video_id 'p0' has two values of split",
    ),
    "video of two labels": (text_of(MIXED_VIDEO), "video_id 'v0' has two values of label"),
    "a path for a video": (changed(3, video_id="f/2.png"), "'f/2.png' in line 5", "the path in"),
    "words and numbers": (changed(3, label="1"), "labels are never guessed"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_table_is_one_line(run, pictures, tmp_path, name):
    text, *parts = DAMAGED[name]
    table = write(tmp_path / "t.csv", text)
    work = tmp_path / "work"
    options = [CONFIG, f"--workdir={work}", "--mode=prepare", "--config.faces.detector=none"]
    result = run(*options, f"--config.data.manifest={table}", f"--config.data.dir={pictures}")
    assert_told(result, *parts)
    assert not list(tmp_path.rglob("*.array_record*"))


OTHER_FORMS = {
    "not a table": ("t.txt", PLAIN, "must end in .csv, .parquet or .jsonl"),
    "no JSON": ("t.jsonl", '{"path": "r/0.png", "label": "real"}\n{"path"\n', "line 2: not JSON"),
    "no object": ("t.jsonl", "[1, 2]\n", "line 1: not a JSON object"),
    "deep": ("t.jsonl", "[" * 100_000, "line 1: not JSON"),
    "a list for a label": ("t.jsonl", '{"path": "a", "label": ["real"]}', "label is ['real']"),
    "true": ("t.jsonl", '{"path": "a", "label": true}', "label is True"),
    "half a pair": ("t.jsonl", '{"path": "\\ud800", "label": "real"}', "unusable character"),
    "a JSON NaN": ("t.jsonl", '{"path": "r/0.png", "label": NaN}', "line 1: no label"),
    "no Parquet": ("t.parquet", PLAIN, "not a readable Parquet file"),
}


@pytest.mark.parametrize("name", OTHER_FORMS)
def test_other_files_are_one_line(run, pictures, tmp_path, name):
    file, text, part = OTHER_FORMS[name]
    table = write(tmp_path / file, text)
    options = [CONFIG, f"--workdir={tmp_path / 'work'}", "--mode=prepare"]
    result = run(*options, f"--config.data.manifest={table}", f"--config.data.dir={pictures}")
    assert_told(result, part)


def test_what_is_no_table_at_all(pictures, tmp_path):
    with pytest.raises(InputError, match="config.data.manifest is empty"):
        Builder.configured(configured(""), tmp_path)
    with pytest.raises(InputError, match="is a folder: give a table"):
        Builder.configured(configured(pictures), tmp_path)
    with pytest.raises(InputError, match="does not exist, and .* has no records made from it"):
        Builder.configured(configured(tmp_path / "nowhere.csv"), tmp_path)
    table = write(tmp_path / "t.csv", PLAIN)
    with pytest.raises(InputError, match="config.data.dir is .* not a folder"):
        Builder.configured(configured(table, tmp_path / "nowhere"), tmp_path)


def crlf_and_quotes(rows):
    return "\ufeff" + "\r\n".join(
        ['"Path",LABEL ', *(f'"{row["path"]}", {row["label"].upper()} ' for row in rows)]
    )


HARMLESS = {
    "BOM, quotes, CRLF, case": crlf_and_quotes(rows_of()),
    "Windows": "path,label\n" + "\n".join(
        ".\\" + row["path"].replace("/", "\\") + "," + row["label"] for row in rows_of()
    ),
    "blank lines": "\n" + PLAIN.replace("\n", "\n\n"),
    "columns nobody knows": text_of(with_column("camera", lambda n: f"c{n}")),
    "methods": text_of(with_column("method", lambda n: "Original" if n < COUNT else "")),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_is_read_rightly(pictures, tmp_path, name):
    plain = listed(write(tmp_path / "plain.csv", PLAIN), pictures, tmp_path)
    other = listed(write(tmp_path / "other.csv", HARMLESS[name]), pictures, tmp_path)
    assert (other.sources, other.notes) == (plain.sources, plain.notes)
    assert {one.name: one.label for one in plain.sources} == {
        row["path"]: REAL if row["label"] == "real" else FAKE for row in rows_of()
    }
    assert other.name == plain.name


def test_all_forms_of_a_table_are_the_same(pictures, tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [row | {"group_age": n % 3} for n, row in enumerate(rows_of())]
    write(tmp_path / "t.csv", text_of(rows))
    write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    found = [
        listed(tmp_path / f"t.{kind}", pictures, tmp_path) for kind in ("csv", "jsonl", "parquet")
    ]
    assert found[0].groups["group_age"]["f/1.png"] == str((COUNT + 1) % 3)
    for other in found[1:]:
        assert (other.name, other.sources) == (found[0].name, found[0].sources)
        assert other.groups == found[0].groups


def test_numbers_mean_what_the_option_says(pictures, tmp_path):
    table = write(tmp_path / "t.csv", PLAIN.replace("real", "1").replace("fake", "0"))
    for real in "01":
        found = listed(table, pictures, tmp_path, **{"data.real_label": real})
        labels = {one.name[0]: one.label for one in found.sources}
        assert labels == ({"r": REAL, "f": FAKE} if real == "1" else {"r": FAKE, "f": REAL})
    mixed = write(tmp_path / "mixed.csv", changed(3, label="1"))
    with pytest.raises(InputError, match="'real' in line 2 and '1' in line 5"):
        listed(mixed, pictures, tmp_path, **{"data.real_label": "1"})


def test_paths_are_found_wherever_the_table_is(pictures, tmp_path):
    """Beside the pictures, elsewhere with their folder, absolute."""
    copied = shutil.copytree(pictures, tmp_path / "copied")
    beside = listed(write(copied / "t.csv", PLAIN), "", tmp_path)
    elsewhere = listed(write(tmp_path / "t.csv", PLAIN), copied, tmp_path)
    absolute = [row | {"path": copied / row["path"]} for row in rows_of()]
    far = listed(write(copied / "far.csv", text_of(absolute)), "", tmp_path)
    assert beside.sources == elsewhere.sources == far.sources
    assert beside.name == elsewhere.name == far.name
    # An umlaut is one character or two.
    (copied / "r" / "a\u0308.png").write_bytes(picture(77))
    table = write(copied / "u.csv", PLAIN + "r/\u00e4.png,real\n")
    assert len(listed(table, "", tmp_path).sources) == 2 * COUNT + 1


def test_every_row_is_a_record_or_has_its_reason(pictures, tmp_path, capsys):
    place = shutil.copytree(pictures, tmp_path / "in")
    (place / "r" / "broken.jpg").write_text("no picture")
    shutil.copy(place / "r" / "0.png", place / "r" / "twin.png")
    more = ("broken.jpg", "twin.png", "gone.png")
    rows = rows_of() + [{"path": f"r/{name}", "label": "real"} for name in more]
    rows = [row | {"video_id": f"v{n // 3}", "camera": "x"} for n, row in enumerate(rows)]
    rows = [row | {"group_gender": "mf"[n % 2]} for n, row in enumerate(rows)]
    found, folder = prepared(
        configured(write(place / "t.csv", text_of(rows)), seed=3), tmp_path / "records"
    )
    told = capsys.readouterr().err
    assert "columns of the table that are not used: camera" in told
    recorded = {row["path"]: (split, row) for split, own in found.items() for row in own}
    notes = metadata_of(folder)["notes"]
    assert recorded.keys() | notes.keys() == {row["path"] for row in rows}
    assert not recorded.keys() & notes.keys()
    assert notes["r/gone.png"] == "no such file"
    assert notes["r/twin.png"] == "the same bytes as r/0.png"
    assert "not a photograph or video" in notes["r/broken.jpg"]
    with (folder / LEFT_OUT).open(encoding="utf-8", newline="") as file:
        lines = {row["path"]: n for n, row in enumerate(rows, 2)}
        assert [(row["path"], row["reason"], int(row["line"])) for row in csv.DictReader(file)] == [
            (path, notes[path], lines[path]) for path in sorted(notes)
        ]
    assert f"inputs left out: 3, each with its reason in {folder / LEFT_OUT}\n" in told
    by_path = {row["path"]: row for row in rows}
    for path, (_, row) in recorded.items():
        assert row["label"] == (REAL if by_path[path]["label"] == "real" else FAKE)
        assert row["method"] == (ORIGINAL if row["label"] == REAL else "fake")
        assert row["video_id"] == by_path[path]["video_id"]
        assert groups_of(folder)["group_gender"][path] == by_path[path]["group_gender"]
    frames = sorted((row["video_id"], row["frame"]) for _, row in recorded.values())
    assert len(set(frames)) == len(frames), "frames of a video are numbered"
    # Records serve when the table and the files are gone, and wherever they lay.
    moved = shutil.move(place, tmp_path / "moved")
    again = Builder.configured(configured(moved / "t.csv", seed=3), tmp_path / "records")
    assert Path(again.data_path) == folder
    shutil.rmtree(moved)
    for gone in (place, moved):
        again = Builder.configured(configured(gone / "t.csv", seed=3), tmp_path / "records")
        assert (Path(again.data_path), again.contents) == (folder, metadata_of(folder)["contents"])


def test_records_of_another_table_do_not_serve_for_files_that_are_gone(pictures, tmp_path, capsys):
    """The table is the same, or gone; else nobody asked for what it said before."""
    place = shutil.copytree(pictures, tmp_path / "in")
    table, records = place / "t.csv", tmp_path / "records"
    rows = [row | {"quality": n} for n, row in enumerate(rows_of())]
    text = text_of(rows)
    options = {"quality.measure": "csv"}
    _, folder = prepared(configured(write(table, text), **options), records)
    shutil.move(place / "r", tmp_path / "aside")
    shutil.rmtree(place / "f")
    for changed_text in (
        text.replace(",real,7", ",real,8"),
        text.replace("r/7.png,real", "r/7.png,fake"),
        text.replace("/", "/other"),
    ):
        write(table, changed_text)
        with pytest.raises(InputError, match="none of which is there .* has no records made from"):
            Builder.configured(configured(table, **options), records)
    with pytest.raises(InputError, match="none of which is there"):
        Builder.configured(configured(write(table, text), tmp_path, **options), records)
    header, *lines = text.splitlines(keepends=True)
    capsys.readouterr()
    for same in (text, header + "\n" + "".join(reversed(lines))):
        again = Builder.configured(configured(write(table, same), **options), records)
        assert Path(again.data_path) == folder
        assert "none of which is there" in capsys.readouterr().err
    table.unlink()
    again = Builder.configured(configured(table, **options), records)
    assert Path(again.data_path) == folder
    assert "t.csv', which does not exist: using its records in" in capsys.readouterr().err
    # Records of earlier versions do not say what the table held.
    info = folder / "metadata.json"
    metadata = json.loads(info.read_text())
    del metadata["asked"]["rows"], metadata[CHECKSUM]
    info.write_text(json.dumps(metadata))
    assert Path(Builder.configured(configured(table, **options), records).data_path) == folder
    told = f"none of which is there .*, unless it said the same when .* made {folder}: then move it"
    with pytest.raises(InputError, match=told):
        Builder.configured(configured(write(table, text), **options), records)


def test_people_are_in_the_records_and_in_one_split(pictures, tmp_path):
    rows = [row | {"person": f"A {n % COUNT // 3}"} for n, row in enumerate(rows_of())]
    found, folder = prepared(
        configured(write(tmp_path / "t.csv", text_of(rows)), pictures), tmp_path
    )
    splits = {}
    for split, own in found.items():
        for row in own:
            splits.setdefault(row["origins"], set()).add(split)
    assert splits.keys() == {f"person/A%20{n}" for n in range(COUNT // 3)}
    assert all(len(of) == 1 for of in splits.values())
    leaks, _ = shared_sources.read(folder)
    assert leaks == []


def test_a_person_in_two_given_splits_may_be_accepted(pictures, tmp_path):
    rows = [row | {"person": f"p{n}"} for n, row in enumerate(with_column("split", spread))]
    rows[2]["person"] = "p0"
    table = write(tmp_path / "t.csv", text_of(rows))
    with pytest.raises(InputError, match=r"allow=\"\('person:train-test',\)\""):
        listed(table, pictures, tmp_path)
    found = listed(table, pictures, tmp_path, **{"leaks.allow": ("person:train-test",)})
    given = dict(zip([row["path"] for row in rows], [row["split"] for row in rows], strict=True))
    assert {one.name: one.split for one in found.sources} == {
        path: "validation" if split == "val" else split for path, split in given.items()
    }


def test_a_person_whose_validation_is_drawn_may_be_accepted_in_one_step(pictures, tmp_path):
    """Before anything is prepared; the option that is told accepts all of it."""
    rows = with_column("split", every_fourth)
    rows = [row | {"person": f"p{n % 8 // 2}"} for n, row in enumerate(rows)]
    table = write(tmp_path / "t.csv", text_of(rows))
    one, both = ("person:train-test",), ("person:train-test", "person:validation-test")
    with pytest.raises(InputError) as error:
        listed(table, pictures, tmp_path, **{"leaks.allow": one})
    assert "in two splits, validation (drawn) in line" in str(error.value)
    assert f'--config.leaks.allow="{both}"' in str(error.value)
    found = listed(table, pictures, tmp_path, **{"leaks.allow": both})
    assert {source.split for source in found.sources} == set(SPLITS)


COMPOSED, DECOMPOSED = "Zo\u00e9", "Zoe\u0301"  # the same name


@pytest.mark.parametrize("column", ["video_id", "person"])
def test_a_name_in_two_unicode_forms_is_one(pictures, tmp_path, column):
    rows = with_column("split", every_fourth)
    rows = [row | {column: f"{n}"} for n, row in enumerate(rows)]
    rows[0][column], rows[1][column] = COMPOSED, DECOMPOSED
    table = write(tmp_path / "t.csv", text_of(rows))
    with pytest.raises(InputError, match="two values of split|in two splits, train in .* test in"):
        listed(table, pictures, tmp_path)


def test_values_in_two_unicode_forms_agree(pictures, tmp_path):
    """Rows of a video, and groups; records hold one form."""
    names = ("method", "person", "group_place")
    rows = [row | dict.fromkeys(names, "") for row in VIDEOS]
    for row, form in ((rows[-2], COMPOSED), (rows[-1], DECOMPOSED)):
        row |= dict.fromkeys(names, form)
    found = listed(write(tmp_path / "t.csv", text_of(rows)), pictures, tmp_path, seed=1)
    last = [one for one in found.sources if one.video == f"v{COUNT - 1}"]
    assert [(one.method, one.origins) for one in last] == [(COMPOSED, f"person/{COMPOSED}")] * 2
    assert set(found.groups["group_place"].values()) == {COMPOSED}


def test_validation_is_drawn_from_training_if_no_row_gives_it(pictures, tmp_path):
    table = write(tmp_path / "t.csv", text_of(with_column("split", every_fourth)))
    found = listed(table, pictures, tmp_path)
    assert {one.split for one in found.sources} == set(SPLITS)
    rows = {row["path"]: n for n, row in enumerate(rows_of())}
    for one in found.sources:
        assert (one.split == "test") == (rows[one.name] % 4 == 0)


def test_only_the_test_rows_are_scored(pictures, tmp_path):
    table = write(tmp_path / "t.csv", text_of(with_column("split", spread)))
    found = listed(table, pictures, tmp_path, **{"data.prepare": ("test",)})
    assert {one.split for one in found.sources} == {"test"}
    assert len(found.sources) == 2 * COUNT // 3
    assert set(found.notes.values()) == {"in the split train", "in the split validation"}
    for text in (PLAIN, text_of(rows_of("split"))):
        table = write(tmp_path / "u.csv", text)
        whole = listed(table, pictures, tmp_path, **{"data.prepare": ("test",)})
        assert len(whole.sources) == 2 * COUNT
    partly = with_column("split", lambda n: ("train", "")[n % 2])
    table = write(tmp_path / "v.csv", text_of(partly))
    with pytest.raises(InputError, match=r"line 3 \(r/1.png\): no split, but other rows have one"):
        listed(table, pictures, tmp_path, **{"data.prepare": ("test",)})


def test_rows_of_other_splits_are_not_counted_as_gone(pictures, tmp_path):
    rows = with_column("split", every_fourth)
    rows = [
        row | {"path": f"no/{row['path']}" if row["split"] == "test" else row["path"]}
        for row in rows
    ]
    table = write(tmp_path / "t.csv", text_of(rows))
    said = rf"lists {len(rows) // 4} files for the split test, such as 'no/r/0\.png', none of"
    with pytest.raises(InputError, match=said):
        listed(table, pictures, tmp_path, **{"data.prepare": ("test",)})


def test_qualities_of_the_table_become_the_targets(pictures, tmp_path):
    rows = with_column("quality", lambda n: n / 10 if n else "")
    table = write(tmp_path / "t.csv", text_of(rows))
    csv_measure = {"quality.measure": "csv"}
    found, folder = prepared(configured(table, pictures, **csv_measure), tmp_path)
    quality = {row["path"]: row["quality"] for own in found.values() for row in own}
    for n, row in enumerate(rows):
        assert n == 0 or quality[row["path"]] == np.float32(n / 10)
    assert metadata_of(folder)["notes"] == {"r/0.png": "no quality score for it"}
    with pytest.raises(InputError, match="has no column quality"):
        listed(write(tmp_path / "u.csv", PLAIN), pictures, tmp_path, **csv_measure)
    scores = write(tmp_path / "scores.csv", "path,score\nr/0.png,1\n")
    with pytest.raises(InputError, match="use one of them"):
        listed(table, pictures, tmp_path, **csv_measure, **{"quality.csv": str(scores)})


def test_look_alikes_ask_for_a_column_only_where_there_is_none(pictures, tmp_path):
    table = write(tmp_path / "t.csv", PLAIN)
    assert "video_id" in Builder.configured(configured(table, pictures), tmp_path).undecided
    table = write(tmp_path / "u.csv", text_of(VIDEOS))
    assert Builder.configured(configured(table, pictures, seed=1), tmp_path).undecided == ""


def random_table(rng):
    """Rows in random groups; people have videos, videos have frames, some files are missing."""
    rows = []
    for kind, label in (("r", "real"), ("f", "fake")):
        names = [
            f"{kind}/{index}.png" for index in rng.sample(range(COUNT + 4), rng.randint(14, COUNT))
        ]
        while names:
            person = rng.choice(["", f"p{rng.randint(0, 9)}"])
            video = rng.choice(["", f"{kind}{len(names)}"])
            for _ in range(rng.randint(1, 3) if video else 1):
                if names:
                    row = {"path": names.pop(), "label": label}
                    rows.append(row | {"person": person, "video_id": video})
    rng.shuffle(rows)
    return rows


SLOW = [pytest.param(start, marks=pytest.mark.slow) for start in range(10, 110, 10)]


@pytest.mark.parametrize("start", [0, *SLOW])
def test_any_table(pictures, tmp_path, start):
    """No person or video in two splits, rows add up, and other rows move nothing."""
    good = 0
    for seed in range(start, start + 10):
        rng = random.Random(seed)
        rows = random_table(rng)
        before = None
        for own in (rows, rng.sample(rows, len(rows) - 3)):
            table = tmp_path / "t.csv"
            with open(table, "w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(own)
            read = read_table(table)
            files = find_files(table, read, pictures)
            try:
                found = list_sources(table, files, SHARES, seed)
            except InputError as error:
                assert re.search(
                    "split gets none of|photographs or videos that are there", str(error)
                )
                break
            assert len(found.sources) + len(found.notes) == len(own)
            assert {one.name for one in found.sources} | set(found.notes) == {
                row["path"] for row in own
            }
            by_path = {row["path"]: row for row in own}
            for column in ("person", "video_id"):
                splits = {}
                for one in found.sources:
                    if key := by_path[one.name][column]:
                        splits.setdefault(key, set()).add(one.split)
                assert all(len(of) == 1 for of in splits.values())
            after = {one.name: one.split for one in found.sources}
            assert before is None or all(before[name] == split for name, split in after.items())
            before = after
            good += 1
    assert good > 5


def test_places_may_lead_through_the_folder_above(pictures, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    shutil.copytree(pictures, tmp_path / "data")
    write(tmp_path / "data" / "t.csv", text_of(rows_of()))
    expected = listed(tmp_path / "data" / "t.csv", "", tmp_path / "records")
    monkeypatch.chdir(tmp_path / "work")
    for folder in ("", f"{os.pardir}/data"):
        found = listed(f"{os.pardir}/data/t.csv", folder, tmp_path / "records")
        assert (found.name, found.asked) == (expected.name, expected.asked)


def test_a_detector_is_bound_to_the_qualities_that_it_learnt(pictures, tmp_path):
    def contents(measure, quality):
        rows = [row | {"quality": quality} for row in rows_of()]
        table = write(tmp_path / "t.csv", text_of(rows))
        changes = {"quality.measure": measure}
        return listed(table, pictures, tmp_path / "records", **changes).contents

    assert contents("csv", 0.5) == contents("csv", "0.50") != contents("csv", 0.6)
    assert contents("iso", 0.5) == contents("iso", 0.6)
