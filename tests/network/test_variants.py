"""The published sizes, as `benchmarks/variants.py` counts them."""

import importlib.util

import pytest
from conftest import TREE


def load_benchmark(name):
    spec = importlib.util.spec_from_file_location(name, TREE / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_table_is_the_published_one(capsys):
    benchmark = load_benchmark("variants")
    rows = {row.name: row for row in benchmark.list_rows()}
    for name, parameters, giga in (
        ("SSAAFormer-L", 98_824_462, 19.68),
        ("SSAAFormer-B", 49_265_614, 8.25),
        ("SSAAFormer-S", 21_034_314, 3.63),
    ):
        assert rows[name].parameters == parameters
        assert round(sum(rows[name].stages) / 1e9, 2) == giga
    assert rows["UniFormer-L, 2 x 1000 classes"].trunk == 98_821_888
    assert rows["UniFormer-L, 2 x 1000 classes"].parameters == 100_103_888
    assert rows["UniFormer-B, 1 x 1000 classes"].parameters == 49_776_552
    assert rows["UniFormer-S, 1 x 1000 classes"].parameters == 21_545_256
    stages = [round(count / 1e9, 2) for count in rows["SSAAFormer-L"].stages]
    assert stages == [2.66, 3.02, 12.24, 1.77]
    benchmark.main()
    printed = capsys.readouterr().out
    assert "98,824,462" in printed
    assert "19.68G" in printed
