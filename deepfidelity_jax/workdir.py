"""The folder of a run: its lock, config and finished stages, written atomically."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import jax
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import LOCK, lock, remove_partial, written_whole
from deepfidelity_jax.processes import hosts
from deepfidelity_jax.progress import say


@contextlib.contextmanager
def held(workdir: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the workdir for this process alone; create it if necessary.

    Partial files of a killed process are removed. A new workdir that is still empty at the end is
    removed too. If another process holds it, this waits for that one, if it is to `wait`.

    Raises:
      InputError: the workdir is not writable, or another process holds it.
    """
    made = [path for path in (workdir, *workdir.parents) if not path.exists()]
    mark = workdir / LOCK
    with _locked(workdir, wait):
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


def _locked(workdir: Path, wait: bool) -> IO:
    """The open file that locks the workdir."""
    while True:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            file = (workdir / LOCK).open("wb")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"--workdir={workdir} cannot be written: {reason}") from None
        taken = lock(file)
        if wait and not taken:
            say(f"another run is using {workdir}: waiting until it ends")
            taken = lock(file, wait=True)
        # The previous holder may just have removed a new, empty workdir.
        if taken and (workdir / LOCK).exists():
            return file
        file.close()
        if not wait:
            raise InputError(
                f"another run is using {workdir}: wait until it ends, or take another --workdir"
            )


def claim(workdir: Path, config: ConfigDict) -> None:
    """Write the config to the workdir: a new one, or new values of options that do not bind yet."""
    path, values = workdir / "config.json", json.loads(config.to_json())
    there = None
    with contextlib.suppress(OSError, ValueError):  # missing, or damaged before anything is trained
        there = json.loads(path.read_text(encoding="utf-8"))
    if there != values:
        write_json(path, values)


def keep_programs(workdir: Path) -> None:
    """Cache compiled programs in `<workdir>/cache`, so that the next command starts faster.

    Call it before anything is compiled. If the user has set a cache folder, or the workdir is not
    writable, nothing changes.
    """
    folder = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if jax.config.jax_compilation_cache_dir or not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(workdir / "cache"))
    # Small programs compile as fast as they are read.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    # With XLA's own caches the folder's path becomes part of each program's key, and a workdir that
    # was moved would compile everything again.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def read_config(workdir: Path) -> ConfigDict:
    """The config of a workdir; InputError if there is none or it is damaged."""
    path = workdir / "config.json"
    if not path.exists():
        raise InputError(f"{workdir} is not a workdir: it has no config.json")
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


class Stages:
    """Which stages are finished, and from which inputs, so that none is repeated needlessly."""

    def __init__(self, workdir: Path):
        self.path = workdir / "stages.json"

    def done(self, name: str, inputs: str, *results: Path) -> bool:
        """Whether `name` was finished with the same inputs and all its results exist."""
        return self._read().get(name) == inputs and all(path.exists() for path in results)

    def begin(self, name: str) -> None:
        """Record that the results of `name` are about to change, and are valid for no inputs."""
        if hosts.is_first() and name in self._read():
            write_json(self.path, {k: v for k, v in self._read().items() if k != name})

    def finish(self, name: str, inputs: str) -> None:
        """Record that `name` is finished; in the first of several processes only."""
        if hosts.is_first():
            write_json(self.path, self._read() | {name: inputs})

    def _read(self) -> dict[str, str]:
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}


def write_json(path: Path, value) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with written_whole(path, "w", encoding="utf-8") as file:
        file.write(text)
