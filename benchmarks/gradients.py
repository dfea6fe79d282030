"""What each custom gradient saves: `python benchmarks/gradients.py [--variant=large] [--size=224]`.

The forward and backward pass of a training step, once unchanged and once for each operator with
JAX's own derivative in place of the custom one. The forms take turns in one process, so that a busy
machine affects all equally. The best call of each counts, in wall time and in CPU time.
"""

import argparse
import time
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import optax

from deepfidelity_jax.network import attention, layers
from deepfidelity_jax.network.kernels import depthwise, global_attention, norms, products
from deepfidelity_jax.network.ssaaformer import SSAAFormer, SSAAFormerConfig

ON_CPU = jax.default_backend() == "cpu"
# Where the network calls each operator, and the same operator without its custom gradient.
OPERATORS = {
    "depthwise correlation": (
        (attention, "correlate"),
        depthwise.shifted_sum if ON_CPU else depthwise.plain_correlation,
    ),
    "attention": (
        (attention, "dot_product_attention"),
        global_attention.FORMS["divided_last" if ON_CPU else "xla"],
    ),
    "BatchNorm": ((layers, "batch_norm"), norms.plain_batch_norm),
    "product": ((layers, "project"), products.plain_product),
    "product and GELU": ((layers, "project_gelu"), products.plain_gelu_product),
}


def build(options, images, label):
    """The compiled forward and backward pass with the operators that are in place now."""
    config = getattr(SSAAFormerConfig, options.variant)(dtype=options.dtype)
    model = SSAAFormer(config)
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), images[:1])

    def loss_of(params):
        outputs, new = model.apply(
            variables | {"params": params},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )
        entropy = optax.softmax_cross_entropy_with_integer_labels
        tokens = jnp.broadcast_to(label[:, None], outputs.token_logits.shape[:2])
        loss = entropy(outputs.class_logits, label).mean()
        return loss + 0.5 * entropy(outputs.token_logits, tokens).mean(), new["batch_stats"]

    compiled = (
        jax.jit(jax.value_and_grad(loss_of, has_aux=True)).lower(variables["params"]).compile()
    )
    return partial(compiled, variables["params"])


def main():
    """Compile every form, let them take turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="large")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32" if ON_CPU else "bfloat16")
    options = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    shape = (options.batch, options.size, options.size, 3)
    images = jax.random.normal(jax.random.key(0), shape)
    label = jnp.arange(options.batch) % 2

    forms = {"as it is": build(options, images, label)}
    for name, (target, plain) in OPERATORS.items():
        with mock.patch.object(*target, plain):
            forms[name] = build(options, images, label)
    best = dict.fromkeys(forms, (float("inf"), float("inf")))
    for _ in range(options.rounds):
        for name, form in forms.items():
            jax.block_until_ready(form())  # warm up: its memory is cold after the others' turns
            wall, cores = time.perf_counter(), time.process_time()
            jax.block_until_ready(form())
            taken = (time.perf_counter() - wall, time.process_time() - cores)
            best[name] = tuple(map(min, best[name], taken))

    wall, cores = best["as it is"]
    print(f"{options.variant}, {options.batch} images of {options.size}, {options.dtype}")
    print("| without the custom gradient of | ms | times as long | CPU ms | times |")
    print("|---|---|---|---|---|")
    for name, (own_wall, own_cores) in best.items():
        print(
            f"| {name} | {own_wall * 1e3:.1f} | {own_wall / wall:.2f} "
            f"| {own_cores * 1e3:.1f} | {own_cores / cores:.2f} |"
        )


if __name__ == "__main__":
    main()
