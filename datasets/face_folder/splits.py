"""Which files of a folder stay together, and how the split of each file is drawn."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records.schema import LABELS, SPLITS

FRAMES = 3  # least number of numbered pictures for a folder to look like a video
T = TypeVar("T")  # a file, by path or name
SEEDS = 500  # seeds tried, to find one that gives every split both classes


def draw(key: str, shares: Sequence[float], seed: int) -> str:
    """The split of `key`, independent of all other keys.

    A hash of seed and key gives a number in [0, 1). The `shares` of training, validation and test
    divide that range in proportion.
    """
    hashed = sha256(f"{seed}\0{key}".encode(errors="surrogateescape")).digest()
    position = int.from_bytes(hashed[:8], "big") / 2**64 * sum(shares)
    for name, share in zip(SPLITS, shares, strict=True):
        if position < share:
            return name
        position -= share
    return next(name for name, share in zip(SPLITS[::-1], shares[::-1], strict=True) if share)


def divide(
    keys: Mapping[T, str],
    given: Mapping[T, str],
    labels: Mapping[T, int],
    shares: Sequence[float],
    seed: int,
) -> dict[T, str]:
    """The split of each file: the one given, otherwise one drawn by its key.

    If splits are given without validation, validation is drawn from training.

    Args:
      keys: the key for drawing each file's split; the same for files that must stay together.
      given: the split of each file; empty if it is to be drawn.
      labels: the label of each file.
      shares: the shares of training, validation and test.
      seed: for drawing.

    Raises:
      InputError: a split gets no file of a class.
    """
    split_of, given_splits = dict(given), {*given.values()} - {""}
    drawn = tuple(shares)
    if given_splits:
        drawn = (1.0, 0.0, 0.0) if "validation" in given_splits else (*drawn[:2], 0.0)
    todo = {file: keys[file] for file, split in split_of.items() if split in ("", "train")}
    by_class: dict[str, list[str]] = {LABELS[label]: [] for label in labels.values()}
    for file, key in todo.items():
        by_class[LABELS[labels[file]]].append(key)
    require_both(by_class, drawn, seed)
    return split_of | {file: draw(key, drawn, seed) for file, key in todo.items()}


def group_of(rule: str, inside: Path) -> str:
    """The group of a file, by `config.data.group`; empty if the file stands alone.

    Args:
      rule: empty or `file`; `folder`, the folder the file is in; or `prefix:REGEX`, the start of
        its name that matches the pattern.
      inside: the path relative to the class folder; for a fake, to the folder of its method.
    """
    group = ""
    if rule == "folder":
        group = "" if inside.parent == Path() else inside.parent.as_posix()
    elif rule.startswith("prefix:"):
        match = re.match(rule.removeprefix("prefix:"), inside.name)
        group = match[0] if match else ""
    # Different systems encode the same name differently.
    return unicodedata.normalize("NFC", group)


def find_frames(pictures: Iterable[Path], classes: Iterable[Path]) -> list[Path]:
    """Folders whose pictures are numbered like frames of a video; never a class folder."""
    folders: dict[Path, Counter[str]] = {}
    for path in pictures:
        numbered = re.fullmatch(r"(.*?)\d+", path.stem, re.DOTALL)
        prefix = numbered[1] if numbered else path.name
        folders.setdefault(path.parent, Counter())[prefix] += 1
    # At least half have the same kind of number; a cover picture may be among them.
    frames = [
        folder
        for folder, prefixes in folders.items()
        if max(prefixes.values()) >= max(FRAMES, sum(prefixes.values()) / 2)
    ]
    return sorted(set(frames) - set(classes))


def lacking(keys: Mapping[str, Iterable[str]], shares: Sequence[float], seed: int):
    """The first (split, class) that gets none of `{class: keys}`; None if all get some."""
    for name, class_keys in keys.items():
        there = {draw(key, shares, seed) for key in class_keys}
        for split, share in zip(SPLITS, shares, strict=True):
            if share and split not in there:
                return split, name
    return None


def require_both(keys: Mapping[str, Sequence[str]], shares: Sequence[float], seed: int) -> None:
    """InputError unless each split gets some of each class, from `{class: keys}`."""
    missing = lacking(keys, shares, seed)
    if not missing:
        return
    split, name = missing
    better = next((other for other in range(SEEDS) if not lacking(keys, shares, other)), None)
    advice = ""
    if better is not None:
        advice = (
            f"use --config.seed={better}, which gives every split some of each class (in a grid "
            f"put {better} into config.ablate.seeds in place of {seed}), or "
        )
    raise InputError(
        f"the {split} split gets none of the {len(set(keys[name]))} {name} files or groups with "
        f"config.seed={seed}: {advice}add more, or give the splits by folders train/, val/, "
        "test/ or by the column split of a table"
    )
