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
    given = _by_option(folder, real, fake) if real or fake else []
    # Splits around classes are read by name alone: an option names one folder.
    found = _splits_inside(given or _named(folder)) + ([] if given else _splits_around(folder))
    doubtful = _doubts(folder, files, found, settled=bool(real and fake))
    if doubtful:
        raise InputError("; ".join(doubtful))
    _require_splits(folder, found, test_only)
    _require_no_deeper_splits(folder, files, found)
    if not found:
        _require_silent(folder, files)
        found = [ClassFolder(folder, REAL)]
    elif {one.label for one in found} == {FAKE}:
        raise InputError(
            f"{folder} has fake/ but no real/: put real photographs or videos into real/, or give "
            "their folder with --config.data.real_folder=FOLDER"
        )
    return found


def class_of(path: Path, classes: Sequence[ClassFolder]) -> ClassFolder | None:
    """The class folder that a file is in, the innermost of several; None if it is in none."""
    around = [one for one in classes if one.path == path or one.path in path.parents]
    return max(around, key=lambda one: len(one.path.parts), default=None)


def _by_option(folder: Path, real: str, fake: str) -> list[ClassFolder]:
    found = []
    for label, option, given in ((REAL, "real_folder", real), (FAKE, "fake_folder", fake)):
        if given:
            path = locate(folder / Path(given).expanduser())
            if not path.is_dir():
                raise InputError(f"config.data.{option} is {given!r}, but {path} is not a folder")
            found.append(ClassFolder(path, label))
    if len(found) == 2 and found[0].path.resolve() == found[1].path.resolve():
        raise InputError("config.data.real_folder and config.data.fake_folder are the same folder")
    others = [one for one in _named(folder) if one.label not in {own.label for own in found}]
    return found + others


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
        ClassFolder(one.path, one.label, SPLIT_FOLDERS[path.name.casefold()])
        for path in _split_folders(folder)
        for one in _named(path)
    ]


def _splits_inside(classes: list[ClassFolder]) -> list[ClassFolder]:
    """The splits of `real/train/`, `real/test/` and so on; the classes themselves without these."""
    known = {one.path for one in classes}
    inside = {
        one: [
            ClassFolder(path, one.label, SPLIT_FOLDERS[path.name.casefold()])
            for path in _split_folders(one.path)
            if path not in known
        ]
        for one in classes
    }
    # One such name may be an album's; two are splits.
    if len({part.split for parts in inside.values() for part in parts}) < 2:
        return classes
    return [part for one, parts in inside.items() for part in parts or [one]]


def _split_folders(folder: Path) -> list[Path]:
    return [path for path in _folders(folder) if path.name.casefold() in SPLIT_FOLDERS]


def _require_splits(folder: Path, found: list[ClassFolder], test_only: bool) -> None:
    """InputError if folders give splits only in part, or one lacks a class that another has."""
    around = {one.path.parent for one in found if one.split}
    above = [path for path in _split_folders(folder) if path in around]
    without = [path for path in _split_folders(folder) if path not in around]
    beside = [one.path for one in found if one.path.parent not in above]
    if above and beside:
        raise InputError(
            f"{folder} has {_show(folder, beside[:1])} and {_show(folder, above[:1])}: give "
            "splits for everything or for nothing"
        )
    names = {SPLIT_FOLDERS[path.name.casefold()] for path in without}
    if (above and without) or (not found and {"train", "test"} <= names):
        raise InputError(
            f"{_show(folder, without)} in {folder} look like splits: put real/ and fake/ into "
            "each (only real/ if forgeries are to be made)"
        )
    given = {one.split for one in found} - {""}
    if not given:
        return
    labels = {one.label for one in found}
    needed = {"test"} if test_only else given | {"train", "test"}
    for split in SPLITS:
        lacking = labels - {one.label for one in found if one.split == split}
        if split in needed and lacking:
            name = next(name for name, label in CLASSES.items() if label in lacking)
            raise InputError(
                f"{folder} has no {name}/ for the {split} split: give train/, test/ and optionally "
                "val/ around or inside every class folder"
            )


def _require_no_deeper_splits(
    folder: Path, files: Iterable[Path], found: list[ClassFolder]
) -> None:
    """InputError for splits such as `fake/METHOD/train/`, which nobody would read."""
    deeper = []
    for path in sorted(_parents(folder, files)):
        own = class_of(path, found)
        if own and not own.split and own.path != path and path.name.casefold() in SPLIT_FOLDERS:
            deeper.append(path)
    if len({SPLIT_FOLDERS[path.name.casefold()] for path in deeper}) > 1:
        raise InputError(
            f"{_show(folder, deeper)} in {folder} look like splits, which are read around and "
            "directly inside class folders only: move them there, or train on the table that "
            "`python -m deepfidelity_datasets.manifest classes` writes of this folder"
        )


def _doubts(
    folder: Path, files: Iterable[Path], found: list[ClassFolder], *, settled: bool
) -> list[str]:
    """What is doubtful about the names of folders with files in them, for a message.

    settled: both classes are given by options, so names outside of them do not matter.
    """
    known = {one.path for one in found}
    around = {parent for path in known for parent in path.parents}
    outside, contrary = [], []
    for path in sorted(_parents(folder, files)):
        if path in known or path in around:
            continue
        if any(above in path.parents for above in (*outside, *contrary)):
            continue  # reported with the folder around it
        own = class_of(path, found)
        if own is None and not settled and (speaks_of(path.name) or NUMBERED.fullmatch(path.name)):
            outside.append(path)
        elif own is not None and _contradicts(path.name, own.label):
            contrary.append(path)
    doubts = []
    if outside:
        doubts.append(
            f"{_show(folder, outside)} in {folder} may name a class, and labels are never "
            f"guessed: {_advise(folder, outside, found)}"
        )
    if contrary:
        doubts.append(
            f"{_show(folder, contrary)} in {folder} contradicts the class of the folder around "
            "it: move or rename it"
        )
    return doubts


def _parents(folder: Path, files: Iterable[Path]) -> set[Path]:
    """All folders below `folder` with files in them, at any depth."""
    found: set[Path] = set()
    for path in {file.parent for file in files}:
        while path not in found and folder in path.parents:
            found.add(path)
            path = path.parent
    return found


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


def _advise(folder: Path, outside: list[Path], found: list[ClassFolder]) -> str:
    """What to rename, or which option to give."""
    options = {REAL: "real_folder", FAKE: "fake_folder"}
    taken = {one.label for one in found}
    rename = "rename the class folders to real/ and fake/ (a folder inside fake/ names its method)"
    if any(one.split for one in found) or any(
        path.parent != folder and path.parent.name.casefold() in SPLIT_FOLDERS for path in outside
    ):
        return f"{rename}, in each of train/, val/ and test/"
    said = {
        label: [path for path in outside if speaks_of(path.name) == {label}] for label in options
    }
    typed = [
        f"--config.data.{options[label]}="
        + (_relative(folder, said[label][0]) if len(said[label]) == 1 else "FOLDER")
        for label in (REAL, FAKE)
        if label not in taken
    ]
    if taken == {REAL, FAKE}:
        named = " ".join(
            f"--config.data.{options[one.label]}={_relative(folder, one.path)}" for one in found[:2]
        )
        return f"{rename}, or say that there are no others with {named}"
    end = "" if found else "; if all of them are real, give --config.data.real_folder=."
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
