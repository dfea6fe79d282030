"""Every shape written in a signature is checked while the tests run; one tiny run serves many.

What is slow is made once and shared by all processes of pytest-xdist: compiled programs, a tiny
prepared and trained run, the same run on eight virtual devices. Tests that change a run copy it.
"""

import atexit
import contextlib
import fcntl
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from absl import flags
from jaxtyping import install_import_hook

# Before JAX is imported. xdist's workers and our subprocesses inherit both.
if "DEEPFIDELITY_TESTS" not in os.environ:
    os.environ["DEEPFIDELITY_TESTS"] = tempfile.mkdtemp(prefix="deepfidelity-tests-")
    atexit.register(shutil.rmtree, os.environ["DEEPFIDELITY_TESTS"], ignore_errors=True)
SHARED = Path(os.environ["DEEPFIDELITY_TESTS"])
# Where Python and libraries put temporary files, so that a test sees what it leaves there; pytest's
# own stay where they were.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
TEMPORARY = SHARED / f"temporary-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
TEMPORARY.mkdir(exist_ok=True)
os.environ["TMPDIR"] = tempfile.tempdir = str(TEMPORARY)
os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(SHARED / "torch")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(SHARED / "compiled")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as the command line sets it for its process
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.02"
# Most of the tests' time is spent in compiling, most of that in what makes programs faster; with
# XLA_FLAGS="" they run as a user's do.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

install_import_hook("deepfidelity_jax", "beartype.beartype")
flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl's global flags

TREE = Path(__file__).parents[1]
CORES = sorted(os.sched_getaffinity(0))
# One of them for each of xdist's workers, shared only if there are more workers than cores.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
OWN_CORE = CORES[WORKER % len(CORES)]
DEMO = f"--config={TREE / 'configs' / 'demo.py'}"

# The smallest run that passes through everything; all of it is an option of the command line.
TINY = {
    "data.identities": 6,
    "data.clips": 1,
    "faces.frames": 2,
    "faces.size": 64,
    "model.image_size": 32,
    "train.steps": 20,
    "train.batch_size": 8,
    "train.warmup_steps": 4,
    "train.learning_rate": 1e-4,  # small, lest rounding grows into another run
    "train.log_every": 1,
    "train.eval_every": 10,
    "train.checkpoint_every": 5,
    "eval.batch_size": 8,
    "eval.bootstrap": 20,
}
OPTIONS = [f"--config.{key}={value}" for key, value in TINY.items()]


# Tests that need one of these wait for a whole run, in a process of its own.
WHOLE_RUNS = {"command", "finished", "records_folder", "on_eight_devices", "server", "trained"}


# Tests that take a minute and more come first, lest one of them is the last to end.
LONGEST = (
    "test_train_on_your_faces", "test_distributed", "test_ablation", "test_leave_one_out",
    "test_verification", "test_loop", "test_feed", "test_accelerator", "test_colabs",
    "test_robustness", "test_changed_data", "test_cross_dataset", "test_lowering",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Mark tests of whole runs as e2e, in whatever file they are, and order all."""
    for item in items:
        if WHOLE_RUNS & set(item.fixturenames):
            item.add_marker(pytest.mark.e2e)
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(autouse=True)
def nothing_left():
    """The temporary folder is as it was, after tests that pass and those that fail."""
    yield
    left = sorted(path.name for path in TEMPORARY.iterdir())
    for name in left:
        shutil.rmtree(TEMPORARY / name, ignore_errors=True)
    assert not left


@pytest.fixture
def tiny():
    """The tiny run's configuration, free to be changed."""
    from deepfidelity_configs import demo

    config = demo.get_config()
    config.update_from_flattened_dict(TINY)
    return config


@pytest.fixture
def one_core():
    """Starting worker processes takes longer than a few pictures; that is tested elsewhere."""
    with running_on({OWN_CORE}):
        yield


@contextlib.contextmanager
def no_more_files():
    """As long as this holds, the process can open no file."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def running_on(cores):
    """This process, and what it starts, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture
def h100(monkeypatch):
    """As if cuDNN and an H100 were here, for all that is asked of them before compilation."""
    import jax
    from jax._src.cudnn import fused_attention_stablehlo as library

    here, card = jax.devices, SimpleNamespace(compute_capability="9.0")
    monkeypatch.setattr(library, "check_cudnn_version", lambda: 91_000)
    monkeypatch.setattr(library, "check_compute_capability", lambda least: True)
    monkeypatch.setattr(library, "is_cuda_compute_capability_equal", lambda other: False)
    monkeypatch.setattr(
        jax, "devices", lambda *platform: [card] if platform == ("cuda",) else here(*platform)
    )


@pytest.fixture
def all_in_use(h100, monkeypatch):
    """As if an H100 were here and every kernel had been measured to pay on it."""
    from deepfidelity_jax.network.kernels import choice

    cases = itertools.product([(9, 0)], ["float32", "bfloat16"], choice.KERNELS)
    monkeypatch.setattr(choice, "IN_USE", set(cases))


@pytest.fixture
def all_kernels(all_in_use):
    """The same, and programs are lowered for it."""
    import jax

    card = jax.sharding.AbstractDevice(device_kind="NVIDIA H100", num_cores=None, platform="gpu")
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=card)):
        yield


