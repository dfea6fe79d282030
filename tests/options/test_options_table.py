"""Every option tried with what it cannot be: one line before any work, or a documented meaning."""

import json
import re

import numpy as np
import pytest
from conftest import TREE
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from wrong_configs import config_of, told

from deepfidelity_configs import default
from deepfidelity_datasets.ffpp.sources import COMPRESSIONS, METHODS
from deepfidelity_jax import workdir
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.ssaaformer import SSAAFormerConfig
from deepfidelity_jax.options import checks, table
from deepfidelity_jax.options.table import OPTIONS
from deepfidelity_jax.records import schema

DEFAULT = f"--config={TREE / 'configs' / 'default.py'}"

CONFIGS = sorted(path.stem for path in (TREE / "configs").glob("[!_]*.py"))

PATHS = {name for name, option in OPTIONS.items() if option.path}

# Nothing, less than that, a fraction, too much, no number, no text, other lengths, other orders,
# a tuple that is a text, half a tuple.
TRIED = (
    "0", "-1", "-0.5", "0.5", "1e400", "99999999999999999999", "nan", "inf", "abc", "true", "None",
    "", "(1,2)", "(2,1)", "(0.2,0.4,0.4,0.1)", "('a',)", "'(0.6, 1.0)'", "[1",
)  # fmt: skip

TRIED_PATHS = (
    "x" * 5000, "x" * 256, "a/" * 2100, "a/" + "ä" * 130, "\0", "a\0b", "~no-such-user",
    "~no-such-user/x",
)  # fmt: skip

TRIED_BEAM = ("'", '"', "it's", '--x="y', "--x='y", "\\", "\0", "a\0b")

# What means something of these, by what it means.
MEANS = {
    "a seed like any other": ("0", {"seed"}),
    "none of it": (
        "0",
        {
            "data.workers", "fidelity.percentile", "fidelity.epsilon", "fidelity.balance",
            "model.drop_path", "augment.flip_p", "augment.rand_layers", "augment.rand_magnitude",
            "augment.rand_std", "augment.jitter", "augment.degrade_p", "augment.degrade_strength",
            "augment.recompress_p", "augment.erase_p", "train.end_learning_rate",
            "train.warmup_steps", "train.warmup_start", "train.schedule_steps",
            "train.weight_decay", "train.clip_norm", "train.label_smoothing", "train.token_weight",
            "train.fidelity_weight", "train.ordinal_weight", "train.ranking_weight",
            "train.mask_weight", "train.ema_decay",
            "train.curriculum_steps", "train.mining", "eval.bootstrap",
        },
    ),
    "half": (
        "0.5",
        {
            "faces.margin", "fidelity.percentile", "fidelity.C", "fidelity.epsilon",
            "fidelity.gamma", "fidelity.balance", "model.eval_crop", "model.drop_path",
            "augment.flip_p", "augment.rand_magnitude", "augment.rand_std", "augment.jitter",
            "augment.degrade_p", "augment.degrade_strength", "augment.recompress_p",
            "augment.erase_p", "train.learning_rate", "train.weight_decay", "train.clip_norm",
            "train.label_smoothing", "train.token_weight", "train.fidelity_weight",
            "train.ordinal_weight", "train.ranking_weight", "train.mask_weight", "train.mining",
            "train.ema_decay", "eval.top_share",
            "eval.wanted_fpr", "eval.cost_missed", "eval.cost_false_alarm", "eval.prevalence",
        },
    ),
    "nothing said": ("", {"data.group", "data.real_label"}),
    "the label of real faces": ("0", {"data.real_label"}),
    "a range": ("(1,2)", {"augment.crop_ratio", "augment.recompress_quality"}),
}  # fmt: skip

FLAGS = {
    "data.incomplete", "data.fresh_forgeries", "fidelity.tune", "model.mirror_average",
    "train.whitening", "train.shard_state", "train.remat", "train.ema_warmup",
    "eval.official_scoring",
}  # fmt: skip


def meant(name, text):
    """Whether this text means something for this option."""
    if name == "train.leave_out":  # any word may be a method's name
        return text in ("('a',)", "abc", "nan", "inf", "true")
    return (name in FLAGS and text in ("0", "true")) or any(
        text == told and name in names for told, names in MEANS.values()
    )


def test_every_option_of_the_default_is_in_the_table_in_its_order():
    text = (TREE / "configs" / "default.py").read_text(encoding="utf-8")
    named = re.findall(r"^    config\.(\S+) = (?!ConfigDict)", text, re.MULTILINE)
    assert list(OPTIONS) == named
    assert set(named) == set(flatten_dict(default.get_config().to_dict(), sep="."))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "cross"])
