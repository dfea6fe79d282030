"""Fitting the regressor and predicting with it, for growing n: `python benchmarks/regressor.py`.

Runs both solvers if both are installed (extra `fast`), each in its own process, and reports the
peak memory beyond that of the imports. Features are 640 numbers computed from 12 hidden ones; about
two thirds become support vectors, as with a trained network.
"""

import argparse
import importlib.util
import json
import subprocess
import sys

PROGRAM = """
import json, resource, sys, time
import jax
import numpy as np
from deepfidelity_jax.fidelity import arrays, regressor
{solver}

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

n, d = {rows}, 640
r = np.random.default_rng(0)
basis = r.normal(size=(12, d)).astype(np.float32)

def faces(n):
    hidden = r.normal(size=(n, 12)).astype(np.float32)
    features = hidden @ basis + 0.5 * r.normal(size=(n, d)).astype(np.float32)
    real = hidden[:, 0] + 0.3 * r.normal(size=n) > 0
    quality = 0.4 / (1 + np.exp(-hidden[:, 1] - 0.5 * r.normal(size=n)))
    return features, np.where(real, 0.6, 0.0) + quality

(x, y), (new, _) = faces(n), faces(2048)
before, start = peak(), time.perf_counter()
fitted = regressor.fit_regressor(x, y, **json.loads(sys.argv[1]))
seconds, memory = time.perf_counter() - start, peak() - before

predict = jax.jit(arrays.regress)
ours = np.asarray(predict(fitted.arrays, new))
start = time.perf_counter()
jax.block_until_ready(predict(fitted.arrays, new))
took = (time.perf_counter() - start) / len(new)

# The same support vectors in scikit-learn, in double precision.
from sklearn.metrics.pairwise import rbf_kernel
a = fitted.arrays
some = new[:256].astype(np.float64) - a.centre
start = time.perf_counter()
kernel = rbf_kernel(some, a.vectors.astype(np.float64), gamma=float(a.gamma))
exact = kernel @ a.coefficients.astype(np.float64) + float(a.intercept)
reference = (time.perf_counter() - start) / len(some)
print(json.dumps({{
    "solver": fitted.settings["solver"], "rows": n, "fit_s": seconds, "peak_gib": memory / 2**30,
    "support_vectors": fitted.settings["support_vectors"], "predict_us": took * 1e6,
    "double_precision_us": reference * 1e6, "difference": float(np.abs(ours[:256] - exact).max()),
}}))
"""


def main():
    """Print the table, and write it to --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 4000, 8000, 16000])
    parser.add_argument("--solvers", nargs="+", default=["sklearn", "sklearnex"])
    parser.add_argument("--C", type=float, default=1.0)
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--gamma", type=float, default=1.0)
    parser.add_argument("--json")
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in ("C", "epsilon", "gamma")}
    rows = []
    for n in options.rows:
        for solver in options.solvers:
            if importlib.util.find_spec(solver) is None:
                continue
            # fit_regressor uses the faster solver if it is installed.
            hide = "sys.modules['sklearnex'] = None" if solver == "sklearn" else ""
            program = PROGRAM.format(rows=n, solver=hide)
            command = [sys.executable, "-c", program, json.dumps(settings)]
            row = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
            rows.append(row)
            print(
                f"{row['solver']:10} {n:7} rows  fit {row['fit_s']:8.2f} s  "
                f"{row['peak_gib']:5.2f} GiB  {row['support_vectors']:6} support vectors  "
                f"per face: here {row['predict_us']:7.1f} us, double precision "
                f"{row['double_precision_us']:7.1f} us, difference {row['difference']:.1e}",
                flush=True,
            )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"settings": settings, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
