"""A detector on photographs and forgeries unlike its training data: the model card's figures.

    python benchmarks/other_forgeries.py FOLDER [--workdir=DIR]

FOLDER holds photographs of real people whom the detector has never seen, one person each. Each face
is forged once by each of our ten families, and once by each of five kinds of other code: the three
of `earlier_forgeries`, `cloned` (a swap that OpenCV's seamlessClone joins) and `bottleneck` (a swap
through 64 pixels). Real and forged faces are encoded alike, once. Real faces are also changed
without forgery; with PyAV, to frames of H.264 too. Intervals are over photographs, each with its
forgeries. A detector without a regressor is judged by its class head alone.
"""

import argparse
import sys
from pathlib import Path

import cv2
import earlier_forgeries
import numpy as np
from heat_maps import photographed_faces

import deepfidelity_jax as df
from deepfidelity_jax.faces.geometry import complete_landmarks, fit_similarity
from deepfidelity_jax.fidelity.scale import FAKE, REAL
from deepfidelity_jax.forgeries import families, graded
from deepfidelity_jax.images import h264, pictures
from deepfidelity_jax.scoring import controls
from deepfidelity_jax.statistics.intervals import Sample, draw_clusters, interval
from deepfidelity_jax.statistics.ranking import auc

REPLICATES = 500
FACTORS = (18, 23, 28, 33, 38)  # x264's constant rate factor, of the face crop alone
ALLOWED = 0.05  # share of the real faces called fake at the second limit of the table


# ------------------------------------------------------------------ faces and forgeries


def swap(face: families.Face, donor: families.Face) -> tuple[np.ndarray, np.ndarray]:
    """The donor moved onto the face, and an ellipse around the features, 0 or 255."""
    shape = face.pixels.shape[:2]
    points, others = (complete_landmarks(one.points, one.pixels.shape[:2]) for one in (face, donor))
    inner = cv2.warpAffine(
        donor.pixels, fit_similarity(others, points), shape[::-1],
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101,
    )  # fmt: skip
    apart, (x, y) = np.linalg.norm(points[1] - points[0]), points.mean(axis=0)
    mask = np.zeros(shape, np.uint8)
    cv2.ellipse(mask, (int(x), int(y)), (int(apart), int(1.25 * apart)), 0, 0, 360, 255, -1)
    mask[:2] = mask[-2:] = mask[:, :2] = mask[:, -2:] = 0  # seamlessClone needs a border
    return inner, mask


