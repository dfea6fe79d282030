"""A grid of runs: planned, listed as commands, run, shared and resumed."""

import csv
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

import pytest
from conftest import OPTIONS, TINY, TREE, assert_told, mark_trained
from ml_collections import ConfigDict
from PIL import Image
from trees import ffpp, numbered, write_numbered

from deepfidelity_configs import ablate, ablate_forgery
from deepfidelity_jax import pipeline, provenance
from deepfidelity_jax.cli import main
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.experiments import ablation
from deepfidelity_jax.options import checks
from deepfidelity_jax.records import schema
from deepfidelity_jax.workdir import Stages, held

FACTORS = (
    ("symmetry", (("on", {}), ("off", {"model.symmetric": (0, 0, 0, 0)}))),
    ("C", (("usual", {}), ("tenfold", {"fidelity.C": 10.0}))),
)
CONFIG = f"""
from deepfidelity_configs import demo
from ml_collections import ConfigDict

def get_config():
    config = demo.get_config()
    config.init_from = ""
    config.ablate = ConfigDict({{"factors": {FACTORS!r}, "seeds": (0, 1)}})
    return config
"""


@pytest.fixture
def grid(tiny):
    tiny.init_from = ""
    tiny.ablate = ConfigDict({"factors": FACTORS, "seeds": (0, 1)})
    return tiny


def test_a_grid_has_every_combination_with_every_seed(grid, tmp_path):
    cells = ablation.plan(grid, tmp_path)
    assert [cell.name for cell in cells[:4]] == [
        "base", "C tenfold", "symmetry off", "symmetry off, C tenfold"
    ]  # fmt: skip
    assert [cell.seed for cell in cells] == [0] * 4 + [1] * 4
    assert cells[3].config.model.symmetric == (0, 0, 0, 0)
    assert cells[3].config.fidelity.C == 10.0
    assert cells[4].config.seed == 1
    assert len({cell.config.data.records_dir for cell in cells}) == 1, "records are shared"
    assert "ablate" not in cells[0].config
    assert grid.model.symmetric != (0, 0, 0, 0), "the grid's own config stays"
    # Cells that differ in the regressor alone share a training, those of another seed do not.
    trainings = [cell.training for cell in cells]
    assert trainings[0] == trainings[1] != trainings[2] == trainings[3]
    assert len(set(trainings)) == 4


@pytest.mark.parametrize(
    ("name", "cells", "trainings"),
    [
        ("regressor", 12, 1),
        ("paper", 4, 4),
        ("quality", 6, 6),
        ("forgery", 5, 5),
        ("curriculum", 4, 4),
    ],
)
def test_the_grids_that_come_with_the_package(name, cells, trainings, tmp_path):
    """How many runs a seed has, and how many of them share a training."""
    module = importlib.import_module(f"deepfidelity_configs.ablate_{name}")
    planned = ablation.plan(module.get_config(), tmp_path)
    assert {cell.seed for cell in planned} == {0, 1, 2}
    assert len(planned) == 3 * cells
    assert len({cell.training for cell in planned}) == 3 * trainings
    scratch = name in ("paper", "forgery")
    assert {cell.config.init_from for cell in planned} == {"" if scratch else "bundled"}
    assert len({json.dumps(cell.changed) for cell in planned}) == cells


def test_the_base_of_the_grids_has_no_factor_yet(tmp_path):
    with pytest.raises(InputError, match="at least one factor"):
        ablation.plan(ablate.get_config(), tmp_path)


