"""The photographs and videos in a folder, with their labels and splits."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from deepfidelity_datasets.face_folder import splits
from deepfidelity_datasets.face_folder.inventory import Inventory
from deepfidelity_datasets.face_folder.labels import ClassFolder, class_of, find_classes
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import locate
from deepfidelity_jax.images import formats, media
from deepfidelity_jax.progress import say
from deepfidelity_jax.records.own_files import Source
from deepfidelity_jax.records.schema import FAKE, LABELS, ORIGINAL, REAL

# With fewer photographs or videos in a class, a split is likely to get none.
FEWEST = 8


class Listed(NamedTuple):
    """The contents of a folder.

    notes: why files were left out, by name. made: whether forgeries are to be made.
    """

    sources: list[Source]
    notes: dict[str, str]
    made: bool


def list_sources(
    folder: Path,
    shares: Sequence[float],
    seed: int,
    *,
    group: str = "",
    real_folder: str = "",
    fake_folder: str = "",
    test_only: bool = False,
    inventory: Inventory | None = None,
) -> Listed:
    """List all photographs and videos in a folder, with labels and splits.

    The folders `real/` and `fake/` give the labels, and a folder inside `fake/` names the method,
    but with the group `folder` not the last folder of a picture, which is a video. Without them
    every file is real, and forgeries are made from it. Folders `train/`, `val/` and `test/` around
    them give the splits; otherwise the split is drawn by a file's content or group.

    Args:
      folder: searched at any depth.
      shares: of training, validation and test.
      seed: for drawing the splits.
      group: which files stay together, `config.data.group`.
      real_folder: the folder of the real files, if it has another name.
      fake_folder: the folder of the fakes, if it has another name.
      test_only: put everything in the test split; if folders give splits, use only `test/`.
      inventory: the files read in earlier runs.

    Raises:
      InputError: labels, splits or groups are in doubt; the same file has two labels or is in two
        splits; or there are too few files.
    """
    if not folder.is_dir():
        raise InputError(f"config.data.dir is {str(folder)!r}, which is not a folder")
    inventory = inventory or Inventory()
    kinds, left_out = _list_media(folder, (real_folder, fake_folder), inventory)
    classes = find_classes(folder, kinds, real_folder, fake_folder, test_only=test_only)
    made = all(entry.label == REAL for entry in classes)
    if made and test_only:
        raise InputError(f"{folder} needs the folders real/ and fake/, which give the labels")
    has_splits = any(entry.split for entry in classes)
    if has_splits and test_only:
        classes = [entry for entry in classes if entry.split == "test"]

    owners = {path: class_of(path, classes) for path in kinds}
    left_out |= dict.fromkeys((path for path, owner in owners.items() if not owner), "")
    owners = {path: owner for path, owner in owners.items() if owner}
    names = _names(folder, [*owners, *left_out], owners)
    where = " and ".join(sorted({_readable(folder, entry.path) for entry in classes}))
    notes = {names[path]: note or f"outside of {where}" for path, note in left_out.items()}
    # The rule of a training may fit no name of what it is scored on.
    fits = not group.startswith("prefix:") or any(splits.group_of(group, path) for path in owners)
    if not group or (test_only and not fits):
        pictures = (path for path in owners if kinds[path] == "image")
        frames = splits.find_frames(pictures, [folder, *(entry.path for entry in classes)])
        if len(frames) > 1:
            _ask(folder, frames, test_only=test_only)

    digests, twice = {}, {}
    first: dict[str, Path] = {}
    for path, digest in inventory.digests({path: kinds[path] for path in owners}):
        if isinstance(digest, formats.MediaError):
            notes[names[path]] = str(digest)
        elif digest in first:
            twice[path] = first[digest]
            notes[names[path]] = f"the same bytes as {names[first[digest]]}"
        else:
            first[digest], digests[path] = path, digest
    _require_one(twice, owners, names)
    _require_some(digests, owners, classes, test_only=test_only)

    groups = {}
    for path in digests:
        inside = path.relative_to(owners[path].path)
        if owners[path].label == FAKE and len(inside.parts) > 2:
            inside = inside.relative_to(
                inside.parts[0]
            )  # one video forged by several methods stays together
        groups[path] = splits.group_of(group, inside)
        if groups[path] and group == "folder" and has_splits:
            # Folders of the same name in different splits are different groups.
            groups[path] = f"{owners[path].split}/{groups[path]}"
    if not fits and not test_only:
        raise InputError(
            f"config.data.group is {group!r}, but no name in {folder} begins like that; one is "
            f"{next(iter(names.values()), 'none')!r}"
        )
    keys = {path: groups[path] or digests[path] for path in digests}
    split_of = dict.fromkeys(keys, "test")
    if not test_only:
        split_of = _divide(folder, keys, owners, shares, seed)

    sources = []
    for path, split in split_of.items():
        folders = path.relative_to(owners[path].path).parts[:-1]
        if group == "folder" and kinds[path] == "image":
            folders = folders[:-1]  # the last one is a video
        method = ORIGINAL
        if owners[path].label == FAKE:
            method = escaped(folders[0]) if folders else LABELS[FAKE]
        video = ""
        if groups[path] and kinds[path] == "image":
            video = names[path].rpartition("/")[0]
            if group.startswith("prefix:"):
                video = f"{video}/{escaped(groups[path])}".lstrip("/")
        # None of a group is the donor of another.
        origins = f"group/{quote(groups[path])}" if groups[path] else ""
        source = Source(names[path], str(path), owners[path].label, method, split, digests[path])
        sources.append(replace(source, video=video, origins=origins))
    return Listed(number_frames(sources), notes, made)


def _list_media(
    folder: Path, others: Iterable[str], inventory: Inventory
) -> tuple[dict[Path, str], dict[Path, str]]:
    """The kind of each photograph and video in all these folders; for other files, the reason."""
    kinds, left_out = {}, {}
    roots = [folder, *(locate(folder / Path(other).expanduser()) for other in others if other)]
    outside = [root for root in roots[1:] if root.is_dir() and folder not in root.parents]
    for root in (folder, *(root for root in outside if root != folder)):
        listing = media.list_files(root)
        left_out |= listing.left_out
        for path in listing.files:
            try:
                kinds[path] = inventory.kind(path)
            except formats.MediaError as error:
                left_out[path] = str(error)
    return kinds, left_out


def _names(
    folder: Path, paths: Iterable[Path], owners: Mapping[Path, ClassFolder]
) -> dict[Path, str]:
    """A unique name for each path."""
    names, taken = {}, set()
    for path in sorted(paths):
        name = _readable(folder, path, owners.get(path))
        while name in taken:
            name += "~"  # escaping made it equal to another name
        taken.add(name)
        names[path] = name
    return names


def _readable(folder: Path, path: Path, owner: ClassFolder | None = None) -> str:
    """The path relative to the folder, or to the class folder of an option if it is elsewhere."""
    if path == folder or folder in path.parents:
        return escaped(path.relative_to(folder).as_posix())
    if owner:
        base = owner.path.parent if owner.split else owner.path
        return escaped(f"{LABELS[owner.label]}_folder/{path.relative_to(base).as_posix()}")
    return escaped(path.as_posix())


def escaped(name: str) -> str:
    """The name with control characters and bytes that are not text escaped as in Python."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda match: ascii(match[0])[1:-1], text)


