"""The accelerator's run in its smallest form, on a machine with next to nothing installed."""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
from conftest import TREE

pytestmark = pytest.mark.e2e

NEEDED = ("jax", "flax", "optax", "numpy", "torch")
SCRIPT = TREE / "benchmarks" / "accelerator.py"


def require(names):
    """These distributions and all that they require, by their normalised names."""
    found, left = set(), list(names)
    while left:
        name = re.split(r"[^\w.-]", left.pop())[0].lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        try:
            required = importlib.metadata.requires(name) or ()
        except importlib.metadata.PackageNotFoundError:
            continue
        left += [line for line in required if "extra ==" not in line]
    return found


@pytest.fixture
def bare(tmp_path):
    """An environment in which nothing can be imported that only we require."""
    own = importlib.metadata.requires("deepfidelity_jax")
    refused = require(own) - require(NEEDED)
    modules = {
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if {name.lower().replace("_", "-") for name in distributions} & refused
    } - {"deepfidelity_jax", "deepfidelity_configs", "deepfidelity_datasets"}
    assert {"jaxtyping", "ml_collections", "sklearn", "grain", "cv2"} <= modules
    hook = f"""
        from importlib.machinery import PathFinder

        def find(name, path=None, target=None, before=PathFinder.find_spec):
            return None if name.partition(".")[0] in {modules} else before(name, path, target)

        PathFinder.find_spec = staticmethod(find)
    """
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(hook))
    return os.environ | {"PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}


def run(environment, *options):
    command = [sys.executable, SCRIPT, "--small", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_every_figure_is_there(bare):
    parts = "training,forward,torch_eager,operators,all_kernels,parity,learning"
    done = run(bare, f"--parts={parts}", "--seconds=1200")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [re.sub(r"^ *[\d.]+ s  ", "", line) for line in done.stdout.splitlines()]

    def count(pattern):
        return sum(bool(re.match(pattern, line)) for line in lines)

    speed = r"[\d.e+]+ images/s, .* ms for 4 with calls in a row, .* ms waiting for each"
    for what in ("training step", "forward"):
        assert count(rf"{what}: {speed}, .*% of the matrix-product rate") == 1
    assert count("stage 4  attention .* ms") == 3
    assert count("parity, float32, .*: gradient differ .* by 0.00e") == 1
    assert count("learning, step 20 of 20: loss") == count("learning: the loss fell") == 1
    # What cannot be had here takes a line, and the next part runs.
    assert count("all_kernels: failed: NotImplementedError: kernels run on one NVIDIA GPU") == 1
    try:
        importlib.metadata.version("torch")
        assert count(f"PyTorch .* eager, .*: {speed}") == 2
    except importlib.metadata.PackageNotFoundError:
        assert count("torch_eager: failed: ModuleNotFoundError") == 1
    assert count(".*failed: ") + count("PyTorch .* eager") // 2 == 2


@pytest.fixture
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("accelerator", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_calls_are_timed_in_a_row_and_one_by_one(script, monkeypatch):
    """Whoever makes them: here a call takes 10 ms on the device, and to wait for it 3 ms more."""
    device = SimpleNamespace(now=0.0)

    def call():
        device.now += 0.01
        return "result"

    def wait(result):
        assert result == "result"
        device.now += 0.003

    monkeypatch.setattr(script, "time", SimpleNamespace(perf_counter=lambda: device.now))
    assert script.time_calls(call, wait) == pytest.approx((0.0103, 0.013))


def test_pytorch_is_timed_by_the_same_rule(script, monkeypatch, capsys):
    """PyTorch itself need not be here."""
    torch = SimpleNamespace(__version__="9", cuda=SimpleNamespace(is_available=lambda: False))
    forms = SimpleNamespace(build_theirs=lambda *_, **__: (None, None, 0.0, lambda: None))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "models", forms)
    monkeypatch.setattr(script, "time_calls", lambda call, wait: (0.1, 0.2))
    script.time_torch(SimpleNamespace(small=True), "forward", compiled=False)
    said = "forward: 40 images/s, 100 ms for 4 with calls in a row, 200 ms waiting for each"
    assert said in capsys.readouterr().out


@pytest.mark.slow
def test_what_runs_when_time_is_up_is_cut_off(bare):
    done = run(bare, "--seconds=1")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search("not run, time is up: .*forward, torch_eager,", done.stdout)


@pytest.mark.slow
def test_a_process_that_dies_costs_its_part_alone(bare):
    """As a compiler's crash or the system's killer would: here JAX has no device to start with."""
    done = run(bare | {"JAX_PLATFORMS": "nowhere"}, "--parts=forward,parity", "--seconds=300")
    assert done.returncode == 0
    assert re.search("forward: its process ended with 1: RuntimeError: .*nowhere", done.stdout)
    assert re.search("parity: its process ended with 1", done.stdout)


def test_an_unknown_part_is_refused(bare):
    done = run(bare, "--parts=trainig")
    assert done.returncode == 2
    assert "no such part: trainig" in done.stderr