def test_every_config_is_right(name):
    module = __import__(f"deepfidelity_configs.{name}", fromlist=["get_config"])
    checks.checked(module.get_config())


def test_groups_are_words_or_patterns():
    for value in ("", "file", "folder", "prefix:[a-z]+_", r"prefix:(?:id)\d+"):
        assert not told({"data.group": value})
    wrong = ("files", "prefix", "prefix:", "prefix:[a", "prefix:(", "PREFIX:a", ("folder",), 1)
    for value in wrong:
        assert "config.data.group is" in told({"data.group": value})


def test_names_are_those_of_the_code():
    for name in METHODS:
        assert not told({"data.methods": (name,)})
    for name in COMPRESSIONS:
        assert not told({"data.compression": name})
    for name in re.findall(r"\w+", OPTIONS["model.variant"].words.removeprefix("one of")):
        assert getattr(SSAAFormerConfig, name)().depths
    assert {"celeb_df", "ffpp"} <= set(re.findall(r"\w+", OPTIONS["data.dataset"].words))


@pytest.mark.slow
@pytest.mark.parametrize("group", sorted({name.split(".")[0] for name in OPTIONS}))
def test_a_wrong_option_of_the_command_line_is_one_line(run, group, tmp_path):
    """The whole command, with a default that names no data, so that it always ends early."""
    work = tmp_path / "work"
    for name in (name for name in OPTIONS if name.split(".")[0] == group):
        tried = TRIED_PATHS if name in PATHS else TRIED_BEAM if name == "data.beam" else TRIED
        for text in tried:
            status, out, error = run(DEFAULT, f"--workdir={work}", f"--config.{name}={text}")
            assert (status, out, error.count("\n")) == (2, "", 1), (name, text, error)
            assert error.startswith("deepfidelity: "), (name, text, error)
            refused = f"config.{name}" in error and "does not use it" not in error
            assert refused != meant(name, text), (name, text, error)
            assert len(error) < 600
            assert not work.exists()
        refused = [text for text in tried if not meant(name, text)]
        assert len(refused) >= 8, name


WRONG = (
    None, float("nan"), float("inf"), -float("inf"), b"x", {}, 10**30, -(10**30), 1j, (None,),
    ("a", 1), np.zeros(3),
)  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_a_wrong_value_in_a_config_file_is_told(name):
    """Types that a command line cannot give."""
    for value in WRONG:
        assert f"config.{name}" in told({name: value})
    for value in (True, False):
        assert (f"config.{name} is {value}: give" in told({name: value})) == (name not in FLAGS)


def another(name):
    """Another value that the option takes."""
    before = flatten_dict(default.get_config().to_dict(), sep=".")[name]
    values = (
        not before, "elsewhere", "ffpp", "c40", ("Deepfakes",), ("test",), "yunet", "none", "tiny",
        "folder", "bfloat16", "1", "labelled", "test", "beta", "person", "median", "ridge", "rank",
        2, 63, 96, 0.5, 0.3, (0.3, 0.3), (0.7, 0.9), (50, 60), (0.5, 0.4, 0.1), (0, 1, 0, 0),
        ("video:train-test",), "quality", "method", "muon", "both",
    )  # fmt: skip
    return next(v for v in values if v != before and OPTIONS[name].holds(v))


def test_a_workdir_is_bound_by_what_changes_results(tmp_path):
    workdir.claim(tmp_path, default.get_config())
    free = set()
    for name in OPTIONS:
        config = config_of({name: another(name)})
        try:
            checks.require_same(tmp_path, config)
            free.add(name)
        except InputError as error:
            assert f"{name} is " in str(error)
    assert free == {
        "data.dir", "data.manifest", "data.real_label", "data.real_folder", "data.fake_folder",
        "data.group", "data.records_dir", "data.manual_dir", "data.beam", "data.workers",
        "leaks.allow", "quality.csv",
        "train.shard_state", "train.remat", "train.log_every", "train.checkpoint_every",
        "train.keep", "eval.batch_size", "eval.bootstrap", "eval.official_scoring", "eval.cluster",
        "eval.aggregate", "eval.top_share", "eval.wanted_fpr", "eval.cost_missed",
        "eval.cost_false_alarm", "eval.prevalence",
    }  # fmt: skip


def test_what_a_dataset_uses_is_of_the_options_that_not_all_use():
    for dataset in schema.datasets():
        used = schema.builder_class(dataset).OPTIONS
        assert set(used) <= set(table.DATASETS_OWN)
        config = default.get_config()
        config.data.dataset = dataset
        checks.require_used(config, used)
        checks.require_used(ConfigDict(json.loads(config.to_json())), used)
