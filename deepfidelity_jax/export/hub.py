"""A detector as a folder for a model hub, which `load` and `--workdir` take as well.

model.safetensors  config.json  fidelity.npz   what `bundled.read` reads
README.md                                      the model card, with the fields that hubs read
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from deepfidelity_jax import __version__
from deepfidelity_jax.detector import bundled
from deepfidelity_jax.files import written_whole
from deepfidelity_jax.leaks.training_pictures import SEEN
from deepfidelity_jax.weight_files import packed

PARTIAL = ".partial"  # what is not whole yet, inside the folder, which may be a disk of its own
# The weights go first and come last: without them, a folder holds no detector.
FILES = (packed.WEIGHTS, "config.json", bundled.FITTED, SEEN, bundled.FINDER, *bundled.CARDS)
TAGS = ("deepfake-detection", "face-forgery", "image-quality", "jax", "flax", "ssaaformer")
# The names of the card's figures on hubs, and how the card writes them.
FIGURES = (
    ("roc_auc", "AUC over faces, test split", r"AUC over faces (\d\.\d+)"),
    ("accuracy", "correct verdicts at the threshold, faces of the test split",
     r"(?:correct|right) verdicts at the threshold: faces (\d\.\d+)"),
)  # fmt: skip


def write_folder(source: Path, folder: Path, dataset: str, licence: str) -> None:
    """Write the detector in `source`, a workdir or a packed folder, to `folder`.

    Weights are float32, and give the same scores as in `source`. `dataset`: the training data.
    """
    text = bundled.read_card(source) or "# Model card\n\nNo card was written.\n"
    with written_whole(folder / "README.md") as file:
        file.write(make_card(text, dataset, licence).encode())
    bundled.pack(source, folder, "float32")


@contextlib.contextmanager
def put_whole(place: Path) -> Iterator[Path]:
    """A folder to write a detector to, which at the end replaces the one in `place`.

    Other files in `place`, such as those of git, stay. After an error inside the block, nothing has
    changed.
    """
    new, is_ours = place / PARTIAL, not place.is_dir()
    shutil.rmtree(new, ignore_errors=True)  # left by a killed command
    new.mkdir(parents=True)
    try:
        yield new
        for name in FILES:
            (place / name).unlink(missing_ok=True)
        for name in reversed(FILES):
            if (new / name).exists():
                (new / name).replace(place / name)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if is_ours and not any(place.iterdir()):
            place.rmdir()


def make_card(text: str, dataset: str, licence: str) -> str:
    """The card `text` with YAML in front.

    Figures are from the first section that has any; none where the card calls them optimistic,
    because hubs show them without that warning.
    """
    lines = [f"license: {licence.lower()}" if licence else "license: other"]
    if not licence:
        lines.append("license_name: not-stated")
    lines += ["library_name: deepfidelity_jax", "pipeline_tag: image-classification", "tags:"]
    lines += [f"  - {tag}" for tag in TAGS]
    trusted = "" if re.search(r"figures\s+are\s+optimistic", text) else text
    figures = [(*row[:2], re.search(row[2], trusted)) for row in FIGURES]
    if any(match for *_, match in figures):
        lines += ["metrics:", *(f"  - {kind}" for kind, _, match in figures if match)]
        lines += _index(dataset, [(*row, match[1]) for *row, match in figures if match])
    usage = (
        "## Use\n\nWith deepfidelity_jax installed from a clone of its repository:\n\n```\n"
        "deepfidelity predict photo.jpg --workdir=THIS_FOLDER\n```\n\n"
        f"Written by deepfidelity_jax {__version__}.\n"
    )
    front = "\n".join(lines)
    text = text if "## Use\n" in text else f"{text.rstrip()}\n\n{usage}"
    return f"---\n{front}\n---\n\n{text}"


def _index(dataset: str, figures: list[tuple[str, str, str]]) -> list[str]:
    """The figures in the form of a model index."""
    lines = [
        "model-index:",
        "  - name: deepfidelity_jax",
        "    results:",
        "      - task:",
        "          type: image-classification",
        "        dataset:",
        f"          name: {dataset}",
        f"          type: {dataset}",
        "          split: test",
        "        metrics:",
    ]
    for kind, name, value in figures:
        lines += [f"          - type: {kind}", f"            value: {value}"]
        lines += [f"            name: {name}"]
    return lines
