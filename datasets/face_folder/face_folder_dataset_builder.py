"""face_folder: any folder of photographs or videos, with its own fakes or with forgeries made here.

python run.py --config=configs/folder.py --config.data.dir=FOLDER --workdir=DIR --mode=prepare
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_datasets.face_folder.extractor import extractor_of
from deepfidelity_datasets.face_folder.inventory import Inventory
from deepfidelity_datasets.face_folder.sources import CHOICE, list_sources
from deepfidelity_datasets.face_folder.splits import group_of
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import fingerprint, locate
from deepfidelity_jax.images import formats, media
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality import table
from deepfidelity_jax.records.own_files import (
    OwnFiles,
    OwnFilesBuilder,
    Source,
    find_prepared,
    splits_asked,
)
from deepfidelity_jax.records.write import Recipe


class Builder(OwnFilesBuilder):
    """TFDS builder for a folder."""

    VERSION = tfds.core.Version("2.2.0")
    # Records of these versions are read if they exist. Before 2.2.0 there were three kinds of
    # forgeries, which were resampled while real faces were not. Before 2.1.0 quality was measured
    # without landmarks. Before 2.0.0 the splits depended on the number of files, and the names of
    # records on the files' times.
    SUPPORTED_VERSIONS: ClassVar = [
        tfds.core.Version(version)
        for version in ("2.1.0", "2.0.0", *(f"1.{n}.0" for n in range(4, -1, -1)))
    ]
    OPTIONS = ("dir", "splits", "group", "real_folder", "fake_folder")

    @classmethod
    def configured(cls, config: ConfigDict, records_dir: Path) -> "Builder":
        """The builder for a configuration; it writes below `records_dir`."""
        data = config.data
        if not data.dir:
            raise InputError("config.data.dir is empty: give a folder of photographs or videos")
        splits, shares = splits_asked(config), tuple(data.splits)
        folder, recipe = locate(data.dir), Recipe.from_config(config)
        test_only = set(splits) == {"test"}
        dataset_dir = records_dir / "face_folder"
        asked = {
            "shares": shares,
            "group": data.group,
            "real_folder": data.real_folder,
            "fake_folder": data.fake_folder,
            "splits": splits,
            "recipe": fingerprint(recipe.to_json()),
            "folder": str(folder),
        }
        builder_config = OwnFiles(name="", recipe=recipe, splits=splits, asked=asked)
        builder_config.choice = "" if data.group else CHOICE
        if not folder.is_dir() or not os.listdir(folder):
            versions = (cls.VERSION, *cls.SUPPORTED_VERSIONS)
            wrong = "which is empty or not a folder"
            builder_config = find_prepared(
                dataset_dir, builder_config, versions, "config.data.dir", wrong
            )
            return cls.read(records_dir, builder_config)
        inventory = Inventory(dataset_dir / "inventory.json")
        if not test_only:
            stamped = _name_by_stamps(dataset_dir, folder, shares, recipe, inventory)
            if stamped and cls.version_in(dataset_dir / stamped) != str(cls.VERSION):
                say(f"using records of an earlier version: {dataset_dir / stamped}")
                return cls.read(records_dir, replace(builder_config, name=stamped))

        listed = list_sources(
            folder,
            shares,
            recipe.seed,
            group=data.group,
            real_folder=data.real_folder,
            fake_folder=data.fake_folder,
            test_only=test_only,
            inventory=inventory,
        )
        sources, measure = listed.sources, recipe.measure
        if measure.name == "csv":
            scores = table.match_scores(measure.scores, [s.name for s in sources], folder)
            recipe = replace(recipe, measure=replace(measure, scores=scores))
        builder_config = replace(
            builder_config,
            sources=sources,
            notes=listed.notes,
            made=listed.made,
            produce=extractor_of(sources, recipe, made=listed.made),
            recipe=recipe,
            remarks=_remarks(data.group, sources),
        )
        return cls.plan(records_dir, builder_config, "test" if test_only else "files")


def _remarks(group: str, sources: Sequence[Source]) -> tuple[str, ...]:
    """A message about the names that a `prefix:` does not match."""
    alone = [source.name for source in sources if not group_of(group, Path(source.path))]
    if not alone or not group.startswith("prefix:"):
        return ()
    return (
        f"{len(alone)} of {len(sources)} names do not begin like config.data.group={group}, such "
        f"as {alone[0]}: each is a group of its own",
    )


def _name_by_stamps(
    dataset_dir: Path, folder: Path, shares: tuple[float, ...], recipe: Recipe, inventory: Inventory
) -> str:
    """The name that versions before 2.0.0 gave to a folder's records; empty if there are none."""
    begin = f"{folder.name}-"
    if not any(path.name.startswith(begin) for path in dataset_dir.glob("*")):
        return ""
    class_folders = {name: folder / name for name in ("real", "fake") if (folder / name).is_dir()}
    stamps, seen = [], set()
    for where in (class_folders.get("real", folder), class_folders.get("fake")):
        kinds = {}
        for path in media.list_files(where).files if where else ():
            try:
                kinds[path] = inventory.kind(path)
            except formats.NotMedia:
                continue
            except formats.MediaError:
                kinds[path] = ""
        for path, digest in inventory.digests(kinds):
            if digest not in seen:
                seen.add(digest)
                status = path.stat()
                name = path.relative_to(folder).as_posix()
                stamps.append((name, status.st_size, status.st_mtime))
    return f"{begin}{fingerprint(stamps, shares, recipe.to_json())}"
