"""The tree is what the README and docs/architecture.md say it is."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from test_imports import ROOMS

from deepfidelity_configs import cross
from deepfidelity_jax.options.table import OPTIONS
from deepfidelity_jax.records import schema

TREE = Path(__file__).parents[2]
CODE = sorted(
    path
    for folder in ("deepfidelity_jax", "datasets", "configs", "benchmarks")
    for path in (TREE / folder).rglob("*.py")
)
LIBRARY = TREE / "deepfidelity_jax"
README = (TREE / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*TREE.glob("*.md"), *TREE.glob("docs/*.md"), *TREE.glob("*/*/README.md")])
CROSS = {name: group for name, group in cross.get_config().items() if isinstance(group, ConfigDict)}
# Paths of the machine where the tree was written.
PRIVATE = [
    r"(?<![\w.~])/(work|root|home|Users|mnt)/",
    r"/tmp/(?!demo\b|faces\b)",
    r"(?<!\]\()\.\./\w",  # but for links between pages, which are followed below
    r"venv2?/bin/python -m",
]


def layout():
    """Paths in the block under `## Layout` of docs/architecture.md, each with its folders."""
    page = (TREE / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = re.search(r"^## Layout\n.*?```\n(.*?)```", page, re.DOTALL | re.MULTILINE)[1]
    paths, folders = [], []
    for line in block.splitlines():
        name, *description = line.split(maxsplit=1)
        assert description or name == "deepfidelity_jax/", name
        depth = (len(line) - len(line.lstrip())) // 2
        del folders[depth:]
        paths.append("/".join([*folders, name.rstrip("/")]))
        if name.endswith("/"):
            folders.append(name.rstrip("/"))
    return paths


def tracked():
    """The files of the tree: git's where there is git, else all that is not hidden or built."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=TREE, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git here")
    return [name for name in listed if (TREE / name).exists()]


def test_every_path_exists_once():
    paths = layout()
    assert len(set(paths)) == len(paths)
    missing = [path for path in paths if not (TREE / path).exists()]
    assert not missing


def test_every_top_level_entry_is_listed():
    entries = {name.split("/")[0] for name in tracked()}
    # What every project has, and what tools look for by name.
    usual = {"LICENSE", "CITATION.cff"}
    usual |= {name for name in entries if name.startswith(".") or name.endswith(".md")}
    assert {path for path in layout() if "/" not in path} == entries - usual


def rooms():
    """The rooms of the library: its folders and its modules."""
    for path in LIBRARY.iterdir():
        if (path.suffix == ".py" and path.name != "__init__.py") or (path / "__init__.py").exists():
            yield path.name


def test_every_room_and_dataset_is_listed():
    listed = [path for path in layout() if path.startswith("deepfidelity_jax/")]
    assert sorted(listed) == sorted(f"deepfidelity_jax/{room}" for room in rooms())
    builders = {
        f"datasets/{path.parent.name}"
        for path in (TREE / "datasets").glob("*/*_dataset_builder.py")
    }
    assert {path for path in layout() if path.startswith("datasets/")} == builders


def test_every_room_is_on_the_map():
    drawn = re.findall(
        r'font-weight="bold" fill="#1d2129">(\w+)<', (TREE / "docs/map.svg").read_text()
    )
    assert sorted(drawn) == sorted(room.removesuffix(".py") for room in rooms())


def test_the_map_follows_the_direction_of_imports():
    """Rows from top to bottom, within a row from right to left; every room once."""
    boxes = re.findall(
        r'<text x="(\d+)" y="(\d+)" font-size="16" font-weight="bold" fill="#1d2129">(\w+)<',
        (TREE / "docs/map.svg").read_text(),
    )
    order = [room for x, y, room in sorted(boxes, key=lambda box: (int(box[1]), -int(box[0])))]
    assert order == list(ROOMS)


def test_the_readme_is_short_and_shows_what_is_there():
    assert len(README.splitlines()) <= 130
    assert (TREE / "docs/report.png").stat().st_size < 300_000
    for command in (
        "pip install -e . && python run.py --config=configs/demo.py --workdir=/tmp/demo",
        "pip install -e '.[test]' && pytest",
    ):
        assert f"\n{command}\n" in README


