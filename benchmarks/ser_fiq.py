"""SER-FIQ against one plain embedding: `python benchmarks/ser_fiq.py [--variant=iResNet-100]`.

All layers but the last run once for all passes, so a hundred passes should cost little more than
one. The two sides take turns, so that a busy machine affects both equally. On a CPU look at the CPU
time as well, which other programs hardly change. Weights are random; that does not change the cost.
"""

import argparse
import json
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from deepfidelity_jax.quality.iresnet import DEPTHS, SIDE, IResNet
from deepfidelity_jax.quality.ser_fiq import PASSES, SEED, draw, measure


def random_variables(depths):
    """Random variables of about the right scale."""
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
    """Print the table, and write it to --json."""
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
    wall, cpu = {name: [] for name in forms}, {name: [] for name in forms}
    for turn in range(options.rounds + 1):
        for name, call in forms.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(call())
            if turn:  # the first one compiles
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - start_cpu)

    device = jax.devices()[0].device_kind
    results = {"device": device, "variant": options.variant, "faces": options.faces}
    print(f"{options.variant}, {options.faces} faces, {device}, {options.rounds} rounds, medians")
    for clock, times in (("wall", wall), ("cpu", cpu)):
        plain, ser_fiq = (statistics.median(values) for values in times.values())
        results[clock] = {"ms": [1e3 * plain, 1e3 * ser_fiq], "ratio": ser_fiq / plain}
        for name, value in zip(forms, (plain, ser_fiq), strict=True):
            print(f"{clock:5} {name:22} {1e3 * value:8.1f} ms")
        print(f"{clock:5} {'ratio':22} {ser_fiq / plain:8.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
