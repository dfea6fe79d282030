"""MODEL_CARD.md: what a detector is, what it was trained on, and its limits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from deepfidelity_jax import __version__
from deepfidelity_jax.fidelity.calibration import Calibration
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.markup.templates import open_template

TEMPLATE = Path(__file__).with_name("model_card.md.j2")


def write_card(
    path: Path,
    config: ConfigDict,
    step: int,
    metadata: Mapping[str, Any],
    metrics: Mapping[str, Any],
    calibration: Calibration,
) -> None:
    """Write the card of a detector.

    Args:
      path: the file.
      config: what it was trained with.
      step: the training step of its weights.
      metadata: of the records it was trained on.
      metrics: of the test split, as in metrics.json.
      calibration: its thresholds.
    """
    card = open_template(TEMPLATE).render(
        version=__version__,
        config=config.to_dict(),
        step=step,
        metadata=metadata,
        metrics={"controls": {}, "look_alikes": 0, "checkpoint_picked_here": False, "by_group": {}}
        | metrics,
        calibration=calibration,
    )
    with written_whole(path) as file:
        file.write(card.encode("utf-8", "replace"))
