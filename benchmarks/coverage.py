"""How often 95% intervals contain the true value: `python benchmarks/coverage.py [--draws=500]`.

Data are drawn repeatedly from populations with a known true value, and every interval is computed
by the code for metrics.json, `--mode=compare` and `--mode=ablate`. A correct interval contains the
true value in about 95% of the draws; by chance, in 93.1% to 96.9% of 500. Over few seeds, which say
little about others, it contains it more often; so does the interval of a largest gap, which is
corrected for the choice of the pair.
"""

import argparse
import contextlib
import io
from collections.abc import Callable, Iterator
from functools import cache, partial

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from deepfidelity_jax.comparison.compare import compare
from deepfidelity_jax.comparison.prediction_files import Scores
from deepfidelity_jax.statistics import delong, groups, paired
from deepfidelity_jax.statistics.intervals import (
    Level,
    Sample,
    Statistic,
    add_statistics,
    draw_clusters,
    kinds_of,
    resample,
)
from deepfidelity_jax.statistics.operating import describe_verdicts, risk_area
from deepfidelity_jax.statistics.ranking import (
    auc,
    average_precision,
    caught_at,
    equal_error_rate,
    spearman,
)
from deepfidelity_jax.statistics.reliability import brier, calibration_error, describe

REPLICATES = 400
APART = 1.2  # means of real and fake scores, in standard deviations
MANY = 2_000_000  # size of a population whose true value has no formula


def auc_by_delong(rng: np.random.Generator, videos: int = 200) -> tuple[list[float], float]:
    """AUC of independent videos, normal scores one standard deviation apart."""
    label = np.arange(videos) % 2
    _, low, high = delong.auc_interval(label, rng.normal(size=videos) + label)
    return [low, high], float(norm.cdf(1 / np.sqrt(2)))


def frame_auc(rng: np.random.Generator, videos: int = 100, frames: int = 8) -> tuple:
    """AUC of frames that share most of their score with the other frames of their video."""
    of_frame = np.repeat(np.arange(videos), frames)
    label = of_frame % 2
    shared = rng.normal(size=videos)[of_frame]
    score = label + shared + 0.5 * rng.normal(size=videos * frames)
    truth = norm.cdf(1 / np.sqrt(2 * 1.25))
    return _bootstrap(rng, label, score, of_frame, auc), float(truth)


def error(
    rng: np.random.Generator, videos: int, slope: float, shift: float, name: str = "ece"
) -> tuple:
    """Calibration error or Brier score; a slope of 1 and no shift are perfectly calibrated."""
    label, p = _probabilities(rng, videos, slope, shift)
    level = Level(label, p, np.arange(videos))
    metrics = describe(level, draw_clusters(label, int(rng.integers(2**31)), REPLICATES))
    return metrics["ci"][name], _true_error(name, slope, shift)


def figure(rng: np.random.Generator, videos: int, statistic: Statistic) -> tuple:
    """A figure of independent videos with normal scores."""
    label, score = _scores(rng, videos)
    interval = _bootstrap(rng, label, score, np.arange(videos), statistic)
    return interval, _true_figure(statistic)


def correlation(rng: np.random.Generator, faces: int, pearson: float) -> tuple:
    """Spearman's correlation of fidelity and quality in one class, both normal."""
    quality, other = rng.normal(size=(2, faces))
    score = pearson * quality + np.sqrt(1 - pearson**2) * other
    statistic = partial(spearman, other=quality)
    truth = 6 / np.pi * np.arcsin(pearson / 2)
    label = np.ones(faces, np.int64)
    return _bootstrap(rng, label, score, np.arange(faces), statistic), float(truth)


def verdict_share(rng: np.random.Generator, name: str, videos: int = 400) -> tuple:
    """A share of verdicts by the rule of predict, where a tenth of the videos are poor."""
    label, score = _scores(rng, videos)
    draws = draw_clusters(label, int(rng.integers(2**31)), REPLICATES)
    poor = rng.random(videos) < 0.1
    small = np.zeros(videos, bool)
    level = Level(label, score, np.arange(videos))
    shares = describe_verdicts(level, draws, APART / 2, 0.0, poor, small)
    between, above = norm.cdf(-APART / 2) - norm.cdf(-APART), norm.cdf(APART / 2)
    truth = {"fake_called_fake": 0.5, "real_uncertain": between + 0.1 * above}
    return shares["ci"][name], float(truth[name])


