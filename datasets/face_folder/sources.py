"""What lies in a folder, its splits and labels, and how one photograph or video becomes faces."""

import os
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from deepfidelity_jax import faces, forge, media
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import digest
from deepfidelity_jax.preparation import Face, Measure, Produced, count_reasons
from deepfidelity_jax.records import FAKE, ORIGINAL, REAL, SOURCES, SPLITS

# Fewer photographs or videos of a class than this leave a split without any.
FEWEST = 8


@dataclass(frozen=True)
class Source:
    """A photograph or a video.

    name: its path inside the folder, with forward slashes. method: `original`, or for a fake the
    folder it lies in. split: where all of its frames go.
    """

    name: str
    path: str
    label: int
    method: str
    split: str


def list_sources(
    folder: Path, shares: Sequence[float], seed: int
) -> tuple[list[Source], dict[str, str], bool]:
    """All photographs and videos in a folder, with labels and splits.

    With `real/` and `fake/` inside, they are the labels, and a folder inside `fake/` names the
    method. Otherwise every file, or every file in `real/`, is a real face, and its fakes are made.

    Args:
      folder: where they lie, at any depth.
      shares: of training, validation and test; per class, by file.
      seed: of the division.

    Returns:
      The sources, why all else in the folder was left out, and whether fakes are to be made.
    """
    if not os.path.isdir(folder):
        raise InputError(f"config.data.dir is {str(folder)!r}, which is no folder")
    given = {name: folder / name for name in ("real", "fake") if os.path.isdir(folder / name)}
    if list(given) == ["fake"]:
        raise InputError(f"{folder} has fake/ but no real/: put real photographs or videos there")
    made = "fake" not in given
    places = {REAL: given.get("real", folder)}
    if not made:
        places[FAKE] = given["fake"]

    listings = {label: media.list_files(place) for label, place in places.items()}
    notes = {}
    if given:
        beside = media.list_files(folder)
        for path in [*beside.files, *beside.left_out]:
            if path.relative_to(folder).parts[0] not in given:
                notes[_name(path, folder)] = f"outside of {' and '.join(f'{n}/' for n in given)}"
    found = {label: [] for label in places}
    for label, listing in listings.items():
        notes |= {_name(path, folder): reason for path, reason in listing.left_out.items()}
        for path in listing.files:
            try:
                media.identify(path)
                found[label].append((path, path.stat().st_size))
            except media.NotMedia as error:
                notes[_name(path, folder)] = f"{error} ({path.suffix or 'without extension'})"
            except media.MediaError as error:
                notes[_name(path, folder)] = str(error)
            except OSError as error:
                notes[_name(path, folder)] = media.explain(error)

    # Only files of one size can hold the same bytes: most are never read here.
    sizes = Counter(size for paths in found.values() for _, size in paths)
    sources, seen = [], {}
    for label, paths in found.items():
        unique = []
        for path, size in paths:
            name = _name(path, folder)
            try:
                content = (size, digest(path) if sizes[size] > 1 else "")
            except OSError as error:
                notes[name] = media.explain(error)
                continue
            if content in seen:
                # The same picture in two splits would be a leak.
                notes[name] = f"the same bytes as {seen[content]}"
                continue
            seen[content] = name
            unique.append((name, path))
        if len(unique) < FEWEST:
            left_out = f" ({count_reasons(notes)})" if notes else ""
            raise InputError(
                f"{places[label]} holds {len(unique)} photographs or videos{left_out}, at least "
                f"{FEWEST} are needed to train, validate and test on different ones"
            )
        for (name, path), split in zip(unique, divide(len(unique), shares, seed), strict=True):
            parts = Path(name).parts
            method = ORIGINAL if label == REAL else (parts[1] if len(parts) > 2 else "fake")
            sources.append(Source(name, str(path), label, method, split))
    return sources, notes, made


def _name(path: Path, folder: Path) -> str:
    """The path inside the folder, as text that can be written whatever its bytes are."""
    inside = path.relative_to(folder).as_posix()
    return os.fsencode(inside).decode("utf-8", "backslashreplace")


def divide(count: int, shares: Sequence[float], seed: int) -> list[str]:
    """A split for each of `count` things: each split at least one, the training split the rest."""
    order = np.random.default_rng(seed).permutation(count)
    sizes = [max(1, round(count * share / sum(shares))) for share in shares[1:]]
    ends = np.cumsum([count - sum(sizes), *sizes])
    splits = np.empty(count, object)
    for name, start, end in zip(SPLITS, [0, *ends], ends, strict=False):
        splits[order[start:end]] = name
    return splits.tolist()


@dataclass(frozen=True)
class Extractor:
    """Turns one source into faces; picklable, as it runs in many processes.

    donors: for each split, the real photographs and videos that a swap may take its face from;
    empty where the folder has fakes of its own.
    """

    settings: faces.FaceSettings
    measure: Measure
    donors: dict[str, tuple[str, ...]]
    seed: int

    def __call__(self, source: Source) -> Produced:
        """The faces of one photograph or video, and forgeries of them where none are given."""
        try:
            extraction = faces.extract(Path(source.path), self.settings)
        except (media.MediaError, OSError) as error:
            return Produced([], str(error))
        found = []
        for number, person in enumerate(extraction.people):
            # One video_id a person: of two people in one video one may be forged.
            video_id = source.name if len(extraction.people) == 1 else f"{source.name}#{number}"
            for crop in person.crops:
                face = Face(
                    split=source.split,
                    image=crop.image,
                    label=source.label,
                    method=source.method,
                    video_id=video_id,
                    frame=crop.frame,
                    path=source.name,
                    quality=self.measure(crop.image, source.name),
                    bbox=crop.bbox,
                    landmarks=crop.landmarks,
                )
                found.append(face)
                if self.donors and source.split == "train":
                    # All but lossless: training encodes what it makes of it, as is done here.
                    image = media.encode_image(crop.pixels, quality=100)
                    found.append(replace(face, split=SOURCES, image=image))
                if self.donors:
                    found += self.forge(source, face, crop.pixels)
        return Produced(found, extraction.note)

    def forge(self, source: Source, face: Face, pixels: UInt8[np.ndarray, "s s 3"]) -> list[Face]:
        """Fixed forgeries of a real face, one of each kind.

        They are made before the one and only encoding that a real face goes through, too. Frames of
        a video share their draw, so that a video is forged in one way.
        """
        name = zlib.crc32(source.name.encode())
        made = []
        for kind in forge.KINDS:
            rng = np.random.default_rng([self.seed, name, forge.KINDS.index(kind)])
            donor = self.find_donor(source, rng) if kind == "swap" else None
            if kind == "swap" and donor is None:
                continue
            image = media.encode_image(forge.forge(kind, pixels, face.landmarks, rng, donor)[0])
            made.append(
                replace(
                    face,
                    image=image,
                    label=FAKE,
                    method=kind,
                    video_id=f"{face.video_id}:{kind}",
                    quality=self.measure(image, source.name),
                )
            )
        return made

    def find_donor(self, source: Source, rng: np.random.Generator):
        """Crop and landmarks of another face of the same split; None if none is found in a few."""
        others = [path for path in self.donors[source.split] if path != source.path]
        for index in rng.permutation(len(others))[:5]:
            try:
                extraction = faces.extract(Path(others[index]), replace(self.settings, frames=1))
            except (media.MediaError, OSError):
                continue
            if extraction.people:
                crop = extraction.people[0].crops[0]
                return crop.pixels, crop.landmarks
        return None
