"""What each option in configs/default.py may be, and what depends on its value."""

import os
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from deepfidelity_jax.faces.detection import DETECTORS
from deepfidelity_jax.fidelity import calibration, regressor
from deepfidelity_jax.fidelity.scale import MAPPINGS, QUALITY_RANGES
from deepfidelity_jax.images import pictures
from deepfidelity_jax.network.outputs import HEADS
from deepfidelity_jax.quality.measure import MEASURES
from deepfidelity_jax.records import schema
from deepfidelity_jax.statistics.aggregation import AGGREGATES

INT32 = 2**31 - 1  # steps are counted in 32 bits
UINT32 = 2**32 - 1  # largest seed that every random generator takes
MUCH = 1_000_000  # more must be a typing error
LONGEST_PATH, LONGEST_NAME = 4095, 255  # bytes, on Linux


class Option(NamedTuple):
    """What an option may be.

    words: completes the sentence "give ...". holds: whether a value is allowed. binds: whether a
    workdir is bound to the value, because the value changes results. path: whether it is a path.
    counts: whether a repeated run must have the same value.
    """

    words: str
    holds: Callable[[Any], bool]
    binds: bool = True
    path: bool = False
    counts: bool = True


def _whole(low: int, high: int, multiple: int = 1) -> Option:
    def holds(value):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and low <= value <= high and value % multiple == 0

    kind = "a whole number" if multiple == 1 else f"a multiple of {multiple}"
    return Option(f"{kind} from {low} to {high}", holds)


def _number(
    low: float | int, high: float | int, *, above: bool = False, below: bool = False
) -> Option:
    """`above` and `below` exclude the ends. NaN compares false, so it is refused."""

    def holds(value):
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return (low < value if above else low <= value) and (
            value < high if below else value <= high
        )

    start = f"above {low}, up to" if above else f"from {low} to"
    return Option(f"a number {start} {'below ' if below else ''}{high}", holds)


def _flag() -> Option:
    return Option("true or false", lambda value: isinstance(value, bool))


def _choice(*names: str) -> Option:
    return Option(
        f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names
    )


def _each(option: Option, count: int) -> Option:
    """A tuple of `count` values."""

    def holds(value):
        return (
            isinstance(value, tuple | list)
            and len(value) == count
            and all(option.holds(item) for item in value)
        )

    return Option(f"{count} values in brackets, each {option.words}", holds)


def _span(option: Option) -> Option:
    """A range: two values in ascending order."""
    pair = _each(option, 2)
    return Option(
        f"(low, high), low not above high, each {option.words}",
        lambda value: pair.holds(value) and value[0] <= value[1],
    )


def _some(*names: str) -> Option:
    """A tuple of one or more of the names, each at most once."""

    def holds(value):
        return (
            isinstance(value, tuple | list)
            and len(value) > 0
            and all(isinstance(name, str) and name in names for name in value)
            and len(set(value)) == len(value)
        )

    shown = ", ".join(repr(name) for name in names)
    return Option(f"one or more of ({shown}), in brackets; add a comma after a single one", holds)


def _leaks() -> Option:
    split = f"(?:{'|'.join(schema.SPLITS)})"

    def holds(value):
        return isinstance(value, tuple | list) and all(
            isinstance(name, str) and re.fullmatch(rf"\S+:{split}-{split}", name) for name in value
        )

    return Option("() or names in brackets like ('person:train-test',)", holds)


def _methods() -> Option:
    def holds(value):
        return (
            isinstance(value, tuple | list)
            and all(isinstance(name, str) and re.fullmatch(r"\w[\w .-]*", name) for name in value)
            and len(set(value)) == len(value)
            and schema.ORIGINAL not in value
        )

    return Option("() or names of forgery methods in brackets like ('swap',)", holds)


def _beam_options() -> Option:
    def holds(value):
        if not isinstance(value, str) or "\0" in value:
            return False
        try:
            shlex.split(value)
        except ValueError:  # an unclosed quotation mark
            return False
        return True

    return Option("options as on a command line, with every quotation mark closed", holds)


