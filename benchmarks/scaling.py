"""Weak scaling of the training step: `python benchmarks/scaling.py [--json=FILE]`.

Every device has the same share of the batch, so that with perfect scaling a step takes as long on
eight devices as on one. If there are fewer devices than asked for, virtual CPU devices replace
them. They share the machine's cores, so images/s can hardly grow, and the result is the overhead of
dividing the work: the CPU seconds per image compared with those on one device.

Each number of devices is measured in a separate process. The state is replicated, or split
(`config.train.shard_state`).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial

COUNTS = (1, 2, 4, 8)


def measure(devices: int, per_device: int, size: int, steps: int, split: bool) -> dict:
    """Time steps of the tiny network on the first `devices` devices of this process."""
    import jax
    import numpy as np

    from deepfidelity_configs import default
    from deepfidelity_jax.network.build import build_model
    from deepfidelity_jax.training import sharding
    from deepfidelity_jax.training.batches import TOKEN
    from deepfidelity_jax.training.step import create_state, train_step

    config = default.get_config()
    config.model.variant, config.model.image_size = "tiny", size
    config.train.batch_size = devices * per_device
    model = build_model(config)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("data",))
    create = partial(create_state, model, config)
    places = sharding.place_state(jax.eval_shape(create), mesh, split)
    step = jax.jit(
        partial(train_step, model=model, config=config),
        donate_argnums=0,
        out_shardings=(places, sharding.replicated(mesh)),
    )
    rng, n = np.random.default_rng(0), devices * per_device
    batch = {
        "image": rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8),
        "label": np.tile(np.array([1, 0], np.int32), n // 2),
        "fidelity": rng.uniform(size=n).astype(np.float32),
        "forged": rng.uniform(size=(n, (size // TOKEN) ** 2)).astype(np.float32),
    }
    state = jax.jit(create, out_shardings=places)()
    batch = sharding.place_batch(batch, mesh)
    state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))
    start, start_cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    shards = [shard for leaf in jax.tree.leaves(state) for shard in leaf.addressable_shards]
    return {
        "devices": devices,
        "split": split,
        "device": jax.devices()[0].device_kind,
        "batch": n,
        "step_ms": seconds / steps * 1e3,
        "images_per_s": n * steps / seconds,
        "cpu_ms_per_image": cpu / steps / n * 1e3,
        "state_mib_per_device": sum(
            shard.data.nbytes for shard in shards if shard.device == jax.devices()[0]
        )
        / 2**20,
    }


def main():
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-device", type=int, default=4)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--one", type=int, help="measure this number of devices, in this process")
    parser.add_argument("--split", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.one:
        result = measure(
            options.one, options.per_device, options.size, options.steps, options.split
        )
        print(json.dumps(result))
        return
    rows, header = [], f"{'devices':>8}{'state':>12}{'step ms':>10}{'images/s':>10}"
    print(header + f"{'CPU ms/image':>14}{'state MiB/device':>18}")
    # A process's number of virtual CPU devices is fixed when it starts; an accelerator ignores it.
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(max(COUNTS))}
    for split in (False, True):
        for count in COUNTS:
            arguments = [f"--{name}={getattr(options, name.replace('-', '_'))}" for name in
                         ("per-device", "size", "steps")]  # fmt: skip
            done = subprocess.run(
                [sys.executable, __file__, f"--one={count}", *arguments, *["--split"] * split],
                env=environment, stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            row = json.loads(done.stdout)
            rows.append(row)
            print(
                f"{count:8}{'split' if split else 'replicated':>12}{row['step_ms']:10.1f}"
                f"{row['images_per_s']:10.1f}{row['cpu_ms_per_image']:14.2f}"
                f"{row['state_mib_per_device']:18.2f}",
                flush=True,
            )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"cores": os.cpu_count(), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
