"""SER-FIQ against one plain embedding: `python benchmarks/ser_fiq.py [--variant=iResNet-100]`.

All but the last layer runs once for all passes, so a hundred should cost little more than one. The
two take turns, so that a busy machine troubles both alike; weights are random, which costs the
same.
"""

import argparse
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from deepfidelity_jax.iresnet import DEPTHS, SIDE, IResNet
from deepfidelity_jax.ser_fiq import PASSES, SEED, draw, measure


def random_variables(depths):
    """Variables of about the right scale."""
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    shapes = jax.eval_shape(IResNet(depths).init, jax.random.key(0), images)
    rng = np.random.default_rng(0)

    def draw_leaf(path, leaf):
        if path[-1].key == "kernel":
            deviation = np.prod(leaf.shape[:-1]) ** -0.5
            return deviation * rng.standard_normal(leaf.shape, np.float32)
        return rng.uniform(0.5, 1.0, leaf.shape).astype(np.float32)

    return jax.device_put(jax.tree_util.tree_map_with_path(draw_leaf, shapes))


def main():
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=DEPTHS, default="iResNet-50")
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json")
    options = parser.parse_args()
    depths = DEPTHS[options.variant]
    variables = random_variables(depths)
    shape = (options.faces, SIDE, SIDE, 3)
    faces = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)

    @jax.jit
    def embed(variables, faces):
        return IResNet(depths).apply(variables, faces.astype(jnp.float32) / 127.5 - 1)

    factors = draw(SEED)
    forms = {
        "one plain embedding": lambda: embed(variables, faces),
        f"SER-FIQ, {PASSES} passes": lambda: measure(variables, faces, factors, depths=depths),
    }
    seconds = {name: [] for name in forms}
    for turn in range(options.rounds + 1):
        for name, call in forms.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if turn:  # the first one compiles
                seconds[name].append(time.perf_counter() - start)
    plain, ser_fiq = seconds.values()
    found = {
        "device": jax.devices()[0].device_kind,
        "variant": options.variant,
        "faces": options.faces,
        "ms": {name: [round(1e3 * s, 1) for s in times] for name, times in seconds.items()},
        "ratio_of_medians": statistics.median(ser_fiq) / statistics.median(plain),
        "ratio_of_bests": min(ser_fiq) / min(plain),
    }
    print(f"{options.variant}, {options.faces} faces, {found['device']}, {options.rounds} rounds")
    for name, times in seconds.items():
        median, best = 1e3 * statistics.median(times), 1e3 * min(times)
        print(f"{name:24} median {median:8.1f} ms   best {best:8.1f} ms")
    print(
        f"{'SER-FIQ over plain':24} median {found['ratio_of_medians']:8.2f}      "
        f"best {found['ratio_of_bests']:8.2f}"
    )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
