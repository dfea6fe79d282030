"""Damage files at random and read them as the commands do.

    python benchmarks/reliability/mutations.py [--count=10000] [--seed=0] [--kinds=NAME ...]

Damages pictures and videos of every format, checkpoints, regressors, weights, tables, configs and
records: flips, cuts, inserts, blanks and moves bytes, and changes headers. Reading must end in a
result or in one clear line. Checkpoints, regressors, configs and records must give the same numbers
or that line. Faults are: any other exception, a line break in the message, changed numbers, a dead
process, more than 10 s of a core, and more than 1 GiB of additional memory.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import shutil
import struct
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import small_run
from damages import DAMAGES
from PIL import Image, features

SECONDS, MEMORY = 10, 2**30  # CPU seconds, which do not depend on other programs; bytes
HANG = 60  # seconds without an answer


@dataclass(frozen=True)
class Kind:
    """A kind of file: how it is read, its share of the trials, whether changes must be noticed."""

    read: Callable[[Path], str]
    share: float
    constant: bool = False


def read_media(path: Path) -> str:
    """A photograph or video to face crops."""
    from deepfidelity_jax.faces import detection, tracking

    settings = detection.FaceSettings(detector="none", frames=4)
    people = tracking.extract(path, settings).people
    return digest(crop.image for person in people for crop in person.crops)


def read_checkpoint(path: Path) -> str:
    """The weights in a workdir; `path` is one of its files."""
    from deepfidelity_jax.detector import trained

    workdir = next(parent for parent in path.parents if (parent / "config.json").exists())
    config, variables, step = trained.read_trained(workdir)
    leaves = [np.asarray(leaf).tobytes() for leaf in jax_leaves(variables)]
    return digest([config.to_json().encode(), str(step).encode(), *leaves])


def read_regressor(path: Path) -> str:
    """A regressor, fidelity.npz."""
    from deepfidelity_jax.fidelity import stored

    model = stored.load(path)
    arrays = [np.asarray(leaf).tobytes() for leaf in jax_leaves(model.regressor.arrays)]
    return digest([repr((model.calibration, model.scale, model.provenance)).encode(), *arrays])


def read_weights(path: Path) -> str:
    """A file of weights."""
    from deepfidelity_jax.weight_files import named_tensors

    _, weights = named_tensors.read_weights(path)
    return digest(np.asarray(weights[name]).tobytes() for name in sorted(weights))


def read_table(path: Path) -> str:
    """A table of quality scores."""
    from deepfidelity_jax.quality.table import read_scores

    return digest([repr(sorted(read_scores(path).items())).encode()])


def read_config(path: Path) -> str:
    """A workdir's config.json, compared with the config that wrote it."""
    from deepfidelity_jax import workdir
    from deepfidelity_jax.options import checks

    checks.require_same(path.parent, workdir.read_config(ORIGINALS / "workdir"))
    return "the same"


def read_records(path: Path) -> str:
    """All records of a dataset; `path` is one of its files."""
    from deepfidelity_jax.records import schema

    parts = []
    for split in sorted(schema.splits_of(path.parent)):
        source = schema.Records(path.parent, split)
        for index in range(len(source)):
            parts += [repr(sorted(source[index].items())).encode()]
    return digest([*parts, json.dumps(schema.metadata_of(path.parent)).encode()])


def jax_leaves(tree):
    """The arrays of a tree."""
    import jax

    return jax.tree.leaves(tree)


def digest(parts) -> str:
    """SHA-256 of many parts, in order."""
    hasher = sha256()
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()


KINDS = {
    "picture": Kind(read_media, 0.45),
    "video": Kind(read_media, 0.2),
    "weights": Kind(read_weights, 0.1),
    "table": Kind(read_table, 0.05),
    "config": Kind(read_config, 0.05, constant=True),
    "regressor": Kind(read_regressor, 0.06, constant=True),
    "checkpoint": Kind(read_checkpoint, 0.05, constant=True),
    "records": Kind(read_records, 0.04, constant=True),
}
ORIGINALS = Path()  # set in each process


