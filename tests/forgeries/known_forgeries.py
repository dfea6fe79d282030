"""The forgeries that each family draws from a few seeds, for `test_known_forgeries.py`.

python tests/forgeries/known_forgeries.py

writes golden/families.npz: every eighth pixel of forgeries, masks and twins, by family and seed.
Make it anew when a family is changed on purpose, and say in CHANGELOG.md that trainings change.
"""

from pathlib import Path

import numpy as np
from test_families import FAMILIES, draw_face, families

GOLDEN = Path(__file__).parent / "golden" / "families.npz"
SEEDS, STEP = 10, 8


def draw_all():
    """Every golden array by `family/kind`, [seeds, h, w] or [seeds, h, w, 3]."""
    face, donor, made = draw_face(), draw_face(1), {}
    for family in FAMILIES:
        for seed in range(SEEDS):
            fake, mask = families.forge(family, face, donor, np.random.default_rng(seed))
            twin = families.make_twin(family, face, np.random.default_rng(seed))
            kinds = {"fake": fake, "mask": np.rint(255 * mask).astype(np.uint8), "twin": twin}
            for kind, image in kinds.items():
                made.setdefault(f"{family}/{kind}", []).append(image[::STEP, ::STEP])
    return {name: np.stack(images) for name, images in made.items()}


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **draw_all())
