"""Training: one jitted step over a mesh, evaluated, saved and resumed.

Everything a step does follows from (state, batch): randomness is a key folded with the step, the
data iterator is saved with the state, so a run that was killed ends in the same parameters.
"""

import functools
import json
import math
import signal
import time
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array
from ml_collections import ConfigDict
from sklearn.metrics import roc_auc_score

from deepfidelity_jax import checkpoint, data, mixing, records, sharding
from deepfidelity_jax.augment import AugmentSettings
from deepfidelity_jax.checkpoint import METRIC, Checkpoints, latest_step, read_notes, restore
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity import FidelityScale
from deepfidelity_jax.losses import training_loss
from deepfidelity_jax.model import SSAAFormer, SSAAFormerConfig, normalise
from deepfidelity_jax.optimizer import average, learning_rate, optimizer
from deepfidelity_jax.whitening import start_whitened
from deepfidelity_jax.workdir import MetricsLog, say

# Faces whose patches the whitening is taken from: 500 of 128 px have half a million.
WHITENED_FROM = 500


@flax.struct.dataclass
class TrainState:
    """All that changes from step to step. `variables` and `ema` hold params and batch_stats.

    The leaves are arrays, or their shapes and places when a state is only described.
    """

    step: Any
    variables: Any
    ema: Any
    opt_state: optax.OptState


def build_model(config: ConfigDict) -> SSAAFormer:
    """The network a configuration names. InputError for an unknown variant or impossible shape."""
    own = config.model
    variants = ("large", "base", "small", "tiny")
    if own.variant not in variants:
        raise InputError(f"config.model.variant is {own.variant!r}: one of {', '.join(variants)}")
    if own.image_size <= 0 or own.image_size % 32:
        raise InputError(f"config.model.image_size is {own.image_size}: give a multiple of 32")
    if own.dtype not in ("float32", "bfloat16"):
        raise InputError(f"config.model.dtype is {own.dtype!r}: float32 or bfloat16")
    variant = getattr(SSAAFormerConfig, own.variant)
    depths = variant().depths
    symmetric = tuple(d if s < 0 else s for s, d in zip(own.symmetric, depths, strict=True))
    try:
        return SSAAFormer(
            variant(
                symmetric=symmetric,
                drop_path=own.drop_path,
                dtype=own.dtype,
                fidelity_head=config.train.fidelity_weight > 0,
            )
        )
    except ValueError as error:
        raise InputError(f"config.model: {error}") from None


def check(config: ConfigDict) -> None:
    """InputError for what names nothing we have, before anything is done."""
    build_model(config)
    for name, known in (
        ("token_mixing", ("none", "labelled", "unlabelled")),
        ("select_on", ("validation", "test")),
    ):
        if config.train[name] not in known:
            raise InputError(
                f"config.train.{name} is {config.train[name]!r}: one of {', '.join(known)}"
            )


def config_from_notes(notes: dict[str, Any], path: Path) -> ConfigDict:
    """The configuration a checkpoint was trained with. InputError if it holds none."""
    try:
        return ConfigDict(json.loads(notes["config"]))
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


def create_state(model: SSAAFormer, config: ConfigDict) -> TrainState:
    """A fresh state from `config.seed`; jit it with shardings so that it is born in its place."""
    size = config.model.image_size
    variables = model.init(jax.random.key(config.seed), jnp.zeros((1, size, size, 3)), train=False)
    variables = dict(variables)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        ema=jax.tree.map(jnp.copy, variables),
        opt_state=optimizer(config.train).init(variables["params"]),
    )


def start_from(state: TrainState, arrays: dict[tuple[str, ...], np.ndarray]) -> TrainState:
    """A fresh state with these arrays, by their path in the variables, in the place of its own."""
    variables = unflatten_dict(flatten_dict(state.variables) | arrays)
    return state.replace(variables=variables, ema=jax.tree.map(jnp.copy, variables))


def start_whitening(state: TrainState, config: ConfigDict, folder: Path) -> TrainState:
    """A fresh state whose first patch embedding whitens the training faces in `folder`."""
    faces = records.Records(folder, "train")
    batch = next(data.evaluation_batches(faces, config.model.image_size, 1.0, WHITENED_FROM))
    params = start_whitened(state.variables["params"], batch["image"])
    return start_from(state, flatten_dict({"params": params}))


