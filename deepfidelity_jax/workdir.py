"""The folder a run lives in: its config, its finished stages, its metrics; written atomically."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from tensorboardX import SummaryWriter

from deepfidelity_jax import hosts
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import lock, remove_partial, written_whole


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Have a workdir for this process alone, as long as it lives; a new one is made.

    What a killed process left half written in it is removed. A new one that nothing was put in is
    gone afterwards. InputError where it cannot be written, and at once where another process has
    it.
    """
    made = [path for path in (workdir, *workdir.parents) if not path.exists()]
    mark = workdir / ".lock"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = mark.open("wb")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"--workdir={workdir} cannot be written: {reason}") from None
    with file:
        # The process before may just have removed a new one.
        if not lock(file) or not mark.exists():
            raise InputError(
                f"another run is at work in {workdir}: wait for its end, or take another --workdir"
            )
        try:
            remove_partial(workdir)
            yield
        finally:
            if made:
                with contextlib.suppress(OSError):
                    if os.listdir(workdir) == [mark.name]:
                        mark.unlink()
                    for path in made:
                        path.rmdir()


def claim(workdir: Path, config: ConfigDict) -> None:
    """Make a workdir this config's: a new one, or with other values of what does not bind it."""
    path, values = workdir / "config.json", json.loads(config.to_json())
    if not path.exists() or json.loads(path.read_text(encoding="utf-8")) != values:
        write_json(path, values)


def keep_programs(workdir: Path) -> None:
    """Keep what JAX compiles in `<workdir>/cache`, so that the next command need not compile it.

    For a process with one workdir, before it compiles; a folder named by the user is left alone,
    and nothing is kept where nothing may be written.
    """
    place = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if jax.config.jax_compilation_cache_dir or not os.access(place, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(workdir / "cache"))
    # Not the many little ones, which compile as fast as they are read.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    # XLA's own caches would make the folder's path part of every program's name, so that a workdir
    # taken elsewhere would compile anew.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def read_config(workdir: Path) -> ConfigDict:
    """The config a workdir was made with. InputError where there is none or it is damaged."""
    path = workdir / "config.json"
    if not path.exists():
        raise InputError(f"{workdir} is no workdir: it has no config.json")
    try:
        return ConfigDict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}") from None


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict as {'a.b': value}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def fingerprint(*inputs) -> str:
    """A short hash of JSON-able values."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Stages:
    """Which stages are done, and from what inputs: none is repeated with unchanged inputs."""

    def __init__(self, workdir: Path):
        self.path = workdir / "stages.json"

    def done(self, name: str, inputs: str, *results: Path) -> bool:
        """Whether `name` was finished from the same inputs and its results are still there."""
        return self._read().get(name) == inputs and all(path.exists() for path in results)

    def begin(self, name: str) -> None:
        """Note that the results of `name` are about to change: they are no longer of any inputs."""
        if hosts.is_first() and name in self._read():
            write_json(self.path, {k: v for k, v in self._read().items() if k != name})

    def finish(self, name: str, inputs: str) -> None:
        """Note that `name` is done; of several processes the first one does."""
        if hosts.is_first():
            write_json(self.path, self._read() | {name: inputs})

    def _read(self) -> dict[str, str]:
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}


class MetricsLog:
    """`metrics.jsonl` and TensorBoard, one line a step; lines after a resumed step are dropped.

    Of several processes only the first one writes.
    """

    def __init__(self, workdir: Path, after: int):
        if not hosts.is_first():
            return
        self.path = workdir / "metrics.jsonl"
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            # A killed run may have left half a line, and steps that will be taken again.
            kept = [
                line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= after
            ]
            write_text(self.path, "".join(kept))
        self._file = self.path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=after + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append one line of named numbers."""
        if not hosts.is_first():
            return
        self._file.write(json.dumps({"step": step} | values) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both."""
        if not hosts.is_first():
            return
        self._file.close()
        self._board.close()


def write_json(path: Path, value) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with written_whole(path, "w", encoding="utf-8") as file:
        file.write(text)
