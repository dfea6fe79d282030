"""Every regressor and the network's own heads on the features of a finished run, in one table.

`python benchmarks/regressors.py /tmp/demo`, or `--methods svr ridge` for some of them; `--tune`
lets cross-validation by video choose the settings. A row is fitted to the training split with the
run's options and scored on its test split; AUC has 95% intervals over videos. Spearman's
correlation is between fidelity and measured quality within a class, per frame. Prediction is timed
on batches of 64 features, without the network. Heads are part of the network: nothing is fitted,
and heads that it was trained without are left out.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.arrays import regress
from deepfidelity_jax.fidelity.regressor import METHODS
from deepfidelity_jax.network.outputs import HEADS
from deepfidelity_jax.options.checks import complete
from deepfidelity_jax.progress import say
from deepfidelity_jax.scoring.evaluate import fit_chosen, score
from deepfidelity_jax.scoring.exported_features import Features
from deepfidelity_jax.scoring.metrics import summarize
from deepfidelity_jax.scoring.table import Predictions
from deepfidelity_jax.workdir import read_config

BATCH = 64
COLUMNS = "| | frame AUC | video AUC | Spearman, real | Spearman, fake | fit, s | predict, µs |"


def time_prediction(arrays, features: np.ndarray) -> float:
    """Microseconds per face in a compiled batch of 64; the best of five."""
    predict, batch = jax.jit(regress), jnp.asarray(features[:BATCH])
    arrays, times = jax.device_put(arrays), []
    jax.block_until_ready(predict(arrays, batch))
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(predict(arrays, batch))
        times.append(time.perf_counter() - start)
    return min(times) / len(batch) * 1e6


def row(name: str, scores: np.ndarray, test: Features, seconds: str, micros: str) -> str:
    """A line of the table."""
    n = len(scores)
    table = Predictions(
        path=test.path, dataset=["test"] * n, split=["test"] * n, method=test.method,
        video_id=test.video_id, frame=test.frame, label=test.label, quality=test.quality,
        fidelity_target=test.fidelity, fidelity=scores.astype(np.float32),
        p_fake=np.zeros(n, np.float32),  # no threshold here, so no probability
    )  # fmt: skip
    metrics = summarize(table, 0.5, "fixed")
    aucs = [
        f"{metrics[key]:.3f} "
        + (
            "[{:.3f}, {:.3f}]".format(*bounds)
            if (bounds := metrics["ci"][key])
            else "(no interval)"
        )
        for key in ("frame_auc", "video_auc")
    ]
    ranks = [f"{metrics['fidelity_quality_spearman'][kind]:.2f}" for kind in ("real", "fake")]
    return f"| {' | '.join([name, *aucs, *ranks, seconds, micros])} |"


def main():
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    every = (*HEADS, *METHODS)
    parser.add_argument("--methods", nargs="+", default=every, choices=every)
    parser.add_argument("--tune", action="store_true")
    options = parser.parse_args()
    workdir = options.workdir
    config = complete(read_config(workdir))
    dataset = config.data.dataset
    splits = [Features.load(workdir / "features" / f"{dataset}-{s}.npz") for s in ("train", "test")]
    training, test = splits[0].without(config.train.leave_out), splits[1]
    there = dict(zip(HEADS, np.isfinite(test.answers).all(axis=0), strict=True))
    if not there["logits"]:
        raise InputError(f"{workdir}/features is of an earlier version, without what the heads say")
    videos = len(set(test.video_id))
    print(f"{len(test.label)} test faces, {videos} videos; fitted to {len(training.label)} faces\n")
    print(COLUMNS)
    print("|---" * COLUMNS.count(" | ") + "|")
    for method in options.methods:
        if not there.get(method, True):
            say(f"{method}: the network was trained without it")
            continue
        config.fidelity.regressor, config.fidelity.tune = method, options.tune
        start = time.perf_counter()
        fitted = fit_chosen(config, training)
        seconds = f"{time.perf_counter() - start:.1f}"
        scores = score(fitted, test)
        if method in HEADS:
            print(row(method, scores, test, "", ""), flush=True)
            continue
        micros = f"{time_prediction(fitted.arrays, test.feature):.1f}"
        settings = {k: v for k, v in fitted.settings.items() if isinstance(v, float)}
        print(row(method, scores, test, seconds, micros), flush=True)
        say(f"{method}: {fitted.settings['rows']} rows, {settings}")


if __name__ == "__main__":
    main()
