"""Training: one jitted step over a mesh, evaluated, saved and resumed.

Everything a step does follows from (state, batch): randomness is a key folded with the step, which
is the batch's number in the stream, too, so a run that was killed ends in the same parameters.
"""

import functools
import json
import math
import signal
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array
from ml_collections import ConfigDict

from deepfidelity_jax import hosts
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.forgeries.augment import AugmentSettings
from deepfidelity_jax.network.patch_whitening import start_whitened
from deepfidelity_jax.options import checks
from deepfidelity_jax.progress import say
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records import schema
from deepfidelity_jax.training import checkpoint, sharding
from deepfidelity_jax.training.batches import TrainingInput, evaluation_batches, training_batches
from deepfidelity_jax.training.checkpoint import (
    METRIC,
    Checkpoints,
    latest_step,
    read_notes,
    restore,
)
from deepfidelity_jax.training.optimizer import learning_rate
from deepfidelity_jax.training.step import TrainState, build_model, create_state, train_step
from deepfidelity_jax.training.validation import Validation
from deepfidelity_jax.workdir import MetricsLog

# Faces whose patches the whitening is taken from: 500 of 128 px have half a million.
WHITENED_FROM = 500


def config_from_notes(notes: dict[str, Any], path: Path) -> ConfigDict:
    """The configuration a checkpoint was trained with. InputError if it holds none."""
    try:
        return checks.complete(ConfigDict(json.loads(notes["config"])))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"checkpoint {path} is damaged: it holds no configuration") from None


def read_trained(workdir: Path) -> tuple[ConfigDict, dict[str, Any], int]:
    """Config, averaged variables and step of the weights best on validation, on one device here.

    InputError where the workdir is none, untrained or damaged.
    """
    folder = workdir / "checkpoints"
    step = checkpoint.best_step(folder)
    if step is None:
        raise InputError(f"{workdir} holds no trained detector: no checkpoint in {folder}")
    config = config_from_notes(read_notes(folder, step), folder / str(step))
    model = build_model(config)
    abstract = jax.eval_shape(lambda: create_state(model, config)).ema
    restored = restore(folder, step, {"ema": checkpoint.on_one_device(abstract)})
    return config, restored["ema"], step


def start_from(state: TrainState, arrays: dict[tuple[str, ...], np.ndarray | Array]) -> TrainState:
    """A fresh state with these arrays, by their path in the variables, in the place of its own."""
    variables = unflatten_dict(flatten_dict(state.variables) | arrays)
    return state.replace(variables=variables, ema=jax.tree.map(jnp.copy, variables))


def whitened(
    state: TrainState, config: ConfigDict, folder: Path
) -> dict[tuple[str, ...], np.ndarray | Array]:
    """For `start_from`: a first patch embedding that whitens the training faces in `folder`."""
    faces = schema.Records(folder, "train")
    batch = next(evaluation_batches(faces, config.model.image_size, 1.0, WHITENED_FROM))
    return flatten_dict({"params": start_whitened(state.variables["params"], batch["image"])})


def training_input(config: ConfigDict, folder: Path) -> TrainingInput:
    """How training examples are made of the records in `folder`."""
    metadata = schema.metadata_of(folder)
    return TrainingInput(
        size=config.model.image_size,
        settings=AugmentSettings(**config.augment),
        quality_scale=FidelityScale.from_dict(metadata["fidelity_scale"]),
        measure=Measure.from_note(metadata["quality"]),
    )


