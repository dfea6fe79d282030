"""An exported program runs where there is nothing but JAX."""

import subprocess
import sys

import numpy as np
import pytest
from jax import export
from random_detectors import draw_crops, draw_detector

from deepfidelity_jax.export import stablehlo
from deepfidelity_jax.export.write import measure, score

pytestmark = pytest.mark.slow

ALONE = """
import sys
import numpy as np
from jax import export

program = export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
crops = np.load("crops.npy")
np.savez("found.npz", **program.call(crops))
assert not [name for name in sys.modules if name.startswith(("deepfidelity", "flax"))]
"""


CROPS = draw_crops(3, 36)


@pytest.fixture(scope="module")
def detector():
    return draw_detector(mirror_average=True)


@pytest.fixture(scope="module")
def content(detector):
    return stablehlo.write_program(detector)


@pytest.fixture(scope="module")
def wanted(detector):
    return score(detector, CROPS)


def test_any_batch_scores_as_the_detector_does(content, wanted):
    for count in (1, 3):
        found = stablehlo.run(content, CROPS[:count])
        assert found["features"].shape == (count, 192)
        part = {name: values[:count] for name, values in wanted.items()}
        assert max(measure(part, found).values()) < 1e-5


def test_it_is_for_every_platform(content):
    assert export.deserialize(bytearray(content)).platforms == stablehlo.PLATFORMS


def test_jax_alone_runs_it(content, wanted, tmp_path):
    (tmp_path / "model.stablehlo").write_bytes(content)
    np.save(tmp_path / "crops.npy", CROPS)
    subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, check=True)
    assert max(measure(wanted, dict(np.load(tmp_path / "found.npz"))).values()) < 1e-5


@pytest.mark.usefixtures("all_in_use")
def test_bfloat16_is_exported_where_the_gpu_has_forms_of_its_own():
    half = draw_detector(dtype="bfloat16")
    content = stablehlo.write_program(half)
    assert export.deserialize(bytearray(content)).platforms == stablehlo.PLATFORMS
