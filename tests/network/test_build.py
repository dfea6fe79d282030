"""The network of a configuration."""

import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.network.build import build_model


@pytest.mark.parametrize(
    ("group", "values", "told"),
    [
        ("model", {"variant": "huge"}, "large, base, small, tiny"),
        ("model", {"image_size": 100}, "multiple of 32"),
        ("model", {"dtype": "float99"}, "float99"),
        ("model", {"symmetric": (99, 0, 0, 0)}, "config.model"),
    ],
)
def test_a_network_that_cannot_be(tiny, group, values, told):
    tiny[group].update(values)
    with pytest.raises(InputError, match=told) as raised:
        build_model(tiny)
    assert "\n" not in str(raised.value)
