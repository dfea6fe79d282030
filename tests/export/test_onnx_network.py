"""Every variant of the network is the same function in ONNX operators."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_detectors import draw_crops, draw_variables

from deepfidelity_jax.export.onnx_graph import Graph
from deepfidelity_jax.export.onnx_model import run
from deepfidelity_jax.export.onnx_network import write_network
from deepfidelity_jax.export.view import make_view, take
from deepfidelity_jax.network.fold import fold
from deepfidelity_jax.network.inference import answer
from deepfidelity_jax.network.outputs import HEADS
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig, normalise

# The widths, heads and layer scale of each variant; fewer of the equal blocks, for time.
VARIANTS = {
    name: getattr(SSAAFormerConfig, name)(depths=(2, 1, 2, 1), symmetric=(1, 0, 1, 0))
    for name in ("tiny", "small", "base", "large")
}


def write(config, variables, view):
    graph = Graph()
    features, logits, _ = write_network(graph, config, variables, view, "crops")
    unused = graph("ReduceMax", logits, np.array([1]), keepdims=0)
    outputs = {
        "features": (features, [config.widths[3]]), "logits": (logits, [2]),
        "fidelity": (unused, []), "p_fake": (unused, []),
    }  # fmt: skip
    return graph.finish("crops", view.crop, outputs, {}).SerializeToString()


def fold_drawn(config, size=64):
    drawn = draw_variables(SSAAFormer(config), size)
    return jax.device_get(jax.jit(partial(fold, config=config))(drawn))


@pytest.mark.parametrize(
    ("variant", "crop"),
    [
        ("tiny", 72),  # cut
        ("tiny", 50),  # cut and enlarged
        *(pytest.param(name, 72, marks=pytest.mark.slow) for name in ("small", "base", "large")),
    ],
)
def test_every_variant(variant, crop):
    config, view = VARIANTS[variant], make_view(crop, 64, 64 / 72)
    variables, crops = fold_drawn(config), draw_crops(3, crop)
    found = run(write(config, variables, view), crops)
    network = SSAAFormer(config, folded=True)
    images = normalise(take(view, jnp.asarray(crops)))
    wanted = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, images)
    for name in ("features", "logits"):
        values = np.asarray(getattr(wanted, name))
        assert values.std() > 0.01
        np.testing.assert_allclose(found[name], values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mirror_average", [False, True])
def test_every_head(mirror_average):
    """Its answer is the fidelity, as with `arrays.Head`."""
    smallest = {"depths": (1, 0, 0, 0), "symmetric": (1, 0, 0, 0)}  # the heads are the same
    config = SSAAFormerConfig.tiny(**smallest, fidelity_head=True, ordinal_head=True)
    variables = fold_drawn(config, 32)
    view = make_view(32, 32, 1.0)
    crops = draw_crops(5, 32)
    given = {"mirror_average": mirror_average}
    answers = jax.jit(partial(answer, SSAAFormer(config, folded=True), **given))(variables, crops)
    wanted = np.asarray(answers.head_fidelities)
    assert (wanted.std(axis=0) > 1e-4).all()
    for place, head in enumerate(HEADS):
        graph = Graph()
        features, logits, fidelity = write_network(
            graph, config, variables, view, "crops", head, **given
        )
        outputs = {"features": (features, [192]), "logits": (logits, [2])}
        outputs |= dict.fromkeys(("fidelity", "p_fake"), (fidelity, []))
        found = run(graph.finish("crops", 32, outputs, {}).SerializeToString(), crops)
        np.testing.assert_allclose(found["fidelity"], wanted[:, place], rtol=1e-6, atol=1e-6)
        for name in ("features", "logits"):
            np.testing.assert_allclose(found[name], getattr(answers, name), rtol=1e-5, atol=1e-5)


def test_a_parameter_without_a_place_is_no_small_matter():
    config = VARIANTS["tiny"]
    variables = fold_drawn(config)
    variables["params"]["stage1"]["plain_0"]["gate"] = {"kernel": np.ones((4, 4))}
    with pytest.raises(AssertionError, match=r"stage1/plain_0/gate/kernel"):
        write(config, variables, make_view(64, 64, 1.0))
