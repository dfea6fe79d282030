"""The official code's rules: groups by name, and the best threshold on the scores themselves."""

import json

import numpy as np
import pytest
from score_tables import table
from sklearn.metrics import roc_auc_score

from deepfidelity_jax.scoring.metrics import summarize
from deepfidelity_jax.scoring.official import official_scoring


def test_official_scoring_merges_videos_by_name_and_the_honest_one_does_not():
    """FF++: the fakes 000_003 of two methods and 000_010 share a target, and an original its name.

    Groups: real 000 .7, real 001 .42; fake 000 (.2 + .2 + .5 + .9) / 4 = .45, fake 001 .1.
    """
    video = [
        "original/000",
        "original/001",
        *["a/000_003"] * 2,
        "b/000_003",
        "c/000_010",
        "a/001_7",
    ]
    found = table(
        [1, 1, 0, 0, 0, 0, 0],
        [0.7, 0.42, 0.2, 0.2, 0.5, 0.9, 0.1],
        video,
        method=["original"] * 2 + ["a", "a", "b", "c", "a"],
    )
    official = official_scoring(found)
    assert (official["n_groups"], official["n_groups_real"], official["n_groups_fake"]) == (4, 2, 2)
    assert official["auc"] == 3 / 4  # real 001 loses to fake 000
    # 0.40 and above 0.45 are wrong once each; between, twice; 0.40 is the lowest of equals.
    assert (official["acc"], official["threshold"]) == (0.75, 0.4)
    honest = summarize(found, 0.5, "fixed", replicates=2)
    assert (honest["n_videos"], honest["n_videos_fake"]) == (6, 4)
    assert honest["video_auc"] == 5 / 8  # .7 beats all but .9, .42 beats .2 and .1
    assert "official_scoring" not in honest


def test_official_scoring_searches_its_threshold_on_the_scores_at_hand():
    rng = np.random.default_rng(0)
    label = np.arange(200) % 2
    fidelity = np.where(label == 1, 0.55, 0.45) + 0.1 * rng.normal(size=200)
    found = official_scoring(table(label, fidelity, [f"{i}_x.mp4" for i in range(200)]))
    scores = fidelity.astype(np.float32).astype(np.float64)
    best = max(((scores >= t) == label).mean() for t in 0.4 + 0.01 * np.arange(21))
    assert found["acc"] == best
    assert found["auc"] == pytest.approx(roc_auc_score(label, scores))
    assert found["n_groups"] == 200
    wild = [f"real_test/{archive}/real/{sequence}" for archive in (7, 8) for sequence in (0, 1)]
    assert official_scoring(table([1] * 4, [0.5] * 4, wild))["n_groups"] == 4
    alone = official_scoring(table([0, 0], [0.2, 0.3]))
    assert (alone["auc"], alone["acc"]) == (None, None)
    json.dumps([found, alone], allow_nan=False)
