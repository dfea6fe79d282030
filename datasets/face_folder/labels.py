"""Which folders are the classes, by name or by option; what is doubtful is refused."""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records.schema import FAKE, REAL, SPLITS

CLASSES = {"real": REAL, "fake": FAKE}  # in any case
SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
# Parts of names that speak of a class.
SPEAKING = {
    REAL: ("real", "original"),
    FAKE: ("fake", "manipulated", "altered", "synthetic", "forged"),
}
NUMBERED = re.compile(r"[01](?:[_\-. ].*)?", re.DOTALL)  # a class by number; 001 is none


@dataclass(frozen=True)
class ClassFolder:
    """A folder whose photographs and videos are of one label.

    path: as listed. split: the one it says, empty where each file's is drawn.
    """

    path: Path
    label: int
    split: str = ""


def find_classes(
    folder: Path, files: Iterable[Path], real: str = "", fake: str = "", *, test_only: bool = False
) -> list[ClassFolder]:
    """The class folders of `folder`; the folder itself, as real, where it has none.

    Args:
      folder: of the data.
      files: the photographs and videos in it.
      real: the folder of the real ones where its name is another, absolute or relative to `folder`.
      fake: as `real`.
      test_only: of the splits that folders say, only the test split is needed.

    Raises:
      InputError: a folder's name speaks of a class and nothing says which it is, or it contradicts
        the class it lies in; a class is missing; or folders give splits in part.
    """
    files = list(files)
    found = _by_option(folder, real, fake) if real or fake else _by_name(folder)
    doubtful = _doubts(folder, files, found, settled=bool(real and fake))
    if doubtful:
        raise InputError("; ".join(doubtful))
    if not real and not fake:
        _require_splits(folder, found, test_only)
    if not found:
        _require_silent(folder, files)
        found = [ClassFolder(folder, REAL)]
    elif {one.label for one in found} == {FAKE}:
        raise InputError(
            f"{folder} has fake/ but no real/: put real photographs or videos there, or name their "
            "folder with --config.data.real_folder=FOLDER"
        )
    return found


def class_of(path: Path, classes: Sequence[ClassFolder]) -> ClassFolder | None:
    """The class folder a file lies in, the innermost of several."""
    around = [one for one in classes if one.path == path or one.path in path.parents]
    return max(around, key=lambda one: len(one.path.parts), default=None)


def _by_option(folder: Path, real: str, fake: str) -> list[ClassFolder]:
    found = []
    for label, option, given in ((REAL, "real_folder", real), (FAKE, "fake_folder", fake)):
        if given:
            path = folder if given == "." else folder / Path(given).expanduser()
            if not path.is_dir():
                raise InputError(f"config.data.{option} is {given!r}, and {path} is no folder")
            found.append(ClassFolder(path, label))
    if len(found) == 2 and found[0].path.resolve() == found[1].path.resolve():
        raise InputError("config.data.real_folder and config.data.fake_folder name one folder")
    others = [one for one in _named(folder) if one.label not in {own.label for own in found}]
    return found + others


def _named(folder: Path) -> list[ClassFolder]:
    """Folders named real or fake inside."""
    return [
        ClassFolder(path, CLASSES[path.name.casefold()])
        for path in _folders(folder)
        if path.name.casefold() in CLASSES
    ]


def _by_name(folder: Path) -> list[ClassFolder]:
    """`real/` and `fake/`, also with splits above or below: `train/real/`, `real/train/`."""
    above = [
        ClassFolder(one.path, one.label, SPLIT_FOLDERS[path.name.casefold()])
        for path in _split_folders(folder)
        for one in _named(path)
    ]
    plain = _named(folder)
    below = [
        ClassFolder(path, one.label, SPLIT_FOLDERS[path.name.casefold()])
        for one in plain
        for path in _split_folders(one.path)
    ]
    # One such folder may be somebody's album; with two they are splits.
    if {"train", "test"} <= {one.split for one in below}:
        return above + below
    return above + plain


def _split_folders(folder: Path) -> list[Path]:
    return [path for path in _folders(folder) if path.name.casefold() in SPLIT_FOLDERS]


