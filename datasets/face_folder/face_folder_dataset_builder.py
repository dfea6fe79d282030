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
        own = config.data
        if not own.dir:
            raise InputError("config.data.dir is empty: give a folder of photographs or videos")
        splits, shares = splits_asked(config), tuple(own.splits)
        folder, recipe = locate(own.dir), Recipe.from_config(config)
        test_only = set(splits) == {"test"}
        place = records_dir / "face_folder"
        asked = {
            "shares": shares,
            "group": own.group,
            "real_folder": own.real_folder,
            "fake_folder": own.fake_folder,
            "splits": splits,
            "recipe": fingerprint(recipe.to_json()),
            "folder": str(folder),
        }
        found = OwnFiles(name="", recipe=recipe, splits=splits, asked=asked)
        found.choice = "" if own.group else CHOICE
        if not folder.is_dir() or not os.listdir(folder):
            versions = (cls.VERSION, *cls.SUPPORTED_VERSIONS)
            wrong = "which is empty or not a folder"
            found = find_prepared(place, found, versions, "config.data.dir", wrong)
            return cls.read(records_dir, found)
        inventory = Inventory(place / "inventory.json")
        if not test_only:
            stamped = _name_by_stamps(place, folder, shares, recipe, inventory)
            if stamped and cls.version_in(place / stamped) != str(cls.VERSION):
                say(f"using records of an earlier version: {place / stamped}")
                return cls.read(records_dir, replace(found, name=stamped))

        listed = list_sources(
            folder,
            shares,
            recipe.seed,
            group=own.group,
            real_folder=own.real_folder,
            fake_folder=own.fake_folder,
            test_only=test_only,
            inventory=inventory,
        )
        sources, measure = listed.sources, recipe.measure
        if measure.name == "csv":
            met = table.match_scores(measure.scores, [s.name for s in sources], folder)
            recipe = replace(recipe, measure=replace(measure, scores=met))
        found = replace(
            found,
            sources=sources,
            notes=listed.notes,
            made=listed.made,
            produce=extractor_of(sources, recipe, made=listed.made),
            recipe=recipe,
            remarks=_remarks(own.group, sources),
        )
        return cls.plan(records_dir, found, "test" if test_only else "files")


def _remarks(group: str, sources: Sequence[Source]) -> tuple[str, ...]:
    """A message about the names that a `prefix:` does not match."""
    alone = [one.name for one in sources if not group_of(group, Path(one.path))]
    if not alone or not group.startswith("prefix:"):
        return ()
    return (
        f"{len(alone)} of {len(sources)} names do not begin like config.data.group={group}, such "
        f"as {alone[0]}: each is a group of its own",
    )


def _name_by_stamps(
    place: Path, folder: Path, shares: tuple[float, ...], recipe: Recipe, inventory: Inventory
) -> str:
    """The name that versions before 2.0.0 gave to a folder's records; empty if there are none."""
    begin = f"{folder.name}-"
    if not any(path.name.startswith(begin) for path in place.glob("*")):
        return ""
    given = {name: folder / name for name in ("real", "fake") if (folder / name).is_dir()}
    stamps, seen = [], set()
    for where in (given.get("real", folder), given.get("fake")):
        kinds = {}
        for path in media.list_files(where).files if where else ():
            try:
                kinds[path] = inventory.kind(path)
            except formats.NotMedia:
                continue
            except formats.MediaError:
                kinds[path] = ""
        for path, found in inventory.digests(kinds):
            if found not in seen:
                seen.add(found)
                status = path.stat()
                name = path.relative_to(folder).as_posix()
                stamps.append((name, status.st_size, status.st_mtime))
    return f"{begin}{fingerprint(stamps, shares, recipe.to_json())}"
