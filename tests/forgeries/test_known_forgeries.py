"""The same seed draws the same forgery as in the last release: trainings stay comparable."""

import numpy as np
import pytest
from conftest import TREE
from known_forgeries import GOLDEN, draw_all

from deepfidelity_jax.forgeries.families import FAMILIES
from deepfidelity_jax.records import schema

ANEW = "if that is on purpose, run `python tests/forgeries/known_forgeries.py`"
TEN = (
    "self_blend", "swap", "warped_swap", "part_swap", "reenactment", "resynthesis", "generated",
    "whole_face", "inpainted", "morph",
)  # fmt: skip
# The families in the records of each version that recorded these forgeries, the latest last.
RECORDED = {"face_folder": {"2.2.0": TEN}, "synthetic_faces": {"1.7.0": TEN}}


def test_forgeries_are_those_of_the_last_release():
    made = draw_all()
    with np.load(GOLDEN) as golden:
        assert set(golden.files) == set(made), ANEW
        for name in golden.files:
            apart = np.abs(golden[name].astype(int) - made[name])
            # Builds of OpenCV round differently.
            assert np.mean(apart > 2) < 0.01, f"{name}: {ANEW}"


@pytest.mark.parametrize("dataset", RECORDED)
def test_records_of_a_version_hold_the_same_families(dataset):
    """Which are drawn, and by which seeds, depends on their number and order."""
    builder, recorded, now = schema.builder_class(dataset), RECORDED[dataset], tuple(FAMILIES)
    for version, families in recorded.items():
        assert now[: len(families)] == families, "add a family at the end of FAMILIES"
        assert version in map(str, (builder.VERSION, *builder.SUPPORTED_VERSIONS)), (
            f"add {version} to the SUPPORTED_VERSIONS of {dataset}"
        )
    assert recorded.get(str(builder.VERSION)) == now, (
        f"raise the VERSION of {dataset}, and add it to RECORDED with its families"
    )


def test_the_families_are_listed():
    text = (TREE / "datasets" / "face_folder" / "README.md").read_text(encoding="utf-8")
    assert not [name for name in FAMILIES if f"`{name}`" not in text]