def main():
    """Run the campaign and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mutations-"))
    originals = make_originals(folder / "originals")
    rng = random.Random(options.seed)
    worker = Worker(folder / "originals")
    counts, faults, peaks = Counter(), [], Counter()
    shares = {name: KINDS[name].share for name in options.kinds}
    for name, share in shares.items():
        expected = {path: worker.read(name, path)[1] for path in originals[name]}
        for number in range(round(options.count * share / sum(shares.values()))):
            path = rng.choice(originals[name])
            damage = rng.choice(DAMAGES)
            changed = damage(path.read_bytes(), rng)
            copy, top = copy_around(path, folder)
            copy.write_bytes(changed)
            verdict, message, memory = worker.read(name, copy)
            if verdict == "result" and KINDS[name].constant and message != expected[path]:
                verdict, message = "changed in silence", ""
            if memory > MEMORY:
                verdict, message = "memory", f"{memory / 2**20:.0f} MiB"
            peaks[name] = max(peaks[name], memory)
            counts[name, verdict] += 1
            if verdict not in ("result", "line"):
                kept = folder / f"fault-{name}-{number}-{path.name}"
                shutil.copyfile(copy, kept)
                what = damage.__name__
                faults.append(f"{name} {path.name} ({what}): {verdict}: {message[-400:]} [{kept}]")
                print(faults[-1], flush=True)
            shutil.rmtree(top) if top.is_dir() else top.unlink()
        shown = ", ".join(f"{n} {v}" for (k, v), n in sorted(counts.items()) if k == name)
        peak = peaks[name] / 2**20
        print(f"{name} ({len(originals[name])} files): {shown}; {peak:.0f} MiB", flush=True)
    worker.stop()
    total = sum(counts.values())
    print(f"\n{total} files, {len(faults)} faults, {max(peaks.values()) / 2**20:.0f} MiB at most")
    if not faults:
        shutil.rmtree(folder)
    raise SystemExit(bool(faults))


def copy_around(path: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of a file with the files needed to read it; and the path to remove afterwards."""
    for parent in path.parents:
        if (parent / "config.json").exists() or (parent / "dataset_info.json").exists():
            top = folder / "copy"
            shutil.copytree(parent, top)
            return top / path.relative_to(parent), top
    copy = folder / f"copy{path.suffix}"
    return copy, copy


def make_originals(folder: Path) -> dict[str, list[Path]]:
    """Undamaged files of every kind."""
    folder.mkdir()
    workdir = folder / "workdir"
    small_run.run_or_stop(small_run.command(workdir))
    files = {name: [] for name in KINDS}
    picture = small_run.portrait(0, 64)
    for name, options in picture_formats().items():
        path = folder / f"picture-{name}"
        Image.fromarray(picture).save(path, **options)
        files["picture"].append(path)
    for suffix, codec in (("mp4", "mp4v"), ("avi", "MJPG"), ("mkv", "XVID"), ("webm", "VP80")):
        path = small_run.film(folder / f"film.{suffix}", 1, 24, codec=codec, size=64)
        if path.exists() and path.stat().st_size:
            files["video"].append(path)
    for suffix in ("safetensors", "npz"):
        path = folder / f"weights.{suffix}"
        small_run.run_or_stop(
            [*small_run.command(workdir, "convert")[:4], f"--input={workdir}", f"--output={path}"]
        )
        files["weights"].append(path)
    files["weights"].append(write_pytorch(folder / "model_best.pth.tar"))
    table = folder / "scores.csv"
    rows = "".join(f"real/{number:04}.jpg,{number / 100}\n" for number in range(60))
    table.write_text(f"path,score\n{rows}")
    files["table"] = [table]
    files["config"] = [workdir / "config.json"]
    shutil.copyfile(workdir / "fidelity.npz", folder / "fidelity.npz")
    files["regressor"] = [folder / "fidelity.npz"]
    newest = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    files["checkpoint"] = [path for path in newest.rglob("*") if path.is_file()]
    written = next((workdir / "records").glob("*/*/*.*.*"))
    files["records"] = [path for path in written.iterdir() if path.is_file()]
    return files


