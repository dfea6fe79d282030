"""Dataclasses are frozen; those that hold arrays, which have no single truth, have no `==`."""

import ast

import pytest
from conftest import TREE

# What counts, collects or is filled in by TFDS.
CHANGING = {"Counts", "Files", "Trained", "Plan", "OwnFiles", "SyntheticFacesConfig"}


def dataclasses():
    for folder in ("deepfidelity_jax", "datasets"):
        for path in sorted((TREE / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.ClassDef):
                    continue
                for decorator in node.decorator_list:
                    if ast.unparse(decorator).split("(")[0] == "dataclass":
                        yield pytest.param(node, decorator, id=node.name)


def options(decorator):
    words = decorator.keywords if isinstance(decorator, ast.Call) else ()
    return {word.arg: ast.literal_eval(word.value) for word in words}


@pytest.mark.parametrize(("node", "decorator"), dataclasses())
def test_values(node, decorator):
    given = options(decorator)
    assert given.get("frozen", False) == (node.name not in CHANGING)
    fields = [ast.unparse(part.annotation) for part in node.body if isinstance(part, ast.AnnAssign)]
    holds = any("np.ndarray" in field or field == "Arrays" for field in fields)
    if node.name not in CHANGING | {"Examination", "Predictions"}:  # arrays deeper inside
        assert given.get("eq", True) == (not holds)
