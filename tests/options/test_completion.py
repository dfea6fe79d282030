"""Shell completion, asked of the shells themselves."""

import shutil
import subprocess

import pytest
from conftest import assert_told

from deepfidelity_jax.options import completion
from deepfidelity_jax.options.help import FLAGS

ASK = """
{script}
COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
compopt() {{ :; }}
_deepfidelity
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def complete(*words):
    """What bash offers for the last word."""
    quoted = " ".join(f"'{word}'" for word in ("deepfidelity", *words))
    code = ASK.format(script=completion.script("bash"), words=quoted)
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_offers_modes_then_flags():
    assert complete("") == list(FLAGS)
    assert complete("pre") == ["prepare", "predict"]
    assert complete("predict", "--o") == ["--output="]
    assert complete("train", "--o") == []
    assert complete("convert", "--no") == ["--noema"]
    assert complete("predict", "clip.m") == []  # files, by the shell


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_mode_and_flag_is_in_every_script(shell, run):
    status, script, error = run("completion", shell)
    assert (status, error) == (0, "")
    for mode, flags in FLAGS.items():
        assert mode in script
        assert all(flag in script for flag in flags)
    if path := shutil.which(shell):
        subprocess.run([path, "-n"], input=script, text=True, check=True)


def test_an_unknown_shell_is_told(run):
    assert_told(run("completion", "tcsh"), "bash, zsh or fish, not 'tcsh'")
    assert_told(run("completion"), "bash, zsh or fish")
    assert_told(run("completion", "bash", "zsh"), "one shell, not 2")
