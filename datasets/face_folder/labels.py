"""Which folders hold real and fake files, by name or by option. Labels are never guessed."""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import locate
from deepfidelity_jax.records.schema import FAKE, REAL, SPLITS

CLASSES = {"real": REAL, "fake": FAKE}  # in upper or lower case
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# Parts of names that suggest a class.
SPEAKING = {
    REAL: ("real", "original", "genuine", "authentic", "pristine", "bonafide"),
    FAKE: (
        "fake", "manipulated", "altered", "synthetic", "forged", "generated", "spoof", "swap",
        "tampered", "morph", "face2face", "neuraltextures", "faceshifter", "deepfacelab",
        "synthesis", "synthesized", "synthesised", "stylegan", "progan", "pggan", "cyclegan",
        "stargan", "diffusion", "midjourney", "sdxl",
    ),
}  # fmt: skip
# Only as whole words: many names have these letters in them.
WORDS = {REAL: (), FAKE: ("gan", "biggan")}
# Whole words that people are called as well: inside of a class they contradict nothing.
NAMES = {REAL: (), FAKE: ("ai", "dalle", "dall")}  # DALL-E is two words
NUMBERED = re.compile(
    r"[01](?:[_\-. ].*)?", re.DOTALL
)  # numbers that may be a class; 001 is not one


@dataclass(frozen=True)
class ClassFolder:
    """A folder of files with one label.

    split: the split it gives its files; empty if the split is drawn for each file.
    """

    path: Path
    label: int
    split: str = ""


def find_classes(
    folder: Path, files: Iterable[Path], real: str = "", fake: str = "", *, test_only: bool = False
) -> list[ClassFolder]:
    """The class folders in `folder`; the folder itself, as real, if there are none.

    Args:
      folder: of the data.
      files: the photographs and videos in it.
      real: the folder of the real files if it has another name, absolute or relative to `folder`.
      fake: the same for the fakes.
      test_only: if folders give splits, only the test split is needed.

    Raises:
      InputError: a folder's name suggests a class but nothing says which, or it contradicts the
        class of the folder around it; a class is missing; or folders give splits only in part.
    """
    files = list(files)
    from_options = _by_option(folder, real, fake) if real or fake else []
    # Splits around classes are read by name alone: an option names one folder.
    classes = _splits_inside(from_options or _named(folder)) + (
        [] if from_options else _splits_around(folder)
    )
    doubtful = _doubts(folder, files, classes, settled=bool(real and fake))
    if doubtful:
        raise InputError("; ".join(doubtful))
    _require_splits(folder, classes, test_only)
    _require_no_deeper_splits(folder, files, classes)
    if not classes:
        _require_silent(folder, files)
        classes = [ClassFolder(folder, REAL)]
    elif {entry.label for entry in classes} == {FAKE}:
        raise InputError(
            f"{folder} has fake/ but no real/: put real photographs or videos into real/, or give "
            "their folder with --config.data.real_folder=FOLDER"
        )
    return classes


def class_of(path: Path, classes: Sequence[ClassFolder]) -> ClassFolder | None:
    """The class folder that a file is in, the innermost of several; None if it is in none."""
    around = [entry for entry in classes if entry.path == path or entry.path in path.parents]
    return max(around, key=lambda entry: len(entry.path.parts), default=None)


def _by_option(folder: Path, real: str, fake: str) -> list[ClassFolder]:
    classes = []
    for label, option, value in ((REAL, "real_folder", real), (FAKE, "fake_folder", fake)):
        if value:
            path = locate(folder / Path(value).expanduser())
            if not path.is_dir():
                raise InputError(f"config.data.{option} is {value!r}, but {path} is not a folder")
            classes.append(ClassFolder(path, label))
    if len(classes) == 2 and classes[0].path.resolve() == classes[1].path.resolve():
        raise InputError("config.data.real_folder and config.data.fake_folder are the same folder")
    others = [
        entry for entry in _named(folder) if entry.label not in {chosen.label for chosen in classes}
    ]
    return classes + others


def _named(folder: Path) -> list[ClassFolder]:
    """The folders named real or fake inside `folder`."""
    return [
        ClassFolder(path, CLASSES[path.name.casefold()])
        for path in _folders(folder)
        if path.name.casefold() in CLASSES
    ]


