"""What is compiled is kept, wherever the workdir goes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax

from deepfidelity_jax.workdir import keep_programs

SCORE = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from jax._src import monitoring
from deepfidelity_jax.model import SSAAFormer, SSAAFormerConfig
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
