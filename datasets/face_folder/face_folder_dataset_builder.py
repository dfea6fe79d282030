"""face_folder: any folder of photographs or videos, with fakes in it or made from the real ones.

python run.py --config=configs/folder.py --config.data.dir=FOLDER --workdir=DIR --mode=prepare
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_datasets.face_folder.extractor import Extractor
from deepfidelity_datasets.face_folder.inventory import Inventory
from deepfidelity_datasets.face_folder.sources import (
    CHOICE,
    Listed,
    Source,
    describe,
    list_sources,
)
from deepfidelity_jax import hosts
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.images import formats, media
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality import table
from deepfidelity_jax.records import write
from deepfidelity_jax.records.benchmark_builder import RecordsBuilder
from deepfidelity_jax.records.schema import SPLITS, metadata_of
from deepfidelity_jax.records.write import Recipe
from deepfidelity_jax.workdir import fingerprint

FOLDERS = "folders.json"


@dataclass(kw_only=True)
class FaceFolderConfig(tfds.core.BuilderConfig):
    """What was found in the folder, how it is split, and the recipe of the records.

    notes: why files were left out, by name. made: whether forgeries are to be made. splits: those
    to prepare. asked: the folder and the options that decide the splits; records are found by them
    if the folder is gone. contents: digest of the training data; empty for records of an earlier
    version.
    """

    # repr=False: TFDS logs the configuration, and there may be thousands.
    sources: list[Source] = field(default_factory=list, repr=False)
    notes: dict[str, str] = field(default_factory=dict, repr=False)
    made: bool = False
    recipe: Recipe
    splits: tuple[str, ...]
    asked: dict[str, Any] = field(default_factory=dict, repr=False)
    contents: str = ""


class Builder(RecordsBuilder):
    """TFDS builder for a folder."""

    VERSION = tfds.core.Version("2.2.0")
    # Records of these versions are read if they exist. Before 2.2.0 there were three kinds of
    # forgeries, which were resampled where real faces were not. Before 2.1.0 quality was
    # measured without landmarks. Before 2.0.0 the splits depended on the number of files, the
    # names on their times.
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
        splits, shares = tuple(own.prepare), tuple(own.splits)
        if set(splits) not in ({"test"}, set(SPLITS)):
            raise InputError(
                f"config.data.prepare is {splits}: give all of {', '.join(SPLITS)}, or only test"
            )
        folder, recipe = Path(own.dir).expanduser().absolute(), Recipe.from_config(config)
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
        found = FaceFolderConfig(name="", recipe=recipe, splits=splits, asked=asked)
        if not folder.is_dir() or not os.listdir(folder):
            versions = (cls.VERSION, *cls.SUPPORTED_VERSIONS)
            return cls._read(records_dir, _find_prepared(place, found, versions))
        inventory = Inventory(place / "inventory.json")
        if not test_only:
            stamped = _name_by_stamps(place, folder, shares, recipe, inventory)
            if stamped and cls.version_in(place / stamped) != str(cls.VERSION):
                say(f"using records of an earlier version: {place / stamped}")
                return cls._read(records_dir, replace(found, name=stamped))

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
        # Named by content, so that a moved folder gives the same records.
        rows = [(s.name, s.digest, s.label, s.method, s.split, s.video) for s in sources]
        kind = "test" if test_only else "files"
        found = replace(
            found,
            name=f"{kind}-{fingerprint(sorted(rows), listed.made, recipe.to_json())}",
            sources=sources,
            notes=listed.notes,
            made=listed.made,
            recipe=recipe,
            contents=contents_of(listed),
        )
        _remember_folder(place / found.name, str(folder))
        return cls._read(records_dir, found)

    @classmethod
    def _read(cls, records_dir: Path, own: FaceFolderConfig) -> "Builder":
        version = cls.version_in(records_dir / cls.name / own.name)
        return cls(data_dir=records_dir, config=own, version=version, file_format="array_record")

    @property
    def contents(self) -> str:
        """Digest of the training and validation files; empty if unknown."""
        return self.builder_config.contents

    @property
    def untold(self) -> str:
        """Empty: the contents of earlier versions are unknown."""
        return ""

    @property
    def undecided(self) -> str:
        """The choices for config.data.group, until one is made."""
        own = self.builder_config
        return CHOICE if own.contents and not own.asked["group"] else ""

    def _split_generators(self, dl_manager):
        own = self.builder_config
        for line in describe(own):
            say(line)
        donors, digests = {}, {}
        for source in own.sources:
            digests.setdefault(source.split, {})[source.name] = source.digest
            if own.made:
                donors.setdefault(source.split, []).append(
                    (source.path, source.video or source.name)
                )
        # The digests identify training pictures later on; `asked` finds the records if the folder
        # is gone.
        self.info.metadata.update(digests=digests, asked=own.asked, contents=own.contents)
        extractor = Extractor(
            own.recipe.faces,
            own.recipe.measure,
            {split: tuple(paths) for split, paths in donors.items()},
            own.recipe.seed,
        )
        return write.split_generators(
            self,
            own.sources,
            extractor,
            own.recipe,
            unit="photographs and videos",
            notes=own.notes,
            splits=own.splits,
        )


def contents_of(listed: Listed) -> str:
    """Digest of the training and validation files with their labels."""
    rows = [(s.split, s.digest, s.label) for s in listed.sources if s.split != "test"]
    return fingerprint(sorted(rows), listed.made) if rows else ""


def _prepared(
    place: Path, versions: Sequence[tfds.core.Version]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Finished records of these versions with their metadata, newest first."""
    infos = [
        path / str(version) / "dataset_info.json"
        for path in place.glob("*")
        for version in versions
    ]
    for info in sorted(filter(Path.exists, infos), key=os.path.getmtime, reverse=True):
        yield info.parent, dict(metadata_of(info.parent))


def _remember_folder(records: Path, folder: str) -> None:
    """Note, beside existing records, another folder that holds the same files."""
    known = _other_folders(records)
    if records.is_dir() and folder not in known and hosts.is_first():
        # The note only helps once the folder is gone, and the records may belong to someone else.
        with contextlib.suppress(OSError), written_whole(records / FOLDERS, "w") as file:
            json.dump([*known, folder], file)


def _other_folders(records: Path) -> list[str]:
    with contextlib.suppress(OSError, ValueError):
        return list(json.loads((records / FOLDERS).read_text(encoding="utf-8")))
    return []


def _find_prepared(
    place: Path, own: FaceFolderConfig, versions: Sequence[tfds.core.Version]
) -> FaceFolderConfig:
    """The records prepared from a folder that no longer exists."""
    folder, options = own.asked["folder"], {k: v for k, v in own.asked.items() if k != "folder"}
    others = set()
    for path, metadata in _prepared(place, versions):
        asked = dict(metadata.get("asked", {}))
        source = asked.pop("folder", "")
        # The fingerprints, as JSON turns tuples into lists.
        if fingerprint(asked) != fingerprint(options):
            continue
        if folder in (source, *_other_folders(path.parent)):
            say(f"{folder} is gone: using its records in {path}")
            return replace(own, name=path.parent.name, contents=metadata["contents"])
        others.add(source)
    hint = ""
    if others:
        shown = " or ".join(f"--config.data.dir={other}" for other in sorted(others)[:3])
        hint = f"; there are records of another folder: {shown}"
    raise InputError(
        f"config.data.dir is {folder!r}, which is empty or not a folder, and {place} has no "
        f"records made from it with these options{hint}"
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