def train(
    config: ConfigDict,
    folder: Path,
    workdir: Path,
    initial: dict[tuple[str, ...], np.ndarray] | None = None,
    contents: str = "",
) -> None:
    """Train on the records in `folder` until `config.train.steps`, from where `workdir` stands.

    A new run takes over the arrays of `initial`, by their path in the variables. `contents` tells
    the records from others, and is kept with each checkpoint.
    Raises InputError for a damaged checkpoint or an empty split, FloatingPointError when the loss
    is no longer finite.
    """
    own = config.train
    if hosts.told(latest_step(workdir / "checkpoints") == own.steps):
        return
    model = build_model(config)
    counts = schema.splits_of(folder)
    forged = config.data.fresh_forgeries and counts.get(schema.SOURCES, 0) > 0
    open_batches = functools.partial(
        training_batches,
        schema.Records(folder, schema.SOURCES if forged else "train"),
        training_input(config, folder),
        batch_size=own.batch_size,
        seed=config.seed,
        forged=forged,
        workers=config.data.workers,
        process=(hosts.index(), hosts.count()),
    )

    mesh = sharding.data_mesh(own.batch_size)
    create = functools.partial(create_state, model, config)
    abstract = jax.eval_shape(create)
    places = sharding.place_state(abstract, mesh, own.shard_state)
    step_fn = jax.jit(
        functools.partial(train_step, model=model, config=config),
        donate_argnums=0,
        out_shardings=(places, sharding.replicated(mesh)),
    )
    step_fn = hosts.compiled_by_all(step_fn)
    validate = Validation(model, config, folder, mesh)

    with Checkpoints(workdir / "checkpoints", own.keep) as checkpoints, StopSignal() as stop:
        start = hosts.told(checkpoints.latest_step() or 0)
        if start == 0:
            state = jax.jit(create, out_shardings=places)()
            if initial is None and own.whitening:
                initial = whitened(state, config, folder)
            if initial is not None:
                state = jax.jit(start_from, out_shardings=places)(state, initial)
        else:
            state = restore(
                workdir / "checkpoints",
                start,
                jax.tree.map(
                    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
                    abstract,
                    places,
                ),
            )
            say(f"going on from step {start} of {own.steps}")
        batches = open_batches(start=start)
        log, vote = StepLog(config, MetricsLog(workdir, after=start), start), hosts.Vote()

        # In this order: step, metrics of the step before, validation, checkpoint. Sending a step
        # off takes the host next to nothing, so the next batch is read and placed meanwhile.
        for step in range(start + 1, own.steps + 1):
            state, metrics = step_fn(state, sharding.place_batch(next(batches), mesh))
            log.flush()
            stopping = vote(stop.asked)
            last = step == own.steps
            validating = last or step % own.eval_every == 0
            saving = validating or stopping or step % own.checkpoint_every == 0
            if saving or step % own.log_every == 0:
                log.hold(step, metrics)
            if saving:
                log.flush()  # raises before a state that is not finite would be kept
                validated = validate(state.ema) if validating else None
                if validated:
                    log.validated(step, validated)
                # Read by earlier versions; `start` says it to this one.
                notes = {"config": config.to_json(), "data": json.dumps({"next_index": step})}
                notes["trained_on"] = contents
                checkpoints.save(step, state, notes, validated)
            if stopping:
                say(f"stopped at step {step}, saved: the same command goes on from there")
                raise SystemExit(128 + signal.SIGTERM)
        log.close()


class StepLog:
    """Metrics of steps, held back by one: the host never waits for the step just sent off."""

    def __init__(self, config: ConfigDict, log: MetricsLog, step: int):
        self.own, self.log, self.schedule = config.train, log, learning_rate(config.train)
        self.pending, self.step, self.since = None, step, time.monotonic()

    def hold(self, step: int, metrics: dict[str, Array]) -> None:
        """Keep the metrics of a step until `flush`."""
        self.pending = step, metrics

    def flush(self) -> None:
        """Write what is held; a loss that is not finite stops the run."""
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(
                f"the loss is {values['loss']} at step {step}: the last checkpoint is kept; try a "
                "lower config.train.learning_rate in a new workdir"
            )
        now = time.monotonic()
        rate = (step - self.step) * self.own.batch_size / (now - self.since)
        self.step, self.since = step, now
        values |= {"learning_rate": float(self.schedule(step - 1)), "images_per_s": rate}
        self.log.write(step, values)
        minutes, seconds = divmod(int((self.own.steps - step) * self.own.batch_size / rate), 60)
        say(
            f"step {step}/{self.own.steps}  loss {values['loss']:.4f}  "
            f"accuracy {values['accuracy']:.3f}  {rate:.0f} images/s  {minutes}:{seconds:02d} left"
        )

    def validated(self, step: int, values: dict[str, float]) -> None:
        """Write the validation's metrics; its time does not count as training."""
        split = self.own.select_on
        prefix = "val_" if split == "validation" else f"{split}_"
        self.log.write(step, {name.replace("val_", prefix): x for name, x in values.items()})
        say(f"step {step}: {split} frame AUC {values[METRIC]:.4f}")
        self.step, self.since = step, time.monotonic()

    def close(self) -> None:
        """Write what is held and close the files."""
        self.flush()
        self.log.close()


class StopSignal:
    """Remembers a SIGTERM or a first Ctrl-C, so that the step in hand is finished and saved."""

    def __enter__(self):
        self.asked = False
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, frame):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        say("stopping after this step; once more to stop at once")