def _path() -> Option:
    def holds(value):
        if not isinstance(value, str) or "\0" in value:
            return False
        size = [len(os.fsencode(name)) for name in value.split("/")]
        return sum(size) + len(size) - 1 <= LONGEST_PATH and max(size) <= LONGEST_NAME

    words = f"a path of at most {LONGEST_PATH} bytes, with names of at most {LONGEST_NAME} bytes"
    return Option(words, holds, path=True)


def _group() -> Option:
    def holds(value):
        if not isinstance(value, str):
            return False
        if not value.startswith("prefix:"):
            return value in ("", "file", "folder")
        try:
            return bool(re.compile(value.removeprefix("prefix:")).pattern)
        except (re.error, OverflowError, RecursionError):
            return False

    return Option("'', file, folder, or prefix:REGEX with a regular expression", holds)


def _real_label() -> Option:
    return Option("'', 0 or 1", lambda value: isinstance(value, str) and value in ("", "0", "1"))


def _free(option: Option) -> Option:
    """The same option, but not bound to the workdir: it may change between commands."""
    return option._replace(binds=False)


def _neutral(option: Option) -> Option:
    """The same option, which only says where things are, how fast, or how much is kept."""
    return option._replace(binds=False, counts=False)


_SHARE = _number(0, 1)
_POSITIVE_SHARE = _number(0, 1, above=True)
_INNER_SHARE = _number(0, 1, above=True, below=True)
_WEIGHT = _number(0, MUCH)

