"""Write rendered people as pictures: `python -m deepfidelity_datasets.synthetic_faces FOLDER 400`.

They are sharp, unlike photographs of small faces. The bundled detector was trained on both.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.files import require_writable, written_whole
from deepfidelity_jax.processes import console
from deepfidelity_jax.progress import say

SEED = 77
SIZE, AROUND = 224, 40  # the renderer frames a face as a crop; a face detector needs more around it


def draw(person: int) -> UInt8[np.ndarray, "side side 3"]:
    """The picture of a person, by number: RGB, 304 x 304."""
    rng = np.random.default_rng([SEED, person])
    identity, scene = renderer.sample_identity(rng), renderer.sample_scene(rng)
    image, _ = renderer.render(identity, scene, renderer.sample_poses(rng, 1)[0], SIZE)
    return cv2.copyMakeBorder(image, *[AROUND] * 4, cv2.BORDER_REFLECT_101)


def write(folder: Path, count: int) -> int:
    """Write the first `count` people to a folder, except those that are already there."""
    if count < 1:
        raise InputError(f"COUNT is {count}: give at least 1")
    require_writable(folder / "rendered_0000.jpg", "FOLDER")
    folder.mkdir(parents=True, exist_ok=True)
    for person in range(count):
        path = folder / f"rendered_{person:04d}.jpg"
        if not path.exists():
            bgr = np.ascontiguousarray(draw(person)[..., ::-1])
            encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 96])[1]
            with written_whole(path) as file:
                file.write(encoded.tobytes())
    say(f"{count} rendered people in {folder}")
    return console.DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit statuses are the same as for the other commands."""
    parser = argparse.ArgumentParser(
        prog="python -m deepfidelity_datasets.synthetic_faces",
        description="Write rendered people as pictures, one of each.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("count", type=int, metavar="COUNT")
    args = parser.parse_args(argv)
    return console.end(
        lambda: write(args.folder.expanduser(), args.count),
        lambda: f"the same command draws what is missing in {args.folder}",
    )


if __name__ == "__main__":
    sys.exit(main())
