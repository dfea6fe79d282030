"""Records of the user's own files, named by the contents of the files.

`datasets/face_folder` lists the files of a folder, `datasets/manifest` those of a table. This
module does the rest, and finds the records again when the files are gone.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import fingerprint, written_whole
from deepfidelity_jax.processes import hosts
from deepfidelity_jax.progress import say
from deepfidelity_jax.records import write
from deepfidelity_jax.records.benchmark_builder import RecordsBuilder
from deepfidelity_jax.records.schema import FAKE, LABELS, ORIGINAL, SPLITS, metadata_of
from deepfidelity_jax.records.source import Produced
from deepfidelity_jax.records.write import Recipe

FOLDERS = "folders.json"


@dataclass(frozen=True)
class Source:
    """A photograph or a video.

    name: its path inside the folder, with forward slashes; control characters and bytes that are
    not text are escaped. method: `original`, or the forgery. split: where all of its frames go.
    digest: SHA-256 of the file. video: the video that a picture is a frame of, or another name for
    a video file; empty otherwise. frame: for such a picture, its number. origins: as in
    `schema.features`.
    """

    name: str
    path: str
    label: int
    method: str
    split: str
    digest: str = ""
    video: str = ""
    frame: int = 0
    origins: str = ""


@dataclass(kw_only=True)
class OwnFiles(tfds.core.BuilderConfig):
    """What was found, how it is split, and the recipe of the records.

    notes: why files were left out, by name. lines: the line of each file in a table, by name. made:
    whether forgeries are to be made. produce: turns a source into faces. splits: those to prepare.
    asked: the place (`folder`), the options that decide the splits and what a table says (`rows`),
    by which the records are found if the files are gone. contents: digest of the training data;
    empty for records of an earlier version. choice: what the user must decide if videos look alike
    across splits. groups: further columns of a table, `{column: {name: value}}`. remarks: lines to
    print before the preparation. staging: equal for records whose faces are made in the same way;
    empty if that depends on other sources.
    """

    # repr=False: TFDS logs the configuration, and there may be thousands.
    sources: list[Source] = field(default_factory=list, repr=False)
    notes: dict[str, str] = field(default_factory=dict, repr=False)
    lines: dict[str, int] = field(default_factory=dict, repr=False)
    made: bool = False
    produce: Callable[[Any], Produced] | None = field(default=None, repr=False)
    recipe: Recipe
    splits: tuple[str, ...]
    asked: dict[str, Any] = field(default_factory=dict, repr=False)
    contents: str = ""
    choice: str = ""
    groups: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    remarks: tuple[str, ...] = ()
    staging: str = ""


def splits_asked(config: ConfigDict) -> tuple[str, ...]:
    """`config.data.prepare`; InputError unless it is all splits or the test split."""
    splits = tuple(config.data.prepare)
    if set(splits) not in ({"test"}, set(SPLITS)):
        raise InputError(
            f"config.data.prepare is {splits}: give all of {', '.join(SPLITS)}, or only test"
        )
    return splits


class OwnFilesBuilder(RecordsBuilder, skip_registration=True):
    """Base of the builders for the user's own files."""

    @classmethod
    def read(cls, records_dir: Path, own: OwnFiles) -> "OwnFilesBuilder":
        """The builder of the records called `own.name` below `records_dir`."""
        version = cls.version_in(records_dir / cls.name / own.name)
        return cls(data_dir=records_dir, config=own, version=version, file_format="array_record")

    @classmethod
    def plan(cls, records_dir: Path, own: OwnFiles, kind: str) -> "OwnFilesBuilder":
        """The builder of the files in `own`, their records named by what the files hold.

        kind: first part of the name. A folder or table that has moved gives the same records.
        """
        rows = [(s.name, s.digest, s.label, s.method, s.split, s.video) for s in own.sources]
        # Origins and groups of a table change the name only where given. The group of a picture
        # does not: its video says as much.
        told = [s for s in own.sources if not (s.video and s.origins.startswith("group/"))]
        origins = [(s.name, s.origins) for s in told if s.origins]
        more = (origins, own.groups) if origins or own.groups else ()
        named = fingerprint(sorted(rows), own.made, own.recipe.to_json(), *more)
        measure = own.recipe.measure
        scores = measure.scores if measure.name == "csv" else None
        contents = digest_contents(own.sources, made=own.made, scores=scores)
        # Forgeries take donors from other sources.
        staging = "" if own.made else fingerprint(own.recipe.to_json())
        own = replace(own, name=f"{kind}-{named}", contents=contents, staging=staging)
        _remember_folder(records_dir / cls.name / own.name, own.asked["folder"])
        return cls.read(records_dir, own)

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
        """What to choose from, until a choice is made."""
        builder_config = self.builder_config
        return builder_config.choice if builder_config.contents else ""

    @property
    def forges(self) -> bool:
        """Whether no file is a fake; False if the files are gone."""
        return self.builder_config.made

    def _split_generators(self, dl_manager):
        builder_config = self.builder_config
        for line in (
            *builder_config.remarks,
            *describe(builder_config.sources, made=builder_config.made),
        ):
            say(line)
        digests: dict[str, dict[str, str]] = {}
        for source in builder_config.sources:
            digests.setdefault(source.split, {})[source.name] = source.digest
        # The digests identify training pictures later; `asked` finds the records if the files are
        # gone.
        self.info.metadata.update(
            digests=digests, asked=builder_config.asked, contents=builder_config.contents
        )
        if builder_config.groups:
            self.info.metadata.update(groups=builder_config.groups)
        return write.split_generators(
            self,
            builder_config.sources,
            builder_config.produce,
            builder_config.recipe,
            unit="photographs and videos",
            notes=builder_config.notes,
            lines=builder_config.lines,
            splits=builder_config.splits,
        )


