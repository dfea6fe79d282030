"""The methods of forgery that a detector was trained on, as far as its folder tells."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from ml_collections import ConfigDict

from deepfidelity_jax.detector import bundled
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.forgeries.families import FAMILIES
from deepfidelity_jax.records.schema import ORIGINAL
from deepfidelity_jax.training.checkpoint import latest_step
from deepfidelity_jax.workdir import read_config


def require_unseen(config: ConfigDict) -> None:
    """InputError if training starts from a detector that saw, or may have seen, what is left out.

    Official weights, converted or not, pass, because no config says what they were trained on.
    """
    start = config.get("init_from", "")
    folder = _locate(start)
    if not start or not folder.exists():  # whoever reads it says so
        return
    known = {method: has_seen(folder, method) for method in config.train.get("leave_out", ())}
    for answer, words in ((True, "was"), (None, "may have been")):
        named = sorted(method for method, seen in known.items() if seen is answer)
        if named:
            raise InputError(
                f"config.train.leave_out names {', '.join(named)}, but config.init_from={start} "
                f"{words} trained with {'them' if len(named) > 1 else 'it'}: start from a detector "
                "that was trained without, or from none (--config.init_from=)"
            )


def has_seen(place: Path | None, method: str) -> bool | None:
    """Whether a detector was trained on a method; None if its folder does not tell.

    What the detector itself started from counts as well, back to the first.
    """
    answers: list[bool | None] = []
    passed: set[Path] = set()
    while place:
        if not place.exists() or place in passed:  # it has gone, or another took its place
            answers.append(None)
            break
        passed.add(place)
        if latest_step(place / "checkpoints") == 0 or not (place / "config.json").is_file():
            break  # official weights
        source = read_config(place)
        if method in source.get("train", {}).get("leave_out", ()):
            break  # so what it started from had not seen it either
        methods = _trained_on(place, source)
        answers.append(None if methods is None else method in methods)
        start = source.get("init_from", "")
        place = _locate(start) if start else None
    return True if True in answers else None if None in answers else False


def _locate(start: str) -> Path:
    return bundled.folder() if start == bundled.NAME else Path(start)


def _trained_on(folder: Path, source: ConfigDict) -> set[str] | None:
    """The methods in its training and validation splits, and those that it forged itself."""
    if folder == bundled.folder():
        return set(FAMILIES)
    methods: set[str] = set()
    for split in ("train", "validation"):
        try:
            with np.load(folder / "features" / f"{source.data.dataset}-{split}.npz") as file:
                methods |= set(file["method"].tolist()) - {ORIGINAL}
        except (OSError, KeyError, ValueError, BadZipFile):  # none, or damaged
            return None
    # Where training forges, the records hold no other methods, but maybe not all families.
    return methods | set(FAMILIES) if methods <= FAMILIES.keys() else methods
