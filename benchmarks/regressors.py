"""Every regressor and the network's own heads on the features of a finished run, in one table.

`python benchmarks/regressors.py /tmp/demo`, or `--methods svr ridge` for some of them; `--tune`
lets cross-validation by video choose the settings. A row is fitted to the training split with the
run's options and scored on its test split; AUC has 95% intervals over videos. Spearman's
correlation is that of fidelity and measured quality within a class, per frame. Prediction is timed
on batches of 64 features, without the network. Heads are part of the network: nothing is fitted.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from deepfidelity_jax.detector.load import Detector, load
from deepfidelity_jax.errors import InputError
from deepfidelity_jax.fidelity.arrays import regress
from deepfidelity_jax.fidelity.regressor import METHODS
from deepfidelity_jax.network.build import build_model
from deepfidelity_jax.network.ssaaformer import normalise
from deepfidelity_jax.options.checks import complete
from deepfidelity_jax.progress import say
from deepfidelity_jax.records.schema import Records
from deepfidelity_jax.records.write import records_dir
from deepfidelity_jax.scoring.evaluate import fit_chosen
from deepfidelity_jax.scoring.exported_features import Features, find_records
from deepfidelity_jax.scoring.metrics import summarize
from deepfidelity_jax.scoring.table import Predictions
from deepfidelity_jax.training import checkpoint
from deepfidelity_jax.training.batches import evaluation_batches
from deepfidelity_jax.training.trained import read_trained

BATCH = 64
COLUMNS = "| | frame AUC | video AUC | Spearman, real | Spearman, fake | fit, s | predict, µs |"


def score_heads(workdir: Path, detector: Detector, records: Records) -> dict[str, np.ndarray]:
    """What each head says of the test faces, high is real, in the order of the records.

    class + token head: logit of real minus logit of fake, as in validation. class head: alone.
    fidelity head: its fidelity for each class, weighed by the probabilities of the first.
    """
    config, variables, _ = read_trained(workdir)
    model = build_model(config)

    @jax.jit
    def forward(variables, images):
        found = model.apply(variables, normalise(images), train=False)
        margins = [logits[:, 1] - logits[:, 0] for logits in (found.logits, found.class_logits)]
        if found.fidelity is None:
            return margins
        return [*margins, jnp.sum(jax.nn.softmax(found.logits) * found.fidelity, axis=1)]

    own = detector.config
    batches = evaluation_batches(records, own.model.image_size, own.model.eval_crop, BATCH)
    parts = [jax.device_get(forward(variables, batch["image"])) for batch in batches]
    names = ("class + token head", "class head", "fidelity head")
    return dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=False))


def time_prediction(arrays, features: np.ndarray) -> float:
    """Microseconds a face in a compiled batch of 64; the best of five."""
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
    found = summarize(table, 0.5, "fixed")
    aucs = [
        f"{found[key]:.3f} " + "[{:.3f}, {:.3f}]".format(*found["ci"][key])
        for key in ("frame_auc", "video_auc")
    ]
    ranks = [f"{found['fidelity_quality_spearman'][kind]:.2f}" for kind in ("real", "fake")]
    return f"| {' | '.join([name, *aucs, *ranks, seconds, micros])} |"


def main():
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--tune", action="store_true")
    options = parser.parse_args()
    workdir = options.workdir
    detector = load(workdir)
    config = complete(detector.config)
    dataset = config.data.dataset
    places = [records_dir(config, workdir), workdir / "records"]
    step = checkpoint.best_step(workdir / "checkpoints")
    folder = find_records(workdir, places, step, dataset, "test")
    if folder is None:
        raise InputError(f"the records of {workdir} are not in {places[0]}")
    splits = [Features.load(workdir / "features" / f"{dataset}-{s}.npz") for s in ("train", "test")]
    training, test = splits[0].without(config.train.leave_out), splits[1]
    videos = len(set(test.video_id))
    print(f"{len(test.label)} test faces, {videos} videos; fitted to {len(training.label)} faces\n")
    print(COLUMNS)
    print("|---" * COLUMNS.count(" | ") + "|")
    for name, scores in score_heads(workdir, detector, Records(folder, "test")).items():
        print(row(name, scores, test, "", ""), flush=True)
    for method in options.methods:
        config.fidelity.regressor, config.fidelity.tune = method, options.tune
        start = time.perf_counter()
        fitted = fit_chosen(config, training)
        seconds = time.perf_counter() - start
        scores = np.asarray(regress(fitted.arrays, jnp.asarray(test.feature)))
        micros = time_prediction(fitted.arrays, test.feature)
        settings = {k: v for k, v in fitted.settings.items() if isinstance(v, float)}
        print(row(method, scores, test, f"{seconds:.1f}", f"{micros:.1f}"), flush=True)
        say(f"{method}: {fitted.settings['rows']} rows, {settings}")


if __name__ == "__main__":
    main()