def picture_formats() -> dict[str, dict]:
    """Name and options of each picture format that Pillow can write here."""
    formats = {
        "baseline.jpg": {"quality": 90},
        "progressive.jpg": {"quality": 90, "progressive": True},
        "plain.png": {},
        "plain.bmp": {},
        "plain.gif": {},
        "lossy.webp": {"quality": 80},
        "lossless.webp": {"lossless": True},
        "raw.tif": {},
        "lzw.tif": {"compression": "tiff_lzw"},
        "jpeg.tif": {"compression": "jpeg"},
    }
    if features.check("jpg_2000"):
        formats["plain.jp2"] = {}
    if features.check("avif"):
        formats["plain.avif"] = {}
    return formats


def write_pytorch(path: Path) -> Path:
    """A checkpoint in PyTorch's format, written without it: a dict of two tensors in a zip file."""
    import zipfile

    arrays = {"head.weight": np.ones((2, 8), np.float32), "head.bias": np.zeros(2, np.float32)}
    opcodes = b"\x80\x02}("
    for key, (name, array) in enumerate(arrays.items()):
        storage = f"X{struct.pack('<I', 7).decode()}storagectorch\nFloatStorage\n"
        opcodes += b"X" + struct.pack("<I", len(name)) + name.encode()
        opcodes += b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage.encode()
        opcodes += b"X" + struct.pack("<I", 1) + str(key).encode() + b"X\x03\0\0\0cpu"
        opcodes += b"J" + struct.pack("<i", array.size) + b"tQJ" + struct.pack("<i", 0) + b"("
        opcodes += b"".join(b"J" + struct.pack("<i", n) for n in array.shape) + b"t("
        strides = [n // array.itemsize for n in array.strides]
        opcodes += b"".join(b"J" + struct.pack("<i", n) for n in strides) + b"t\x89}tR"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", opcodes + b"u.")
        archive.writestr("archive/byteorder", "little")
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", "3\n")
    return path


class Worker:
    """A process that reads one file at a time; restarted if it dies or hangs."""

    def __init__(self, originals: Path):
        self.originals, self.context = originals, multiprocessing.get_context("spawn")
        self.start()

    def start(self):
        """Start the process and wait until it has imported everything."""
        self.pipe, theirs = self.context.Pipe()
        self.process = self.context.Process(target=serve, args=(theirs, self.originals))
        self.process.start()
        assert self.pipe.recv() == "ready"

    def read(self, kind: str, path: Path) -> tuple[str, str, int]:
        """Read a file: the verdict, the message or result, and the additional memory in bytes."""
        self.pipe.send((kind, path))
        try:
            if self.pipe.poll(HANG):
                verdict, message, memory, seconds = self.pipe.recv()
                return ("slow" if seconds > SECONDS else verdict), message, memory
            verdict = "hang"
        except (EOFError, ConnectionResetError):
            verdict = "crash"
        self.stop()
        self.start()
        return verdict, "", 0

    def stop(self):
        """End the process."""
        self.process.kill()
        self.process.join()


def serve(pipe, originals: Path) -> None:
    """Read the files named through the pipe, and send back how it went."""
    import time

    from deepfidelity_jax.detector import trained  # noqa: F401
    from deepfidelity_jax.errors import InputError
    from deepfidelity_jax.images.formats import MediaError

    global ORIGINALS
    ORIGINALS = originals
    for kind in KINDS.values():  # load everything that is loaded on first use
        with contextlib.suppress(Exception):
            kind.read(originals / "nothing")
    read_checkpoint(originals / "workdir" / "checkpoints" / "x")
    pipe.send("ready")
    while True:
        kind, path = pipe.recv()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before, began = memory_now("VmRSS"), time.process_time()
        try:
            verdict, message = "result", KINDS[kind].read(path)
        except (InputError, MediaError) as error:
            message = str(error)
            verdict = "line" if message and "\n" not in message else "not one line"
        except Exception as error:
            verdict, message = "exception", f"{type(error).__name__}: {error}"
        memory = memory_now("VmHWM") - before
        pipe.send((verdict, message, memory, time.process_time() - began))


def memory_now(name: str) -> int:
    """Memory of this process in bytes, by its name in /proc/self/status."""
    lines = io.StringIO(Path("/proc/self/status").read_text())
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
