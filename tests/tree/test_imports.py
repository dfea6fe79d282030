"""Rooms import downward only, and `import deepfidelity_jax` costs next to nothing."""

import ast
import subprocess
import sys

import pytest
from conftest import TREE

LIBRARY = TREE / "deepfidelity_jax"
# Each imports from those after it, never from those before.
ROOMS = (
    "cli", "experiments", "pipeline", "server", "page", "provenance", "official", "comparison",
    "scoring", "export", "explanation", "detector", "training", "markup", "options", "leaks",
    "records", "quality", "forgeries", "faces", "images", "weight_files", "statistics", "fidelity",
    "network", "workdir", "folders", "progress", "processes", "files", "errors",
)  # fmt: skip
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py")


def imported(path):
    """What a module imports of ours, as dotted names below the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deepfidelity_jax"):
            place = node.module.split(".")[1:]
            for alias in node.names:
                yield (*place, alias.name)


def room(path):
    return path.relative_to(LIBRARY).with_suffix("").parts[0]


def test_every_room_has_its_place():
    assert {room(path) for path in MODULES} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_go_down(path):
    own = room(path)
    below = ROOMS[ROOMS.index(own) :]
    up = {names[0] for names in imported(path) if names[0] not in (*below, "__version__")}
    assert not up


def test_the_network_knows_of_no_files_and_images_of_no_networks():
    def reached(own):
        return {names[0] for path in MODULES if room(path) == own for names in imported(path)}

    assert reached("network") <= {"network", "errors"}
    assert reached("images") <= {"images", "errors", "files"}


def test_nothing_heavy_is_loaded_by_the_package_itself():
    code = "import sys, deepfidelity_jax; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"jax", "numpy", "flax", "cv2"} & set(loaded.stdout.split())


def test_folders_are_small_and_flat():
    """Three levels at most, ten modules a folder, 350 lines a module."""
    for folder in {path.parent for path in MODULES}:
        assert len(folder.relative_to(TREE).parts) <= 3
        assert len([path for path in MODULES if path.parent == folder]) <= 10
    assert {path.name for path in MODULES if len(path.read_text().splitlines()) > 350} == set()
