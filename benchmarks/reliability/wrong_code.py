"""Mutation testing: changes that make the code wrong, to check that a test fails.

    python benchmarks/reliability/wrong_code.py [--count=60] [--seed=0] [--rooms network ...]

Each mutant is one small change: an operator to its counterpart, a number to its neighbour, a
condition to its opposite. It is made in a copy of the tree, and the tests of its room run there. A
mutant that passes all tests survives and is printed: either the tests lack a case, or the change
makes no difference.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

TREE = Path(__file__).parents[2]
ROOMS = ("network", "fidelity", "scoring", "forgeries", "records", "leaks")
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
PATIENCE_S = 900


def main():
    """Run the campaign and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", nargs="*", default=ROOMS)
    options = parser.parse_args()
    rng, ends = random.Random(options.seed), {}
    with tempfile.TemporaryDirectory(prefix="wrong-code-") as name:
        copy = Path(name) / "tree"
        shutil.copytree(TREE, copy, ignore=shutil.ignore_patterns(".git", "*.egg-info", "__pyc*"))
        for number in range(options.count):
            room = options.rooms[number % len(options.rooms)]
            paths = sorted((copy / "deepfidelity_jax" / room).rglob("[!_]*.py"))
            path = rng.choice([path for path in paths if list_sites(path.read_text())])
            source = path.read_text(encoding="utf-8")
            mutant, change = mutate(source, rng)
            path.write_text(mutant, encoding="utf-8")
            end = run_tests(copy, room, path.stem)
            path.write_text(source, encoding="utf-8")
            ends[number] = end
            print(f"{end}: {path.relative_to(copy)}: {change}", flush=True)
    print(f"\n{len(ends)} mutants: {dict(Counter(ends.values()))}")


def mutate(source: str, rng: random.Random) -> tuple[str, str]:
    """The source with one change, and what was changed."""
    tree = ast.parse(source)
    node, change = rng.choice(list_sites(tree))
    before = ast.unparse(node)
    change()
    return ast.unparse(tree), f"line {node.lineno}: {before} -> {ast.unparse(node)}"


def list_sites(tree: ast.AST | str) -> list:
    """All changes that can be made of a module: nodes, and functions that change them."""
    tree = ast.parse(tree) if isinstance(tree, str) else tree
    return [site for node in ast.walk(tree) for site in find_sites(node)]


def find_sites(node: ast.AST):
    """The changes that can be made of a node: the node, and a function that changes it."""
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in OPERATORS:
        yield node, lambda: setattr(node, "op", OPERATORS[type(node.op)]())
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OPERATORS:
        yield node, lambda: node.ops.__setitem__(0, OPERATORS[type(node.ops[0])]())
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, lambda: setattr(node, "value", not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield node, lambda: setattr(node, "value", node.value + 1)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        other = ast.UAdd if isinstance(node.op, ast.USub) else ast.Not
        inner = node.operand

        def change():
            node.op = other()
            if other is ast.Not:  # not not
                node.operand = ast.UnaryOp(op=ast.Not(), operand=inner)

        yield node, change


def run_tests(copy: Path, room: str, module: str) -> str:
    """Whether the tests of a room notice, the module's own first: caught, survived, or hung."""
    module_tests = sorted((copy / "tests" / room).rglob(f"test_*{module}.py"))
    tests = [str(path.relative_to(copy)) for path in module_tests] + [f"tests/{room}"]
    environment = os.environ | {"PYTHONPATH": str(copy), "JAX_PLATFORMS": "cpu"}
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*argv, *tests],
            cwd=copy, env=environment, capture_output=True, timeout=PATIENCE_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "hung"
    return "caught" if done.returncode == 1 else f"survived (status {done.returncode})"


if __name__ == "__main__":
    main()