# In the order of configs/default.py, where comments explain each option.
OPTIONS: Mapping[str, Option] = {
    "seed": _whole(0, UINT32),
    "init_from": _path(),
    #
    "data.dataset": _choice(*schema.datasets()),
    # The paths and shares themselves do not bind: a workdir is bound to the content of its training
    # data, see trained.require_trained_on. So it is with the table in quality.csv.
    "data.dir": _neutral(_path()),
    "data.manifest": _neutral(_path()),
    "data.real_label": _free(_real_label()),
    "data.real_folder": _neutral(_path()),
    "data.fake_folder": _neutral(_path()),
    "data.group": _free(_group()),
    "data.records_dir": _neutral(_path()),
    "data.identities": _whole(6, MUCH),  # two per split, for swaps
    "data.clips": _whole(1, MUCH),
    "data.splits": _each(_number(0, 100, above=True), len(schema.SPLITS)),
    "data.manual_dir": _neutral(_path()),
    "data.bench_json": _path(),  # changes the records
    "data.compression": _choice("raw", "c23", "c40"),
    "data.methods": _some(
        "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter", "DeepFakeDetection"
    ),
    "data.prepare": _some(*schema.SPLITS),
    "data.incomplete": _flag(),
    "data.beam": _neutral(_beam_options()),
    "data.fresh_forgeries": _flag(),
    "data.workers": _neutral(_whole(0, 1024)),  # same batches, see training.batches
    #
    "faces.detector": _choice(*DETECTORS),
    "faces.yunet": _path(),
    "faces.margin": _number(0.5, 4),
    "faces.size": _whole(pictures.MIN_SIDE, 4096),
    "faces.frames": _whole(1, MUCH),
    #
    "leaks.allow": _neutral(_leaks()),  # may stop a run, never changes a result
    #
    "quality.measure": _choice(*MEASURES),
    "quality.weights": _path(),
    "quality.csv": _neutral(_path()),
    "fidelity.fake": _span(_SHARE),
    "fidelity.real": _span(_SHARE),
    "fidelity.percentile": _number(0, 50, below=True),
    "fidelity.mapping": _choice(*MAPPINGS),
    "fidelity.quality_range": _choice(*QUALITY_RANGES),
    "fidelity.regressor": _choice(*regressor.METHODS, *HEADS),
    "fidelity.C": _number(0, MUCH, above=True),
    "fidelity.epsilon": _SHARE,
    "fidelity.gamma": _number(0, MUCH, above=True),
    "fidelity.balance": _SHARE,
    "fidelity.tune": _flag(),
    "fidelity.calibration": _choice(*calibration.METHODS),
    #
    "model.variant": _choice("large", "base", "small", "tiny"),
    "model.image_size": _whole(32, 4096, multiple=32),
    "model.symmetric": _each(_whole(-1, 100), 4),
    "model.eval_crop": _number(0.1, 1),
    "model.drop_path": _number(0, 1, below=True),
    "model.dtype": _choice("float32", "bfloat16"),
    "model.mirror_average": _flag(),
    #
    "augment.crop_scale": _span(_POSITIVE_SHARE),
    "augment.crop_ratio": _span(_number(0.1, 10)),
    "augment.flip_p": _SHARE,
    "augment.rand_layers": _whole(0, 100),
    "augment.rand_magnitude": _number(0, 10),
    "augment.rand_std": _number(0, 10),
    "augment.jitter": _SHARE,
    "augment.degrade_p": _SHARE,
    "augment.degrade_strength": _SHARE,
    "augment.recompress_p": _SHARE,
    "augment.recompress_quality": _span(_whole(1, 100)),
    "augment.erase_p": _SHARE,
    "augment.erase_area": _span(_POSITIVE_SHARE),
    #
    "train.steps": _whole(0, INT32),
    "train.batch_size": _whole(1, 65536),
    "train.optimizer": _choice("adamw", "muon"),
    "train.learning_rate": _number(0, 10, above=True),
    "train.end_learning_rate": _number(0, 10),
    "train.warmup_steps": _whole(0, INT32),
    "train.warmup_start": _number(0, 10),
    "train.schedule_steps": _whole(0, INT32),
    "train.schedule_every": _whole(1, INT32),
    "train.weight_decay": _number(0, 100),
    "train.clip_norm": _WEIGHT,
    "train.label_smoothing": _number(0, 1, below=True),
    "train.token_weight": _WEIGHT,
    "train.token_mixing": _choice("none", "labelled", "unlabelled"),
    "train.fidelity_weight": _WEIGHT,
    "train.ordinal_weight": _WEIGHT,
    "train.ranking_weight": _WEIGHT,
    "train.mask_weight": _WEIGHT,
    "train.leave_out": _methods(),
    "train.curriculum": _choice("none", "quality", "loss"),
    "train.curriculum_steps": _whole(0, INT32),
    "train.mining": _number(0, 10),
    "train.balance": _choice("none", "class", "method"),
    "train.whitening": _flag(),
    # shard_state and remat do not change results; accumulate does, see training.step.
    "train.shard_state": _neutral(_flag()),
    "train.accumulate": _whole(1, 32768),
    "train.remat": _neutral(_flag()),
    "train.ema_decay": _number(0, 1, below=True),
    "train.ema_warmup": _flag(),
    "train.log_every": _neutral(_whole(1, INT32)),
    # The best checkpoint is one of those validated, every eval_every steps. Checkpoints saved in
    # between are never picked, and the best one is kept whatever `keep` is.
    "train.eval_every": _whole(1, INT32),
    "train.checkpoint_every": _neutral(_whole(1, INT32)),
    "train.select_on": _choice("validation", "test"),
    "train.keep": _neutral(_whole(1, INT32)),
    #
    "eval.batch_size": _neutral(_whole(1, 4096)),
    "eval.bootstrap": _free(_whole(0, 100_000)),
    "eval.official_scoring": _free(_flag()),
    "eval.cluster": _free(_choice("video", "person")),
    "eval.aggregate": _free(_choice(*AGGREGATES)),
    "eval.top_share": _free(_POSITIVE_SHARE),
    "eval.wanted_fpr": _free(_INNER_SHARE),
    "eval.cost_missed": _free(_number(0, MUCH, above=True)),
    "eval.cost_false_alarm": _free(_number(0, MUCH, above=True)),
    "eval.prevalence": _free(_INNER_SHARE),
}

# Options of config.data that only some datasets use; each builder lists its own in OPTIONS.
DATASETS_OWN = (
    "dir", "manifest", "real_label", "real_folder", "fake_folder", "group", "identities", "clips",
    "splits", "manual_dir", "bench_json", "compression", "methods", "incomplete", "beam",
)  # fmt: skip
# Last parts of the names, as configs/cross.py has such options in groups of its own.
PATHS = frozenset(name.split(".")[-1] for name, option in OPTIONS.items() if option.path)