def groups_of(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """The `group_*` columns of the table that records were made from.

    Returns:
      `{column: {path: value}}`, with `path` as in the records and predictions.csv. Empty for
      records without such columns; paths without a value are left out.
    """
    return metadata_of(folder).get("groups", {})


def digest_contents(
    sources: Sequence[Source], *, made: bool, scores: Mapping[str, float] | None = None
) -> str:
    """Digest of the training and validation files with their labels.

    scores: quality scores from the user, by name; training targets depend on them.
    """
    training = [source for source in sources if source.split != "test"]
    rows = sorted((s.split, s.digest, s.label) for s in training)
    # Only if given, so that workdirs with other measures keep their digest.
    score_rows = (
        [] if scores is None else [sorted((s.digest, str(scores.get(s.name))) for s in training)]
    )
    return fingerprint(rows, made, *score_rows) if rows else ""


def describe(sources: Sequence[Source], *, made: bool) -> list[str]:
    """For each class and method: the number of files, their folders, and one example."""
    kinds: dict[tuple[int, str], list[str]] = {}
    for source in sources:
        kinds.setdefault((-source.label, source.method), []).append(source.name)
    lines = []
    for (label, method), names in sorted(kinds.items()):
        folders = sorted({name.rpartition("/")[0] for name in names})
        shown = ", ".join(f"{name}/" if name else "the folder itself" for name in folders)
        if len(folders) > 3:
            absolute = {name.startswith("/") for name in folders}
            common = os.path.commonpath(folders) if len(absolute) == 1 else ""
            shown = f"{len(folders)} folders" + (f" in {common}/" if common else "")
        title = LABELS[-label] if method in (ORIGINAL, LABELS[FAKE]) else f"fake, {method}"
        lines.append(f"{title}: {len(names)} files from {shown}, such as {names[0]}")
    if len(lines) > 30:
        lines[30:] = [f"and {len(lines) - 30} more methods"]
    lines.append(
        "forgeries will be made from the real faces" if made else "no forgeries will be made"
    )
    return lines


def prepared(
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


def find_prepared(
    place: Path, own: OwnFiles, versions: Sequence[tfds.core.Version], option: str, wrong: str
) -> OwnFiles:
    """The records prepared earlier from a place that is gone, or whose files are.

    Args:
      place: the folder of all records of the dataset.
      own: its `asked` is what the records must match; without `rows`, in any rows of a table.
      versions: the versions of records that can be read.
      option: the option that names the folder or table of the files.
      wrong: what is wrong with that folder or table, to follow its name.

    Raises:
      InputError: there are no such records.
    """
    options = dict(own.asked)
    folder, wanted = options.pop("folder"), options.pop("rows", None)
    others, hint = set(), ""
    for path, metadata in prepared(place, versions):
        asked = dict(metadata.get("asked", {}))
        source, rows = asked.pop("folder", ""), asked.pop("rows", None)
        # Fingerprints are compared because JSON turns tuples into lists.
        if fingerprint(asked) != fingerprint(options):
            continue
        # Of a table that is gone nobody knows what it held, nor did earlier versions note it.
        if rows != wanted and None not in (rows, wanted):
            continue
        if folder not in (source, *_other_folders(path.parent)):
            others.add(source)
        elif wanted and not rows:
            hint = (
                f", unless it said the same when an earlier version made {path}: then move it "
                "away, and these are used"
            )
        else:
            say(f"{option} is {folder!r}, {wrong}: using its records in {path}")
            return replace(own, name=path.parent.name, contents=metadata["contents"])
    if others and not hint:
        shown = " or ".join(f"--{option}={other}" for other in sorted(others)[:3])
        kind = option.rpartition(".")[2].replace("dir", "folder")
        hint = f"; there are records of another {kind}: {shown}"
    raise InputError(
        f"{option} is {folder!r}, {wrong}, and {place} has no records made from it with these "
        f"options{hint}"
    )


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
