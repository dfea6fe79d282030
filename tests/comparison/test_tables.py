"""Every format says the same figures, and a command writes them."""

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from conftest import assert_told
from test_compare import scores, three

from deepfidelity_jax.comparison import tables
from deepfidelity_jax.comparison.compare import compare
from deepfidelity_jax.errors import InputError


@pytest.fixture(scope="module")
def comparison():
    return compare(three(videos=40, frames=2))


def test_csv_holds_all_digits(comparison):
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(comparison))))
    for name, level in comparison.levels.items():
        for entry in level["files"]:
            (row,) = [
                r
                for r in rows
                if (r["level"], r["file"], r["figure"]) == (name, entry["file"], "auc")
            ]
            assert float(row["value"]) == entry["auc"]
            assert [float(row["low"]), float(row["high"])] == entry["auc_ci"]
            assert int(row["n"]) == level["n"]
        for pair in level["pairs"]:
            found = {
                r["figure"]: r["value"]
                for r in rows
                if (r["level"], r["file"], r["other"]) == (name, pair["a"], pair["b"])
            }
            assert float(found["bootstrap_p_holm"]) == pair["bootstrap_p_holm"]
            assert (found["delong_p"] == "") == (name == "frame")


def test_every_format_holds_the_notes():
    files = [replace(own, video=None) for own in three(videos=40, frames=1)]
    found = compare(files)
    assert found.notes
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(found))))
    assert [row["from"] for row in rows if row["table"] == "notes"] == found.notes
    for note in found.notes:
        assert note in tables.to_markdown(found)
        assert note in tables.to_latex(found)


def test_markdown_and_latex_hold_the_same_cells(comparison):
    markdown, latex = tables.to_markdown(comparison), tables.to_latex(comparison)
    for table in tables.tables(comparison):
        for row in table.rows:
            assert len(row) == len(table.header)
            assert f"| {' | '.join(row)} |" in markdown
            assert " & ".join(map(tables.escape, row)) in latex
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in lines)
    assert (
        latex.count("\\begin{tabular}")
        == latex.count("\\end{tabular}")
        == markdown.count("\n| ---")
    )


def test_latex_shows_the_signs_that_are_meant():
    """Bare, its usual font has other glyphs for them; p is far below 0.0001 here."""
    files = three(videos=400)
    files = [replace(own, name=f"C>{own.name}|<1") for own in files]
    latex = tables.to_latex(compare(files))
    assert "$<$0.0001 ($<$0.0001)" in latex
    assert r"C$>$a\textbar{}$<$1" in latex
    assert not re.search(r"[<>|]", re.sub(r"\$[<>]\$", "", latex))


def test_names_cannot_break_a_table():
    evil = "a|b_&%$#{}\\~^\nc"
    files = three()
    other = scores(evil, files[1].label, files[1].score)
    found = compare([files[0], other])
    for line in tables.to_markdown(found).splitlines():
        if line.startswith("| a"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (5, 8, 9, 10)
    latex = tables.to_latex(found)
    assert (
        r"a\textbar{}b\_\&\%\$\#\{\}\textbackslash{}\textasciitilde{}\textasciicircum{} c" in latex
    )
    csv_rows = list(csv.DictReader(io.StringIO(tables.to_csv(found))))
    assert evil in {row["file"] for row in csv_rows}


def test_other_formats_are_refused():
    for name in ("x.html", "x", "x.CSV"):
        with pytest.raises(InputError, match=r"\.csv, \.md, \.tex"):
            tables.require_format(name)


@pytest.fixture
def two(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for name in ("a.csv", "b.csv"):
        rows = [f"{i}.png,{'fake' if i % 2 else 'real'},{rng.normal() + i % 2}" for i in range(60)]
        (tmp_path / name).write_text("path,label,score\n" + "\n".join(rows) + "\n")
        paths.append(f"--input={tmp_path / name}")
    return paths


def test_the_command(run, two, tmp_path):
    status, out, error = run("--mode=compare", *two, "--high=fake", "--threshold=0.5")
    assert status == 0, error
    assert out.startswith("Rows, matched by path")
    assert "Per picture: 60 pictures (30 real, 30 fake)" in out
    for name in ("x.csv", "x.md", "x.tex"):
        status, nothing, error = run(
            "--mode=compare", *two, "--high=fake", f"--output={tmp_path / name}"
        )
        assert (status, nothing) == (0, ""), error
    assert (tmp_path / "x.md").read_text() != out, "without a threshold"
    assert_told(run("--mode=compare", *two), "--high=fake or --high=real")
    assert_told(
        run("--mode=compare", *two, "--high=fake", f"--output={tmp_path / 'x.html'}"), ".tex"
    )
    assert_told(run("--mode=compare", *two, "--high=fake", f"--workdir={tmp_path}"), "--workdir")
    assert_told(run("--mode=compare", *two, "--high=up"), "--high")
    assert_told(run("--mode=compare", "--high=fake"), "two or more")
    assert_told(run("--mode=predict", *two, "--high=fake"), "--high is not for --mode=predict")
