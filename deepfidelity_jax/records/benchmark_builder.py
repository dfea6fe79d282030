"""What the TFDS builders in datasets/ share: from a configuration to records.

`RecordsBuilder` is the base of every dataset's builder, `BenchmarkBuilder` that of the benchmarks,
of which users bring a copy. A benchmark provides a `Plan`: which sources its records are made from.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import fingerprint
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality import table
from deepfidelity_jax.records import schema, write
from deepfidelity_jax.records.schema import LABELS, SPLITS
from deepfidelity_jax.records.source import Labelled, Produced, Source
from deepfidelity_jax.records.write import Recipe


class RecordsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of every dataset's builder.

    OPTIONS: the options of `config.data` it uses, besides those common to all datasets.
    """

    OPTIONS: tuple[str, ...] = ()

    @classmethod
    def version_in(cls, folder: Path) -> str:
        """The version of the finished records in `folder`, or the current one if there are none.

        Records of an earlier version are used as they are, with the qualities they have.
        """
        for version in (cls.VERSION, *cls.SUPPORTED_VERSIONS):
            if (folder / str(version) / "dataset_info.json").exists():
                return str(version)
        return str(cls.VERSION)

    @property
    def contents(self) -> str:
        """Identifies the training and validation data; a trained workdir is bound to it.

        By default the name of the records, as the same options give the same records. Empty if
        unknown.
        """
        return f"{self.builder_config.name}/{self.version}"

    @property
    def earlier_contents(self) -> str:
        """The `contents` that earlier versions gave to the same data."""
        return self.contents

    @property
    def untold(self) -> str:
        """The `contents` assumed for checkpoints of earlier versions, which did not store any."""
        return self.contents

    @property
    def undecided(self) -> str:
        """What the user must decide if videos look alike across splits; empty for a fixed split."""
        return ""

    @property
    def forges(self) -> bool:
        """Whether it records clean real faces, from which training draws new forgeries."""
        return False

    @property
    def methods(self) -> dict[str, set[str]]:
        """The methods of the sources in each split; empty if there are none to read."""
        methods: dict[str, set[str]] = {}
        for source in getattr(self.builder_config, "sources", ()):
            methods.setdefault(source.split, set()).add(source.method)
        return methods

    @property
    def absent(self) -> str:
        """Why no records can be made, though existing ones can be read; empty if they can."""
        return ""

    def _info(self) -> tfds.core.DatasetInfo:
        info = self.dataset_info_from_configs(
            features=schema.features(), metadata=tfds.core.MetadataDict()
        )
        # TFDS would search its own bucket for these records, and leave a temporary folder behind.
        info.initialize_from_bucket = lambda: None
        return info

    def _generate_examples(self):
        raise NotImplementedError("the split generators yield the examples")


@dataclass(kw_only=True)
class Plan(tfds.core.BuilderConfig):
    """What a benchmark's records are made from.

    name: folder of the records. sources: in the splits asked for. produce: turns a source into
    faces. unit: what a source is called in messages. options: the dataset's own choices, for the
    metadata. earlier: the name that earlier versions gave, by the order of options. notes: why
    inputs were left out, by name. beam: as in `staging.stage`. staging: equal for records whose
    faces are made in the same way, of whatever sources. absent: why there are no sources; existing
    records can still be read.
    """

    # repr=False: TFDS logs the configuration, and there may be thousands.
    sources: Sequence[Source] = field(default=(), repr=False)
    produce: Callable[[Any], Produced] | None = None
    recipe: Recipe
    unit: str
    options: dict[str, Any]
    splits: tuple[str, ...]
    earlier: str
    notes: dict[str, str] = field(default_factory=dict, repr=False)
    beam: str = ""
    staging: str = ""
    absent: str = ""


class BenchmarkBuilder(RecordsBuilder, skip_registration=True):
    """Base of the benchmarks' builders; the user's copy is in `config.data.manual_dir`."""

    @classmethod
    def plan(cls, config: ConfigDict) -> Plan:
        """What the records are made from."""
        raise NotImplementedError

    @classmethod
    def configured(cls, config: ConfigDict, records_dir: Path) -> "BenchmarkBuilder":
        """The builder for a configuration; it writes below `records_dir`."""
        plan = cls.plan(config)
        if (records_dir / cls.name / plan.earlier).exists():
            plan.name = plan.earlier
        version = cls.version_in(records_dir / cls.name / plan.name)
        builder = cls(
            data_dir=records_dir, config=plan, version=version, file_format="array_record"
        )
        if not plan.absent:
            tell_left_out(Path(builder.data_path), plan.notes)
        return builder

    @property
    def earlier_contents(self) -> str:
        """The name by the order of options."""
        return f"{self.builder_config.earlier}/{self.version}"

    @property
    def absent(self) -> str:
        """Why there is no copy to read."""
        return self.builder_config.absent

    def _split_generators(self, dl_manager):
        plan = self.builder_config
        if plan.absent:
            raise InputError(plan.absent)
        self.info.metadata.update(options=plan.options)
        return write.split_generators(
            self,
            plan.sources,
            plan.produce,
            plan.recipe,
            unit=plan.unit,
            notes=plan.notes,
            splits=plan.splits,
            beam=plan.beam,
        )


def tell_left_out(records: Path, known: Collection[str]) -> None:
    """Say how many inputs, besides those known, the records lack: a copy may be complete now."""
    if not (records / "dataset_info.json").exists():
        return
    if count := len(schema.metadata_of(records).get("notes", {}).keys() - {*known}):
        say(f"{count} inputs were skipped or are incomplete: delete {records} to read them again")


