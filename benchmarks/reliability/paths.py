"""Every mode in folders with names that are difficult for shells, patterns or file systems.

    python benchmarks/reliability/paths.py [--only=TEXT]

A folder of each name holds the photographs, the workdir, the table of qualities and the output. The
photographs are prepared, trained on, trained on from a checkpoint, evaluated and predicted. The
results must equal those under a plain name, to the last digit; or the first command must explain in
one line, with status 2 and before writing anything, why the name cannot be used.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import small_run

NAMES = (
    "plain", "runs [v2]", "[", "]", "a{b,c}", "star*", "why?", "50%", "%20", "%s%d", "it's",
    'say "cheese"', "two words", " leading", "trailing ", "ümläut", "u\u0308mlaut", "smile 😀",
    "new\nline", "tab\tstop", "-dash", "--workdir=x", "~tilde", "~", "back\\slash", "colon:",
    "file:x", "gs:", "semi;colon", "pipe|", "a&b", "$HOME", "`id`", "hash#1", "a=b", "@0",
    "(copy)", "<b>bold", "...", "dot.", "右から", "\u202eright to left", "bell\x07",
    "x" * 240, os.fsdecode(b"latin-\xe4"),
)  # fmt: skip
OPTIONS = {
    "faces.detector": "none",
    "faces.size": 64,
    "model.image_size": 32,
    "quality.measure": "csv",
    "train.steps": 4,
    "train.batch_size": 8,
    "train.warmup_steps": 1,
    "train.eval_every": 2,
    "train.checkpoint_every": 2,
    "train.log_every": 1,
    "eval.batch_size": 8,
    "eval.bootstrap": 20,
}
PHOTOGRAPHS = 24


def main():
    """Run the campaign and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names with this in them")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="paths-"))
    names = [name for name in NAMES if options.only in name]
    reference, ends = None, {}
    for name in dict.fromkeys(["plain", *names]):
        place = base / name
        place.mkdir()
        # A neighbour that the name, read as a pattern, would match.
        for mark, plain in zip("[*?\\", "vxy/", strict=True):
            if mark in name:
                (base / name.replace(mark, plain)).mkdir(parents=True, exist_ok=True)
        make_photographs(place)
        outcome = through_all(place, base)
        if isinstance(outcome, dict):
            reference = reference or outcome
            differing = [key for key in reference if outcome.get(key) != reference[key]]
            outcome = f"differs in {differing}" if differing else "works"
        elif outcome.startswith("refused"):
            left = sorted(path.name for path in place.iterdir())
            if left != ["photos", "quality.csv"]:
                outcome = f"{outcome}, but {left} are there"
        ends[name] = outcome
        print(f"{name!r}: {outcome}", flush=True)
        shutil.rmtree(place)
    shutil.rmtree(base)
    works = sum(end == "works" for end in ends.values())
    refused = sum(end.startswith("refused") and ", but" not in end for end in ends.values())
    print(f"\n{len(ends)} names: {works} work, {refused} are refused")
    raise SystemExit(works + refused < len(ends))


def make_photographs(place: Path) -> None:
    """Rendered faces in two classes, and a table of their qualities."""
    rows = ["path,score"]
    for number in range(PHOTOGRAPHS):
        label = ("real", "fake")[number % 2]
        split = ("train", "val", "test")[number // 2 % 3]
        path = place / "photos" / split / label / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = cv2.resize(small_run.portrait(number), (64, 64))
        cv2.imencode(".jpg", picture[..., ::-1])[1].tofile(path)
        rows.append(f"{split}/{label}/{path.name},{number % 7}")
    (place / "quality.csv").write_text("\n".join(rows) + "\n")


def through_all(place: Path, base: Path) -> dict | str:
    """The results of all modes in `place`; or the message of the first that failed."""
    # Only a relative path can begin with a dash or a tilde.
    near = place.relative_to(base) if place.name[0] in "-~" else place
    os.chdir(base)
    workdir = f"--workdir={near / 'run'}"
    options = OPTIONS | {"data.dir": near / "photos", "quality.csv": near / "quality.csv"}
    start = [sys.executable, str(small_run.TREE / "run.py"), workdir]
    config = [f"--config={small_run.TREE / 'configs' / 'folder.py'}"]
    config += [f"--config.{name}={value}" for name, value in options.items()]
    checkpoints = place / "run" / "checkpoints"

    commands = {
        "prepare": [*start, "--mode=prepare", *config],
        "train": [*start, "--mode=train", *config],
        "resume": [*start, "--mode=run", *config],
        "evaluate": [*start, "--mode=evaluate", f"--input={near / 'photos'}"],
        "predict": [
            *start,
            "--mode=predict",
            f"--input={near / 'photos'}",
            f"--output={near / 'lines.jsonl'}",
            "--config.faces.detector=none",
        ],
    }
    for name, argv in commands.items():
        if name == "resume":  # as if killed after the first checkpoint
            shutil.rmtree(checkpoints / "4")
        status, _, stderr = small_run.finish(argv)
        if status:
            last = stderr.strip().splitlines()[-1:]
            refused = status == 2 and name == "prepare" and len(stderr.strip().splitlines()) == 1
            return f"{'refused' if refused else f'{name} failed, status {status}'}: {last}"
    lines = [json.loads(line) for line in (place / "lines.jsonl").read_text().splitlines()]
    results = {
        path.parent.name.split("-")[0]: drop_places(
            json.loads(path.read_text())
        )  # no hash of place
        for path in sorted((place / "run" / "eval").rglob("metrics.json"))
    }
    results["log"] = [
        {key: value for key, value in json.loads(line).items() if key != "images_per_s"}
        for line in (place / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    results["fidelity"] = {Path(line["input"]).name: line["fidelity"] for line in lines}
    return results


def drop_places(values: dict) -> dict:
    """Only the numbers, without paths."""
    return {k: v for k, v in values.items() if isinstance(v, (int, float))}


if __name__ == "__main__":
    main()
