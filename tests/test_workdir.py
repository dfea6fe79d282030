"""A workdir is one process's at a time; what is compiled in it is kept, wherever it goes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.workdir import Stages, held, keep_programs

SCORE = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from jax._src import monitoring
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig
from deepfidelity_jax.workdir import keep_programs
keep_programs(Path(sys.argv[1]))
hits = []
monitoring.register_event_listener(lambda name, **_: hits.append(name.endswith("cache_hits")))
model = SSAAFormer(SSAAFormerConfig(depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), head_dim=8))
images = jnp.linspace(-1, 1, 2 * 32 * 32 * 3).reshape(2, 32, 32, 3)
def score(images):
    variables = model.init(jax.random.key(0), images, train=False)
    return model.apply(variables, images, train=True, mutable="batch_stats")[0].features
print(sum(hits), jax.jit(score)(images).tobytes().hex(), sum(hits))
"""


def score(workdir):
    """Hits and result of a process of its own; nothing may be said on stderr."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-c", SCORE, str(workdir)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    before, result, after = done.stdout.split()
    return int(after) - int(before), result


@pytest.mark.slow
def test_a_program_is_compiled_once_even_if_the_workdir_is_moved(tmp_path):
    misses, result = score(tmp_path / "here")
    assert misses == 0
    assert list((tmp_path / "here" / "cache").iterdir())
    shutil.move(tmp_path / "here", tmp_path / "there")
    hits, again = score(tmp_path / "there")
    assert hits > 0
    assert again == result, "to the last bit"


def test_a_folder_named_by_the_user_stays(tmp_path):
    named = jax.config.jax_compilation_cache_dir
    assert named == os.environ["JAX_COMPILATION_CACHE_DIR"]
    keep_programs(Path(tmp_path))
    assert jax.config.jax_compilation_cache_dir == named


@pytest.mark.slow
def test_one_process_at_a_time(tmp_path):
    """Until it ends, however it does."""
    work = tmp_path / "runs" / "work"
    code = "import sys; from pathlib import Path; from deepfidelity_jax.workdir import held\n"
    code += "with held(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, work],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "in\n"
    (work / "result").write_text("kept")
    (work / ".result.4711.partial").write_text("half of it")
    with pytest.raises(InputError, match="another run is using"), held(work):
        pass
    waiting = subprocess.Popen(
        [sys.executable, "-c", code.replace("1])", "1]), wait=True"), work],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert f"another run is using {work}: waiting" in waiting.stderr.readline()
    assert (work / ".result.4711.partial").exists()
    process.kill()
    process.communicate()
    out, _ = waiting.communicate("")
    assert (out, waiting.returncode) == ("in\n", 0)
    with held(work):
        assert sorted(path.name for path in work.iterdir()) == [".lock", "result"]


def test_a_new_workdir_that_nothing_was_put_in_is_gone(tmp_path):
    with pytest.raises(InputError, match="wrong value"), held(tmp_path / "runs" / "work"):
        raise InputError("wrong value")
    assert not list(tmp_path.iterdir())
    with held(tmp_path / "work"):
        (tmp_path / "work" / "config.json").write_text("{}")
    assert (tmp_path / "work" / "config.json").exists()


@pytest.mark.slow
def test_a_workdir_that_is_removed_meanwhile_is_made_again(tmp_path):
    """As a run removes one in which it has put nothing."""
    work, code = tmp_path / "work", "import sys; from pathlib import Path\n"
    code += "from deepfidelity_jax.workdir import held\n"
    code += "with held(Path(sys.argv[1]), wait=True): Path(sys.argv[1], 'result').touch()"
    with held(work):
        waiting = subprocess.Popen(
            [sys.executable, "-c", code, work], stderr=subprocess.PIPE, text=True
        )
        assert "waiting" in waiting.stderr.readline()
    waiting.communicate()
    assert waiting.returncode == 0
    assert sorted(path.name for path in work.iterdir()) == [".lock", "result"]


def test_a_stage_begun_anew_is_not_done(tmp_path):
    stages = Stages(tmp_path)
    stages.finish("fit", "inputs")
    assert stages.done("fit", "inputs", tmp_path / "stages.json")
    stages.begin("fit")
    assert not stages.done("fit", "inputs", tmp_path / "stages.json")
