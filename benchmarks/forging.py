"""How fast training forges: CPU time of one core per pair, by family and as training draws them.

python benchmarks/forging.py [--pairs=300]

A pair is a real face and its forgery as an input worker of `configs/bundled.py` makes them: the
record decoded, a simulated retake, the family, its twin, the treatments, both pictures encoded and
decoded, measured and augmented. CPU time, which other programs on the machine change little.
Records are rendered faces, at the sizes of `configs/bundled.py` (108 pixels) and
`configs/folder.py` (144).
"""

import argparse
import time
from types import MappingProxyType

import cv2
import numpy as np

from deepfidelity_configs import bundled
from deepfidelity_datasets.synthetic_faces import renderer
from deepfidelity_jax.fidelity.scale import FidelityScale
from deepfidelity_jax.forgeries import augment, families
from deepfidelity_jax.images.pictures import encode_image
from deepfidelity_jax.quality.measure import Measure
from deepfidelity_jax.records.schema import REAL
from deepfidelity_jax.training.batches import ForgedPair, TrainingInput

PEOPLE = 12
SIZES = MappingProxyType({108: 96, 144: 128})  # recorded crop: what the network sees


def draw_records(size: int) -> list[dict]:
    """Real records of as many people, with what forging needs of them."""
    records = []
    for seed in range(PEOPLE):
        rng = np.random.default_rng(seed)
        person, scene = renderer.sample_identity(rng), renderer.sample_scene(rng)
        image, points = renderer.render(person, scene, renderer.sample_poses(rng, 1)[0], size)
        records.append(
            {
                "image": encode_image(image, quality=100),
                "landmarks": points.astype(np.float32),
                "label": REAL,
                "quality": 0.5,
                "video_id": str(seed),
                "path": f"{seed}.jpg",
                "origins": f"person/{seed}",
            }
        )
    return records


def main() -> None:
    """Print milliseconds per pair and forged faces per second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=300)
    pairs = parser.parse_args().pairs
    cv2.setNumThreads(1)  # as in an input worker
    config = bundled.get_config()
    print("| crop | family | ms per pair | forged faces per second and core |\n|---|---|---|---|")
    for size, view in SIZES.items():
        records = draw_records(size)
        for family in (*families.FAMILIES, "as drawn in training"):
            made_from = TrainingInput(
                size=view,
                settings=augment.AugmentSettings(**config.augment),
                quality_scale=FidelityScale((0.0, 1.0), (0.0, 1.0)),
                measure=Measure.from_config(config.quality),
                masks=True,
                leave_out=set(families.FAMILIES) - {family} if family in families.FAMILIES else (),
            )
            make = ForgedPair(records, made_from)
            seconds = []
            for seed in range(pairs):
                start = time.process_time()
                make.random_map(records[seed % PEOPLE], np.random.default_rng(seed))
                seconds.append(time.process_time() - start)
            mean = np.mean(seconds[5:])
            print(f"| {size} | {family} | {1000 * mean:.1f} | {1 / mean:.0f} |", flush=True)


if __name__ == "__main__":
    main()