def gap(rng: np.random.Generator, worse: float, count: int = 4, videos: int = 400) -> tuple:
    """The largest gap in AUC between groups, the first of which is so much worse.

    The truth is the difference of the two groups between which the gap is.
    """
    label, score = _scores(rng, videos)
    group = rng.permutation(np.arange(videos) % count)
    score -= worse * label * (group == 0)
    draws = draw_clusters(label, int(rng.integers(2**31)), REPLICATES)
    level = Level(label, score, np.arange(videos))
    largest = groups.describe(level, list(map(str, group)), draws, None)["largest_gap"]["auc"]
    low, high = (
        norm.cdf((APART - worse * (name == "0")) / np.sqrt(2)) for name in largest["between"]
    )
    return largest["ci"], float(high - low)


def files(rng: np.random.Generator, videos: int = 100, frames: int = 4) -> tuple:
    """Difference in AUC of two prediction files, over frames that share much with their video."""
    of_frame = np.repeat(np.arange(videos), frames)
    label, hard = of_frame % 2, 0.8 * rng.normal(size=videos)[of_frame]
    means = np.array([1.6, 1.3])
    scores = hard + label * means[:, None] + 0.4 * rng.normal(size=(2, len(label)))
    names = list(map(str, range(len(label)))), list(map(str, of_frame))
    first, second = (
        Scores(name, {"path": names[0]}, names[1], label, score, "real", None, "")
        for name, score in zip("ab", scores, strict=True)
    )
    with contextlib.redirect_stderr(io.StringIO()):  # its progress
        (pair,) = compare([first, second]).levels["frame"]["pairs"]
    better, worse = norm.cdf(means / np.sqrt(2 * (0.8**2 + 0.4**2)))
    return pair["ci"], float(better - worse)


def difference_by_delong(rng: np.random.Generator, videos: int = 200) -> tuple:
    """Difference in AUC of two detectors on the same independent videos."""
    label, hard = np.arange(videos) % 2, 0.8 * rng.normal(size=videos)
    means = np.array([1.6, 1.3])
    scores = hard + label * means[:, None] + 0.4 * rng.normal(size=(2, videos))
    comparison = delong.compare(label, *scores)
    better, worse = norm.cdf(means / np.sqrt(2 * (0.8**2 + 0.4**2)))
    return [comparison.low, comparison.high], float(better - worse)


def caught(rng: np.random.Generator, videos: int, fpr: float) -> tuple:
    """TPR at a share of false alarms, read off the curve of the same scores."""
    label = np.arange(videos) % 2
    score = rng.normal(size=videos) + 2 * label
    truth = norm.cdf(norm.ppf(fpr) + 2)
    statistic = partial(caught_at, share=fpr)
    return _bootstrap(rng, label, score, np.arange(videos), statistic), float(truth)


def difference(
    rng: np.random.Generator,
    seeds: int,
    *,
    liking: float = 0.0,
    noise: float = 0.1,
    training: float = 0.0,
    change: float = 0.0,
) -> tuple:
    """Difference in AUC of two ways to train on 100 videos, the second of which is better.

    Args:
      rng: draws the videos and the trainings.
      seeds: trainings of each way.
      liking: how much a way favours some videos with every seed.
      noise: how much a training favours some videos.
      training: how much a training turns out better or worse on all videos.
      change: makes the second way the first, plus so much noise, which differs in few pairs only.
    """
    label, hard = np.arange(100) % 2, 0.8 * rng.normal(size=100)
    kept = liking * rng.normal(size=(2, 100))
    draws = draw_clusters(label, int(rng.integers(2**31)), REPLICATES)
    means, drawn = np.array([1.6, 1.6 if change else 1.8]), []
    for _ in range(seeds):
        apart = means + training * rng.normal(size=2)
        scores = label * apart[:, None] + hard + kept + noise * rng.normal(size=(2, 100))
        if change:
            scores[1] = scores[0] + change * rng.normal(size=100)
        first, second = (
            resample(Level(label, score, np.arange(100)), draws, {"auc": auc})["auc"]
            for score in scores
        )
        drawn.append(second - first)
    low, high, _ = paired.compare_seeds(np.stack(drawn))
    spread = 2 * (0.8**2 + liking**2 + noise**2 + np.array([0, change**2])) + training**2
    worse, better = norm.cdf(means / np.sqrt(spread))
    return [low, high], float(better - worse)


