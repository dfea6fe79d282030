"""Speed of exported detectors: `python benchmarks/exported.py [--variants=...] [--json=FILE]`.

The bundled detector and networks with random weights, each as the detector itself, as StableHLO and
as ONNX in onnxruntime, in one process with alternating turns. Milliseconds are the best of several
turns, from uint8 crops to p_fake. Before that, the largest difference of each output from the
detector's own on eight crops is printed; for features, also relative to the largest feature.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from jax import export
from random_detectors import draw_detector

import deepfidelity_jax as df
from deepfidelity_jax.export import onnx_model, stablehlo
from deepfidelity_jax.export.program import INPUT, OUTPUTS
from deepfidelity_jax.export.write import draw_crops, measure, score

BATCHES = (1, 8, 64)


def make_detector(variant: str):
    """The bundled detector, or one of this variant with random weights, at 224 pixels or 128."""
    if variant == "bundled":
        return df.load()
    size = 128 if variant == "tiny" else 224
    return draw_detector(variant, size=size, crop=round(size / 0.9), share=0.9)


def make_forms(detector) -> dict:
    """Name -> function from crops to outputs."""
    model = onnx_model.write_model(detector, {}).SerializeToString()
    session = onnx_model.open_session(model)
    call = jax.jit(export.deserialize(bytearray(stablehlo.write_program(detector))).call)

    def ours(crops):
        fidelity = detector.fidelity(crops)
        return {"fidelity": fidelity, "p_fake": detector.p_fake(fidelity)}

    return {
        "ours": ours,
        "StableHLO": lambda crops: {k: np.asarray(v) for k, v in call(crops).items()},
        "onnxruntime": lambda crops: dict(
            zip(OUTPUTS, session.run(list(OUTPUTS), {INPUT: crops}), strict=True)
        ),
    }


def time_forms(forms: dict, crops, turns: int) -> dict[str, float]:
    """Milliseconds of each form: the best of alternating turns."""
    for run in forms.values():
        run(crops)
    best = dict.fromkeys(forms, np.inf)
    for _ in range(turns):
        for name, run in forms.items():
            start = time.perf_counter()
            run(crops)
            best[name] = min(best[name], 1000 * (time.perf_counter() - start))
    return best


def main():
    """Print both tables, and write them to --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", default="bundled,tiny,small")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json")
    options = parser.parse_args()
    results: dict = {"jax": jax.__version__, "onnxruntime": version("onnxruntime")}
    for variant in options.variants.split(","):
        detector = make_detector(variant)
        size, forms = detector.faces.size, make_forms(detector)
        entry = results[variant] = {"differences": {}, "ms": {}}
        crops = draw_crops(8, size)
        wanted = score(detector, crops)
        for name in ("StableHLO", "onnxruntime"):
            differences = measure(wanted, forms[name](crops))
            differences["features, relative"] = differences["features"] / float(
                np.abs(wanted["features"]).max()
            )
            entry["differences"][name] = differences
            print(variant, name, {k: f"{v:.1e}" for k, v in differences.items()}, flush=True)
        for batch in map(int, options.batches.split(",")):
            entry["ms"][batch] = times = time_forms(forms, draw_crops(batch, size), options.turns)
            print(variant, batch, {k: round(v, 2) for k, v in times.items()}, flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
