"""What lies in a folder, its splits and labels, and how one photograph or video becomes faces."""

import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from deepfidelity_datasets.face_folder import splits
from deepfidelity_datasets.face_folder.inventory import Inventory
from deepfidelity_datasets.face_folder.labels import ClassFolder, class_of, find_classes
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces import detection, tracking
from deepfidelity_jax.forgeries import forge
from deepfidelity_jax.forgeries.forge import KINDS
from deepfidelity_jax.images import formats, media
from deepfidelity_jax.images.pictures import encode_image
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records.schema import FAKE, LABELS, ORIGINAL, REAL, SOURCES
from deepfidelity_jax.records.source import Face, Produced

# Fewer photographs or videos of a class than this leave a split without any.
FEWEST = 8


@dataclass(frozen=True)
class Source:
    """A photograph or a video.

    name: its path inside the folder, with forward slashes, fit to be read: control characters and
    bytes that are no text are written out. method: `original`, or for a fake the folder it lies in.
    split: where all of its frames go. digest: SHA-256 of the file. video and frame: for a picture
    of a group, the video it is a frame of, and which; empty where it stands by itself.
    """

    name: str
    path: str
    label: int
    method: str
    split: str
    digest: str = ""
    video: str = ""
    frame: int = 0


class Listed(NamedTuple):
    """What a folder holds: sources, notes on what is left out, whether fakes are to be made."""

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
    """All photographs and videos in a folder, with labels and splits.

    `real/` and `fake/` are the labels, and a folder inside `fake/` names the method. Without them
    every file is a real face, and its fakes are made. Folders `train/`, `val/` and `test/` around
    them say the splits; otherwise each file's is drawn by what it holds, or by its group.

    Args:
      folder: where they lie, at any depth.
      shares: of training, validation and test, as `splits.draw` takes them.
      seed: of the draw.
      group: what stays together, `config.data.group`.
      real_folder: the folder of the real ones, where it has another name.
      fake_folder: that of the fakes.
      test_only: all of it is the test split; where folders say splits, test/ alone is taken.
      inventory: what is known of the files.

    Raises:
      InputError: labels, splits or groups are in doubt; the same bytes have two labels or two
        splits; or there is too little.
    """
    if not folder.is_dir():
        raise InputError(f"config.data.dir is {str(folder)!r}, which is no folder")
    inventory = inventory or Inventory()
    kinds, left_out = _list_media(folder, (real_folder, fake_folder), inventory)
    classes = find_classes(folder, kinds, real_folder, fake_folder, test_only=test_only)
    made = all(one.label == REAL for one in classes)
    if made and test_only:
        raise InputError(f"{folder} needs the folders real/ and fake/: they are the labels")
    given = any(one.split for one in classes)
    if given and test_only:
        classes = [one for one in classes if one.split == "test"]

    owners = {path: class_of(path, classes) for path in kinds}
    left_out |= dict.fromkeys((path for path, own in owners.items() if not own), "")
    owners = {path: own for path, own in owners.items() if own}
    names = _names(folder, [*owners, *left_out], owners)
    where = " and ".join(sorted({_readable(folder, one.path) for one in classes}))
    notes = {names[path]: note or f"outside of {where}" for path, note in left_out.items()}
    if not group:
        pictures = (path for path in owners if kinds[path] == "image")
        frames = splits.find_frames(pictures, [folder, *(one.path for one in classes)])
        if len(frames) > 1:
            _ask(folder, frames, test_only=test_only)

    digests, twice = {}, {}
    first: dict[str, Path] = {}
    for path, found in inventory.digests({path: kinds[path] for path in owners}):
        if isinstance(found, formats.MediaError):
            notes[names[path]] = str(found)
        elif found in first:
            twice[path] = first[found]
            notes[names[path]] = f"the same bytes as {names[first[found]]}"
        else:
            first[found], digests[path] = path, found
    _require_one(twice, owners, names)
    _require_some(digests, owners, classes, test_only=test_only)

    groups = {}
    for path in digests:
        inside = path.relative_to(owners[path].path)
        if owners[path].label == FAKE and len(inside.parts) > 2:
            inside = inside.relative_to(inside.parts[0])  # the same video, by another method
        groups[path] = splits.group_of(group, inside)
        if groups[path] and group == "folder" and given:
            # By that folder's own path: numbers may begin anew in each split.
            groups[path] = f"{owners[path].split}/{groups[path]}"
    if group.startswith("prefix:") and not any(groups.values()) and not test_only:
        raise InputError(
            f"config.data.group is {group!r}, which no name in {folder} begins with, such as "
            f"{next(iter(names.values()), 'none')!r}"
        )
    keys = {path: groups[path] or digests[path] for path in digests}
    found = dict.fromkeys(keys, "test")
    if not test_only:
        found = _divide(folder, keys, owners, classes, shares, seed)

    sources = []
    for path, split in found.items():
        inside = path.relative_to(owners[path].path)
        method = ORIGINAL
        if owners[path].label == FAKE:
            method = _escaped(inside.parts[0]) if len(inside.parts) > 1 else LABELS[FAKE]
        video = ""
        if groups[path] and kinds[path] == "image":
            video = names[path].rpartition("/")[0]
            if group.startswith("prefix:"):
                video = f"{video}/{_escaped(groups[path])}".lstrip("/")
        sources.append(
            Source(names[path], str(path), owners[path].label, method, split, digests[path], video)
        )
    return Listed(_numbered(sources), notes, made)


