"""What an installed package has besides its modules."""

import tomllib
from pathlib import Path

TREE = Path(__file__).parents[2]
FOLDERS = {"deepfidelity_jax": "deepfidelity_jax", "deepfidelity_datasets": "datasets"}


def test_every_file_of_a_package_is_installed():
    """An editable install finds all of them, so that only a wheel would lack one."""
    settings = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))
    for package, patterns in settings["tool"]["setuptools"]["package-data"].items():
        folder = TREE / FOLDERS[package]
        given = {path for pattern in patterns for path in folder.glob(pattern)}
        there = {
            path
            for path in folder.rglob("*")
            if path.is_file() and path.suffix not in (".py", ".pyc")
        }
        assert there
        assert there <= given
