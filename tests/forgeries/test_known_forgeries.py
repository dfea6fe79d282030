"""The same seed draws the same forgery as in the last release: trainings stay comparable."""

import numpy as np
from known_forgeries import GOLDEN, draw_all


def test_forgeries_are_those_of_the_last_release():
    made = draw_all()
    with np.load(GOLDEN) as golden:
        assert set(golden.files) == set(made)
        for name in golden.files:
            apart = np.abs(golden[name].astype(int) - made[name])
            # Builds of OpenCV round differently.
            assert np.mean(apart > 2) < 0.01, name
