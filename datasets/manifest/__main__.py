"""Write a table from another project's layout: `python -m deepfidelity_datasets.manifest`."""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NoReturn

from deepfidelity_datasets.manifest.layouts import LAYOUTS, Entry, Stated
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import locate, require_writable, written_whole
from deepfidelity_jax.processes import console
from deepfidelity_jax.progress import say
from deepfidelity_jax.records.schema import FAKE, LABELS, REAL

HELP = """\
layouts
  classes         SOURCE is a folder with class folders at any depth, such as real/ and fake/,
                  0_real/ and 1_fake/, train/Real/ and train/FAKE/. Other names: --real=original
                  --fake=manipulated. A folder inside that of the fakes names the method, but with
                  --video=folder not the last folder of a picture, which is a video; train/, val/
                  and test/ around or inside the classes are the splits
  deepfakebench   SOURCE is DeepfakeBench's JSON file of a dataset, with lists of frames
  dfdc            SOURCE is a folder with metadata.json files and the DFDC's videos beside them. A
                  fake and its original get the same person, so that they stay in one split
  gend            SOURCE is a list of GenD's, a text file of paths that end in KIND/VIDEO/FRAME,
                  or a folder of lists; a kind is real if its name has the word, as in GenD
  forensichub     SOURCE is a list of ForensicHub's, a JSON array of {"path", "label", "mask"} with
                  label 0 for real and 1 for fake, or a folder of lists such as train.json

Train on the table with --config=configs/manifest.py --config.data.manifest=OUT, or score it with
--mode=evaluate --workdir=DIR --input=OUT; ready crops also need --config.faces.detector=none.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (--help describes the command)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit statuses are the same as for the other commands."""
    return console.end(lambda: convert(_parse(argv)), lambda: "nothing was written")


def convert(given: argparse.Namespace) -> int:
    """Read a layout and write its table."""
    out = locate(given.out)
    if out.suffix.lower() != ".csv":
        raise InputError(f"{given.out} must end in .csv")
    if out.exists():
        raise InputError(f"{given.out} exists: remove it, or give another name")
    require_writable(out, "OUT")
    source = locate(given.source)
    if not source.exists():
        raise InputError(f"{given.source}: no such file or folder")
    labels = dict.fromkeys(given.real, REAL)
    if both := labels.keys() & set(given.fake):
        raise InputError(f"--real and --fake both name {min(both)}")
    folder = given.dir and locate(given.dir)
    stated = Stated(
        labels | dict.fromkeys(given.fake, FAKE), folder, given.video, given.compression
    )
    # Paths in a list may contain `..`, which a table refuses.
    listed = LAYOUTS[given.layout](source, stated)
    entries = [replace(entry, path=locate(entry.path)) for entry in listed]
    if given.without_splits:
        entries = [replace(entry, split="") for entry in entries]
    entries = _consistent(source, entries)
    missing = sum(not entry.path.exists() for entry in entries)
    if missing == len(entries):
        raise InputError(
            f"{source} lists {missing} files, none of which is there, such as {entries[0].path}: "
            "give the folder that paths are relative to with --dir=FOLDER"
        )
    _write(out, entries)
    classes = Counter(LABELS[entry.label] for entry in entries)
    splits = Counter(entry.split or "to be drawn" for entry in entries)
    say(f"{len(entries)} rows in {given.out}: {_counts(classes)}; splits: {_counts(splits)}")
    if missing:
        say(f"{missing} of the files are not there, such as {_first_missing(entries)}")
    return console.DONE


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m deepfidelity_datasets.manifest",
        description="Write a table of files and labels from another project's layout.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("layout", choices=LAYOUTS, metavar="LAYOUT", help="one of those below")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the folder or list to read")
    parser.add_argument("out", type=Path, metavar="OUT", help="the .csv to write")
    for label in ("real", "fake"):
        parser.add_argument(
            f"--{label}", action="append", default=[], metavar="NAME",
            help=f"a folder or label that means {label}; may be repeated",
        )  # fmt: skip
    parser.add_argument("--dir", type=Path, help="the folder that paths in a list are relative to")
    parser.add_argument(
        "--video", choices=("folder", "none"), default="",
        help="classes: whether the pictures in one folder are frames of a video",
    )  # fmt: skip
    parser.add_argument("--compression", default="", help="deepfakebench: such as c23")
    parser.add_argument(
        "--without-splits", action="store_true",
        help="leave the layout's splits out; they are then drawn",
    )  # fmt: skip
    return parser.parse_args(argv)


def _consistent(source: Path, entries: Sequence[Entry]) -> list[Entry]:
    """The entries, each file once; InputError if they contradict each other or lack a class."""
    by_path: dict[Path, Entry] = {}
    videos: dict[str, Entry] = {}
    for entry in entries:
        other = by_path.setdefault(entry.path, entry)
        video = videos.setdefault(entry.video_id, entry) if entry.video_id else entry
        subject = entry.video_id if other is entry or other == entry else str(entry.path)
        for name in ("label", "split"):
            if len({getattr(row, name) for row in (entry, other, video)}) > 1:
                values = sorted({str(getattr(row, name)) for row in (entry, other, video)})
                hint = "; --without-splits leaves the splits out" if name == "split" else ""
                raise InputError(
                    f"{source} has two values of {name} for {subject}: {' and '.join(values)}{hint}"
                )
    if not by_path:
        raise InputError(f"{source} lists no files")
    if len({entry.label for entry in by_path.values()}) < 2:
        label = LABELS[entries[0].label]
        raise InputError(f"{source} has only {label} files: a table needs both classes")
    if len({bool(entry.split) for entry in by_path.values()}) > 1:
        without = next(entry.path for entry in by_path.values() if not entry.split)
        raise InputError(
            f"{source} gives splits, but none for {without}: --without-splits leaves them out"
        )
    return list(by_path.values())


def _write(out: Path, entries: Sequence[Entry]) -> None:
    names = [field.name for field in fields(Entry)]
    used = [n for n in names if n in ("path", "label") or any(getattr(e, n) for e in entries)]
    with written_whole(out, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(used)
        for entry in entries:
            inside = out.parent in entry.path.parents
            path = entry.path.relative_to(out.parent) if inside else entry.path
            cells = {"path": path.as_posix(), "label": LABELS[entry.label]}
            try:
                writer.writerow([cells.get(name, getattr(entry, name)) for name in used])
            except UnicodeEncodeError:
                raise InputError(f"{cells['path']!a} is not text: rename it") from None


def _counts(counted: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counted.items()))


def _first_missing(entries: Sequence[Entry]) -> Path:
    return next(entry.path for entry in entries if not entry.path.exists())


if __name__ == "__main__":
    sys.exit(main())
