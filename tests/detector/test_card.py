"""The card says what the metrics hold."""

from ml_collections import ConfigDict
from score_tables import predictions

from deepfidelity_jax.detector.card import write_card
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.scoring.metrics import levels_of, summarize
from deepfidelity_jax.statistics.groups import describe


def test_the_card_says_what_the_metrics_hold(tmp_path):
    metrics = summarize(predictions(), 0.5, "validation", replicates=50)
    change = {"ci": {}, "note": {}, "called_fake": 0.125, "called_uncertain": 0.25}
    metrics["controls"] = {"n": 8, "untouched": change, "JPEG 50": change | {"class_auc": 0.61}}
    metrics["look_alikes"] = 3
    config = ConfigDict(
        {
            "model": {"variant": "tiny", "image_size": 64},
            "data": {"dataset": "faces"},
            "faces": {"detector": "mtcnn"},
            "train": {"steps": 20, "leave_out": ("swap",)},
            "init_from": "",
        }
    )
    metadata = {"faces_found": {"train": {"original": 4, "swap": 2, "morph": 3}}}
    calibration = Calibration(-10.0, 0.5, "validation", fake_below=0.25)
    write_card(tmp_path / "MODEL_CARD.md", config, 10, metadata, metrics, calibration)
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "step 10 of 20" in card
    assert "`real` at a fidelity of 0.5000 or more, a threshold from validation" in card
    assert "`fake` below a lower threshold, 0.2500" in card
    assert "| train | 4 | 5 |" in card
    assert "Left out of training and validation: swap." in card
    assert "optimistic: 3 of the test videos" in card
    assert f"{metrics['frame_auc']:.3f}" in card
    for method, entry in metrics["by_method"].items():
        assert f"| {method} | {entry['n_frames']} | {entry['frame_auc']:.3f}" in card
    assert "| JPEG 50 | 12.5% | 25.0% | 0.61 |" in card
    assert "Errors by group (age, skin, sex, pose) were not measured." in card
    assert "threshold of its own" not in card

    levels = levels_of(predictions(), 0, 200)
    groups = describe(levels.frames, ["old", "young", "new"] * 24, levels.draws, 0.5)
    metrics |= {"by_group": {"group_age": groups}, "video_threshold": 0.4375}
    metrics["by_method"]["swap|2"] = metrics["by_method"]["swap"]
    write_card(tmp_path / "MODEL_CARD.md", config, 10, metadata, metrics, calibration)
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "not measured" not in card
    assert "Groups by age (new, old, young): the largest gap in AUC is " in card
    for gap in groups["largest_gap"].values():
        low, high = gap["between"]
        assert f"{gap['value']:.3f} [{gap['ci'][0]:.3f}, " in card
        assert f" between {low} and {high}" in card
    assert "threshold of its own, 0.4375" in card
    assert "\n| swap\\|2 | " in card, "in one column"