def train_step(
    state: TrainState,
    batch: dict[str, Array],
    *,
    model: SSAAFormer,
    config: ConfigDict,
) -> tuple[TrainState, dict[str, Array]]:
    """One optimizer step: the new state and the batch's losses by name."""
    own = config.train
    dropout = jax.random.fold_in(jax.random.key(config.seed + 1), state.step)
    images, box = normalise(batch["image"]), None
    if own.token_mixing != "none":
        key = jax.random.fold_in(jax.random.key(config.seed + 2), state.step)
        box = mixing.draw_box(key, images.shape[1] // data.TOKEN)
        images = mixing.exchange(images, box)

    def loss_of(params):
        outputs, updates = model.apply(
            {"params": params, "batch_stats": state.variables["batch_stats"]},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout},
        )
        loss, parts = training_loss(
            outputs,
            batch,
            label_smoothing=own.label_smoothing,
            token_weight=own.token_weight,
            fidelity_weight=own.fidelity_weight,
            # Mixed images are of no one class.
            ranking_weight=own.ranking_weight if box is None else 0.0,
            box=box if own.token_mixing == "labelled" else None,
        )
        accuracy = (outputs.class_logits.argmax(-1) == batch["label"]).mean()
        return loss, (updates["batch_stats"], parts | {"accuracy": accuracy})

    params = state.variables["params"]
    (loss, (batch_stats, parts)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, opt_state = optimizer(own).update(gradients, state.opt_state, params)
    variables = {"params": optax.apply_updates(params, updates), "batch_stats": batch_stats}
    new = TrainState(
        step=state.step + 1,
        variables=variables,
        ema=average(state.ema, variables, state.step, own.ema_decay, own.ema_warmup),
        opt_state=opt_state,
    )
    return new, {"loss": loss, **parts, "grad_norm": optax.global_norm(gradients)}


def training_input(config: ConfigDict, folder: Path) -> data.TrainingInput:
    """How training examples are made of the records in `folder`."""
    metadata = records.metadata_of(folder)
    return data.TrainingInput(
        size=config.model.image_size,
        settings=AugmentSettings(**config.augment),
        quality_scale=FidelityScale.from_dict(metadata["fidelity_scale"]),
        remeasure=metadata["quality"]["measure"] == "iso",
    )


def train(
    config: ConfigDict,
    folder: Path,
    workdir: Path,
    initial: dict[tuple[str, ...], np.ndarray] | None = None,
) -> None:
    """Train on the records in `folder` until `config.train.steps`, from where `workdir` stands.

    A new run takes over the arrays of `initial`, by their path in the variables.
    Raises InputError for a damaged checkpoint or an empty split, FloatingPointError when the loss
    is no longer finite.
    """
    own = config.train
    if latest_step(workdir / "checkpoints") == own.steps:
        return
    model = build_model(config)
    counts = records.splits_of(folder)
    forged = config.data.fresh_forgeries and counts.get(records.SOURCES, 0) > 0
    batches = data.training_batches(
        records.Records(folder, records.SOURCES if forged else "train"),
        training_input(config, folder),
        batch_size=own.batch_size,
        seed=config.seed,
        forged=forged,
        workers=config.data.workers,
        process=(jax.process_index(), jax.process_count()),
    )

    mesh = sharding.data_mesh(own.batch_size)
    place = sharding.replicated(mesh)
    create = functools.partial(create_state, model, config)
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), jax.eval_shape(create)
    )
    step_fn = jax.jit(
        functools.partial(train_step, model=model, config=config),
        donate_argnums=0,
        out_shardings=(place, place),
    )
    validate = Validation(model, config, folder)

    with Checkpoints(workdir / "checkpoints", own.keep) as checkpoints, StopSignal() as stop:
        start = checkpoints.latest_step()
        if start is None:
            start, state = 0, jax.jit(create, out_shardings=place)()
            if initial is not None:
                state = jax.device_put(start_from(state, initial), place)
            elif own.whitening:
                state = jax.device_put(start_whitening(state, config, folder), place)
        else:
            state = restore(workdir / "checkpoints", start, abstract)
            batches.set_state(read_iterator(workdir, start))
            say(f"going on from step {start} of {own.steps}")
        log = StepLog(config, MetricsLog(workdir, after=start), start)

        # In this order: step, metrics of the step before, validation, checkpoint.
        for step in range(start + 1, own.steps + 1):
            state, metrics = step_fn(state, sharding.place_batch(next(batches), mesh))
            log.flush()
            last = step == own.steps
            validating = last or step % own.eval_every == 0
            saving = validating or stop.asked or step % own.checkpoint_every == 0
            if saving or step % own.log_every == 0:
                log.hold(step, metrics)
            if saving:
                log.flush()  # raises before a state that is not finite would be kept
                validated = validate(state.ema) if validating else None
                if validated:
                    log.validated(step, validated)
                notes = {"config": config.to_json(), "data": json.dumps(batches.get_state())}
                checkpoints.save(step, state, notes, validated)
            if stop.asked:
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


class Validation:
    """Frame AUC and loss of the averaged weights on the split that picks the checkpoint."""

    def __init__(self, model: SSAAFormer, config: ConfigDict, folder: Path):
        self.records = records.Records(folder, config.train.select_on)
        self.config = config
        self.logits = jax.jit(
            lambda variables, images: model.apply(variables, normalise(images), train=False).logits
        )

    def __call__(self, variables) -> dict[str, float]:
        """Score the split; the names start with `val_`."""
        size, batch_size = self.config.model.image_size, self.config.eval.batch_size
        logits, label = [], []
        crop = self.config.model.eval_crop
        for batch in data.evaluation_batches(self.records, size, crop, batch_size):
            count = len(batch["label"])
            padded = np.pad(batch["image"], ((0, batch_size - count), (0, 0), (0, 0), (0, 0)))
            logits.append(np.asarray(self.logits(variables, padded))[:count])
            label.append(batch["label"])
        logits, label = np.concatenate(logits).astype(np.float64), np.concatenate(label)
        real = logits[:, 1] - logits[:, 0]
        loss = np.logaddexp(0, np.where(label == records.REAL, -real, real)).mean()
        return {METRIC: float(roc_auc_score(label, real)), "val_loss": float(loss)}


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


def read_iterator(workdir: Path, step: int):
    """The data iterator's state at a checkpoint."""
    return json.loads(read_notes(workdir / "checkpoints", step)["data"])
