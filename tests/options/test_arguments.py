"""The command line: paths that are empty, options of --config beside the workdir's own."""

from pathlib import Path

import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.options.arguments import changed_options, parse


def parsed(*arguments):
    return parse(["run.py", "predict", "a.jpg", *arguments])


@pytest.mark.parametrize("flag", ["input", "output", "report", "annotate", "workdir"])
def test_an_empty_path_is_not_the_current_folder(flag):
    with pytest.raises(InputError, match=f"^--{flag} is empty"):
        parsed(f"--{flag}=")


def test_an_empty_argument_is_an_empty_input():
    with pytest.raises(InputError, match="^--input is empty"):
        parsed("")


def test_changed_options_are_checked_and_their_paths_expanded():
    values = parsed("--config.faces.size=96", "--config.faces.yunet=~/yunet.onnx")
    expanded = {"size": 96, "yunet": str(Path("~/yunet.onnx").expanduser())}
    assert changed_options(values, "faces") == expanded
    assert changed_options(values, "data") == {}
    for wrong in ("size=40000", "margin=0", "yunet=~nobody-here/yunet.onnx"):
        values = parsed(f"--config.faces.{wrong}")
        with pytest.raises(InputError, match=f"config.faces.{wrong.partition('=')[0]} is"):
            changed_options(values, "faces")
