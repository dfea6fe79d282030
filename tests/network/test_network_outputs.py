"""The answers of the heads against values by hand."""

import jax.numpy as jnp
import numpy as np

from deepfidelity_jax.network.outputs import HEADS, Outputs


def test_answers_are_those_of_each_head():
    r = np.random.default_rng(0)
    classes, tokens = r.normal(size=(5, 2)), r.normal(size=(5, 3, 2))
    by_class, grades = r.uniform(size=(5, 2)), r.normal(size=(5, 20))
    given = (np.zeros((5, 4)), classes, tokens, by_class, grades)
    outputs = Outputs(*(jnp.asarray(array, jnp.float32) for array in given))
    for row, answer in enumerate(np.asarray(outputs.head_fidelities)):
        found = dict(zip(HEADS, answer, strict=True))
        fake, real = classes[row] + 0.5 * tokens[row].max(axis=0)
        p = 1 / (1 + np.exp(fake - real))
        alone = 1 / (1 + np.exp(classes[row, 0] - classes[row, 1]))
        expected = {
            "logits": p,
            "class_head": alone,
            "fidelity_head": (1 - p) * by_class[row, 0] + p * by_class[row, 1],
            "ordinal_head": np.mean([1 / (1 + np.exp(-x)) for x in grades[row]]),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=1e-6)


def test_a_missing_head_has_no_answer():
    outputs = Outputs(jnp.zeros((2, 4)), jnp.zeros((2, 2)), jnp.zeros((2, 1, 2)), None)
    np.testing.assert_array_equal(outputs.head_fidelities, [[0.5, 0.5, np.nan, np.nan]] * 2)
