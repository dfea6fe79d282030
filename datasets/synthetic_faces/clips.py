"""One rendered clip: a person in a scene, forgeries of the clip, and a known loss of quality."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.forgeries import families
from deepfidelity_jax.forgeries.degrade import DEGRADATIONS, degrade
from deepfidelity_jax.images import pictures
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records.schema import FAKE, ORIGINAL, REAL, SOURCES
from deepfidelity_jax.records.source import Face, Produced

# At a higher strength hardly anyone can see a forgery in faces this small.
STRONGEST = 0.45
CLEAN = 0.2  # share of frames that keep their full quality
FEW = 3  # forgeries per clip
NEXT = 4  # the donor of a swap is one of this many next people


@dataclass(frozen=True)
class Clip:
    """One clip of one person. identity: number of the person. scene: number of the clip."""

    identity: int
    scene: int
    split: str

    @property
    def name(self) -> str:
        """The name, as in video_id."""
        return f"id{self.identity:03d}_{self.scene}"


@dataclass(frozen=True)
class Renderer:
    """Turns a clip into faces; picklable, for worker processes.

    size: side of a frame in pixels. frames: number per clip. people: the identities in each split;
    the donor of a swap is from the same split.
    """

    size: int
    frames: int
    measure: Measure
    people: dict[str, tuple[int, ...]]
    seed: int

    def __call__(self, clip: Clip) -> Produced:
        """The real clip and forgeries of it, by a few families in turn."""
        frames = self.film(clip.identity, clip.scene, self.frames)
        rng = np.random.default_rng([self.seed, clip.identity, clip.scene, 1])
        faces = self.finish(clip, ORIGINAL, frames, rng)
        if clip.split == "train":
            faces += [
                self.face(clip, SOURCES, ORIGINAL, number, image, points, known_quality=1.0)
                for number, (image, points) in enumerate(frames)
            ]
        donor = families.Face(*self.film(self.draw_donor(clip, rng), clip.scene, 1)[0])
        every = list(families.FAMILIES)
        for step in range(FEW):
            family = every[(clip.identity + clip.scene + step * len(every) // FEW) % len(every)]
            # All frames of a clip are forged in the same way, as a program would.
            draw = rng.integers(2**63)
            forged = []
            for image, points in frames:
                again, face = np.random.default_rng(draw), families.Face(image, points)
                forged.append((families.forge(family, face, donor, again)[0], points))
            faces += self.finish(clip, family, forged, rng)
        return Produced(faces)

    def draw_donor(self, clip: Clip, rng: np.random.Generator) -> int:
        """Another person in the split, one of the next few.

        Clips are rendered in order of the people, so the donor's textures are likely to be cached.
        """
        people = self.people[clip.split]
        steps = int(rng.integers(1, min(NEXT, len(people) - 1) + 1))
        return people[(people.index(clip.identity) + steps) % len(people)]

    def film(
        self, identity: int, scene: int, count: int
    ) -> list[tuple[UInt8[np.ndarray, "s s 3"], Float32[np.ndarray, "5 2"]]]:
        """The first `count` clean frames of a clip, with landmarks."""
        person = renderer.sample_identity(np.random.default_rng([self.seed, identity]))
        rng = np.random.default_rng([self.seed, identity, scene])
        place = renderer.sample_scene(rng)
        poses = renderer.sample_poses(rng, count)
        rendered = (renderer.render(person, place, pose, self.size) for pose in poses)
        return [(image, points.astype(np.float32)) for image, points in rendered]

    def finish(self, clip: Clip, method: str, frames, rng: np.random.Generator) -> list[Face]:
        """Degrade each frame by a random kind and strength, real and fake alike, and encode it."""
        faces = []
        for number, (image, points) in enumerate(frames):
            kind = str(rng.choice(list(DEGRADATIONS)))
            strength = 0.0 if rng.random() < CLEAN else float(rng.uniform(0, STRONGEST))
            image = degrade(image, kind, strength, rng)
            faces.append(
                self.face(
                    clip, clip.split, method, number, image, points, known_quality=1 - strength
                )
            )
        return faces

    def face(self, clip, split, method, number, image, points, known_quality) -> Face:
        """One face as recorded."""
        # Sources are nearly lossless, as training forges and encodes them again.
        encoded = pictures.encode_image(image, quality=100 if split == SOURCES else 95)
        video_id = clip.name if method == ORIGINAL else f"{clip.name}:{method}"
        return Face(
            split=split,
            image=encoded,
            label=REAL if method == ORIGINAL else FAKE,
            method=method,
            video_id=video_id,
            frame=number,
            path=f"{clip.name}/{number}",  # its forgeries share it
            origins=f"person/id{clip.identity:03d}",
            quality=self.measure(encoded, points, clip.name),
            known_quality=known_quality,
            bbox=np.array([0, 0, self.size, self.size], np.float32),
            landmarks=points,
        )
