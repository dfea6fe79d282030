"""The archives in a copy of WildDeepfake, read as streams: nothing is unpacked to disk."""

import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.faces import detection, tracking
from deepfidelity_jax.images import formats, pictures, videos
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records.benchmark_builder import Holding, find_root, name_some
from deepfidelity_jax.records.benchmark_video import (
    Video,
    list_folder,
    recorded,
    size_of,
    unreadable,
)
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL, SPLITS
from deepfidelity_jax.records.source import Produced

FOLDERS = {
    "real_train": ("train", REAL),
    "fake_train": ("train", FAKE),
    "real_test": ("test", REAL),
    "fake_test": ("test", FAKE),
}
SUFFIXES = (".tar", ".tar.gz", ".tgz")
ARCHIVES = 1120
TRAINING = ("train", "validation")
METHOD = "wild"  # found on the web, forged by unknown methods


@dataclass(frozen=True)
class Archive:
    """One archive. name: its path inside the dataset. number: from its name. size: in bytes."""

    name: str
    path: str
    number: str
    label: int
    split: str
    size: int = 0

    @property
    def method(self) -> str:
        """The method of all of its faces."""
        return ORIGINAL if self.label == REAL else METHOD


def list_archives(manual_dir: Path, validation: float) -> Holding:
    """List all archives, with a share of the training archives in the split `validation`.

    Sequences in one archive stay together. So do the real and the fake archive of the same number,
    as nothing says whether they share a video.

    Raises:
      InputError: the folder is not a copy of the dataset, or has two archives of one number.
    """
    root = find_root(manual_dir, tuple(FOLDERS), "wild_deepfake")
    listed, missing, notes = {}, [], {}
    for folder, (split, _) in FOLDERS.items():
        directory = root / folder
        names, others = list_folder(root, folder, SUFFIXES) if directory.is_dir() else ([], {})
        names.sort(key=lambda name: (len(name), name))
        notes |= others
        if directory.is_dir() and not names:
            raise InputError(
                f"{directory} has {name_some(directory)} but no archive such as 1.tar.gz: give the "
                "archives as distributed, not unpacked"
            )
        _require_one_of_each(directory, names)
        if not names:
            missing.append((f"{folder}/", TRAINING if split == "train" else (split,)))
        listed[folder] = names
    held_out = hold_out(
        [{number_of(name) for name in listed[f"{kind}_train"]} for kind in ("real", "fake")],
        validation,
    )
    archives = []
    for folder, (split, label) in FOLDERS.items():
        for name in listed[folder]:
            number = number_of(name)
            final_split = "validation" if split == "train" and number in held_out else split
            file = f"{folder}/{name}"
            path = root / file
            archives.append(Archive(file, str(path), number, label, final_split, size_of(path)))
    # How many of them each folder has is not published.
    lacking = ARCHIVES - len(archives) - len(missing)
    missing += [(f"an archive of the {ARCHIVES}", SPLITS)] * lacking
    return Holding(archives, missing, notes)


def _require_one_of_each(directory: Path, names: list[str]) -> None:
    """InputError if two archives have one number, such as 1.tar and 1.tar.gz."""
    numbered: dict[str, str] = {}
    for name in names:
        first = numbered.setdefault(number_of(name), name)
        if first != name:
            raise InputError(
                f"{directory} has both {first} and {name}: keep one archive of a number"
            )


def number_of(name: str) -> str:
    """The part of an archive's name before the suffixes."""
    return name.split(".")[0]


def hold_out(classes: list[set[str]], share: float) -> set[str]:
    """Every n-th number that both classes have, and every n-th that only one class has."""
    both = set.intersection(*classes)
    held_out = set()
    for numbers in (both, *(of_class - both for of_class in classes)):
        ordered = sorted(numbers, key=lambda number: (len(number), number))
        count = round(share * len(ordered))
        held_out |= {ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)}
    return held_out


@dataclass(frozen=True)
class Extractor:
    """Turns one archive into the faces of its sequences; picklable, for worker processes."""

    settings: detection.FaceSettings
    measure: Measure

    def __call__(self, archive: Archive) -> Produced:
        """The faces of all sequences; for a damaged archive none, and the reason."""
        try:
            sequences = read_sequences(archive, self.settings.frames)
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            reason = " ".join(str(error).split()) or "it ends too early"
            return unreadable(archive.name, f"a damaged or cut archive: {reason}")
        if not sequences:
            label = "real" if archive.label == REAL else "fake"
            return unreadable(archive.name, f"no {label}/<sequence>/<frame>.png in it")
        parts = [self.extract(archive, key, images) for key, images in sequences.items()]
        return Produced(
            [face for part in parts for face in part.faces],
            "; ".join(part.note for part in parts if part.note),
            {video: counted for part in parts for video, counted in part.tally.items()},
        )

    def extract(self, archive: Archive, sequence: str, images: dict[int, bytes]) -> Produced:
        """The faces of one sequence."""
        folder = archive.name.split("/")[0]
        label = "real" if archive.label == REAL else "fake"
        video_id = f"{folder}/{archive.number}/{label}/{sequence}"
        video = Video(
            name=video_id,
            path=archive.path,
            label=archive.label,
            method=archive.method,
            video_id=video_id,
            split=archive.split,
            origins=(f"archive/{folder.split('_')[1]}/{archive.number}",),
        )
        paths = {number: f"{video_id}/{number}.png" for number in images}
        try:
            extraction = tracking.follow(lambda: decoded(images), len(images), self.settings)
        except formats.MediaError as error:
            return unreadable(video_id, f"{sequence}: {error}")
        made = recorded(extraction, video, self.measure, paths)
        return Produced(made.faces, f"{sequence}: {made.note}" if made.note else "", made.tally)


def decoded(images: dict[int, bytes]) -> Iterator[videos.Frame]:
    """The frames that can be decoded, in order."""
    for number, data in sorted(images.items()):
        try:
            yield videos.Frame(number, 0.0, pictures.read_image(io.BytesIO(data)))
        except formats.MediaError:
            continue


def read_sequences(archive: Archive, count: int) -> dict[str, dict[int, bytes]]:
    """Read `count` evenly spaced frames of each sequence, encoded: `{sequence: {frame: bytes}}`.

    A compressed archive is read twice: once for the names, once for the chosen frames.
    """
    label = "real" if archive.label == REAL else "fake"
    with tarfile.open(archive.path, "r:*") as file:  # whatever the name says about compression
        members: dict[str, dict[int, tarfile.TarInfo]] = {}
        for member in file:
            parts = PurePosixPath(member.name).parts
            if len(parts) < 3 or parts[-3] != label or not member.isfile():
                continue
            frame = PurePosixPath(parts[-1])
            if frame.suffix.lower() in formats.IMAGE_SUFFIXES and frame.stem.isdecimal():
                members.setdefault(parts[-2], {})[int(frame.stem)] = member
        wanted = {}
        for sequence, frames in members.items():
            numbers = sorted(frames)
            for index in videos.spread_indices(len(numbers), count):
                wanted[sequence, numbers[index]] = frames[numbers[index]]
        sequences: dict[str, dict[int, bytes]] = {sequence: {} for sequence in members}
        # In the order of the archive: going back would decompress it again.
        for (sequence, number), member in sorted(wanted.items(), key=lambda w: w[1].offset):
            with file.extractfile(member) as opened:
                sequences[sequence][number] = opened.read()
    return sequences
