"""From one photograph or video to faces, and to forgeries of them if the folder has no fakes."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from deepfidelity_jax.faces import detection, tracking
from deepfidelity_jax.forgeries import families
from deepfidelity_jax.images import formats
from deepfidelity_jax.images.pictures import encode_image
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records.own_files import Source
from deepfidelity_jax.records.schema import FAKE, SOURCES
from deepfidelity_jax.records.source import Face, Produced
from deepfidelity_jax.records.write import Recipe

SEVERAL = "fake files with several people, all of whom count as fake"  # what a tally counts
# Forgeries recorded per training face, for the regressor; the network is trained on new ones.
FEW = 3


@dataclass(frozen=True)
class Extractor:
    """Turns one source into faces; picklable, for worker processes.

    donors: for each split, the path of every real source that a swap may take a face from, and the
    names of its video, its group and the people it shows; empty if the folder has its own fakes.
    """

    settings: detection.FaceSettings
    measure: Measure
    donors: dict[str, tuple[tuple[str, frozenset[str]], ...]]
    seed: int

    def __call__(self, source: Source) -> Produced:
        """The faces of one photograph or video; no faces, and the reason, if it is damaged."""
        try:
            extraction = tracking.extract(Path(source.path), self.settings)
        except formats.MediaError as error:
            return Produced([], str(error))
        faces, forging = [], self.donors and extraction.people
        chosen = self.choose_families(source) if forging else []
        # One donor for all faces of the source, because finding it means searching other files.
        donor = self.find_donor(source) if set(chosen) & set(families.NEED_DONOR) else None
        for number, person in enumerate(extraction.people):
            # One video_id per person, as only one of two people in a video may be forged. People
            # are not followed across pictures: the most prominent ones are assumed to be the same.
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
                    frame=source.frame + crop.frame,  # one of them is 0
                    path=source.name,
                    quality=self.measure(crop.image, crop.landmarks, source.name),
                    bbox=crop.bbox,
                    landmarks=crop.landmarks,
                    origins=source.origins,
                )
                faces.append(face)
                if self.donors and source.split == "train":
                    # Nearly lossless, because training encodes the forgeries it makes from this.
                    image = encode_image(crop.pixels, quality=100)
                    faces.append(replace(face, split=SOURCES, image=image))
                faces += self.forge(source, face, crop.pixels, chosen, donor)
        # The label says nothing about single people, and all may be fake.
        several = source.label == FAKE and len(extraction.people) > 1
        return Produced(faces, extraction.note, {source.name: {SEVERAL: 1}} if several else {})

    def choose_families(self, source: Source) -> list[str]:
        """Every family for a test source, a few in turn for a training source."""
        every = list(families.FAMILIES)
        if source.split != "train":
            return every
        drawn = {every[(_number(source) + step) % len(every)] for step in range(FEW)}
        return [family for family in every if family in drawn]

    def forge(
        self,
        source: Source,
        face: Face,
        pixels: UInt8[np.ndarray, "s s 3"],
        chosen: Sequence[str],
        donor: families.Face | None,
    ) -> list[Face]:
        """Fixed forgeries of a real face, by the chosen families that do not lack a donor.

        A forgery is encoded once, like a real face. All frames of a video share their random draw,
        so that the whole video is forged in the same way.
        """
        every = list(families.FAMILIES)
        own, made = families.Face(pixels, face.landmarks), []
        for family in chosen:
            if donor is None and family in families.NEED_DONOR:
                continue
            rng = np.random.default_rng([self.seed, _number(source), every.index(family)])
            forged, _ = families.forge(family, own, own if donor is None else donor, rng)
            image = encode_image(forged)
            made.append(
                replace(
                    face,
                    image=image,
                    label=FAKE,
                    method=family,
                    video_id=f"{face.video_id}:{family}",
                    quality=self.measure(image, face.landmarks, source.name),
                )
            )
        return made

    def find_donor(self, source: Source) -> families.Face | None:
        """A face of another person in the split; None if five other sources give none."""
        rng = np.random.default_rng([self.seed, _number(source)])
        own = identities(source)
        others = [path for path, names in self.donors[source.split] if names.isdisjoint(own)]
        for index in rng.permutation(len(others))[:5]:
            try:
                extraction = tracking.extract(Path(others[index]), replace(self.settings, frames=1))
            except formats.MediaError:
                continue
            if extraction.people:
                crop = extraction.people[0].crops[0]
                return families.Face(crop.pixels, crop.landmarks)
        return None


def extractor_of(sources: Sequence[Source], recipe: Recipe, *, made: bool) -> Extractor:
    """The extractor for these sources; with `made`, it makes forgeries, with donors from them."""
    donors: dict[str, list[tuple[str, frozenset[str]]]] = {}
    for source in sources if made else ():
        donors.setdefault(source.split, []).append((source.path, identities(source)))
    paths = {split: tuple(candidates) for split, candidates in donors.items()}
    return Extractor(recipe.faces, recipe.measure, paths, recipe.seed)


def identities(source: Source) -> frozenset[str]:
    """What a source may share with another of the same person."""
    return frozenset([source.video or source.name, *source.origins.split()])


def _number(source: Source) -> int:
    """A number for random draws, the same for all frames of a video."""
    return zlib.crc32((source.video or source.name).encode())
