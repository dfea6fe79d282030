"""Training: eval, save, next batch, step, until the last step is saved.

All that a step does follows from the state and the batch, and both follow from the step's number:
random keys are folded with it, and it is the batch's number in the stream. So a run that was killed
goes on from its last checkpoint to the same parameters, bit for bit. Where batches depend on what
the network finds hard, that is measured at evaluations and kept in a file.
"""

import functools
import json
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from jaxtyping import Array
from ml_collections import ConfigDict, FrozenConfigDict

from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.network.patch_whitening import start_whitened
from deepfidelity_jax.network.ssaaformer import SSAAFormer
from deepfidelity_jax.processes import hosts
from deepfidelity_jax.progress import describe_pace, say
from deepfidelity_jax.records import schema
from deepfidelity_jax.training import sharding
from deepfidelity_jax.training.batches import evaluation_batches
from deepfidelity_jax.training.checkpoint import Checkpoints, latest_step, restore
from deepfidelity_jax.training.metrics_log import MetricsLog
from deepfidelity_jax.training.optimizer import learning_rate
from deepfidelity_jax.training.order.feed import Feed
from deepfidelity_jax.training.step import (
    TrainState,
    create_state,
    find_idle,
    start_from,
    train_step,
)
from deepfidelity_jax.training.validation import Validation

# Training faces whose patches the whitening is computed from: 500 of 128 px have half a million.
WHITENED_FROM = 500


def train(
    config: ConfigDict,
    folder: Path,
    workdir: Path,
    initial: dict[tuple[str, ...], np.ndarray] | None = None,
    contents: str = "",
    saved: Callable[[], None] = lambda: None,
) -> None:
    """Train on the records in `folder` up to `config.train.steps`, from the last checkpoint on.

    A new run starts from the arrays of `initial`, by their path in the variables. `contents`
    identifies the records, and is kept with each checkpoint. `saved` is called after each of them.
    InputError for a damaged checkpoint or an empty split, FloatingPointError when the loss is no
    longer finite.
    """
    options = config.train
    model, records = build_model(config), schema.identity(folder)
    static = _static_arguments(model, config)
    feed = Feed(config, folder, workdir, model)
    mesh = sharding.data_mesh(options.batch_size)
    places = _places_of(model, config, mesh)
    take_step = jax.jit(
        train_step,
        static_argnames=tuple(static),
        donate_argnums=0,
        out_shardings=(places, sharding.replicated(mesh)),
    )
    take_step = hosts.compiled_by_all(take_step, **static)
    evaluate = Validation(model, config, folder, mesh)

    with Checkpoints(workdir / "checkpoints", options.keep) as checkpoints, StopSignal() as stop:
        start = hosts.broadcast(latest_step(workdir / "checkpoints") or 0)
        if start == 0:
            state = _fresh_state(model, config, places, folder, initial)
        else:
            state = _saved_state(model, config, places, workdir / "checkpoints", start)
            say(f"resuming from step {start} of {options.steps}")
        if idle := find_idle(options):
            say(idle)
        batches = feed.open(start)
        metrics_log = MetricsLog(workdir, after=start) if hosts.is_first() else None
        log, vote = StepLog(config, metrics_log, start), hosts.Vote()

        # In this order: eval, save, next batch, step. The host does not wait for the step it sent
        # off: it reads and places the next batch meanwhile, and writes the metrics a step late.
        for step in range(start, options.steps + 1):
            taken, last = step > start, step == options.steps  # the checkpoint at `start` is there
            stopping = taken and vote(stop.asked)
            evaluating = taken and (last or step % options.eval_every == 0)
            saving = taken and (evaluating or stopping or step % options.checkpoint_every == 0)
            if saving:
                log.flush()  # raises before a state that is not finite would be kept
            # Eval.
            scores = None
            if evaluating:
                scores = evaluate(state.ema)
                log.evaluated(step, scores)
                if not last and feed.renew(step, state.ema):
                    batches = feed.open(step)
            # Save.
            if saving:
                # `data` is read by earlier versions; this one goes on by the step's number.
                notes = {"config": config.to_json(), "data": json.dumps({"next_index": step})}
                notes |= {"trained_on": contents, "records": records}
                checkpoints.save(step, state, notes, scores)
                saved()
            if last:
                # Asked again after the evaluation. A vote is answered at the next.
                vote(stop.asked)
                stopping = vote(stop.asked)
            if stopping:
                say(f"stopped at step {step}, saved: run the same command again to continue")
                raise SystemExit(128 + signal.SIGTERM)
            if last:
                break
            # Next batch.
            batch = sharding.place_batch(next(batches), mesh)
            # Step.
            state, metrics = take_step(state, batch)
            log.add(step + 1, metrics)
        log.close()


