"""face_folder: any folder of photographs or videos, with the fakes in it or made of the real ones.

python run.py --config=configs/folder.py --config.data.dir=FOLDER --workdir=DIR --mode=prepare
"""

from dataclasses import dataclass, field
from pathlib import Path

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_datasets.face_folder.sources import Extractor, Source, list_sources
from deepfidelity_jax import preparation
from deepfidelity_jax.builder import RecordsBuilder
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.preparation import Recipe
from deepfidelity_jax.records import SPLITS
from deepfidelity_jax.workdir import fingerprint


@dataclass(kw_only=True)
class FaceFolderConfig(tfds.core.BuilderConfig):
    """What was found in the folder, divided how, and prepared by which recipe.

    notes: on files left out. made: whether the fakes are to be made. splits: those there are.
    """

    # Not shown: TFDS logs a configuration, and there are thousands.
    sources: list[Source] = field(repr=False)
    notes: dict[str, str] = field(repr=False)
    made: bool
    recipe: Recipe
    splits: tuple[str, ...]


class Builder(RecordsBuilder):
    """TFDS builder of a folder."""

    VERSION = tfds.core.Version("1.4.0")
    OPTIONS = ("dir", "splits")

    @classmethod
    def configured(cls, config: ConfigDict, records_dir: Path) -> "Builder":
        """The builder for a configuration, writing below `records_dir`."""
        if not config.data.dir:
            raise InputError("config.data.dir is empty: name a folder of photographs or videos")
        splits, shares = tuple(config.data.prepare), tuple(config.data.splits)
        if set(splits) not in ({"test"}, set(SPLITS)):
            raise InputError(
                f"config.data.prepare is {splits}: a folder gives all of {', '.join(SPLITS)}, or "
                "only test"
            )
        folder, recipe = Path(config.data.dir).expanduser().absolute(), Recipe.from_config(config)
        test_only = set(splits) == {"test"}
        sources, notes, made = list_sources(folder, shares, recipe.seed, test_only=test_only)
        if test_only:
            # By their bytes: the same pictures are the same records wherever they lie.
            files = [(source.name, source.digest) for source in sources]
            name = f"test-{fingerprint(files, recipe.to_json())}"
        else:
            stamps = [
                (s.name, Path(s.path).stat().st_size, Path(s.path).stat().st_mtime) for s in sources
            ]
            name = f"{folder.name}-{fingerprint(stamps, shares, recipe.to_json())}"
        own = FaceFolderConfig(
            name=name, sources=sources, notes=notes, made=made, recipe=recipe, splits=splits
        )
        return cls(data_dir=records_dir, config=own, file_format="array_record")

    def _split_generators(self, dl_manager):
        own = self.builder_config
        donors, digests = {}, {}
        for source in own.sources:
            digests.setdefault(source.split, {})[source.name] = source.digest
            if own.made:
                donors[source.split] = (*donors.get(source.split, ()), source.path)
        # By which a picture of training is known again.
        self.info.metadata.update(digests=digests)
        extractor = Extractor(own.recipe.faces, own.recipe.measure, donors, own.recipe.seed)
        return preparation.split_generators(
            self,
            own.sources,
            extractor,
            own.recipe,
            unit="photographs and videos",
            notes=own.notes,
            splits=own.splits,
        )
