"""From frames to a video, against a loop over videos."""

import numpy as np
import pytest

from deepfidelity_jax.statistics import aggregation


def frames(seed=0, videos=40):
    rng = np.random.default_rng(seed)
    video = rng.permutation(np.repeat(np.arange(videos), rng.integers(1, 31, videos)))
    return rng.normal(size=len(video)), video


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean", np.mean),
        ("median", np.median),
        ("least_person", np.mean),  # a video shows one person
        ("top_share", lambda x: np.mean(np.sort(x)[: max(1, -(-len(x) // 10))])),
    ],
)
def test_each_aggregate_by_a_loop(name, expected):
    score, video = frames()
    found = aggregation.aggregate(name, score, video, 0.1)
    for number in range(40):
        assert found[number] == pytest.approx(expected(score[video == number]))


def test_all_frames_are_the_mean_and_none_is_left_out():
    score, video = frames()
    whole = aggregation.top_share(score, video, 1.0)
    np.testing.assert_allclose(whole, aggregation.mean(score, video))
    least = aggregation.top_share(score, video, 1e-9)
    np.testing.assert_allclose(least, [score[video == number].min() for number in range(40)])


def test_components_join_what_shares_a_value():
    first = np.array([0, 0, 1, 2, 3])
    second = np.array([0, 1, 1, 2, 3])
    found = aggregation.components(first, second)
    assert found[0] == found[1] == found[2]
    assert len(set(found.tolist())) == 3


def test_a_forgery_joins_the_two_originals_it_was_made_from():
    """As FaceForensics++ names them: two originals, the forgeries of both, and one more video."""
    names = ["000", "000_003", "003", "003_000", "005"]
    origins = [" ".join(f"video/{part}" for part in name.split("_")) for name in names]
    unit = np.array([0, 0, 1, 2, 3, 4])
    files = [f"{name}.mp4" for name in ("000", "000", "000_003", "003", "003_000", "005")]
    found = aggregation.cluster_sources(unit, files, [origins[0], *origins])
    assert found.tolist() == [0, 0, 0, 0, 0, 1]
    assert aggregation.cluster_sources(unit, files).tolist() == unit.tolist()