@pytest.mark.parametrize(
    ("factors", "seeds", "words"),
    [
        ((), (0,), "at least one factor"),
        (FACTORS, (), "at least one factor and one seed"),
        (FACTORS, (1, 1), "each seed once"),
        ((("a", (("on", {}),)),), (0,), "two levels"),
        ((("a", (("on", {}), ("on", {}))),), (0,), "each name once"),
        ((("a", (("on", {}), ("off", {"model.nothing": 1}))),), (0,), "model.nothing"),
        ((("a", (("on", {}), ("off", {"nothing.at.all": 1}))),), (0,), "nothing.at.all"),
        ((("a", (("on", {}), ("off", {"fidelity.C": -1.0}))),), (0,), "config.fidelity.C is -1.0"),
        ((("a/b", (("on", {}), ("off", {}))),), (0,), "name 'a/b', .* without '/'"),
        ((("a", (("on", {}), ("x|y", {}))),), (0,), r"without '\|'"),
        ((("a", (("on", {}), ("x\\y", {}))),), (0,), "without "),
        ((("a", (("on\n", {}), ("off", {}))),), (0,), "without "),
        (
            (
                ("a", (("on", {}), ("off", {"fidelity.C": 1.0}))),
                ("b", (("on", {"fidelity.C": 2.0}), ("off", {}))),
            ),
            (0,),
            "sets fidelity.C by factor 'a' and by factor 'b'",
        ),
        ((("a", (("on", {}), ("off", {"seed": 7}))),), (0,), "sets seed by the seeds and"),
    ],
)
def test_what_is_no_grid_is_told(grid, tmp_path, factors, seeds, words):
    grid.ablate = ConfigDict({"factors": factors, "seeds": seeds})
    with pytest.raises(InputError, match=words):
        ablation.plan(grid, tmp_path)


def test_each_training_is_one_ordinary_command(run, tmp_path):
    file = tmp_path / "grid.py"
    file.write_text(CONFIG)
    options = [f"--config={file}", *OPTIONS, f"--workdir={tmp_path / 'a run'}"]
    status, out, error = run("--mode=ablate", *options, "--list")
    assert status == 0, error
    commands = [shlex.split(line) for line in out.splitlines()]
    assert len(commands) == 4
    start = ["cd", os.getcwd(), "&&", sys.executable, str(Path("run.py").absolute())]
    assert all(words[:5] == start for words in commands), "from any folder"
    assert all("--config.train.steps=20" in words for words in commands), "the user's own options"
    assert [words[-1] for words in commands][1].endswith("a run/cells/symmetry_off/seed_0")
    assert "--config.model.symmetric=(0, 0, 0, 0)" in commands[1]
    assert not (tmp_path / "a run").exists()
    assert_told(run("--mode=ablate", f"--workdir={tmp_path}", f"--config={TREE}/configs/demo.py"),
                "no `ablate`")  # fmt: skip
    assert_told(run("--mode=train", *options, "--list"), "--list is not for --mode=train")


def test_the_installed_command_lists_itself(capsys, tmp_path):
    file, installed = tmp_path / "grid.py", tmp_path / "deepfidelity"
    file.write_text(CONFIG)
    installed.touch(0o755)
    options = [f"--config={file}", f"--workdir={tmp_path / 'a'}", "--list"]
    assert main([str(installed), "--mode=ablate", *options]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert shlex.split(line)[3:5] == [str(installed), f"--config={file}"]


def test_wrong_methods_are_told_before_any_training(grid, finished, tmp_path):
    """The level comes last, and all records are there."""
    levels = (("all", {}), ("none", {"train.leave_out": ("swap", "sawp")}))
    grid.ablate = ConfigDict({"factors": (("forgeries", levels),), "seeds": (0,)})
    grid.data.records_dir = str(finished / "records")
    with pytest.raises(InputError, match="leave_out names sawp, but the methods of the fakes are"):
        ablation.run(grid, tmp_path)
    assert not (tmp_path / "cells").exists()


def folder_with_fakes(place):
    for number, name in enumerate(f"{kind}/{i}.png" for kind in ("real", "fake") for i in range(9)):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbered(number, number)).save(place / name)
    return {"dataset": "face_folder", "dir": str(place)}


def benchmark(place):
    ffpp(place, ("Deepfakes",), write=lambda path, seed: write_numbered(path, seed, count=2))
    return {"dataset": "ffpp", "manual_dir": str(place), "methods": ("Deepfakes",),
            "incomplete": True}  # fmt: skip


