"""The published sizes."""

import pytest

from deepfidelity_jax.network.layers import THRESHOLDS
from deepfidelity_jax.network.size import count_multiply_adds, count_parameters
from deepfidelity_jax.network.ssaaformer import SSAAFormerConfig


# Published counts: with two 2-class heads, and multiply-adds at 224.
@pytest.mark.parametrize(
    ("variant", "parameters", "gigas"),
    [("large", 98_824_462, 19.68), ("base", 49_265_614, 8.25), ("small", 21_034_314, 3.63)],
)
def test_published_sizes(variant, parameters, gigas):
    config = getattr(SSAAFormerConfig, variant)()
    assert count_parameters(config) == parameters
    assert round(count_multiply_adds(config, 224)["total"] / 1e9, 2) == gigas


def test_published_sizes_of_the_parts_of_large():
    plain = SSAAFormerConfig.large(symmetric=(0, 0, 0, 0))
    heads = 2 * (640 * 2 + 2)
    assert count_parameters(plain) == 98_821_888 + heads
    counts = count_multiply_adds(plain, 224)
    stages = [round(counts[f"stage{i}"] / 1e9, 2) for i in (1, 2, 3, 4)]
    assert stages == [2.66, 3.02, 12.24, 1.77]


def test_published_sizes_with_imagenet_heads():
    plain = {"symmetric": (0, 0, 0, 0), "num_classes": 1000}
    assert count_parameters(SSAAFormerConfig.large(**plain)) == 100_103_888
    second_head = 512 * 1000 + 1000
    assert count_parameters(SSAAFormerConfig.small(**plain)) - second_head == 21_545_256
    assert count_parameters(SSAAFormerConfig.base(**plain)) - second_head == 49_776_552


def test_tiny_stays_tiny():
    assert 1_000_000 <= count_parameters(SSAAFormerConfig.tiny()) <= 2_500_000
    assert count_multiply_adds(SSAAFormerConfig.tiny(), 112)["total"] <= 120_000_000


def test_an_ordinal_head_is_counted():
    plain, headed = (SSAAFormerConfig.tiny(ordinal_head=head) for head in (False, True))
    assert count_parameters(headed) - count_parameters(plain) == 192 + len(THRESHOLDS)
    heads = [count_multiply_adds(config, 64)["heads"] for config in (plain, headed)]
    assert heads[1] - heads[0] == 192


def test_a_fidelity_head_is_counted():
    plain, headed = (SSAAFormerConfig.tiny(fidelity_head=head) for head in (False, True))
    assert count_parameters(headed) - count_parameters(plain) == 192 * 2 + 2
    heads = [count_multiply_adds(config, 64)["heads"] for config in (plain, headed)]
    assert heads == [192 * 2 * (1 + 4), 192 * 2 * (1 + 4 + 1)]
