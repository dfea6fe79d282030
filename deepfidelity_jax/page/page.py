"""One page on one photograph or video: the verdict, what it is based on, and how to reproduce it.

The page holds everything it shows and needs no network and no script. The same file, detector and
versions give the same page, byte for byte.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from deepfidelity_jax import provenance
from deepfidelity_jax.detector import bundled
from deepfidelity_jax.detector.predict import Examination, Prediction, examine
from deepfidelity_jax.fidelity.arrays import name_of
from deepfidelity_jax.fidelity.scale import FAKE_TARGETS, REAL_TARGETS
from deepfidelity_jax.files import STDIN, digest, written_whole
from deepfidelity_jax.images.pictures import decode_image
from deepfidelity_jax.markup.templates import open_template
from deepfidelity_jax.network.size import count_parameters
from deepfidelity_jax.page import wording
from deepfidelity_jax.page.credentials import read_credentials
from deepfidelity_jax.page.doubts import list_doubts, list_grounds
from deepfidelity_jax.page.outputs import mark
from deepfidelity_jax.page.people import choose_people, describe_people
from deepfidelity_jax.page.scale import describe_scale
from deepfidelity_jax.weight_files import packed

Report = Callable[[str, float], None]

# The verdict in words: a headline, and what it means.
VERDICTS = {
    "real": ("Real: no trace of a forgery was found", "That is not proof that nothing was done."),
    "fake": ("Fake: a face here looks forged to the detector", "That is evidence, not proof."),
    "uncertain": ("Uncertain: the detector cannot tell", "Neither real nor fake is claimed."),
    "no face": ("No verdict: there is no face to score", "Nothing was scored."),
    "unreadable": ("No verdict: the file cannot be read", "Nothing was scored."),
}


def write_page(
    detector,
    path: str | Path,
    output: str | Path,
    report: Report | None = None,
    shown: str = "",
) -> Prediction:
    """Examine a photograph or video and write its page. Returns what `predict` would.

    A file without a face, or one that cannot be read, gets a page that says so.

    Args:
      detector: a `Detector` with a regressor.
      path: the file.
      output: the page; replaced completely or not at all.
      report: called with the name of a step and the share of it that is done, 0 to 1.
      shown: the name of a file that was received; `path` is then our copy of it.
    """
    report = report or (lambda step, share: None)
    report("finding and scoring faces", 0.0)
    examination = examine(detector, Path(path), shown)
    write_examined(detector, Path(path), examination, output, report)
    return examination.prediction


def write_examined(
    detector, path: Path, found: Examination, output: str | Path, report: Report
) -> None:
    """Write the page of a file that has been examined.

    Raises formats.MediaError if the file can no longer be read; the page is then as it was.
    """
    template = open_template(
        Path(__file__).with_name("page.html.j2"),
        plain=wording.plain,
        number=wording.number,
        signed=wording.signed,
        clock=wording.clock,
        percent="{:.2f}%".format,
        short="{:.4g}".format,
    )
    page = template.render(**_describe(detector, path, found, report))
    # File names need not be valid text; `wording.plain` has replaced what is not.
    with written_whole(output) as file:
        file.write(page.encode())
    report("done", 1.0)


def _describe(detector, path: Path, examination: Examination, report: Report) -> dict[str, Any]:
    """What the template shows."""
    prediction = examination.prediction
    people = prediction.faces
    context: dict[str, Any] = {
        "name": path.name,
        "prediction": prediction,
        "verdict": VERDICTS[prediction.status],
        "mark": mark(prediction.detector, vars(prediction)),
        "decider": None,
        "credentials": read_credentials(path),
        "facts": _facts(path, prediction),
        "card": _card(detector),
        "repeat": _repeat(detector, path, prediction),
    }
    decides = examination.decides
    if decides is None:
        return context
    evidence = examination.evidence[decides]
    images = [decode_image(crop.image) for crop in evidence.crops]
    features = detector.unmirrored().features(np.stack(images))  # as those of training faces
    fitted = detector.fidelity_model.scale
    targets = (fitted.fake, fitted.real) if fitted else (FAKE_TARGETS, REAL_TARGETS)
    return context | {
        "decider": people[decides],
        "scale": describe_scale(
            detector.fidelity_model, {i: people[i].fidelity for i in choose_people(people, decides)}
        ),
        "grounds": list_grounds(detector, people[decides]),
        "doubts": list_doubts(detector, prediction, people[decides], evidence, features),
        "everybody": people,
        "targets": targets,
        **describe_people(detector, path, examination, report),
    }


def _facts(path: Path, prediction: Prediction) -> list[tuple[str, str]]:
    facts = [("Name", path.name), ("Size", wording.size(prediction.bytes))]
    # The time of a copy says nothing about the file that was received.
    dated = "Last modified" if prediction.input == str(path) else "Received"
    facts.append((dated, prediction.modified or "not known"))
    if prediction.bytes is not None:
        try:
            facts.append(("SHA-256", digest(path)))
        except OSError as error:
            facts.append(("SHA-256", f"not known: {(error.strerror or str(error)).lower()}"))
    if prediction.status != "unreadable":
        facts.append(("Sampled frames", f"{prediction.frames:,}"))
    return facts


def _card(detector) -> dict[str, Any]:
    """The model card, summarised and in full."""
    config, fitted = detector.config, detector.fidelity_model
    calibration = fitted.calibration
    source = calibration.threshold_from
    source = source if source == "fixed" else f"from {source}"
    rows = [
        ("Network", f"SSAAFormer, {config.model.variant}, {config.model.image_size} pixels"),
        ("Parameters", f"{count_parameters(detector.network.config):,}"),
        ("Trained on", f"{config.data.dataset}, {detector.step:,} of {config.train.steps:,} steps"),
        ("Regressor", name_of(fitted.regressor.arrays)),
        ("Threshold", f"{calibration.threshold:.4f}, {source}"),
    ]
    if calibration.fake_below is not None:
        rows.append(("Fake below", f"{calibration.fake_below:.4f}"))
    text = bundled.read_card(detector.folder) if detector.folder else ""
    return {"rows": rows, "limits": _limits(text), "text": text}


def _limits(card: str) -> list[str]:
    """The items of the card's section on limits, without Markdown."""
    for title in ("## What it cannot do", "## Limits"):
        if title in card:
            section = card.split(title, 1)[1].split("\n## ", 1)[0]
            items = section.split("\n- ")[1:]
            return [
                " ".join(item.split("\n\n")[0].replace("**", "").replace("`", "").split())
                for item in items
            ]
    return []