def use(config, data):
    """As from the command line."""
    config.data.update(data)
    checks.drop_unused(config, data)


@pytest.mark.parametrize(("data", "its"), [(folder_with_fakes, "fake"), (benchmark, "Deepfakes")])
def test_families_are_not_left_out_of_data_with_fakes_of_its_own(data, its, tmp_path):
    """Told before anything is prepared, though the first cells could be."""
    grid = ablate_forgery.get_config()
    use(grid, data(tmp_path / "in"))
    grid.ablate.seeds = (6,)  # every split of the folder gets some of both classes
    told = f"names part_swap, swap, warped_swap, but .* are {its}; forgeries are made only for"
    with pytest.raises(InputError, match=told):
        ablation.run(grid, tmp_path / "grid")
    assert not list(tmp_path.glob("grid/**/*.staging"))
    assert not list(tmp_path.glob("grid/cells/*"))


def test_cells_share_the_records_that_are_the_same(grid, tmp_path):
    """Of rendered faces, which the seed draws, and of a benchmark, which has none to draw."""
    levels = (("linear", {}), ("by rank", {"fidelity.mapping": "rank"}), ("C", {"fidelity.C": 3.0}))
    grid.ablate = ConfigDict({"factors": (("mapping", levels),), "seeds": (0, 1)})

    def folders():
        cells = ablation.plan(grid, tmp_path / "grid")
        paths = [pipeline.plan_records(cell.config, cell.place, ()).data_path for cell in cells]
        return [paths.index(path) for path in paths]

    assert folders() == [0, 1, 0, 3, 4, 3]
    use(grid, benchmark(tmp_path / "in"))
    assert folders() == [0, 1, 0, 0, 1, 0]


def test_other_test_faces_are_told_before_any_training(grid, finished, tmp_path, one_core, capsys):
    """A training that has begun may end; the table leaves its difference blank."""
    levels = (("few", {}), ("one more", {"data.identities": 7}))
    grid.ablate = ConfigDict({"factors": (("people", levels),), "seeds": (0,)})
    grid.data.records_dir = str(shutil.copytree(finished / "records", tmp_path / "records"))
    told = r"the cell 'people one more' is tested on \d+ faces that are not the \d+ of the base"
    with pytest.raises(InputError, match=told):
        ablation.run(grid, tmp_path / "grid")
    assert not list(tmp_path.glob("grid/cells/*/*/checkpoints"))
    cells = ablation.plan(grid, tmp_path / "grid")
    folders = pipeline.prepare_records([(cell.config, cell.place) for cell in cells])
    assert folders[0] != folders[1]
    ablation.require_same_faces(cells, folders[:1] * 2)
    mark_trained(cells[1].place)
    capsys.readouterr()
    ablation.require_same_faces(cells, folders)
    assert re.match(f"{told}, seed 0: it has no difference", capsys.readouterr().err)


@pytest.mark.slow
def test_a_grid_waits_for_a_cell_that_another_command_is_in(command, tmp_path):
    """It touches nothing there meanwhile."""
    file, workdir = tmp_path / "grid.py", tmp_path / "grid"
    file.write_text(CONFIG)
    cell = workdir / "cells" / "base" / "seed_0"
    grid = command(workdir, "--mode=ablate", f"--config={file}", *OPTIONS, tiny=False)
    with held(cell):
        (cell / ".config.json.4711.partial").write_text("half of it")
        process = grid.start()
        ends = ("waiting until it ends", "records in")
        said = next((line for line in process.stderr if any(end in line for end in ends)), "")
        there = sorted(path.name for path in cell.iterdir())
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert f"another run is using {cell}" in said
    assert there == [".config.json.4711.partial", ".lock"]