def _places_of(model: SSAAFormer, config: ConfigDict, mesh: Mesh) -> TrainState:
    """The sharding of each array of the state."""
    abstract = jax.eval_shape(functools.partial(create_state, model, config))
    return sharding.place_state(abstract, mesh, config.train.shard_state)


def _static_arguments(model: SSAAFormer, config: ConfigDict) -> dict[str, Any]:
    """What a step and a fresh state depend on: hashable, and the same wherever the data lies.

    Equal trainings in one process, as in a grid, thereby share their programs.
    """
    own = {name: config[name] for name in ("seed", "model", "train")}
    return {"model": model, "config": FrozenConfigDict(own)}


def _fresh_state(model, config, places, folder, initial) -> TrainState:
    """A new run's state: random, whitened, or with the arrays of `initial`; born in its places."""
    static = _static_arguments(model, config)
    create = jax.jit(create_state, static_argnames=tuple(static), out_shardings=places)
    state = create(**static)
    if initial is None and config.train.whitening:
        faces = schema.Records(folder, "train").without(config.train.get("leave_out", ()))
        size, crop = config.model.image_size, config.model.eval_crop
        batch = next(evaluation_batches(faces, size, crop, WHITENED_FROM))
        params = start_whitened(state.variables["params"], batch["image"])
        initial = flatten_dict({"params": params})
    if initial is None:
        return state
    return jax.jit(start_from, out_shardings=places)(state, initial)


def _saved_state(model, config, places, checkpoints: Path, step: int) -> TrainState:
    abstract = jax.eval_shape(functools.partial(create_state, model, config))
    return restore(
        checkpoints,
        step,
        jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            abstract,
            places,
        ),
    )


class StepLog:
    """Metrics of steps, written a step late: the host never waits for the step just sent off.

    Without `log`, in all but the first of several processes, they are only printed and checked.
    """

    def __init__(self, config: ConfigDict, log: MetricsLog | None, step: int):
        self.own, self.log, self.schedule = config.train, log, learning_rate(config.train)
        self.pending, self.step, self.since = None, step, time.monotonic()

    def add(self, step: int, metrics: dict[str, Array]) -> None:
        """Hold the metrics of a step; write those of the step before if `log_every` says so."""
        if self.pending and self.pending[0] % self.own.log_every == 0:
            self.flush()
        self.pending = step, metrics

    def flush(self) -> None:
        """Write the metrics that are held.

        FloatingPointError if the loss is not finite, or the gradient, which makes the next one so.
        """
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        for name, words in (("loss", "loss"), ("grad_norm", "norm of the gradient")):
            if not math.isfinite(values[name]):
                raise FloatingPointError(
                    f"the {words} is {values[name]} at step {step}: the last checkpoint is kept; "
                    "try a lower config.train.learning_rate in a new workdir"
                )
        now = time.monotonic()
        rate = (step - self.step) * self.own.batch_size / (now - self.since)
        self.step, self.since = step, now
        values |= {"learning_rate": float(self.schedule(step - 1)), "images_per_s": rate}
        self._write(step, values)
        left = (self.own.steps - step) * self.own.batch_size
        say(
            f"step {step}/{self.own.steps}  loss {values['loss']:.4f}  "
            f"accuracy {values['accuracy']:.3f}  {describe_pace(left, rate, 'images/s')}"
        )

    def evaluated(self, step: int, scores: dict[str, float]) -> None:
        """Write the scores of an evaluation; its time does not count as training."""
        self._write(step, scores)
        (auc,) = (value for name, value in scores.items() if name.endswith("frame_auc"))
        say(f"step {step}: {self.own.select_on} frame AUC {auc:.4f}")
        self.step, self.since = step, time.monotonic()

    def close(self) -> None:
        """Close the files."""
        if self.log:
            self.log.close()

    def _write(self, step, values):
        if self.log:
            self.log.write(step, values)


class StopSignal:
    """Remembers SIGTERM or a first Ctrl-C, so that the step in hand is finished and saved."""

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
        say("stopping after this step; interrupt again to stop at once")
