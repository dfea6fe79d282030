"""synthetic_faces: rendered people and forgeries of them, to try everything without a download.

python run.py --config=configs/demo.py --workdir=DIR --mode=prepare
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_datasets.synthetic_faces.clips import Clip, Renderer
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import fingerprint
from deepfidelity_jax.records import write
from deepfidelity_jax.records.benchmark_builder import RecordsBuilder
from deepfidelity_jax.records.schema import SPLITS
from deepfidelity_jax.records.write import Recipe


@dataclass(kw_only=True)
class SyntheticFacesConfig(tfds.core.BuilderConfig):
    """The number of people, of clips per person, the shares of the splits, and the recipe."""

    identities: int
    clips: int
    shares: tuple[float, float, float]
    recipe: Recipe


class Builder(RecordsBuilder):
    """TFDS builder for rendered faces; no person is in two splits."""

    VERSION = tfds.core.Version("1.7.0")
    # Records of these versions are read if they exist. Before 1.7.0 there were three kinds of
    # forgeries; before 1.6.0 quality was measured without landmarks.
    SUPPORTED_VERSIONS: ClassVar = [tfds.core.Version(version) for version in ("1.6.0", "1.5.0")]
    OPTIONS = ("identities", "clips", "splits")

    @classmethod
    def configured(cls, config: ConfigDict, records_dir: Path) -> "Builder":
        """The builder for a configuration; it writes below `records_dir`."""
        recipe = Recipe.from_config(config)
        identities, clips = config.data.identities, config.data.clips
        shares = tuple(config.data.splits)
        if identities < 6 or clips < 1:
            raise InputError(
                f"config.data.identities is {identities} and config.data.clips {clips}: give at "
                "least 6 people (two per split, for swaps) and one clip of each"
            )
        name = fingerprint(identities, clips, shares, recipe.to_json())
        builder_config = SyntheticFacesConfig(
            name=name, identities=identities, clips=clips, shares=shares, recipe=recipe
        )
        version = cls.version_in(records_dir / cls.name / name)
        return cls(
            data_dir=records_dir, config=builder_config, version=version, file_format="array_record"
        )

    @property
    def forges(self) -> bool:
        """True: every person is also recorded clean."""
        return True

    def _split_generators(self, dl_manager):
        builder_config = self.builder_config
        held = [
            max(2, round(builder_config.identities * share / sum(builder_config.shares)))
            for share in builder_config.shares[1:]
        ]
        ends = (
            0,
            builder_config.identities - sum(held),
            builder_config.identities - held[1],
            builder_config.identities,
        )
        people = {split: tuple(range(ends[i], ends[i + 1])) for i, split in enumerate(SPLITS)}
        clips = [
            Clip(identity, scene, split)
            for split, identities in people.items()
            for identity in identities
            for scene in range(builder_config.clips)
        ]
        recipe = builder_config.recipe
        render = Renderer(
            recipe.faces.size, recipe.faces.frames, recipe.measure, people, recipe.seed
        )
        return write.split_generators(self, clips, render, recipe, unit="clips", notes={})