def clone(face: families.Face, donor: families.Face) -> np.ndarray:
    """A swap joined in the gradient domain by OpenCV."""
    inner, mask = swap(face, donor)
    x, y, width, height = cv2.boundingRect(mask)
    middle = (x + width // 2, y + height // 2)
    return cv2.seamlessClone(inner, face.pixels, mask, middle, cv2.NORMAL_CLONE)


def squeeze(face: families.Face, donor: families.Face) -> np.ndarray:
    """A swap through 64 pixels, like an autoencoder's, with the face's colours and a soft edge."""
    inner, mask = swap(face, donor)
    height, width = mask.shape
    inner = cv2.resize(inner, (64, 64), interpolation=cv2.INTER_AREA)
    inner = cv2.resize(inner, (width, height), interpolation=cv2.INTER_CUBIC)
    source, target = (pixels[mask > 0].astype(np.float32) for pixels in (inner, face.pixels))
    matched = (inner - source.mean(0)) / (source.std(0) + 1e-3) * target.std(0) + target.mean(0)
    weight = cv2.GaussianBlur(mask, (0, 0), width / 25).astype(np.float32)[..., None] / 255
    blended = weight * np.clip(matched, 0, 255) + (1 - weight) * face.pixels
    return np.rint(blended).astype(np.uint8)


def forge_all(faces: list[families.Face]) -> dict[str, np.ndarray]:
    """Each face by each kind, encoded and decoded as recorded faces are; and the real ones."""
    count = len(faces)
    ahead = np.random.default_rng(5).integers(1, count, count)
    donors = [faces[(i + step) % count] for i, step in enumerate(ahead)]

    def each(make):
        made = (
            make(i, face, donor) for i, (face, donor) in enumerate(zip(faces, donors, strict=True))
        )
        return np.stack([pictures.decode_image(pictures.encode_image(pixels)) for pixels in made])

    def by_family(name):
        return each(lambda i, face, donor: families.forge(name, face, donor, rng(1, i))[0])

    def by_earlier(name):
        return each(
            lambda i, face, donor: earlier_forgeries.forge(name, *face, rng(2, i), donor)[0]
        )

    def rng(*seed):
        return np.random.default_rng(seed)

    pictures_of = {"real": each(lambda i, face, donor: face.pixels)}
    pictures_of |= {name: by_family(name) for name in families.FAMILIES}
    pictures_of |= {f"earlier {name}": by_earlier(name) for name in earlier_forgeries.KINDS}
    pictures_of["cloned"] = each(lambda i, face, donor: clone(face, donor))
    pictures_of["bottleneck"] = each(lambda i, face, donor: squeeze(face, donor))
    return pictures_of


# ------------------------------------------------------------------ figures


def aucs(real: np.ndarray, fakes: list[np.ndarray]) -> np.ndarray:
    """Mean AUC over kinds, for all photographs and for each replicate of whole photographs."""
    count = len(real)
    label = np.repeat(np.int32([REAL, FAKE]), count)
    draws = draw_clusters(np.full(count, REAL), 0, REPLICATES)
    weights = np.tile(draws, 2)
    return np.mean([auc(Sample(label, np.concatenate([real, fake]), weights)) for fake in fakes], 0)


def shown(values: np.ndarray) -> str:
    """A figure with its interval."""
    low, high = interval(values[1:])
    return f"{values[0]:.3f} [{low:.3f}, {high:.3f}]"


def class_score(detector, images: np.ndarray) -> np.ndarray:
    """Logit of real less logit of fake, of the class head."""
    logits = detector.class_logits(images)
    return (logits[:, 1] - logits[:, 0]).astype(np.float64)


def print_kinds(detector, pictures_of: dict[str, np.ndarray]) -> None:
    """A row for each kind: AUC by the class head and by fidelity, and the shares called fake."""
    scores = {"class head": {k: class_score(detector, images) for k, images in pictures_of.items()}}
    fitted = detector.fidelity_model
    if fitted:
        scores["fidelity"] = {
            k: detector.fidelity(images).astype(np.float64) for k, images in pictures_of.items()
        }
    last = scores["fidelity" if fitted else "class head"]
    real = last["real"]
    limits = [np.sort(real)[int(ALLOWED * len(real))]]
    heads = [f"called fake, with {ALLOWED:.0%} of the real"]
    if fitted:
        limits.append(fitted.calibration.fake_below)
        heads.append(f"at its limit, {np.mean(real < limits[-1]):.1%} of the real")
    columns = [*(f"AUC, {name}" for name in scores), *heads]
    print(f"| kind | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    kinds = [name for name in pictures_of if name != "real"]
    rows = {name: [name] for name in kinds}
    rows["ten families, mean"] = [*families.FAMILIES]
    rows["five others, mean"] = [name for name in kinds if name not in families.FAMILIES]
    for row, names in rows.items():
        areas = [
            shown(aucs(by_kind["real"], [by_kind[n] for n in names])) for by_kind in scores.values()
        ]
        caught = [
            f"{np.mean([np.mean(last[name] < limit) for name in names]):.0%}" for limit in limits
        ]
        print(f"| {row} | {' | '.join([*areas, *caught])} |")


def code(crf: int) -> controls.Change:
    """The change of a face to a frame of H.264, coded by x264 and decoded by FFmpeg."""
    return lambda face, points, rng: graded.compress_h264([face], crf, rng)[0]


def print_changes(detector, faces: list[families.Face]) -> None:
    """A row for each change that forges nothing: class AUC, and the verdicts if there are any."""
    records = [
        {
            "image": pictures.encode_image(face.pixels), "landmarks": face.points,
            "video_id": str(i), "label": REAL, "bbox": np.full(4, np.nan),
        }
        for i, face in enumerate(faces)
    ]  # fmt: skip
    records = controls.real_faces(records)
    fitted = detector.fidelity_model
    print(f"\n{len(records)} real faces, changed without forgery\n")
    heads = ["class AUC", *(["called fake", "uncertain"] if fitted else [])]
    print(f"| change | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    changes = controls.DEGRADATIONS | controls.CONTROLS
    if h264.is_there():
        changes |= {f"H.264, CRF {crf}": code(crf) for crf in FACTORS}
    scores = controls.score_changes(detector, records, changes)
    untouched = scores[controls.UNTOUCHED].classes
    for name, (classes, verdicts) in scores.items():
        cells = ["" if name == controls.UNTOUCHED else shown(aucs(untouched, [classes]))]
        if fitted:
            cells += [f"{np.mean(verdicts == verdict):.1%}" for verdict in ("fake", "uncertain")]
        print(f"| {name} | {' | '.join(cells)} |")


def main():
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workdir", help="of a detector; without it the bundled one")
    options = parser.parse_args()
    detector = df.load(options.workdir)
    faces = photographed_faces(options.folder, sys.maxsize, detector)
    print(f"{len(faces)} photographs, detector {detector.fingerprint}\n")
    print_kinds(detector, forge_all(faces))
    print_changes(detector, faces)


if __name__ == "__main__":
    main()
