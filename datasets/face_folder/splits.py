"""What belongs together in a folder, and the split that each file gets by itself."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.records.schema import SPLITS

FRAMES = 3  # numbered pictures in a folder that may be frames of one video, at least
SEEDS = 500  # that are tried for one whose splits have both classes


def draw(key: str, shares: Sequence[float], seed: int) -> str:
    """The split of what is called `key`, whatever else there is.

    A hash of seed and key is a number in [0, 1); `shares` of training, validation and test divide
    that range, in proportion to their sum.
    """
    hashed = sha256(f"{seed}\0{key}".encode(errors="surrogateescape")).digest()
    place = int.from_bytes(hashed[:8], "big") / 2**64 * sum(shares)
    for name, share in zip(SPLITS, shares, strict=True):
        if place < share:
            return name
        place -= share
    return next(name for name, share in zip(SPLITS[::-1], shares[::-1], strict=True) if share)


def group_of(rule: str, inside: Path) -> str:
    """What a file belongs to, by `config.data.group`; empty where it stands by itself.

    Args:
      rule: empty or `file`; `folder`, the folder a file lies in; or `prefix:REGEX`, the part at
        the start of its name that the pattern matches.
      inside: the path below the class folder, for a fake below that of its method.
    """
    found = ""
    if rule == "folder":
        found = "" if inside.parent == Path() else inside.parent.as_posix()
    elif rule.startswith("prefix:"):
        match = re.match(rule.removeprefix("prefix:"), inside.name)
        found = match[0] if match else ""
    # Of one name, whichever system wrote it down.
    return unicodedata.normalize("NFC", found)


def find_frames(pictures: Iterable[Path], classes: Iterable[Path]) -> list[Path]:
    """Folders whose pictures are numbered, as frames of a video are; class folders are none."""
    folders: dict[Path, Counter[str]] = {}
    for path in pictures:
        numbered = re.fullmatch(r"(.*?)\d+", path.stem, re.DOTALL)
        prefix = numbered[1] if numbered else path.name
        folders.setdefault(path.parent, Counter())[prefix] += 1
    # Most of them in one row of numbers; a cover picture may lie beside.
    frames = [
        folder
        for folder, prefixes in folders.items()
        if max(prefixes.values()) >= max(FRAMES, sum(prefixes.values()) / 2)
    ]
    return sorted(set(frames) - set(classes))


def lacking(keys: Mapping[str, Iterable[str]], shares: Sequence[float], seed: int):
    """The first (split, class) without anything, of `{class: keys}`; None where all have some."""
    for name, own in keys.items():
        there = {draw(key, shares, seed) for key in own}
        for split, share in zip(SPLITS, shares, strict=True):
            if share and split not in there:
                return split, name
    return None


def require_both(keys: Mapping[str, Sequence[str]], shares: Sequence[float], seed: int) -> None:
    """InputError unless each split gets something of each class, of `{class: keys}`."""
    found = lacking(keys, shares, seed)
    if not found:
        return
    split, name = found
    better = next((other for other in range(SEEDS) if not lacking(keys, shares, other)), None)
    advice = ""
    if better is not None:
        advice = f"--config.seed={better} gives every split some of each class, or "
    raise InputError(
        f"the {split} split gets none of {len(set(keys[name]))} {name} ones by the draw of "
        f"config.seed={seed}: {advice}add more, or say the splits by folders train/, val/, test/"
    )
