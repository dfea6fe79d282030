"""Each class fills its own range, in the order of quality."""

import json

import numpy as np
import pytest

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.scale import FidelityScale, fit_scale, outside, scale


def faces(n=200, seed=0):
    """Qualities and labels whose classes differ in range."""
    label = np.random.default_rng(seed).integers(0, 2, n)
    quality = np.random.default_rng(seed + 1).normal(50 + 20 * label, 10)
    return quality, label


def test_each_class_is_spread_over_its_own_range():
    quality, label = faces()
    fitted = fit_scale(quality, label)
    fidelity = scale(fitted, quality, label)
    for value, (low, high) in ((0, (0.0, 0.4)), (1, (0.6, 1.0))):
        own, q = fidelity[label == value], quality[label == value]
        assert own[np.argmin(q)] == pytest.approx(low)
        assert own[np.argmax(q)] == pytest.approx(high)
        middle = (own - low) / (high - low)
        np.testing.assert_allclose(middle, (q - q.min()) / np.ptp(q), atol=1e-6)
    assert outside(fitted, quality, label) == 0
    assert fitted.middle == pytest.approx(0.5)


def test_the_range_is_the_training_splits_and_the_rest_is_clipped_and_counted():
    fitted = fit_scale(np.array([1.0, 3.0, 10.0, 20.0]), np.array([0, 0, 1, 1]))
    quality, label = np.array([0.0, 2.0, 4.0, 5.0, 15.0, 30.0]), np.array([0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(scale(fitted, quality, label), [0, 0.2, 0.4, 0.6, 0.8, 1], atol=1e-6)
    assert outside(fitted, quality, label) == 4


def test_a_better_picture_never_gets_a_lower_target_nor_a_fake_that_of_a_real_face():
    quality, label = faces(500)
    target = scale(fit_scale(quality, label), quality, label)
    for kind in (0, 1):
        order = np.argsort(quality[label == kind])
        assert (np.diff(target[label == kind][order]) > 0).all()
    assert target[label == 0].max() < target[label == 1].min()


def test_percentiles_keep_outliers_from_setting_the_scale():
    quality, label = faces(1000)
    quality[np.argmax(label == 1)] = 1e6
    fitted = fit_scale(quality, label, percentile=1.0)
    assert fitted.real_quality[1] < 120
    spread = scale(fitted, quality, label)[label == 1]
    assert np.std(spread) > 0.05
    assert 10 <= outside(fitted, quality, label) <= 30
    assert np.std(scale(fit_scale(quality, label), quality, label)[label == 1]) < 0.02


def test_ranks_spread_a_class_evenly_whatever_its_qualities():
    quality, label = faces(4000)
    quality = np.exp(quality / 10)  # most of them at the lower end
    fitted = fit_scale(quality, label, mapping="rank")
    target, linear = (scale(f, quality, label) for f in (fitted, fit_scale(quality, label)))
    for kind, low, high in ((0, 0.0, 0.4), (1, 0.6, 1.0)):
        own = np.sort(target[label == kind])
        assert own[0] == pytest.approx(low)
        assert own[-1] == pytest.approx(high)
        np.testing.assert_allclose(own, np.linspace(low, high, len(own)), atol=0.004)
        assert np.abs(np.sort(linear[label == kind]) - own).max() > 0.1, "the other is not even"
        order = np.argsort(quality[label == kind], kind="stable")
        assert (np.diff(target[label == kind][order]) >= 0).all()
    # Of new faces those beyond the training range are clipped.
    ends = scale(fitted, np.array([0.0, 1e9, 0.0, 1e9]), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(ends, [0, 0.4, 0.6, 1.0], atol=1e-6)
    assert FidelityScale.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def test_equal_qualities_share_their_mean_rank():
    quality = np.array([1.0] * 10 + [2.0] * 80 + [3.0] * 10 + [5.0, 6.0])
    label = np.array([0] * 100 + [1, 1])
    fitted = fit_scale(quality, label, mapping="rank")
    target = scale(fitted, np.array([1.0, 2.0, 3.0]), np.zeros(3, int))
    np.testing.assert_allclose(target, [0.02, 0.2, 0.38], atol=0.003)
    constant = fit_scale(np.full(4, 3.0), label[-4:], mapping="rank")
    np.testing.assert_array_equal(scale(constant, np.full(4, 3.0), label[-4:]), label[-4:])


def test_percentiles_clip_ranks_too():
    quality, label = faces(1000)
    quality[np.argmax(label == 1)] = 1e6
    fitted = fit_scale(quality, label, percentile=5.0, mapping="rank")
    linear = fit_scale(quality, label, percentile=5.0)
    assert (fitted.fake_quality, fitted.real_quality) == (linear.fake_quality, linear.real_quality)
    top = scale(fitted, quality, label)[label == 1] == np.float32(1.0)
    assert top.mean() == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("mapping", ["linear", "rank"])
def test_one_quality_range_compares_faces_across_the_classes(mapping):
    quality, label = faces(1000)
    fitted = fit_scale(quality, label, mapping=mapping, quality_range="both")
    share = scale(fitted, quality, label) / 0.4 - 1.5 * label  # the place in the range of the class
    order = np.argsort(quality)
    assert (np.diff(share[order]) >= -1e-5).all()
    assert share[order[[0, -1]]] == pytest.approx([0, 1], abs=1e-5)
    even = (np.arange(1000) if mapping == "rank" else quality[order] - quality.min()) / (
        999 if mapping == "rank" else np.ptp(quality)
    )
    np.testing.assert_allclose(share[order], even, atol=0.01)
    # Real faces are better here, which ranges by class hide.
    assert share[label == 1].mean() - share[label == 0].mean() > 0.2
    by_class = fit_scale(quality, label, mapping=mapping)
    assert by_class == fit_scale(quality, label, mapping=mapping, quality_range="class")
    own = scale(by_class, quality, label) / 0.4 - 1.5 * label
    assert abs(own[label == 1].mean() - own[label == 0].mean()) < 0.1


def test_one_quality_range_travels_clips_and_keeps_what_is_poor():
    quality, label = faces()
    fitted = fit_scale(quality, label, percentile=2.0, mapping="rank", quality_range="both")
    assert FidelityScale.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    low, high = fitted.both_quality
    assert outside(fitted, quality, label) == np.sum((quality < low) | (quality > high)) > 0
    lowest = np.percentile(quality[label == 1], 2)
    assert fitted.is_poor(lowest - 0.1)
    assert not fitted.is_poor(lowest + 0.1)
    for wrong in ([high, low], [low], [low, high + 1]):
        with pytest.raises(InputError):
            FidelityScale.from_dict(fitted.to_dict() | {"both_quality": wrong})


def test_constant_quality_gives_plain_labels():
    label = np.array([0, 1, 1, 0])
    fitted = fit_scale(np.full(4, 3.0), label)
    np.testing.assert_array_equal(scale(fitted, np.full(4, 3.0), label), label)
    of_both = fit_scale(np.full(4, 3.0), label, quality_range="both")
    np.testing.assert_array_equal(scale(of_both, np.full(4, 3.0), label), label)


def test_other_ranges_are_honoured():
    quality, label = faces()
    fitted = fit_scale(quality, label, fake=(0.1, 0.3), real=(0.5, 0.9))
    fidelity = scale(fitted, quality, label)
    assert fidelity[label == 0].max() == pytest.approx(0.3)
    assert fidelity[label == 1].min() == pytest.approx(0.5)
    assert fitted.middle == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        ((0.4, 0.0), (0.6, 1.0)),
        ((0.0, 0.7), (0.6, 1.0)),
        ((0.6, 1.0), (0.0, 0.4)),
        ((-0.1, 0.4), (0.6, 1.0)),
        ((0.0, 0.4), (0.6, 1.1)),
        ((0.5, 0.5), (0.5, 0.5)),
    ],
)
def test_impossible_ranges_are_refused(fake, real):
    with pytest.raises(InputError, match="ordered"):
        fit_scale(*faces(), fake=fake, real=real)


def test_unusable_qualities_are_refused_with_their_number():
    quality, label = faces(20)
    quality[[3, 5]], quality[7] = np.nan, np.inf
    fitted = fit_scale(*faces())
    for act in (lambda: fit_scale(quality, label), lambda: scale(fitted, quality, label)):
        with pytest.raises(InputError, match="3 of 20"):
            act()
    with pytest.raises(InputError, match="no fake face"):
        fit_scale(np.ones(3), np.ones(3, int))
    with pytest.raises(InputError, match="percentile"):
        fit_scale(*faces(), percentile=50.0)


def test_the_scale_travels_as_json():
    fitted = fit_scale(*faces(), fake=(0.0, 0.3), percentile=2.0)
    assert FidelityScale.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    assert set(fitted.to_dict()) == {"fake_quality", "real_quality", "fake", "real"}
    own = fitted.to_dict()
    low, high = own["fake_quality"]
    for foreign in (
        {}, {"fake": 1}, {"quality": [0, 1]}, {"fake_quality": [2, 1]},
        own | {"fake_ranks": [low, high - 1]}, own | {"fake_ranks": [low, high, low, high]},
        own | {"fake_ranks": [low, "a", high]}, own | {"fake_ranks": 1},
    ):  # fmt: skip
        with pytest.raises(InputError):
            FidelityScale.from_dict(foreign)
