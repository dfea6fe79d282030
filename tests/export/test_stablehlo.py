"""An exported program runs where there is nothing but JAX."""

import subprocess
import sys

import numpy as np
import pytest
from jax import export
from random_detectors import draw_crops, draw_detector

from deepfidelity_jax.export import stablehlo
from deepfidelity_jax.export.write import measure, score

ALONE = """
import sys
import numpy as np
from jax import export

program = export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
crops = np.load("crops.npy")
np.savez("found.npz", **program.call(crops))
assert not [name for name in sys.modules if name.startswith(("deepfidelity", "flax"))]
"""


@pytest.fixture(scope="module")
def detector():
    return draw_detector()


@pytest.fixture(scope="module")
def content(detector):
    return stablehlo.write_program(detector)


@pytest.mark.parametrize("count", [1, 3])
def test_any_batch_scores_as_the_detector_does(detector, content, count):
    crops = draw_crops(count, 36)
    found = stablehlo.run(content, crops)
    assert found["features"].shape == (count, 192)
    assert max(measure(score(detector, crops), found).values()) < 1e-5


def test_it_is_for_every_platform(content):
    assert export.deserialize(bytearray(content)).platforms == stablehlo.PLATFORMS


def test_jax_alone_runs_it(detector, content, tmp_path):
    crops = draw_crops(2, 36)
    (tmp_path / "model.stablehlo").write_bytes(content)
    np.save(tmp_path / "crops.npy", crops)
    subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, check=True)
    found = dict(np.load(tmp_path / "found.npz"))
    assert max(measure(score(detector, crops), found).values()) < 1e-5
