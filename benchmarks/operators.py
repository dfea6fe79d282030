"""Every form of every operator, in one run: `python benchmarks/operators.py [--json=FILE]`.

Milliseconds are the best of several calls, the forms taking turns so that a busy machine
troubles all alike. Shapes are those of SSAAFormer-L at 224, four images.
"""

import argparse
import json
import time
from functools import partial

import jax
import jax.numpy as jnp

from deepfidelity_jax.attention import (
    attend,
    depthwise_conv,
    divided_last,
    grouped_conv,
    grouped_grad,
    mirror_mix,
    shifted_sum,
    tap_products,
)

SHAPES = {"stage 1": (4, 56, 56, 128), "stage 2": (4, 28, 28, 192), "stage 3": (4, 14, 14, 448)}


def list_forms(shape, size):
    """(operator, form) -> compiled function without arguments."""
    keys = jax.random.split(jax.random.key(0), 3)
    x, g = (jax.random.normal(key, shape) for key in keys[:2])
    kernel, bias = jax.random.normal(keys[2], (size, size, shape[-1])), jnp.ones(shape[-1])
    tokens = x.reshape(shape[0], -1, shape[-1] // 64, 64)

    def gradient(x, g):
        return jax.vjp(depthwise_conv, x, kernel, bias)[1](g)

    depthwise, kernel_gradient = f"depthwise {size}x{size}", f"its kernel gradient {size}x{size}"
    forms = {
        (depthwise, "chosen here"): (depthwise_conv, x, kernel, bias),
        (depthwise, "shifted sum"): (shifted_sum, x, kernel),
        (depthwise, "grouped convolution"): (grouped_conv, x, kernel),
        (kernel_gradient, "tap products"): (partial(tap_products, k=size), x, g),
        (kernel_gradient, "grouped convolution"): (partial(grouped_grad, k=size), x, g),
        (f"whole gradient {size}x{size}", "chosen here"): (gradient, x, g),
        ("mirror mix", "only form"): (mirror_mix, x, jnp.ones(2)),
        ("attention", "chosen here"): (attend, tokens, tokens, tokens),
        ("attention", "divided last"): (divided_last, tokens, tokens, tokens),
        ("attention", "the library's"): (jax.nn.dot_product_attention, tokens, tokens, tokens),
    }
    if size == 5:  # the stages with 5 x 5 have no attention
        forms = {name: form for name, form in forms.items() if name[0] != "attention"}
    return {
        name: partial(jax.jit(function).lower(*arguments).compile(), *arguments)
        for name, (function, *arguments) in forms.items()
    }


def time_in_turns(forms, rounds):
    """Seconds of each form's best call."""
    best = dict.fromkeys(forms, float("inf"))
    for _ in range(rounds + 1):
        for name, call in forms.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main():
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json")
    options = parser.parse_args()
    rows = []
    for stage, shape in SHAPES.items():
        size = 3 if stage == "stage 3" else 5
        for (operator, form), seconds in time_in_turns(
            list_forms(shape, size), options.rounds
        ).items():
            rows.append({"shape": shape, "operator": operator, "form": form, "ms": seconds * 1e3})
            print(f"{stage}  {operator:26} {form:22} {seconds * 1e3:9.2f} ms")
    if options.json:
        device = jax.devices()[0]
        found = {"device": device.device_kind, "platform": device.platform, "rows": rows}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