def _repeat(detector, path: Path, prediction: Prediction) -> dict[str, Any]:
    """What is needed to reproduce the page."""
    name = f"./{path.name}" if path.name.startswith("-") else path.name
    name = STDIN if prediction.input == STDIN != path.name else name
    command = ["deepfidelity", "predict", name, "--report=page.html"]
    digests = [("Detector", prediction.detector)]
    if detector.folder is not None:
        if detector.folder != packed.BUNDLED:
            command.insert(3, f"--workdir={detector.folder.resolve().name}")
        weights = detector.folder / packed.WEIGHTS
        if weights.is_file():
            digests.append(("Weights, SHA-256", digest(weights)))
        else:
            digests.append(("Weights", detector.weights))
        digests.append(("Regressor, SHA-256", digest(detector.folder / "fidelity.npz")))
    faces = asdict(detector.faces)
    usual: Mapping[str, Any] = detector.config.faces.to_dict()
    for name, value in faces.items():
        if name in usual and value != usual[name]:
            value = Path(value).name if name == "yunet" else value
            command.append(f"--config.faces.{name}={value}")
    return {
        "command": shlex.join(command),
        "settings": [(f"faces.{name}", str(value)) for name, value in faces.items()],
        "digests": digests,
        "versions": list(provenance.versions().items()),
    }
