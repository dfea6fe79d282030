"""The losses against values by hand."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from deepfidelity_jax.network.layers import THRESHOLDS
from deepfidelity_jax.network.outputs import Outputs
from deepfidelity_jax.training.losses import (
    cross_entropy,
    ordinal_loss,
    ranking_loss,
    shrink_mask,
    token_loss,
    training_loss,
)

sum_losses = functools.partial(training_loss, label_smoothing=0.0)
LOG3 = float(np.log(3))  # logits (0, log 3): probabilities 1/4 and 3/4


def test_cross_entropy():
    logits = jnp.array([[0.0, LOG3], [0.0, LOG3]])
    plain = cross_entropy(logits, jnp.array([0, 1]), 0.0)
    np.testing.assert_allclose(plain, [np.log(4), np.log(4 / 3)], rtol=1e-6)
    # Smoothing 0.1 over two classes: 0.95 on the label, 0.05 on the other.
    smooth = cross_entropy(logits, jnp.array([0, 1]), 0.1)
    mixed = [0.95 * plain[0] + 0.05 * plain[1], 0.95 * plain[1] + 0.05 * plain[0]]
    np.testing.assert_allclose(smooth, mixed, rtol=1e-6)


def test_token_loss():
    """Index 0 is fake: a forged share of 1 wants the first logit, a mixed token wants both."""
    logits = jnp.array([[[0.0, LOG3]] * 3])
    forged = jnp.array([[1.0, 0.0, 0.25]])
    fake, real = np.log(4), np.log(4 / 3)
    expected = (fake + real + 0.25 * fake + 0.75 * real) / 3
    np.testing.assert_allclose(token_loss(logits, forged), [expected], rtol=1e-6)
    assert token_loss(jnp.array([[[9.0, -9.0]]]), jnp.array([[1.0]]))[0] < 1e-6


def test_ranking_loss_compares_every_fake_with_every_real_face():
    """Real scores 1 and 5, fake ones -1 and 5: four comparisons; what all share does not count."""
    logits = jnp.array([[0.0, 1.0], [0.0, -1.0], [0.0, 5.0], [0.0, 5.0]])
    label = jnp.array([1, 0, 1, 0])
    margins = np.array([2.0, 6.0, -4.0, 0.0])
    expected = np.log1p(np.exp(-margins)).mean()
    assert ranking_loss(logits, label) == pytest.approx(expected, rel=1e-6)
    assert ranking_loss(logits + jnp.array([7.0, 3.0]), label) == pytest.approx(expected, rel=1e-6)
    assert ranking_loss(logits, 1 - label) > expected
    assert ranking_loss(logits, jnp.ones(4, int)) == 0
    order = jnp.array([3, 0, 2, 1])
    assert ranking_loss(logits[order], label[order]) == pytest.approx(expected, rel=1e-6)


def make_outputs(fidelity):
    logits = jnp.array([[0.0, LOG3], [0.0, LOG3]])
    return Outputs(
        features=jnp.zeros((2, 4)),
        class_logits=logits,
        token_logits=jnp.zeros((2, 1, 2)),
        fidelity=fidelity,
    )


def test_total_is_the_weighted_sum_of_means():
    batch = {
        "label": jnp.array([0, 1]),
        "forged": jnp.array([[1.0], [0.0]]),
        "fidelity": jnp.array([0.25, 0.75]),
    }
    weights = {"token": 0.5, "fidelity": 2.0, "ranking": 0.0}
    # What the head says for the class that a face is not of does not count.
    outputs = make_outputs(jnp.array([[0.5, 9.0], [9.0, 0.25]]))
    total, parts = sum_losses(outputs, batch, weights)
    expected = {
        "class": (np.log(4) + np.log(4 / 3)) / 2,
        "token": np.log(2),
        "fidelity": (0.25**2 + 0.5**2) / 2,
    }
    assert parts == pytest.approx(expected, rel=1e-6)
    sums = expected["class"] + 0.5 * expected["token"] + 2 * expected["fidelity"]
    assert total == pytest.approx(sums, rel=1e-6)
    total, parts = sum_losses(make_outputs(None), batch, weights)
    assert "fidelity" not in parts
    assert total == pytest.approx(sums - 2 * expected["fidelity"], rel=1e-6)
    ranked, parts = sum_losses(make_outputs(None), batch, weights | {"ranking": 4.0})
    assert parts["ranking"] == pytest.approx(np.log(2), rel=1e-6)
    assert ranked - total == pytest.approx(4 * np.log(2), rel=1e-6)
    assert sum_losses(outputs, batch, dict.fromkeys(weights, 0.0))[1].keys() == {"class", "token"}


def test_labels_follow_the_box():
    """One of four tokens exchanged between a fake and a real image, worked out by hand."""
    box = jnp.array([[True, False], [False, False]])
    fake_token, real_token = [LOG3, 0.0], [0.0, LOG3]
    # What the network is to say: the token in the box is of the other image.
    tokens = jnp.array([[real_token] + [fake_token] * 3, [fake_token] + [real_token] * 3])
    outputs = make_outputs(jnp.array([[0.5, 0.6], [0.4, 0.7]]))._replace(token_logits=tokens)
    batch = {
        "label": jnp.array([0, 1]),
        "forged": jnp.array([[1.0] * 4, [0.0] * 4]),
        "fidelity": jnp.array([0.2, 0.8]),
    }
    weights = {"token": 0.5, "fidelity": 1.0}
    total, parts = sum_losses(outputs, batch, weights, box=box)
    right, wrong = np.log(4 / 3), np.log(4)  # both images are called real
    of_fake, of_real = 0.75 * wrong + 0.25 * right, 0.75 * right + 0.25 * wrong
    expected = {
        "class": (of_fake + of_real) / 2,
        "token": right,  # every token is right once it is back
        # As a fake and as a real face, each by its share.
        "fidelity": (0.75 * (0.3**2 + 0.1**2) + 0.25 * (0.2**2 + 0.2**2)) / 2,
    }
    assert parts == pytest.approx(expected, rel=1e-5)
    weighted = expected["class"] + 0.5 * expected["token"] + expected["fidelity"]
    assert total == pytest.approx(weighted, rel=1e-5)
    unmixed = sum_losses(outputs, batch, weights)[1]
    assert unmixed["token"] == pytest.approx((3 * right + wrong) / 4, rel=1e-5)


def test_masks_shrink_by_averaging():
    mask = jnp.arange(16.0).reshape(1, 4, 4)
    np.testing.assert_allclose(shrink_mask(mask, 4), [[2.5, 4.5, 10.5, 12.5]])
    np.testing.assert_allclose(shrink_mask(mask, 16), mask.reshape(1, 16))


def test_mask_heads_are_asked_for_the_forged_share_of_each_position():
    batch = {
        "label": jnp.array([0, 1]),
        "forged": jnp.zeros((2, 1)),
        "fidelity": jnp.zeros(2),
        "mask": jnp.zeros((2, 4, 4)).at[0, :2, :2].set(1.0),
    }
    right = jnp.zeros((2, 4, 2)).at[:, :, 1].set(9.0).at[0, 0].set(jnp.array([9.0, 0.0]))
    wrong = right[:, ::-1]
    losses = []
    for logits in (right, wrong):
        outputs = make_outputs(None)._replace(mask_logits=(logits, logits))
        total, parts = sum_losses(outputs, batch, {"mask": 2.0})
        assert total == pytest.approx(float(parts["class"] + 2 * parts["mask"]), rel=1e-6)
        losses.append(float(parts["mask"]))
    assert losses[0] < 0.01 < losses[1]
    assert "mask" not in sum_losses(make_outputs(None), batch, {"mask": 2.0})[1]


def test_ordinal_loss_asks_each_threshold():
    logits = np.random.default_rng(0).normal(size=(4, len(THRESHOLDS)))
    fidelity = np.array([0.0, 0.33, 0.6, 1.0])
    expected = []
    for row, target in zip(logits, fidelity, strict=True):
        terms = []
        for x, threshold in zip(row, THRESHOLDS, strict=True):
            p = 1 / (1 + np.exp(-x))
            terms.append(-np.log(p) if target > threshold else -np.log(1 - p))
        expected.append(np.mean(terms))
    found = ordinal_loss(jnp.asarray(logits, jnp.float32), jnp.asarray(fidelity))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # A head that is sure of each threshold says the fidelity, within half a grade.
    sure = jnp.where(fidelity[:, None] > THRESHOLDS, 30.0, -30.0)
    assert ordinal_loss(sure, jnp.asarray(fidelity)).max() < 1e-6
    np.testing.assert_allclose((sure > 0).mean(axis=1), fidelity, atol=0.025)


def test_the_ordinal_head_counts_by_its_weight():
    batch = {
        "label": jnp.array([0, 1]),
        "forged": jnp.array([[1.0], [0.0]]),
        "fidelity": jnp.array([0.25, 0.75]),
    }
    grades = jnp.linspace(2.0, -2.0, 2 * len(THRESHOLDS)).reshape(2, -1)
    outputs = make_outputs(None)._replace(ordinal_logits=grades)
    total, parts = sum_losses(outputs, batch, {"ordinal": 3.0})
    own = ordinal_loss(grades, batch["fidelity"]).mean()
    assert parts["ordinal"] == pytest.approx(float(own), rel=1e-6)
    assert total == pytest.approx(float(parts["class"] + 3 * own), rel=1e-6)
    assert "ordinal" not in sum_losses(make_outputs(None), batch, {"ordinal": 3.0})[1]
