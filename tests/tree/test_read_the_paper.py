"""What the notebook on the paper draws are the paper's equations."""

import numpy as np
import pytest
from notebooks import execute, pictures_of, text_of

from deepfidelity_jax.records.schema import FAKE, REAL

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_core")]

READ_BACK = """
import json

print(json.dumps({
    "a": A[..., channel].tolist(),
    "shares": shares,
    "mixed": [m[..., channel].tolist() for m in mixed],
    "left": left,
    "quality": quality.tolist(),
    "label": label.tolist(),
    "targets": {name: target.tolist() for name, target in targets.items()},
    "labels": labels[..., 0].tolist(),
    "exchanged": mixed_labels[..., 0].tolist(),
    "box": box.tolist(),
    "mask": float(mask.mean()),
    "losses": [float(loss.mean()) for loss in (least, follows, stays)],
    "gap": float(gap),
    "threshold": found.threshold,
    "at_threshold": float(calibration.p_fake(found, found.threshold)),
}))
"""


def test_the_paper_s_equations_are_what_is_drawn(tmp_path, monkeypatch):
    notebook, read_back = execute(
        "read_the_paper.ipynb", READ_BACK, tmp_path, monkeypatch, people=3
    )
    text = text_of(notebook)
    assert len(pictures_of(notebook)) == 9

    a, mixed = np.array(read_back["a"]), np.array(read_back["mixed"])
    assert a.std() > 0
    for share, own in zip(read_back["shares"], mixed, strict=True):
        np.testing.assert_allclose(own, (1 - share) * a + share * a[:, ::-1], atol=1e-5)
    np.testing.assert_array_equal(mixed[2], mixed[2][:, ::-1])
    np.testing.assert_allclose(read_back["left"], [1, 0.5, 0, 0.5, 1], atol=1e-5)

    quality, label = np.array(read_back["quality"]), np.array(read_back["label"])
    linear, rank = (np.array(read_back["targets"][name]) for name in ("linear", "rank"))
    assert len(quality) == 3 * 8
    for kind, low in ((FAKE, 0), (REAL, 0.6)):
        own = quality[label == kind]
        share = (own - own.min()) / np.ptp(own)
        np.testing.assert_allclose(linear[label == kind], low + 0.4 * share, atol=1e-6)
        np.testing.assert_allclose(
            np.sort(rank[label == kind]), np.linspace(low, low + 0.4, len(own)), atol=0.01
        )

    labels, exchanged = np.array(read_back["labels"]), np.array(read_back["exchanged"])
    box = np.array(read_back["box"])
    assert 0 < box.sum() < box.size
    np.testing.assert_array_equal(exchanged[:, ~box], labels[:, ~box])
    np.testing.assert_array_equal(exchanged[:, box], labels[::-1][:, box])
    assert labels[0].max() == 0
    np.testing.assert_allclose(labels[1].mean(), read_back["mask"], atol=1e-5)
    least, follows, stays = read_back["losses"]
    assert follows == pytest.approx(least)
    assert stays > follows + 0.1
    for loss in (follows, stays):
        assert f"{loss:.3f}" in text

    assert read_back["gap"] < 1e-5, "the equation is the function"
    assert read_back["at_threshold"] == pytest.approx(0.5)
    assert f"threshold {read_back['threshold']:.4f}, from" in text