def _splits_around(folder: Path) -> list[ClassFolder]:
    """The class folders of `train/real/`, `train/fake/` and so on."""
    return [
        ClassFolder(entry.path, entry.label, SPLIT_FOLDERS[path.name.casefold()])
        for path in _split_folders(folder)
        for entry in _named(path)
    ]


def _splits_inside(classes: list[ClassFolder]) -> list[ClassFolder]:
    """The splits of `real/train/`, `real/test/` and so on; the classes themselves without these."""
    known = {entry.path for entry in classes}
    inside = {
        entry: [
            ClassFolder(path, entry.label, SPLIT_FOLDERS[path.name.casefold()])
            for path in _split_folders(entry.path)
            if path not in known
        ]
        for entry in classes
    }
    # One such name may be an album's; two are splits.
    if len({part.split for parts in inside.values() for part in parts}) < 2:
        return classes
    return [part for entry, parts in inside.items() for part in parts or [entry]]


def _split_folders(folder: Path) -> list[Path]:
    return [path for path in _folders(folder) if path.name.casefold() in SPLIT_FOLDERS]


def _require_splits(folder: Path, classes: list[ClassFolder], test_only: bool) -> None:
    """InputError if folders give splits only in part, or one lacks a class that another has."""
    around = {entry.path.parent for entry in classes if entry.split}
    above = [path for path in _split_folders(folder) if path in around]
    without = [path for path in _split_folders(folder) if path not in around]
    beside = [entry.path for entry in classes if entry.path.parent not in above]
    if above and beside:
        raise InputError(
            f"{folder} has {_show(folder, beside[:1])} and {_show(folder, above[:1])}: give "
            "splits for everything or for nothing"
        )
    names = {SPLIT_FOLDERS[path.name.casefold()] for path in without}
    if (above and without) or (not classes and {"train", "test"} <= names):
        raise InputError(
            f"{_show(folder, without)} in {folder} look like splits: put real/ and fake/ into "
            "each (only real/ if forgeries are to be made)"
        )
    splits = {entry.split for entry in classes} - {""}
    if not splits:
        return
    labels = {entry.label for entry in classes}
    needed = {"test"} if test_only else splits | {"train", "test"}
    for split in SPLITS:
        lacking = labels - {entry.label for entry in classes if entry.split == split}
        if split in needed and lacking:
            name = next(name for name, label in CLASSES.items() if label in lacking)
            raise InputError(
                f"{folder} has no {name}/ for the {split} split: give train/, test/ and optionally "
                "val/ around or inside every class folder"
            )


def _require_no_deeper_splits(
    folder: Path, files: Iterable[Path], classes: list[ClassFolder]
) -> None:
    """InputError for splits such as `fake/METHOD/train/`, which nobody would read."""
    deeper = []
    for path in sorted(_parents(folder, files)):
        owner = class_of(path, classes)
        if (
            owner
            and not owner.split
            and owner.path != path
            and path.name.casefold() in SPLIT_FOLDERS
        ):
            deeper.append(path)
    if len({SPLIT_FOLDERS[path.name.casefold()] for path in deeper}) > 1:
        raise InputError(
            f"{_show(folder, deeper)} in {folder} look like splits, which are read around and "
            "directly inside class folders only: move them there, or train on the table that "
            "`python -m deepfidelity_datasets.manifest classes` writes of this folder"
        )


def _doubts(
    folder: Path, files: Iterable[Path], classes: list[ClassFolder], *, settled: bool
) -> list[str]:
    """What is doubtful about the names of folders with files in them, for a message.

    settled: both classes are given by options, so names outside of them do not matter.
    """
    known = {entry.path for entry in classes}
    around = {parent for path in known for parent in path.parents}
    outside, contrary = [], []
    for path in sorted(_parents(folder, files)):
        if path in known or path in around:
            continue
        if any(above in path.parents for above in (*outside, *contrary)):
            continue  # reported with the folder around it
        owner = class_of(path, classes)
        if (
            owner is None
            and not settled
            and (speaks_of(path.name) or NUMBERED.fullmatch(path.name))
        ):
            outside.append(path)
        elif owner is not None and _contradicts(path.name, owner.label):
            contrary.append(path)
    doubts = []
    if outside:
        doubts.append(
            f"{_show(folder, outside)} in {folder} may name a class, and labels are never "
            f"guessed: {_advise(folder, outside, classes)}"
        )
    if contrary:
        doubts.append(
            f"{_show(folder, contrary)} in {folder} contradicts the class of the folder around "
            "it: move or rename it"
        )
    return doubts