@pytest.fixture
def run(capfd):
    """Run a command in this process: exit status, stdout, stderr."""

    from deepfidelity_jax.cli import main

    def run(*argv):
        status = main(["run.py", *map(str, argv)])
        return status, *capfd.readouterr()

    return run


def assert_told(result, *parts):
    """Exit 2, nothing on stdout, one line on stderr that says all the parts."""
    status, out, error = result
    assert status == 2, error
    assert out == ""
    assert error.count("\n") == 1, error
    assert error.startswith("deepfidelity: ")
    for part in parts:
        assert str(part) in error


class Command:
    """`run.py` in a process of its own, with the tiny run's options, on CPU devices.

    On all cores whoever starts it: sums in another order are another run to the last bit.
    """

    def __init__(self, workdir, *options, devices=1, tiny=True):
        small = [f"--config.{key}={value}" for key, value in TINY.items()] if tiny else []
        config = [DEMO, *small] if tiny else []
        self.argv = [
            sys.executable, str(TREE / "run.py"), *config, f"--workdir={workdir}", *options
        ]  # fmt: skip
        # A command run inside a test's own process leaves the devices it chose in its environment.
        inherited = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
        self.environment = inherited | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} "
            f"--xla_force_host_platform_device_count={devices}",
        }

    def start(self):
        """Start and do not wait; a process group of its own."""
        with running_on(CORES):
            return subprocess.Popen(
                self.argv,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )

    def finish(self):
        """Run to the end: exit status, stdout, stderr."""
        with running_on(CORES):
            return subprocess.run(self.argv, env=self.environment, capture_output=True, text=True)


@pytest.fixture(scope="session")
def command():
    """The class `Command`."""
    return Command


def made_once(name, make):
    """What `make(path)` leaves at `path`, made by the first process that asks for it."""
    path = SHARED / name
    with open(SHARED / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            partial = SHARED / f"{name}.partial"
            make(partial)
            partial.rename(path)
    return path


@pytest.fixture(scope="session")
def finished():
    """The workdir of one finished tiny run. Not to be changed."""

    def make(path):
        done = Command(path).finish()
        assert done.returncode == 0, done.stderr
        assert done.stdout == "", "progress goes to stderr"

    return made_once("finished", make)


@pytest.fixture(scope="session")
def records_folder(finished):
    """The records of the tiny run. Not to be changed."""
    return next((finished / "records" / "synthetic_faces").glob("*/*.*.*"))


def change_records(folder):
    """Change records as a new preparation from repaired files does: another note, the same name."""
    from deepfidelity_jax.records import schema

    path = folder / "metadata.json"
    metadata = json.loads(path.read_text()) | {"notes": {"repaired.mp4": "no face"}}
    path.write_text(json.dumps(metadata | {schema.CHECKSUM: schema.checksum(metadata)}))


def mark_trained(workdir, step=1):
    """Leave what a finished checkpoint is known by."""
    place = workdir / "checkpoints" / str(step)
    (place / "state").mkdir(parents=True)
    for name in ("_CHECKPOINT_METADATA", "state/_METADATA"):
        (place / name).write_text("{}")


@pytest.fixture(scope="session")
def on_eight_devices(finished):
    """The tiny run trained on eight virtual devices, its state in parts. Not to be changed."""

    def make(path):
        place = f"--config.data.records_dir={finished / 'records'}"
        split = "--config.train.shard_state=true"
        done = Command(path, place, split, "--mode=train", devices=8).finish()
        assert done.returncode == 0, done.stderr

    return made_once("on_eight_devices", make)


@pytest.fixture(scope="session")
def server():
    """A server on a free port, with the bundled detector; one for each process of the tests."""
    from serving import Server

    name = f"serving-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    server = Server(SHARED / name)
    yield server
    status, _ = server.end(signal.SIGINT)
    assert status == 0