def describe(listed: Listed) -> list[str]:
    """How many files of each class and method, from which folders, with an example of each."""
    kinds: dict[tuple[int, str], list[str]] = {}
    for source in listed.sources:
        kinds.setdefault((-source.label, source.method), []).append(source.name)
    lines = []
    for (label, method), names in sorted(kinds.items()):
        folders = sorted({name.rpartition("/")[0] for name in names})
        shown = ", ".join(f"{name}/" if name else "the folder itself" for name in folders)
        if len(folders) > 3:
            common = os.path.commonpath(folders)
            shown = f"{len(folders)} folders" + (f" in {common}/" if common else "")
        title = LABELS[-label] if method in (ORIGINAL, LABELS[FAKE]) else f"fake, {method}"
        lines.append(f"{title}: {len(names)} files from {shown}, such as {names[0]}")
    if len(lines) > 30:
        lines[30:] = [f"and {len(lines) - 30} more methods"]
    lines.append("forgeries are made of the real faces" if listed.made else "no forgeries are made")
    return lines


def _list_media(
    folder: Path, others: Iterable[str], inventory: Inventory
) -> tuple[dict[Path, str], dict[Path, str]]:
    """The kind of every photograph and video in a folder and in others, and why not of the rest."""
    kinds, left_out = {}, {}
    places = [folder, *(folder / Path(other).expanduser() for other in others if other)]
    outside = [place for place in places[1:] if place.is_dir() and folder not in place.parents]
    for place in (folder, *(place for place in outside if place != folder)):
        listing = media.list_files(place)
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
    """A name for each path, no two alike."""
    found, taken = {}, set()
    for path in sorted(paths):
        name = _readable(folder, path, owners.get(path))
        while name in taken:
            name += "~"  # what was written out to be read is another's name
        taken.add(name)
        found[path] = name
    return found


def _readable(folder: Path, path: Path, own: ClassFolder | None = None) -> str:
    """A path inside the folder; elsewhere, of a class folder that an option names."""
    if path == folder or folder in path.parents:
        return _escaped(path.relative_to(folder).as_posix())
    if own:
        return _escaped(f"{LABELS[own.label]}_folder/{path.relative_to(own.path).as_posix()}")
    return _escaped(path.as_posix())


