"""How certain a verdict is, why, and what makes it less certain."""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from deepfidelity_jax.detector.predict import Evidence, PersonScore, Prediction
from deepfidelity_jax.faces.geometry import SMALLEST_FACE, is_small
from deepfidelity_jax.fidelity.calibration import is_real
from deepfidelity_jax.page.scale import video_means
from deepfidelity_jax.page.wording import count, number

FEW = 0.25  # share of frames: least that should show a person, most that may disagree
UNUSUAL = 0.99  # share of training faces that are closer to another training face
ASKED = 1000  # training faces that are compared with all others


class Doubt(NamedTuple):
    """One thing that can make a verdict less certain: its value here, the rule, and the state.

    state: 'fine', 'caution' or 'not known'.
    """

    what: str
    here: str
    rule: str
    state: str


def list_grounds(detector, person: PersonScore) -> list[str]:
    """Sentences on how certain the verdict is, and why."""
    fitted = detector.fidelity_model
    calibration = fitted.calibration
    asked = "real and forged faces are equally likely a priori"
    grounds = [
        f"p_fake is {number(person.p_fake)}: the probability of a forgery if {asked}. "
        "If forgeries are rare among your files, the true probability is lower.",
        f"Fidelity {number(person.fidelity)} is the mean over {count(person.frames, 'frame')}"
        + (f", with a standard deviation of {number(person.spread)} between frames."
           if person.frames > 1 else "; a single frame does not show how much it varies."),
    ]  # fmt: skip
    if calibration.threshold_from == "validation":
        source = "comes from the validation split of the training data"
    else:
        source = f"is {calibration.threshold_from}: {calibration.note}"
    grounds.append(f"The threshold {number(calibration.threshold)} {source}.")
    if calibration.fake_below is not None:
        lower = f"Below {number(calibration.fake_below)}, the lower threshold, a face is called "
        grounds.append(lower + "fake." + _tell_allowed(fitted.provenance.get("allowed")))
    grounds.append(_compare_with_validation(fitted.validation, person.fidelity))
    return grounds


def _tell_allowed(allowed: dict[str, float] | None) -> str:
    """The shares of validation's real faces below the lower threshold, if fidelity.npz has them."""
    if allowed is None:
        return ""
    share = {name: f"{100 * value:g}%" for name, value in allowed.items()}
    return (
        f" On validation, at most {share['untouched']} of unaltered real faces fall below it, "
        f"at most {share['degraded']} after a degradation, such as blur, JPEG or darkening, "
        f"and at most {share['other shots']} of simulated retakes of them."
    )


def _compare_with_validation(known, fidelity: float) -> str:
    means = None if known is None else video_means(known)
    if means is None:
        return (
            "How this fidelity compares with the real and fake validation faces is not known: the "
            "detector's file does not contain their scores."
        )
    real, fake = means
    below, above = np.mean(real <= fidelity), np.mean(fake >= fidelity)
    return (
        f"Of validation's {len(real):,} real videos or photographs, {below:.0%} have this fidelity "
        f"or less; of its {len(fake):,} fake ones, {above:.0%} have this fidelity or more."
    )


def list_doubts(
    detector, prediction: Prediction, person: PersonScore, own: Evidence, features: Any
) -> list[Doubt]:
    """What can make the verdict on a person less certain, and whether it does here.

    Args:
      detector: a `Detector`.
      prediction: the prediction of the whole input.
      person: the person.
      own: the evidence of the person.
      features: features of the person's faces [n, d].
    """
    fitted, doubts = detector.fidelity_model, []
    width = min(person.bbox[2:])
    doubts.append(
        Doubt(
            "Size of the face",
            f"{math.floor(width)} pixels at its largest",
            f"{SMALLEST_FACE} or more; smaller faces have too little detail",
            "caution" if is_small(np.array(person.bbox)) else "fine",
        )
    )
    doubts.append(_judge_quality(fitted.scale, person.quality))
    if prediction.frames > 1:
        few = person.frames < FEW * prediction.frames
        doubts.append(
            Doubt(
                "Number of frames",
                f"found in {person.frames} of {prediction.frames} sampled frames",
                f"{FEW:.0%} of them or more",
                "caution" if few else "fine",
            )
        )
        above = is_real(own.fidelity, detector.threshold)
        other = int(np.sum(above != bool(is_real(person.fidelity, detector.threshold))))
        doubts.append(
            Doubt(
                "Frames that disagree",
                f"{other} of {person.frames} lie on the other side of the threshold",
                f"at most {FEW:.0%} of them; more can also mean that a cut put another person in "
                "the same place",
                "caution" if other > FEW * person.frames else "fine",
            )
        )
    doubts.append(_judge_familiarity(fitted.regressor.arrays, features))
    lower = fitted.calibration.fake_below
    if lower is not None:
        between = lower <= person.fidelity < detector.threshold
        doubts.append(
            Doubt(
                "Between the thresholds",
                f"fidelity {number(person.fidelity)}",
                f"below {number(lower)} or at least {number(detector.threshold)}; between the two, "
                "scores of real and fake faces overlap",
                "caution" if between else "fine",
            )
        )
    return doubts


def _judge_quality(scale, quality: float | None) -> Doubt:
    what = "Quality of the pictures"
    if quality is None or scale is None:
        return Doubt(what, number(quality), "the range of the training faces", "not known")
    low, high = scale.real_quality
    state = "caution" if scale.is_poor(quality) else "fine"
    rule = f"{number(low)} or more; the real training faces reach {number(high)}"
    return Doubt(what, number(quality), rule, state)


def _judge_familiarity(arrays, features: Float[np.ndarray, "n d"]) -> Doubt:
    what = "Unlike the training data"
    share = unfamiliarity(arrays, features)
    if share is None:
        return Doubt(what, "not known", "this regressor keeps no training faces", "not known")
    return Doubt(
        what,
        f"{share:.0%} of the training faces are closer to another training face than this face is "
        "to any",
        f"at most {UNUSUAL:.0%}; distances between the network's features, median over frames",
        "caution" if share > UNUSUAL else "fine",
    )


def unfamiliarity(arrays, features: Float[np.ndarray, "n d"]) -> float | None:
    """Share of training faces that are nearer to another training face than the given faces are.

    Distances are Euclidean, between features; the given faces count by their median distance. If
    there are more than ASKED training faces, ASKED of them are compared, evenly spaced. None if the
    regressor keeps no training faces.
    """
    vectors = getattr(arrays, "vectors", None)
    if vectors is None or len(vectors) < 2:
        return None
    vectors = np.asarray(vectors, np.float64)
    rows = np.unique(np.linspace(0, len(vectors) - 1, ASKED).astype(int))
    centre = np.asarray(getattr(arrays, "centre", 0.0), np.float64)
    distances = np.sqrt(_nearest(vectors, features.astype(np.float64) - centre))
    among = np.sqrt(_nearest(vectors, vectors[rows], rows))
    return float(np.mean(among < np.median(distances)))


def _nearest(vectors, points, skip=None) -> Float[np.ndarray, "n"]:
    """Squared distance from each point i to the nearest vector, other than row `skip[i]`."""
    squared = (points**2).sum(1)[:, None] + (vectors**2).sum(1) - 2 * points @ vectors.T
    if skip is not None:
        squared[np.arange(len(points)), skip] = np.inf
    return np.maximum(squared.min(axis=1), 0)