REGIMES = {
    "the videos matter": {"liking": 0.4, "noise": 0.3},
    "the seeds matter": {"training": 0.3},
    "both matter": {"liking": 0.4, "noise": 0.3, "training": 0.12},
    "nearly the same scores": {"noise": 0.3, "training": 0.1, "change": 0.02},
}
RISK = partial(risk_area, threshold=APART / 2)
CASES: dict[str, Callable] = {
    "AUC of 200 videos, DeLong": auc_by_delong,
    "AUC of 100 videos of 8 alike frames, bootstrap": frame_auc,
    "ECE of 1000 videos, far too sure": partial(error, videos=1000, slope=2.0, shift=0.0),
    "ECE of 1000 videos, shifted": partial(error, videos=1000, slope=1.0, shift=0.5),
    "ECE of 1000 videos, without error": partial(error, videos=1000, slope=1.0, shift=0.0),
    "Brier score of 300 videos, shifted": partial(
        error, videos=300, slope=1.0, shift=0.5, name="brier"
    ),
    "EER of 300 videos": partial(figure, videos=300, statistic=equal_error_rate),
    "average precision of 300 videos": partial(figure, videos=300, statistic=average_precision),
    "AURC of 300 videos": partial(figure, videos=300, statistic=RISK),
    "Spearman of 150 faces": partial(correlation, faces=150, pearson=0.5),
    "share of fakes called fake": partial(verdict_share, name="fake_called_fake"),
    "share of reals uncertain": partial(verdict_share, name="real_uncertain"),
    "largest gap of 4 groups alike": partial(gap, worse=0.0),
    "largest gap of 4 groups, one worse": partial(gap, worse=0.8),
    "difference of two files, bootstrap": files,
    "difference of two detectors, DeLong": difference_by_delong,
    "TPR at FPR 10% of 1000 videos": partial(caught, videos=1000, fpr=0.1),
    "TPR at FPR 1% of 4000 videos": partial(caught, videos=4000, fpr=0.01),
    **{
        f"difference over {seeds} seeds, {regime}": partial(difference, seeds=seeds, **settings)
        for seeds in (2, 3, 5)
        for regime, settings in REGIMES.items()
    },
}


def measure(case: Callable, draws: int) -> float:
    """The share of draws whose interval contains the true value."""
    inside = 0
    for seed in range(draws):
        (low, high), truth = case(np.random.default_rng(seed))
        inside += low <= truth + 1e-12 and truth <= high + 1e-12
    return inside / draws


def _bootstrap(rng, label, score, cluster, statistic) -> list[float]:
    entry: dict = {"ci": {}, "note": {}}
    draws = draw_clusters(kinds_of(label, cluster), int(rng.integers(2**31)), REPLICATES)
    add_statistics(entry, Level(label, score, cluster), draws, {"x": statistic})
    return entry["ci"]["x"]


def _probabilities(rng, videos, slope, shift):
    label = np.arange(videos) % 2
    evidence = rng.normal(size=videos) + 1 - 2 * label  # 2 * evidence is the true log-odds
    return label, expit(slope * 2 * evidence + shift)


def _scores(rng, videos):
    label = np.arange(videos) % 2
    return label, rng.normal(size=videos) + APART * label


@cache
def _true_error(name: str, slope: float, shift: float) -> float:
    if name == "ece" and slope == 1 and shift == 0:
        return 0.0
    label, p = _probabilities(np.random.default_rng(12345), MANY, slope, shift)
    return _value({"ece": calibration_error, "brier": brier}[name], label, p)


@cache
def _true_figure(statistic: Statistic) -> float:
    return _value(statistic, *_scores(np.random.default_rng(12345), MANY))


def _value(statistic: Statistic, label, score) -> float:
    return float(statistic(Sample(label, score, np.ones((1, len(label)))))[0])


def lines(draws: int) -> Iterator[str]:
    """One line per case."""
    for name, case in CASES.items():
        share = measure(case, draws)
        yield f"{name}: {share:.1%} of {draws} intervals of 95% hold the truth"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=500)
    for line in lines(parser.parse_args().draws):
        print(line, flush=True)