def test_the_papers_ideas_are_where_the_readme_says():
    table = README.split("## The paper's idea in the code")[1].split("## ")[0]
    rows = re.findall(r"`(\w+)` in \[\w+\.py\]\(([\w/.]+)\) \| `(\w+)` \|", table)
    assert len(rows) == table.count("\n| ") - 1 >= 6
    tests = "\n".join(path.read_text(encoding="utf-8") for path in TREE.glob("tests/*/*.py"))
    for function, path, test in rows:
        assert f"def {function}(" in (TREE / path).read_text(encoding="utf-8"), path
        assert f"def {test}(" in tests, test


@pytest.mark.parametrize("pattern", PRIVATE)
def test_the_tree_speaks_of_itself_alone(pattern):
    found = []
    for name in tracked():
        path = TREE / name
        binary = path.suffix in (".png", ".npz", ".safetensors", ".jpg")
        if path == Path(__file__).resolve() or binary:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(pattern, line):
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert not found


def public(tree):
    """Functions and classes of a module, and methods of its public classes."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                        yield inner


# Their meaning comes from Flax, TFDS and Grain.
INHERITED = {"setup"}


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(TREE)))
def test_what_is_public_says_what_it_is(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path.name != "__init__.py":
        assert ast.get_docstring(tree), "the module"
    bare = [
        node.name
        for node in public(tree)
        if node.name not in INHERITED and not ast.get_docstring(node)
    ]
    assert not bare


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(TREE)))
def test_documents_name_what_is_there(path):
    """Versions of records, files by path, and options, as they are in the tree."""
    text = path.read_text(encoding="utf-8")
    for dataset, version in re.findall(r"records/(\w+)/[\w-]+/(\d+\.\d+\.\d+)", text):
        assert version == str(schema.builder_class(dataset).VERSION)
    folders = "configs|datasets|docs|benchmarks|tests|deepfidelity_jax"
    names = re.findall(rf"(?<![\w/])((?:{folders})/[\w./]+\w)", text)
    # Paths inside the library, as docs/architecture.md gives them.
    names += [
        f"deepfidelity_jax/{name}"
        for name in re.findall(r"`(\w+/\w+\.py)`", text)
        if (LIBRARY / name.split("/")[0]).exists()
    ]
    links = [name for name in re.findall(r"\]\(([^):#]+)\)", text)]
    missing = [name for name in names if not (TREE / name).exists()]
    places = {name: (path.parent / name).resolve() for name in links}
    missing += [
        name for name, at in places.items() if not (at.exists() and at.is_relative_to(TREE))
    ]
    assert not missing
    options = re.findall(r"--config\.((?!NAME|group\.option)[\w.]*\w)=", text)
    known = {*OPTIONS, *(f"{name}.{key}" for name, group in CROSS.items() for key in group)}
    assert not set(options) - known


def test_every_option_is_explained_once():
    """In the default configuration each group has a line above it."""
    text = (TREE / "configs" / "default.py").read_text(encoding="utf-8")
    groups = re.findall(r"(.*)\n    config\.(\w+) = ConfigDict\(\)", text)
    assert {name for _, name in groups} >= {"data", "faces", "model", "train", "eval"}
    options = re.findall(r"^    config\.(\S+) = (?!ConfigDict)", text, re.MULTILINE)
    assert len(set(options)) == len(options)


def test_the_container_installs_the_extra_of_the_mode_it_starts():
    text = (TREE / "Dockerfile").read_text(encoding="utf-8")
    (mode,) = re.findall(r"--mode=(\w+)", text)
    assert re.findall(r"/source\[(\w+)", text) == [mode]


def test_files_are_written_whole():
    """By `files.written_whole` and what is made of it; only the system's own are not replaced."""
    for path in sorted(LIBRARY.rglob("*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if ".write_text(" in line or ".write_bytes(" in line:
                assert 'Path("/proc/self' in line, path
