"""Whether a run can be trained on its records, told before any training."""

from collections.abc import Collection, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.forgeries.families import FAMILIES
from deepfidelity_jax.processes import hosts
from deepfidelity_jax.records import schema
from deepfidelity_jax.records.benchmark_builder import RecordsBuilder
from deepfidelity_jax.records.write import is_prepared
from deepfidelity_jax.training.batches import (
    ForgedPair,
    forges,
    require_divisible,
    training_input,
)


def require_methods(config: ConfigDict, folder: Path) -> None:
    """InputError if `config.train.leave_out` names a method that is not there, or all that are."""
    by_split = schema.metadata_of(folder).get("faces_found", {})
    _require_others(config, by_split, forged=forges(config, folder))


def require_planned_methods(config: ConfigDict, builder: RecordsBuilder) -> None:
    """The same before the records are prepared, as far as their sources tell."""
    if is_prepared(Path(builder.data_path)):
        return  # they say more, and may be of an earlier version
    if builder.forges:
        _require_others(config, dict.fromkeys(schema.SPLITS, FAMILIES), forged=True)
    elif by_split := builder.methods:
        _require_others(config, by_split, forged=False)


def _require_others(
    config: ConfigDict, by_split: Mapping[str, Collection[str]], *, forged: bool
) -> None:
    """`by_split`: the methods in each split. `forged`: whether training makes its own forgeries."""
    there = {method for methods in by_split.values() for method in methods} - {schema.ORIGINAL}
    if forged:
        there |= FAMILIES.keys()
    left_out = set(config.train.get("leave_out", ()))
    if unknown := left_out - there:
        made = "" if forged else "; forgeries are made only for data without fakes"
        raise InputError(
            f"config.train.leave_out names {', '.join(sorted(unknown))}, but the methods of the "
            f"fakes are {', '.join(sorted(there))}{made if unknown <= FAMILIES.keys() else ''}"
        )
    for split in ("train", "validation"):
        fakes = {*by_split.get(split, ())} - {schema.ORIGINAL}
        if fakes and fakes <= left_out:
            raise InputError(
                f"config.train.leave_out is {tuple(config.train.leave_out)}, which leaves no fake "
                f"in the {split} split: it holds {', '.join(sorted(fakes))}"
            )


def require_batches(config: ConfigDict, folder: Path) -> None:
    """InputError if training cannot make its batches from the records in `folder`."""
    forged = forges(config, folder)
    require_divisible(config.train.batch_size, hosts.count(), forged=forged)
    if forged:
        records = schema.Records(folder, schema.SOURCES)
        ForgedPair(records, training_input(config, folder)).require_families()
