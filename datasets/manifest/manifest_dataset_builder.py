"""manifest: photographs, videos or ready crops that a table lists with their labels.

python run.py --config=configs/manifest.py --config.data.manifest=TABLE --workdir=DIR --mode=prepare
"""

import copy
from dataclasses import replace
from pathlib import Path

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_datasets.face_folder.extractor import extractor_of
from deepfidelity_datasets.face_folder.inventory import Inventory
from deepfidelity_datasets.manifest.sources import NO_FILE, Files, Listed, find_files, list_sources
from deepfidelity_datasets.manifest.table import Table, read_table
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import fingerprint, locate
from deepfidelity_jax.quality import table as quality_table
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records.own_files import (
    OwnFiles,
    OwnFilesBuilder,
    find_prepared,
    splits_asked,
)
from deepfidelity_jax.records.write import Recipe

# How to keep related files in one split by the table.
CHOICE = (
    "add a column split, person or video_id to the table (if the files are unrelated, give each "
    "row its own video_id)"
)


class Builder(OwnFilesBuilder):
    """TFDS builder for a table."""

    VERSION = tfds.core.Version("1.0.0")
    OPTIONS = ("manifest", "real_label", "dir", "splits")

    @classmethod
    def configured(cls, config: ConfigDict, records_dir: Path) -> "Builder":
        """The builder for a configuration; it writes below `records_dir`."""
        data = config.data
        if not data.manifest:
            raise InputError("config.data.manifest is empty: give a table of paths and labels")
        splits, shares = splits_asked(config), tuple(data.splits)
        test_only = set(splits) == {"test"}
        table_path = locate(data.manifest)
        folder = locate(data.dir) if data.dir else table_path.parent
        recipe = _recipe(config)
        asked = {
            "shares": shares,
            "real_label": data.real_label,
            "splits": splits,
            "recipe": fingerprint(recipe.to_json()),
            "folder": str(table_path),
        }
        builder_config = OwnFiles(name="", recipe=recipe, splits=splits, asked=asked, choice=CHOICE)
        dataset_dir = records_dir / "manifest"
        versions, option = (cls.VERSION,), "config.data.manifest"
        if not table_path.exists():
            earlier = find_prepared(
                dataset_dir, builder_config, versions, option, "which does not exist"
            )
            return cls.read(records_dir, earlier)
        table = read_table(table_path, data.real_label)
        asked["rows"] = _fingerprint_rows(table, "" if folder == table_path.parent else str(folder))
        if data.dir and not folder.is_dir():
            raise InputError(f"config.data.dir is {data.dir!r}, which is not a folder")
        _require_one_quality(config, table)
        files = find_files(table_path, table, folder, test_only=test_only)
        if not files.rows:
            wrong = _explain_none(files, folder)
            return cls.read(
                records_dir, find_prepared(dataset_dir, builder_config, versions, option, wrong)
            )
        listed = list_sources(
            table_path,
            files,
            shares,
            recipe.seed,
            allow=config.leaks.allow,
            test_only=test_only,
            inventory=Inventory(dataset_dir / "inventory.json"),
        )
        recipe = replace(recipe, measure=_measure(recipe.measure, listed, folder))
        if {"person", "video_id"} & set(table.columns) or any(row.split for row in table.rows):
            builder_config.choice = ""
        builder_config = replace(
            builder_config,
            sources=listed.sources,
            notes=listed.notes,
            lines=files.numbers,
            groups=listed.groups,
            produce=extractor_of(listed.sources, recipe, made=False),
            recipe=recipe,
            remarks=_remarks(table, recipe.measure),
        )
        return cls.plan(records_dir, builder_config, "test" if test_only else "files")


def _recipe(config: ConfigDict) -> Recipe:
    """The recipe; for the measure `csv` without a file, the table's scores are not in it yet."""
    if config.quality.measure != "csv" or config.quality.csv:
        return Recipe.from_config(config)
    unmeasured = copy.deepcopy(config).unlock()
    unmeasured.quality.measure = "none"
    return replace(Recipe.from_config(unmeasured), measure=Measure("csv"))


def _fingerprint_rows(table: Table, folder: str) -> str:
    """Of what the rows say, in any order. folder: of relative paths, if not the table's own."""
    rows = [vars(row) | {"number": 0} for row in table.rows]
    return fingerprint(sorted(rows, key=lambda row: row["path"]), folder)


def _require_one_quality(config: ConfigDict, table: Table) -> None:
    """InputError if the measure `csv` has no table of scores, or two."""
    if config.quality.measure != "csv":
        return
    if config.quality.csv and "quality" in table.columns:
        raise InputError(
            f"the table has a column quality, and config.quality.csv is {config.quality.csv}: use "
            "one of them"
        )
    if not config.quality.csv and "quality" not in table.columns:
        raise InputError(
            "config.quality.measure is csv, but the table has no column quality: add it, or give "
            "--config.quality.csv=FILE"
        )


def _measure(measure: Measure, listed: Listed, folder: Path) -> Measure:
    if measure.name != "csv":
        return measure
    if measure.scores:
        names = [source.name for source in listed.sources]
        return replace(measure, scores=quality_table.match_scores(measure.scores, names, folder))
    return replace(measure, scores=listed.quality)


def _explain_none(files: Files, folder: Path) -> str:
    gone = [name for name, note in files.notes.items() if note == NO_FILE]
    if not gone:
        return "which lists no file for the split test"
    split = " for the split test" if len(gone) < len(files.notes) else ""
    count = "1 file" if len(gone) == 1 else f"{len(gone)} files"
    return (
        f"which lists {count}{split}, such as {gone[0][:120]!r}, none of which is there "
        f"(relative paths are relative to {folder}; --config.data.dir=FOLDER gives another)"
    )


def _remarks(table: Table, measure: Measure) -> tuple[str, ...]:
    """Messages about what is not used in the table."""
    unused = [*table.unused]
    if "quality" in table.columns and measure.name != "csv":
        unused.append(f"quality, as config.quality.measure is {measure.name}")
    return (f"columns of the table that are not used: {', '.join(unused)}",) if unused else ()