def _require_splits(folder: Path, found: list[ClassFolder], test_only: bool) -> None:
    """InputError where folders say splits in part, or one lacks a class that another has."""
    inside = {one.path.parent: one for one in found if one.path.parent != folder}
    above = [path for path in _split_folders(folder) if path in inside]
    without = [path for path in _split_folders(folder) if path not in inside]
    beside = [one.path for one in found if one.path.parent not in above]
    if above and beside:
        raise InputError(
            f"{folder} has {_show(folder, beside[:1])} and {_show(folder, above[:1])}: give the "
            "splits for all of it, or for none"
        )
    names = {SPLIT_FOLDERS[path.name.casefold()] for path in without}
    if (above and without) or (not found and {"train", "test"} <= names):
        raise InputError(
            f"{_show(folder, without)} in {folder} look like splits: put real/ and fake/ into "
            "each (real/ alone where forgeries are to be made)"
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
                f"{folder} has no {name}/ for the {split} split, as others have: give train/ and "
                "test/, if you like val/, each with real/ and fake/ inside"
            )


def _doubts(
    folder: Path, files: Iterable[Path], found: list[ClassFolder], *, settled: bool
) -> list[str]:
    """What is wrong with the names of folders that hold files, in lines for a person.

    `settled`: all classes are said, so that what lies outside of them is no matter of names.
    """
    known = {one.path for one in found}
    around = {parent for path in known for parent in path.parents}
    outside, contrary = [], []
    for path in sorted(_parents(folder, files)):
        if path in known or path in around:
            continue
        if any(above in path.parents for above in (*outside, *contrary)):
            continue  # told with what it lies in
        own = class_of(path, found)
        if own is None and not settled and (speaks_of(path.name) or NUMBERED.fullmatch(path.name)):
            outside.append(path)
        elif own is not None and _contradicts(path.name, own.label):
            contrary.append(path)
    told = []
    if outside:
        told.append(
            f"{_show(folder, outside)} in {folder} may speak of a class, and labels are never "
            f"guessed: {_advise(folder, outside, found)}"
        )
    if contrary:
        told.append(
            f"{_show(folder, contrary)} in {folder} contradicts the class of the folder around "
            "it: move it or rename it"
        )
    return told


def _parents(folder: Path, files: Iterable[Path]) -> set[Path]:
    """All folders below `folder` that hold some of the files."""
    found: set[Path] = set()
    for path in {file.parent for file in files}:
        while path not in found and folder in path.parents:
            found.add(path)
            path = path.parent
    return found


def speaks_of(name: str) -> set[int]:
    """The labels that a name speaks of."""
    lower = name.casefold()
    return {label for label, parts in SPEAKING.items() if any(part in lower for part in parts)}


def _contradicts(name: str, label: int) -> bool:
    if label == REAL:
        return FAKE in speaks_of(name)
    # As a word: a method may be called realistic_vision.
    words = re.split(r"[\W\d_]+", name.casefold())
    return any(word in (part, f"{part}s") for part in SPEAKING[REAL] for word in words)


def _require_silent(folder: Path, files: Iterable[Path]) -> None:
    """InputError where all would be taken as real, and a name speaks against it."""
    meant = (
        "put real ones into real/ and fakes into fake/, or say that all are real, with "
        "--config.data.real_folder=."
    )
    names = [name for name in {folder.name, folder.resolve().name} if name]
    for name in names:
        numbered = NUMBERED.fullmatch(name) and not speaks_of(name)
        if FAKE in speaks_of(name) or numbered:
            raise InputError(
                f"config.data.dir is {folder}, a name that may speak of a class, and labels are "
                f"never guessed: {meant}"
            )
    fakes = [path for path in files if _says_fake(path.stem)]
    if fakes:
        raise InputError(
            f"{len(fakes)} files in {folder} are named as fakes, such as {fakes[0].name!r}, and "
            f"labels are never guessed: {meant}"
        )


def _says_fake(stem: str) -> bool:
    words = re.split(r"[\W\d_]+", stem.casefold())
    parts = (*SPEAKING[FAKE], "deepfake")
    return any(word in (part, f"{part}s") for part in parts for word in words)


def _advise(folder: Path, outside: list[Path], found: list[ClassFolder]) -> str:
    """What to rename, or what to type."""
    options = {REAL: "real_folder", FAKE: "fake_folder"}
    taken = {one.label for one in found}
    rename = "rename to real/ and fake/ what is meant (a folder inside fake/ names its method)"
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
        return f"{rename}, or say that there is nothing else to take, with {named}"
    end = "" if found else "; where all of them are real, --config.data.real_folder=."
    return f"{rename}, or say which with {' '.join(typed)}{end}"


def _relative(folder: Path, path: Path) -> str:
    return shlex.quote(path.relative_to(folder).as_posix())


def _show(folder: Path, paths: Sequence[Path], limit: int = 20) -> str:
    more = f" and {len(paths) - limit} more" if len(paths) > limit else ""
    return ", ".join(f"{path.relative_to(folder).as_posix()}/" for path in paths[:limit]) + more


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(
            path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
    except OSError:  # what cannot be read is listed as left out
        return []