def test_a_sharing_that_was_killed_is_done_again(finished, tmp_path):
    """Killed after some features were linked."""
    features = tmp_path / "cell" / "features"
    features.mkdir(parents=True)
    first = next((finished / "features").iterdir())
    os.link(first, features / first.name)
    ablation.share_training(finished, tmp_path / "cell")
    assert Stages(tmp_path / "cell")._read().keys() == set(
        Stages(finished)._read().keys() - {"fit", "evaluate"}
    )
    times = provenance.read_times(tmp_path / "cell")
    assert set(times) == {"train", *(f"features {split}" for split in schema.SPLITS)}
    for name in ("features", "checkpoints"):
        there = {p.relative_to(finished / name) for p in (finished / name).rglob("*")}
        assert {p.relative_to(tmp_path / "cell" / name)
                for p in (tmp_path / "cell" / name).rglob("*")} == there  # fmt: skip


def kill_at(process, words):
    """Kill a command as soon as it says these words; the lines that it said."""
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert words in "".join(said), said
    return said


def figures_of(grid):
    """The predictions of each cell, and the table without what was measured of the machine."""
    rows = list(csv.DictReader((grid / "ablation.csv").open()))
    for row in rows:
        del row["minutes"], row["peak_mib"]
    files = grid.glob("cells/*/*/eval/*/predictions.csv")
    return {path.relative_to(grid): path.read_bytes() for path in files}, rows


@pytest.mark.slow
@pytest.mark.e2e
def test_a_grid_ends_in_a_table(run, command, tmp_path):
    """One training by its listed command, the rest by the grid; then again, which repeats none.

    A grid that is killed twice ends in the same bytes.
    """
    file, workdir = tmp_path / "grid.py", tmp_path / "grid"
    file.write_text(CONFIG.replace("(0, 1)}", "(0,)}"))
    # By the schedule of the tiny run a step is the same program.
    options = [f"--config={file}", *OPTIONS, "--config.data.clips=2", "--config.train.steps=8",
               f"--config.train.schedule_steps={TINY['train.steps']}",
               "--config.train.checkpoint_every=2"]  # fmt: skip
    whole = command(workdir, "--mode=ablate", *options, tiny=False)
    _, listed, _ = run("--mode=ablate", *options, f"--workdir={workdir}", "--list")
    first = shlex.split(listed.splitlines()[0])
    own = command(None, tiny=False)
    own.argv = [sys.executable, str(TREE / "run.py"), *first[5:]]
    done = own.finish()
    assert done.returncode == 0, done.stderr

    done = whole.finish()
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stderr.splitlines() if line.startswith("step 8:")]
    assert len(steps) == 1, "the base was trained before, and two cells share trainings"
    rows = list(csv.DictReader((workdir / "ablation.csv").open()))
    assert rows[0]["cell"] == "base"
    assert len(rows) == 4
    place = workdir / "cells" / "C_tenfold" / "seed_0"
    metrics = json.loads((place / "eval/synthetic_faces/metrics.json").read_text())
    assert float(rows[1]["frame_auc"]) == metrics["frame_auc"]
    array = next((place / "checkpoints").rglob("manifest.ocdbt"))
    same = Path(str(array).replace("C_tenfold", "base"))
    assert os.stat(array).st_ino == os.stat(same).st_ino, "shared, not copied"
    assert (place / "fidelity.npz").read_bytes() != (
        workdir / "cells/base/seed_0/fidelity.npz"
    ).read_bytes()
    page = (workdir / "report/index.html").read_text()
    assert "Options compared" in page
    assert "Each cell by forgery method" in page

    before = (workdir / "ablation.csv").read_bytes()
    again = whole.finish()
    assert "step 8:" not in again.stderr
    assert (workdir / "ablation.csv").read_bytes() == before

    place = f"--config.data.records_dir={workdir / 'records'}"
    killed = command(tmp_path / "killed", "--mode=ablate", *options, place, tiny=False)
    kill_at(killed.start(), "step 7/8")  # step 4 is stored before step 6 is
    said = kill_at(killed.start(), "run 2 of 4:")  # while it is given the training of the first
    assert any("resuming from step" in line for line in said), said
    done = killed.finish()
    assert done.returncode == 0, done.stderr
    predictions, rows = figures_of(tmp_path / "killed")
    assert len(predictions) == 4
    assert (predictions, rows) == figures_of(workdir)
