"""The training batches of a run, in the order set by its configuration."""

from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.ssaaformer import SSAAFormer
from deepfidelity_jax.processes import hosts
from deepfidelity_jax.records import schema
from deepfidelity_jax.training.batches import forges, training_batches, training_input
from deepfidelity_jax.training.order import checks, difficulty, sampling


class Feed:
    """Opens the stream of batches at any step; measures difficulty when drawing depends on it."""

    def __init__(self, config: ConfigDict, folder: Path, workdir: Path, model: SSAAFormer):
        self.config, self.workdir = config, workdir
        checks.require_batches(config, folder)
        self.forged = forges(config, folder)
        if self.forged:
            self.records = schema.Records(folder, schema.SOURCES)
        else:
            left_out = config.train.get("leave_out", ())
            self.records = schema.Records(folder, "train").without(left_out)
        self.made_from = training_input(config, folder)
        self.uniform = sampling.is_uniform(config, forged=self.forged)
        if self.uniform:
            return
        self.about = sampling.read_about(self.records)
        self.score = difficulty.make_score(model)
        if sampling.needs_difficulty(config) and hosts.count() > 1:
            raise InputError(
                "config.train.mining and a curriculum by loss only work in a run of one process"
            )

    def open(self, start: int) -> Iterator:
        """The batches from number `start` on."""
        drawn = None
        if not self.uniform:
            hard = None
            if sampling.needs_difficulty(self.config):
                hard = difficulty.read_latest(self.workdir, start, self.config)
            rows = self.config.train.batch_size // (2 if self.forged else 1)
            drawn = sampling.draw(self.records, self.about, self.config, rows, hard)
        return training_batches(
            self.records,
            self.made_from,
            batch_size=self.config.train.batch_size,
            seed=self.config.seed,
            forged=self.forged,
            workers=self.config.data.workers,
            process=(hosts.index(), hosts.count()),
            start=start,
            drawn=drawn,
        )

    def renew(self, step: int, variables) -> bool:
        """Measure how hard the records are if drawing depends on it; whether it was measured."""
        if self.uniform or not sampling.needs_difficulty(self.config):
            return False
        if step % self.config.train.eval_every:  # the last step
            return False
        measured = difficulty.measure(
            self.score,
            variables,
            self.records,
            self.made_from,
            forged=self.forged,
            seed=self.config.seed,
            batch_size=self.config.train.batch_size,  # another could change the losses' last bits
        )
        difficulty.save(measured, self.workdir, step)
        return True
