"""Every form of every operator, in one run: `python benchmarks/operators.py [--json=FILE]`.

Milliseconds are the best of several turns. The forms take turns, so that a busy machine affects all
equally; on an accelerator a turn is many calls in a row. Shapes are those of SSAAFormer-L at 224,
four images in float32 on a CPU, 64 in bfloat16 elsewhere. `copy` reads the input and writes as
much. If a form cannot run here, its line says why.
"""

import argparse
import json
import time
from functools import partial

import jax
import jax.numpy as jnp

from deepfidelity_jax.network.attention import attend, depthwise_conv, mirror_mix
from deepfidelity_jax.network.kernels import norms, pallas, products
from deepfidelity_jax.network.kernels.depthwise import (
    plain_correlation,
    plain_gradient,
    shifted_sum,
    tap_products,
)
from deepfidelity_jax.network.kernels.global_attention import FORMS, GRADIENTS

# Height, width, channels; the depthwise kernels there; whether there is attention.
STAGES = {
    "stage 1": ((56, 56, 128), (3, 5), False),
    "stage 2": ((28, 28, 192), (3, 5), False),
    "stage 3": ((14, 14, 448), (3,), True),
    "stage 4": ((7, 7, 640), (3,), True),
}


def list_forms(stage: str, batch: int, dtype: str) -> dict:
    """(operator, form) -> (function, its arguments), for a stage of the network."""
    image, sizes, attending = STAGES[stage]
    shape, c = (batch, *image), image[-1]
    keys = jax.random.split(jax.random.key(0), 4)
    draw = jax.jit(jax.random.normal, static_argnums=(1, 2))
    x, g = draw(keys[0], shape, dtype), draw(keys[1], shape, dtype)
    forms = {("copy", "x + 1"): (lambda x: x + 1, x)}
    for size in sizes:
        kernel, bias = draw(keys[2], (size, size, c), dtype), jnp.ones(c, dtype)
        depthwise, gradient = f"depthwise {size}x{size}", f"its kernel gradient {size}x{size}"
        forms |= {
            (depthwise, "chosen here"): (depthwise_conv, x, kernel, bias),
            (depthwise, "shifted sum"): (shifted_sum, x, kernel),
            (depthwise, "grouped convolution"): (plain_correlation, x, kernel),
            (gradient, "tap products"): (partial(tap_products, k=size), x, g),
            (gradient, "grouped convolution"): (partial(plain_gradient, k=size), x, g),
            (gradient, "kernel"): (partial(pallas.depthwise_grad, k=size), x, g),
            (f"whole gradient {size}x{size}", "chosen here"): (
                lambda x, g, kernel, bias: jax.vjp(depthwise_conv, x, kernel, bias)[1](g),
                x, g, kernel, bias,
            ),
        }  # fmt: skip
    if attending:
        tokens = x.reshape(batch, -1, c // 64, 64)
        forms[("attention", "chosen here")] = (attend, tokens, tokens, tokens)
        forms |= {("attention", name): (form, *[tokens] * 3) for name, form in FORMS.items()}
        forms |= {("its gradient", name): (form, *[tokens] * 5) for name, form in GRADIENTS.items()}
    else:
        rows, cotangent, ones = x.reshape(-1, c), g.reshape(-1, c), jnp.ones(c)
        wide = cotangent.astype(jnp.float32)
        forms |= {
            ("mirror mix", "only form"): (mirror_mix, x, jnp.ones(2, dtype)),
            ("moments", "plain"): (norms.moments, rows),
            ("moments", "kernel"): (pallas.moments, rows),
            ("batch norm sums", "plain"): (norms.sums, rows, wide, ones),
            ("batch norm sums", "kernel"): (pallas.batch_norm_sums, rows, wide, ones),
        }
    rows, kernel = x.reshape(-1, c), draw(keys[3], (c, 4 * c), dtype) / c**0.5
    bias, hidden = jnp.ones(4 * c, dtype), jnp.tile(rows, (1, 4))
    return forms | {
        ("gelu product", "plain"): (lambda x, w, b: products.gelu(x @ w + b), rows, kernel, bias),
        ("gelu product", "kernel"): (pallas.gelu_product, rows, kernel, bias),
        ("gelu gradient", "plain"): (products.gelu_gradient, hidden, bias, hidden),
        ("gelu gradient", "kernel"): (pallas.gelu_gradient, hidden, bias, hidden),
    }


def start(forms: dict) -> tuple[dict, dict]:
    """A call without arguments for each form that runs here, and the reason for each other."""
    calls, refused = {}, {}
    for name, (function, *arguments) in forms.items():
        call = partial(jax.jit(function), *arguments)
        try:
            jax.block_until_ready(call())
            calls[name] = call
        except Exception as error:  # a compiler may raise anything
            refused[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
    return calls, refused


def time_in_turns(calls: dict, turns: int, in_a_row: int) -> dict[tuple[str, str], float]:
    """Seconds per call in the best turn of each form."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(turns):
        for name, call in calls.items():
            begin = time.perf_counter()
            for _ in range(in_a_row):
                result = call()
            jax.block_until_ready(result)
            best[name] = min(best[name], (time.perf_counter() - begin) / in_a_row)
    return best


def differ(calls: dict) -> dict[tuple[str, str], float]:
    """How far each kernel's result is from its plain form's, as a share of the largest number."""

    def compare(a, b):
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        return float(jnp.abs(a - b).max() / jnp.abs(b).max())

    differences = {}
    for operator, form in calls:
        plain = [calls.get((operator, name)) for name in ("plain", "grouped convolution")]
        plain = next(filter(None, plain), None)
        if form == "kernel" and plain:
            pairs = zip(*map(jax.tree.leaves, (calls[operator, form](), plain())), strict=True)
            differences[operator, form] = max(compare(a, b) for a, b in pairs)
    return differences


def measure(stage: str, batch: int, dtype: str, turns: int, in_a_row: int):
    """Time a stage's forms: one row (a dict) for each."""
    calls, refused = start(list_forms(stage, batch, dtype))
    seconds, differences = time_in_turns(calls, turns, in_a_row), differ(calls)
    for name in [*calls, *refused]:
        row = {"stage": stage, "operator": name[0], "form": name[1]}
        if name in refused:
            yield row | {"refused": refused[name]}
            continue
        row |= {"ms": seconds[name] * 1e3, "copies": seconds[name] / seconds["copy", "x + 1"]}
        yield row | ({"differs_by": differences[name]} if name in differences else {})


def describe(row: dict) -> str:
    """One line for a row of `measure`."""
    line = f"{row['stage']}  {row['operator']:26} {row['form']:20}"
    if "refused" in row:
        return f"{line} not here: {row['refused']}"
    line += f"{row['ms']:9.3f} ms {row['copies']:7.1f} copies"
    return line + (f", differs by {row['differs_by']:.0e}" if "differs_by" in row else "")


def main():
    """Print the table and write it where asked."""
    accelerated = jax.default_backend() != "cpu"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64 if accelerated else 4)
    parser.add_argument("--dtype", default="bfloat16" if accelerated else "float32")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json")
    options = parser.parse_args()
    rows = []
    for stage in STAGES:
        in_a_row = 20 if accelerated else 1
        for row in measure(stage, options.batch, options.dtype, options.rounds, in_a_row):
            rows.append(row)
            print(describe(row), flush=True)
    if options.json:
        device = jax.devices()[0]
        results = {"device": device.device_kind, "platform": device.platform, "rows": rows}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
