"""What the builders in datasets/ have in common: from a configuration to TFDS records."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.quality import table
from deepfidelity_jax.records import schema, write
from deepfidelity_jax.records.schema import SPLITS
from deepfidelity_jax.records.source import Produced, Source
from deepfidelity_jax.records.write import Recipe
from deepfidelity_jax.workdir import fingerprint


class RecordsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder whose split generators yield records, of the one schema all datasets share.

    OPTIONS: what it uses of `config.data`, beside what is common to all.
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
        """What the training split holds, in a word: other contents are told apart by it.

        The same options give the same records, so it is their name. Empty where it is unknown.
        """
        return f"{self.builder_config.name}/{self.version}"

    @property
    def untold(self) -> str:
        """What earlier versions trained on, whose checkpoints do not tell: the same."""
        return self.contents

    @property
    def undecided(self) -> str:
        """What to do where videos look alike across splits; empty where it is the dataset's own."""
        return ""

    def _info(self) -> tfds.core.DatasetInfo:
        info = self.dataset_info_from_configs(
            features=schema.features(), metadata=tfds.core.MetadataDict()
        )
        # TFDS would look for these records in its bucket, and leave a folder in the temporary one.
        info.initialize_from_bucket = lambda: None
        return info

    def _generate_examples(self):
        raise NotImplementedError("the split generators yield the examples")


@dataclass(kw_only=True)
class Plan(tfds.core.BuilderConfig):
    """What a benchmark's records are made of.

    name: TFDS's, of the folder of the records. sources: what `produce` turns into faces, of the
    splits wanted. unit: what a source is called. options: the dataset's choices, for the metadata.
    notes: on what was left out. absent: why there are no sources; records that are there already
    can be read all the same.
    """

    # Not shown: TFDS logs a configuration, and there are thousands.
    sources: Sequence[Source] = field(default=(), repr=False)
    produce: Callable[[Any], Produced] | None = None
    recipe: Recipe
    unit: str
    options: dict[str, Any]
    splits: tuple[str, ...]
    notes: dict[str, str] = field(default_factory=dict, repr=False)
    beam: str = ""
    absent: str = ""


class BenchmarkBuilder(RecordsBuilder, skip_registration=True):
    """A builder of a benchmark that users have a copy of, in `config.data.manual_dir`."""

    @classmethod
    def plan(cls, config: ConfigDict) -> Plan:
        """What the records are made of."""
        raise NotImplementedError

    @classmethod
    def configured(cls, config: ConfigDict, records_dir: Path) -> "BenchmarkBuilder":
        """The builder for a configuration, writing below `records_dir`."""
        plan = cls.plan(config)
        version = cls.version_in(records_dir / cls.name / plan.name)
        return cls(data_dir=records_dir, config=plan, version=version, file_format="array_record")

    def _split_generators(self, dl_manager):
        own = self.builder_config
        if own.absent:
            raise InputError(own.absent)
        self.info.metadata.update(options=own.options)
        return write.split_generators(
            self,
            own.sources,
            own.produce,
            own.recipe,
            unit=own.unit,
            notes=own.notes,
            splits=own.splits,
            beam=own.beam,
        )


@dataclass(frozen=True)
class Holding:
    """What a manual directory holds of a benchmark.

    sources: what is there. missing: what should be there and is not, as split -> names.
    notes: on what is there and left out.
    """

    sources: Sequence[Source]
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
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
    """The plan for the splits wanted of what `config.data.manual_dir` holds.

    The same options give the same name wherever the copy lies, so that records can be used on a
    machine that has no copy.

    Args:
      config: of the run.
      label: begins the name of the records' folder.
      options: the dataset's own choices, all that changes its records beside the recipe.
      list_sources: what a manual directory holds.
      extractor: makes `produce` from the face settings and the quality measure.
      unit: what a source is called.

    Raises:
      InputError: the directory is not what it should be, or parts of it are missing.
    """
    own = config.data
    splits = tuple(own.prepare)
    if not splits or set(splits) - set(SPLITS):
        raise InputError(f"config.data.prepare is {splits}: name some of {', '.join(SPLITS)}")
    if own.bench_json and config.faces.detector != "none":
        raise InputError(
            "config.data.bench_json lists face crops, cut and aligned already: add "
            "--config.faces.detector=none"
        )
    # The seed draws nothing here: runs of other seeds share the records.
    recipe = replace(Recipe.from_config(config), seed=0)
    options = {"splits": splits, "incomplete": own.incomplete} | options
    plan = Plan(
        name=f"{label}-{fingerprint(options, recipe.to_json())}",
        recipe=recipe,
        unit=unit,
        options=options,
        splits=splits,
        beam=own.beam,
    )
    if not own.manual_dir:
        plan.absent = (
            "config.data.manual_dir is empty: name the folder of your copy of the dataset; "
            f"datasets/{own.dataset}/README.md says how to get one"
        )
        return plan

    folder = Path(own.manual_dir).expanduser().absolute()
    holding = list_sources(folder)
    plan.sources = [source for source in holding.sources if source.split in splits]
    plan.notes = dict(holding.notes)
    measure = recipe.measure
    if measure.name == "csv":
        # What lies in an archive is not known yet: there a path must be as the records have it.
        listed = [name for source in plan.sources for name in getattr(source, "files", ())]
        if listed:
            scores = table.match_scores(measure.scores, listed, folder)
        else:
            scores = {table.normal(path): score for path, score in measure.scores.items()}
        measure = replace(measure, scores=scores)
    plan.produce = extractor(recipe.faces, measure)
    missing = [name for split in splits for name in holding.missing.get(split, ())]
    if missing and not own.incomplete:
        raise InputError(
            f"{folder} lacks {len(missing)} {unit} of {own.dataset}, such as {missing[0]}, and "
            f"holds {len(plan.sources)}: finish the download, or take what is there with "
            "--config.data.incomplete=true"
        )
    if missing:
        plan.name += f"-without-{fingerprint(missing)}"
        plan.notes |= dict.fromkeys(missing, "missing")
    return plan


def validation_share(config: ConfigDict) -> float:
    """Of what is not the official test split: the part for validation, by `config.data.splits`."""
    train, validation, _ = config.data.splits
    return validation / (train + validation)


def find_root(folder: Path, marks: Sequence[str], dataset: str) -> Path:
    """`folder`, if one of `marks` lies in it; else InputError says what does, and what to give."""
    looked_for = " or ".join(f"{mark}/" if "." not in mark else mark for mark in marks)
    where = f"config.data.manual_dir is {folder}"
    if not folder.is_dir():
        raise InputError(f"{where}, which is no folder: give the one that holds {looked_for}")
    if any((folder / mark).exists() for mark in marks):
        return folder
    near = [folder.parent, *sorted(path for path in folder.iterdir() if path.is_dir())]
    meant = [path for path in near if any((path / mark).exists() for mark in marks)]
    advice = (
        f"give {meant[0]}"
        if meant
        else f"give the folder that holds it, as datasets/{dataset}/README.md shows"
    )
    raise InputError(f"{where}: no {looked_for} in it, but {name_some(folder)}; {advice}")


def name_some(folder: Path, limit: int = 4) -> str:
    """The first names in a folder, for a message."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return _shorten(names, limit) or "nothing"


def _shorten(names: Iterable[str], limit: int) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