def _ask(folder: Path, frames: list[Path], *, test_only: bool) -> None:
    """InputError if folders look like videos and nobody has said so; only a note for scoring."""
    shown = ", ".join(f"{_readable(folder, path)}/" for path in frames[:3])
    more = f" and {len(frames) - 3} more" if len(frames) > 3 else ""
    message = f"{shown}{more} hold numbered pictures that look like frames of videos"
    if not test_only:
        raise InputError(f"{message}; choose what must stay in one split: {CHOICE}")
    say(
        f"{message}: each picture is scored alone, and intervals are over pictures, not videos; "
        "the option group=folder makes each folder a video"
    )


CHOICE = (
    "--config.data.group=folder, all files in a folder; "
    "--config.data.group='prefix:REGEX', files whose names begin alike; "
    "--config.data.group=file, every file alone"
)


def _require_one(
    twice: Mapping[Path, Path], owners: Mapping[Path, ClassFolder], names: Mapping[Path, str]
) -> None:
    """InputError if the same file has two labels, or is in the folders of two splits."""
    for what, of in (("classes", "label"), ("splits", "split")):
        both = [
            (names[first], names[path])
            for path, first in twice.items()
            if getattr(owners[path], of) != getattr(owners[first], of)
        ]
        if both:
            shown = "; ".join(f"{first} and {path}" for first, path in both[:5])
            count, kept = f"{len(both)} files are", "one copy of each"
            if len(both) == 1:
                count, kept = "1 file is", "one copy"
            raise InputError(f"{count} in two {what} with the same content: {shown}; keep {kept}")


def _divide(
    folder: Path,
    keys: Mapping[Path, str],
    owners: Mapping[Path, ClassFolder],
    shares: Sequence[float],
    seed: int,
) -> dict[Path, str]:
    """The split of each file: given by its folder, or drawn by its key."""
    given = {path: owners[path].split for path in keys}
    split_of = splits.divide(keys, given, {path: owners[path].label for path in keys}, shares, seed)
    places: dict[str, str] = {}
    for path, split in split_of.items():
        if places.setdefault(keys[path], split) != split:
            raise InputError(
                f"the group {escaped(keys[path])!r} is in the folders of two splits in {folder}, "
                f"{places[keys[path]]} and {split}: move it into one, or choose another "
                "config.data.group"
            )
    return split_of


def _require_some(
    paths: Iterable[Path],
    owners: Mapping[Path, ClassFolder],
    classes: Sequence[ClassFolder],
    *,
    test_only: bool,
) -> None:
    """InputError if a class, or a class in a split given by folders, has too few files."""
    counts = Counter((owners[path].label, owners[path].split) for path in paths)
    for entry in classes:
        count = counts[entry.label, entry.split]
        fewest = 1 if test_only or entry.split else FEWEST
        if count < fewest:
            raise InputError(
                f"{entry.path} holds {count} photographs or videos; at least {fewest} are needed "
                + ("to score" if test_only else "to train, validate and test on different ones")
            )


def number_frames(sources: list[Source]) -> list[Source]:
    """The sources, with the pictures of each video numbered in the order of their names."""

    def natural(source: Source):
        parts = re.split("([0-9]+)", source.name)
        return [*(int(part) if part.isdecimal() else part for part in parts)], source.name

    count: Counter[str] = Counter()
    frames = {}
    for source in sorted((source for source in sources if source.video), key=natural):
        frames[source.name] = count[source.video]
        count[source.video] += 1
    return [replace(source, frame=frames.get(source.name, 0)) for source in sources]