def _escaped(name: str) -> str:
    """With control characters, and bytes that are no text, as Python writes them."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda one: ascii(one[0])[1:-1], text)


def _ask(folder: Path, frames: list[Path], *, test_only: bool) -> None:
    """InputError on folders that look like videos; to score them, it is only told."""
    shown = ", ".join(f"{_readable(folder, path)}/" for path in frames[:3])
    more = f" and {len(frames) - 3} more" if len(frames) > 3 else ""
    told = f"{shown}{more} hold numbered pictures, as frames of videos are"
    if not test_only:
        raise InputError(f"{told}; say what must not be divided: {CHOICE}")
    say(f"{told}: each is scored by itself, so that intervals over videos are over pictures")


CHOICE = (
    "--config.data.group=folder, the files of a folder; "
    "--config.data.group='prefix:REGEX', those whose names begin alike; "
    "--config.data.group=file, each file is by itself"
)


def _require_one(
    twice: Mapping[Path, Path], owners: Mapping[Path, ClassFolder], names: Mapping[Path, str]
) -> None:
    """InputError where the same bytes have two labels, or lie in two splits given by folders."""
    for what, of in (("classes", "label"), ("splits", "split")):
        both = [
            (names[first], names[path])
            for path, first in twice.items()
            if getattr(owners[path], of) != getattr(owners[first], of)
        ]
        if both:
            shown = "; ".join(f"{first} and {path}" for first, path in both[:5])
            raise InputError(
                f"{len(both)} files lie in two {what} by their bytes: {shown}: keep one of each"
            )


def _divide(
    folder: Path,
    keys: Mapping[Path, str],
    owners: Mapping[Path, ClassFolder],
    classes: Sequence[ClassFolder],
    shares: Sequence[float],
    seed: int,
) -> dict[Path, str]:
    """The split of each file, by what its folder says or by its key."""
    found = {path: owners[path].split for path in keys}
    given = {one.split for one in classes} - {""}
    drawn = tuple(shares)
    if given:
        # Where there is none for validation, it is of what there is to train.
        drawn = (1.0, 0.0, 0.0) if "validation" in given else (*drawn[:2], 0.0)
    todo = {path: keys[path] for path, split in found.items() if split in ("", "train")}
    by_class: dict[str, list[str]] = {LABELS[one.label]: [] for one in classes}
    for path, key in todo.items():
        by_class[LABELS[owners[path].label]].append(key)
    splits.require_both(by_class, drawn, seed)
    found |= {path: splits.draw(key, drawn, seed) for path, key in todo.items()}
    places: dict[str, str] = {}
    for path, split in found.items():
        if places.setdefault(keys[path], split) != split:
            raise InputError(
                f"the group {_escaped(keys[path])!r} lies in the folders of two splits in "
                f"{folder}, {places[keys[path]]} and {split}: put it into one, or choose another "
                "config.data.group"
            )
    return found


def _require_some(
    paths: Iterable[Path],
    owners: Mapping[Path, ClassFolder],
    classes: Sequence[ClassFolder],
    *,
    test_only: bool,
) -> None:
    """InputError where there are fewer than needed of a class, or of a class in a given split."""
    counts = Counter((owners[path].label, owners[path].split) for path in paths)
    for one in classes:
        count = counts[one.label, one.split]
        fewest = 1 if test_only or one.split else FEWEST
        if count < fewest:
            raise InputError(
                f"{one.path} holds {count} photographs or videos, at least {fewest} are needed "
                + ("to score" if test_only else "to train, validate and test on different ones")
            )


def _numbered(sources: list[Source]) -> list[Source]:
    """The sources by name, the pictures of a video numbered in the order of their numbers."""

    def natural(source: Source):
        parts = re.split("([0-9]+)", source.name)
        return [*(int(part) if part.isdecimal() else part for part in parts)], source.name

    count: Counter[str] = Counter()
    frames = {}
    for source in sorted((one for one in sources if one.video), key=natural):
        frames[source.name] = count[source.video]
        count[source.video] += 1
    return [replace(one, frame=frames.get(one.name, 0)) for one in sources]


@dataclass(frozen=True)
class Extractor:
    """Turns one source into faces; picklable, as it runs in many processes.

    donors: for each split, the real photographs and videos that a swap may take its face from, as
    path and video; empty where the folder has fakes of its own.
    """

    settings: detection.FaceSettings
    measure: Measure
    donors: dict[str, tuple[tuple[str, str], ...]]
    seed: int

    def __call__(self, source: Source) -> Produced:
        """The faces of one photograph or video, and forgeries of them where none are given."""
        try:
            extraction = tracking.extract(Path(source.path), self.settings)
        except formats.MediaError as error:
            return Produced([], str(error))
        found = []
        for number, person in enumerate(extraction.people):
            # One video_id a person: of two people in one video one may be forged. People of
            # several pictures are not followed: the most prominent counts as the same.
            video_id = source.video or source.name
            if number > 0 or (len(extraction.people) > 1 and not source.video):
                video_id += f"#{number}"
            for crop in person.crops:
                face = Face(
                    split=source.split,
                    image=crop.image,
                    label=source.label,
                    method=source.method,
                    video_id=video_id,
                    frame=source.frame if source.video else crop.frame,
                    path=source.name,
                    quality=self.measure(crop.image, crop.landmarks, source.name),
                    bbox=crop.bbox,
                    landmarks=crop.landmarks,
                )
                found.append(face)
                if self.donors and source.split == "train":
                    # All but lossless: training encodes what it makes of it, as is done here.
                    image = encode_image(crop.pixels, quality=100)
                    found.append(replace(face, split=SOURCES, image=image))
                if self.donors:
                    found += self.forge(source, face, crop.pixels)
        return Produced(found, extraction.note)

    def forge(self, source: Source, face: Face, pixels: UInt8[np.ndarray, "s s 3"]) -> list[Face]:
        """Fixed forgeries of a real face, one of each kind.

        They are made before the one and only encoding that a real face goes through, too. Frames of
        a video share their draw, so that a video is forged in one way.
        """
        name = zlib.crc32((source.video or source.name).encode())
        made = []
        for kind in KINDS:
            rng = np.random.default_rng([self.seed, name, KINDS.index(kind)])
            donor = self.find_donor(source, rng) if kind == "swap" else None
            if kind == "swap" and donor is None:
                continue
            image = encode_image(forge.forge(kind, pixels, face.landmarks, rng, donor)[0])
            made.append(
                replace(
                    face,
                    image=image,
                    label=FAKE,
                    method=kind,
                    video_id=f"{face.video_id}:{kind}",
                    quality=self.measure(image, face.landmarks, source.name),
                )
            )
        return made

    def find_donor(self, source: Source, rng: np.random.Generator):
        """Crop and landmarks of another face of the same split; None if none is found in a few."""
        own = source.video or source.name
        others = [path for path, video in self.donors[source.split] if video != own]
        for index in rng.permutation(len(others))[:5]:
            try:
                extraction = tracking.extract(Path(others[index]), replace(self.settings, frames=1))
            except formats.MediaError:
                continue
            if extraction.people:
                crop = extraction.people[0].crops[0]
                return crop.pixels, crop.landmarks
        return None