def _parents(folder: Path, files: Iterable[Path]) -> set[Path]:
    """All folders below `folder` with files in them, at any depth."""
    parents: set[Path] = set()
    for path in {file.parent for file in files}:
        while path not in parents and folder in path.parents:
            parents.add(path)
            path = path.parent
    return parents


def speaks_of(name: str) -> set[int]:
    """The labels that a name suggests."""
    words = _words(name)
    return {label for label in SPEAKING if _says(name, label) or words & {*NAMES[label]}}


def _says(name: str, label: int) -> bool:
    """Whether a name suggests the label and is hardly a person's."""
    lower, words = name.casefold(), _words(name)
    return any(part in lower for part in SPEAKING[label]) or bool(words & {*WORDS[label]})


def _words(name: str) -> set[str]:
    """The words in a name, without a plural's s."""
    words = re.split(r"[\W\d_]+", name.casefold())
    return {*words, *(word.removesuffix("s") for word in words)}


def _contradicts(name: str, label: int) -> bool:
    if label == REAL:
        return _says(name, FAKE)
    # Only whole words: a method may be called realistic_vision.
    return bool(_words(name) & {*SPEAKING[REAL]})


def _require_silent(folder: Path, files: Iterable[Path]) -> None:
    """InputError if everything would count as real, but a name suggests otherwise."""
    meant = (
        "put real files into real/ and fakes into fake/, or say that all are real with "
        "--config.data.real_folder=."
    )
    names = [name for name in {folder.name, folder.resolve().name} if name]
    for name in names:
        numbered = NUMBERED.fullmatch(name) and not speaks_of(name)
        if FAKE in speaks_of(name) or numbered:
            raise InputError(
                f"config.data.dir is {folder}, a name that may mean a class, and labels are "
                f"never guessed: {meant}"
            )
    fakes = [path for path in files if _says_fake(path.stem)]
    if fakes:
        raise InputError(
            f"{len(fakes)} files in {folder} are named like fakes, such as {fakes[0].name!r}, and "
            f"labels are never guessed: {meant}"
        )


def _says_fake(stem: str) -> bool:
    return bool(_words(stem) & {*SPEAKING[FAKE], *WORDS[FAKE], *NAMES[FAKE], "deepfake"})


def _advise(folder: Path, outside: list[Path], classes: list[ClassFolder]) -> str:
    """What to rename, or which option to give."""
    options = {REAL: "real_folder", FAKE: "fake_folder"}
    taken = {entry.label for entry in classes}
    rename = "rename the class folders to real/ and fake/ (a folder inside fake/ names its method)"
    if any(entry.split for entry in classes) or any(
        path.parent != folder and path.parent.name.casefold() in SPLIT_FOLDERS for path in outside
    ):
        return f"{rename}, in each of train/, val/ and test/"
    suggested = {
        label: [path for path in outside if speaks_of(path.name) == {label}] for label in options
    }
    typed = [
        f"--config.data.{options[label]}="
        + (_relative(folder, suggested[label][0]) if len(suggested[label]) == 1 else "FOLDER")
        for label in (REAL, FAKE)
        if label not in taken
    ]
    if taken == {REAL, FAKE}:
        named = " ".join(
            f"--config.data.{options[entry.label]}={_relative(folder, entry.path)}"
            for entry in classes[:2]
        )
        return f"{rename}, or say that there are no others with {named}"
    end = "" if classes else "; if all of them are real, give --config.data.real_folder=."
    return f"{rename}, or give {' '.join(typed)}{end}"


def _relative(folder: Path, path: Path) -> str:
    return shlex.quote(path.relative_to(folder).as_posix())


def _show(folder: Path, paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - 20} more" if len(paths) > 20 else ""
    return ", ".join(f"{path.relative_to(folder).as_posix()}/" for path in paths[:20]) + more


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(
            path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
    except OSError:  # an unreadable folder is listed as left out
        return []