@dataclass(frozen=True)
class Holding:
    """What a user's copy of a benchmark holds.

    sources: what was found. missing: names that should be there and are not, each with the splits
    that it may belong to. notes: why files were left out, by name.
    """

    sources: Sequence[Labelled]
    missing: Sequence[tuple[str, tuple[str, ...]]] = ()
    notes: dict[str, str] = field(default_factory=dict)


def plan_benchmark(
    config: ConfigDict,
    label: str,
    options: dict[str, Any],
    list_sources: Callable[[Path], Holding],
    extractor: Callable[..., Callable[[Any], Produced]],
    *,
    unit: str,
) -> Plan:
    """Plan the records of the splits in `config.data.prepare` from the user's copy.

    The name depends on the options and not on where the copy is, so that records can also be used
    on a machine without a copy. For an incomplete copy it depends on what is there, too.

    Args:
      config: of the run.
      label: first part of the name of the records' folder.
      options: the dataset's own choices, everything besides the recipe that changes the
        records; unordered values in the dataset's order.
      list_sources: lists what a copy holds.
      extractor: makes `produce` from the face settings and the quality measure.
      unit: what a source is called in messages.

    Raises:
      InputError: the folder is not a copy of the benchmark, parts of it are missing, or a split
        has no source of a class.
    """
    data = config.data
    prepare = tuple(data.prepare)
    if not prepare or set(prepare) - set(SPLITS):
        raise InputError(f"config.data.prepare is {prepare}: choose from {', '.join(SPLITS)}")
    splits = tuple(split for split in SPLITS if split in prepare)
    if data.bench_json and config.faces.detector != "none":
        raise InputError(
            "config.data.bench_json lists crops that are already aligned: add "
            "--config.faces.detector=none"
        )
    # Nothing is drawn here, so runs with different seeds share their records.
    recipe = replace(Recipe.from_config(config), seed=0)
    options = {"splits": splits, "incomplete": data.incomplete} | options
    as_given = {"splits": prepare} | (
        {"methods": tuple(data.methods)} if "methods" in options else {}
    )
    name, earlier = (
        f"{label}-{fingerprint(chosen, recipe.to_json())}"
        for chosen in (options, options | as_given)
    )
    plan = Plan(
        name=name,
        earlier=earlier,
        recipe=recipe,
        unit=unit,
        options=options,
        splits=splits,
        beam=data.beam,
        staging=name,
    )
    if not data.manual_dir:
        plan.absent = (
            "config.data.manual_dir is empty: give the folder of your copy of the dataset; "
            f"datasets/{data.dataset}/README.md says how to get one"
        )
        return plan

    folder = Path(data.manual_dir).expanduser().absolute()
    holding = list_sources(folder)
    plan.sources = sources = [source for source in holding.sources if source.split in splits]
    plan.notes = dict(holding.notes)
    measure = recipe.measure
    if measure.name == "csv":
        # Files inside an archive are not listed yet: there the table must have the exact paths.
        listed = [name for source in plan.sources for name in getattr(source, "files", ())]
        if listed:
            scores = table.match_scores(measure.scores, listed, folder)
        else:
            scores = {table.normal(path): score for path, score in measure.scores.items()}
        measure = replace(measure, scores=scores)
    plan.produce = extractor(recipe.faces, measure)
    missing = [name for name, possible in holding.missing if {*possible} & {*splits}]
    if missing and not data.incomplete:
        raise InputError(
            f"{folder} lacks {len(missing)} {unit} of {data.dataset}, such as {missing[0]}, and "
            f"holds {len(plan.sources)}: finish the download, or use what is there with "
            "--config.data.incomplete=true"
        )
    for split in splits:
        labels = {source.label for source in sources if source.split == split}
        lacking = [name for label, name in enumerate(LABELS) if label not in labels]
        if lacking:
            others = ", or choose other splits with config.data.prepare"
            raise InputError(
                f"{folder} holds no {' and no '.join(lacking)} {unit} for the {split} split: add "
                f"some{'' if splits == ('test',) else others}"
            )
    if missing:
        names = sorted((source.name, source.split) for source in sources)
        suffix = f"-of-{fingerprint(names)}"
        plan.name, plan.earlier = plan.name + suffix, plan.earlier + suffix
        plan.notes |= dict.fromkeys(missing, "missing")
    return plan


def validation_share(config: ConfigDict) -> float:
    """The share of validation in what is not the official test split, by `config.data.splits`."""
    train, validation, _ = config.data.splits
    return validation / (train + validation)


def find_root(folder: Path, marks: Sequence[str], dataset: str) -> Path:
    """`folder`, if it contains one of `marks`; otherwise InputError says which folder to give."""
    looked_for = " or ".join(f"{mark}/" if "." not in mark else mark for mark in marks)
    where = f"config.data.manual_dir is {folder}"
    if not folder.is_dir():
        raise InputError(f"{where}, which is not a folder: give the one with {looked_for} inside")
    if any((folder / mark).exists() for mark in marks):
        return folder
    near = [folder.parent, *sorted(path for path in folder.iterdir() if path.is_dir())]
    meant = [path for path in near if any((path / mark).exists() for mark in marks)]
    advice = (
        f"give {meant[0]}" if meant else f"give the folder shown in datasets/{dataset}/README.md"
    )
    contents = f"{name_some(folder)} but " if any(folder.iterdir()) else ""
    raise InputError(f"{where}, which has {contents}no {looked_for}: {advice}")


def name_some(folder: Path) -> str:
    """The first four names in a folder, for a message."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return (", ".join(names[:4]) + more) or "nothing"
