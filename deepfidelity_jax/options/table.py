"""What each option of configs/default.py may be, and whether a workdir is bound to it."""

import os
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from deepfidelity_jax.faces.detection import DETECTORS
from deepfidelity_jax.images import pictures
from deepfidelity_jax.quality.measure import MEASURES
from deepfidelity_jax.records import schema

INT32 = 2**31 - 1  # steps are counted in 32 bits
UINT32 = 2**32 - 1  # what every generator of random numbers takes as a seed
MUCH = 1_000_000  # more is a slip of the keyboard
LONGEST_PATH, LONGEST_NAME = 4095, 255  # bytes that Linux takes


class Option(NamedTuple):
    """What an option takes, in words that follow 'give' and as a check of a value.

    binds: whether the workdir of a run is bound to the value, since it changes results.
    path: whether it names a file or folder.
    """

    words: str
    holds: Callable[[Any], bool]
    binds: bool = True
    path: bool = False


def _whole(low: int, high: int, multiple: int = 1) -> Option:
    def holds(value):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and low <= value <= high and value % multiple == 0

    kind = "a whole number" if multiple == 1 else f"a multiple of {multiple}"
    return Option(f"{kind} from {low} to {high}", holds)


def _number(
    low: float | int, high: float | int, *, above: bool = False, below: bool = False
) -> Option:
    """`above` and `below`: the ends are left out. NaN compares false, so it is refused."""

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
            and all(option.holds(one) for one in value)
        )

    return Option(f"{count} values in brackets, each {option.words}", holds)


def _span(option: Option) -> Option:
    """A range: two values in order."""
    pair = _each(option, 2)
    return Option(
        f"(low, high), low not above high, each {option.words}",
        lambda value: pair.holds(value) and value[0] <= value[1],
    )


def _some(*names: str) -> Option:
    """A tuple of some of the names, each at most once."""

    def holds(value):
        return (
            isinstance(value, tuple | list)
            and len(value) > 0
            and all(isinstance(name, str) and name in names for name in value)
            and len(set(value)) == len(value)
        )

    shown = ", ".join(repr(name) for name in names)
    return Option(f"some of ({shown}) in brackets, with a comma after a single one", holds)


def _leaks() -> Option:
    split = f"(?:{'|'.join(schema.SPLITS)})"

    def holds(value):
        return isinstance(value, tuple | list) and all(
            isinstance(name, str) and re.fullmatch(rf"\S+:{split}-{split}", name) for name in value
        )

    return Option("() or names in brackets like ('person:train-test',)", holds)


def _beam_options() -> Option:
    def holds(value):
        if not isinstance(value, str) or "\0" in value:
            return False
        try:
            shlex.split(value)
        except ValueError:  # a quotation without an end
            return False
        return True

    return Option("options as on a command line, each quotation closed", holds)


def _path() -> Option:
    def holds(value):
        if not isinstance(value, str) or "\0" in value:
            return False
        size = [len(os.fsencode(name)) for name in value.split("/")]
        return sum(size) + len(size) - 1 <= LONGEST_PATH and max(size) <= LONGEST_NAME

    words = f"a path, of at most {LONGEST_PATH} bytes and each name in it of at most {LONGEST_NAME}"
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


def _free(option: Option) -> Option:
    """The same, without a bearing on results: may differ from one command to the next."""
    return option._replace(binds=False)


_SHARE = _number(0, 1)
_POSITIVE_SHARE = _number(0, 1, above=True)
_WEIGHT = _number(0, MUCH)

# In the order of configs/default.py, whose comments say what each option is.
OPTIONS: Mapping[str, Option] = {
    "seed": _whole(0, UINT32),
    "init_from": _path(),
    #
    "data.dataset": _choice(*schema.datasets()),
    # What was trained on is known by its content, wherever it lies and however it was told to be
    # divided, see pipeline.require_trained_on.
    "data.dir": _free(_path()),
    "data.real_folder": _free(_path()),
    "data.fake_folder": _free(_path()),
    "data.group": _free(_group()),
    "data.records_dir": _free(_path()),
    "data.identities": _whole(6, MUCH),  # two a split, for swaps
    "data.clips": _whole(1, MUCH),
    "data.splits": _each(_number(0, 100, above=True), len(schema.SPLITS)),
    "data.manual_dir": _free(_path()),
    "data.bench_json": _path(),  # with a list, other records are made than without
    "data.compression": _choice("raw", "c23", "c40"),
    "data.methods": _some(
        "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter", "DeepFakeDetection"
    ),
    "data.prepare": _some(*schema.SPLITS),
    "data.incomplete": _flag(),
    "data.beam": _free(_beam_options()),
    "data.fresh_forgeries": _flag(),
    "data.workers": _free(_whole(0, 1024)),  # the stream is the same, see data.training_batches
    #
    "faces.detector": _choice(*DETECTORS),
    "faces.yunet": _path(),
    "faces.margin": _number(0.5, 4),
    "faces.size": _whole(pictures.MIN_SIDE, 4096),
    "faces.frames": _whole(1, MUCH),
    #
    "leaks.allow": _free(_leaks()),  # the check stops a run or lets it be, and changes no figure
    #
    "quality.measure": _choice(*MEASURES),
    "quality.weights": _path(),
    "quality.csv": _path(),
    "fidelity.fake": _span(_SHARE),
    "fidelity.real": _span(_SHARE),
    "fidelity.percentile": _number(0, 50, below=True),
    "fidelity.C": _number(0, MUCH, above=True),
    "fidelity.epsilon": _SHARE,
    "fidelity.gamma": _number(0, MUCH, above=True),
    "fidelity.balance": _SHARE,
    "fidelity.tune": _flag(),
    #
    "model.variant": _choice("large", "base", "small", "tiny"),
    "model.image_size": _whole(32, 4096, multiple=32),
    "model.symmetric": _each(_whole(-1, 100), 4),
    "model.eval_crop": _number(0.1, 1),
    "model.drop_path": _number(0, 1, below=True),
    "model.dtype": _choice("float32", "bfloat16"),
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
    "train.ranking_weight": _WEIGHT,
    "train.whitening": _flag(),
    # How the same sums are spread and held; accumulate is another matter, see train.train_step.
    "train.shard_state": _free(_flag()),
    "train.accumulate": _whole(1, 32768),
    "train.remat": _free(_flag()),
    "train.ema_decay": _number(0, 1, below=True),
    "train.ema_warmup": _flag(),
    "train.log_every": _free(_whole(1, INT32)),
    # The best checkpoint is picked of those that were validated, which eval_every says. Those saved
    # between are never picked, and the best is kept whatever `keep` is.
    "train.eval_every": _whole(1, INT32),
    "train.checkpoint_every": _free(_whole(1, INT32)),
    "train.select_on": _choice("validation", "test"),
    "train.keep": _free(_whole(1, INT32)),
    #
    "eval.batch_size": _free(_whole(1, 4096)),
    "eval.bootstrap": _free(_whole(0, 100_000)),
    "eval.official_scoring": _free(_flag()),
}

# The last parts of their names: a config of several datasets has some for each of its own groups.
# Of config.data, what not every dataset uses: a builder's OPTIONS say which.
DATASETS_OWN = (
    "dir", "real_folder", "fake_folder", "group", "identities", "clips", "splits", "manual_dir",
    "bench_json", "compression", "methods", "incomplete", "beam",
)  # fmt: skip
PATHS = frozenset(name.split(".")[-1] for name, option in OPTIONS.items() if option.path)
